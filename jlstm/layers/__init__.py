"""What stands around cells: depth, directions, dropout, heads."""

from jlstm.layers.bidirectional import Bidirectional as Bidirectional
from jlstm.layers.bidirectional import BidirectionalOutputs as BidirectionalOutputs
from jlstm.layers.bidirectional import BidirectionalParams as BidirectionalParams
from jlstm.layers.bidirectional import BidirectionalState as BidirectionalState
from jlstm.layers.pointwise import Dense as Dense
from jlstm.layers.pointwise import DenseParams as DenseParams
from jlstm.layers.pointwise import Dropout as Dropout
from jlstm.layers.pointwise import Embed as Embed
from jlstm.layers.pointwise import EmbedParams as EmbedParams
from jlstm.layers.pointwise import Pointwise as Pointwise
from jlstm.layers.residual import Residual as Residual
from jlstm.layers.stack import Stack as Stack
from jlstm.layers.views import flatten_time as flatten_time
from jlstm.layers.views import unflatten_time as unflatten_time
