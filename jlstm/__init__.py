"""jlstm: the LSTM for JAX. Pure functions of (params, state, input), one engine for time."""

from jlstm import cells as cells
from jlstm import convert as convert
from jlstm import initializers as initializers
from jlstm.cells import LSTM as LSTM
from jlstm.cells import LSTMParams as LSTMParams
from jlstm.cells import LSTMState as LSTMState
from jlstm.cells import PeepholeLSTM as PeepholeLSTM
from jlstm.cells import PeepholeLSTMParams as PeepholeLSTMParams
from jlstm.cells import PeepholeLSTMState as PeepholeLSTMState
from jlstm.files import load as load
from jlstm.files import save as save
from jlstm.layers import Bidirectional as Bidirectional
from jlstm.layers import Dense as Dense
from jlstm.layers import Dropout as Dropout
from jlstm.layers import Embed as Embed
from jlstm.layers import Residual as Residual
from jlstm.layers import Stack as Stack
from jlstm.layers import flatten_time as flatten_time
from jlstm.layers import unflatten_time as unflatten_time
from jlstm.types import GATES as GATES
from jlstm.types import Cell as Cell
from jlstm.types import Layer as Layer
from jlstm.unroll import sequence_mask as sequence_mask
from jlstm.unroll import step as step
from jlstm.unroll import trace as trace
from jlstm.unroll import unroll as unroll
