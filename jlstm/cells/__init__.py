"""The cells, one file a variant; each file's module functions are the cell, bare."""

from jlstm.cells import clip_state as clip_state
from jlstm.cells import drop_connect as drop_connect
from jlstm.cells import lstm as lstm
from jlstm.cells import variational_dropout as variational_dropout
from jlstm.cells import zoneout as zoneout
from jlstm.cells.clip_state import ClipState as ClipState
from jlstm.cells.drop_connect import DropConnect as DropConnect
from jlstm.cells.lstm import LSTM as LSTM
from jlstm.cells.lstm import LSTMGates as LSTMGates
from jlstm.cells.lstm import LSTMParams as LSTMParams
from jlstm.cells.lstm import LSTMState as LSTMState
from jlstm.cells.variational_dropout import VariationalDropout as VariationalDropout
from jlstm.cells.zoneout import Zoneout as Zoneout
