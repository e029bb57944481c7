"""The cells, one file a variant; each file's module functions are the cell, bare."""

from jlstm.cells import layer_norm as layer_norm
from jlstm.cells import lstm as lstm
from jlstm.cells import min_lstm as min_lstm
from jlstm.cells import original as original
from jlstm.cells import slstm as slstm
from jlstm.cells.layer_norm import LayerNormLSTM as LayerNormLSTM
from jlstm.cells.layer_norm import LayerNormLSTMGates as LayerNormLSTMGates
from jlstm.cells.layer_norm import LayerNormLSTMParams as LayerNormLSTMParams
from jlstm.cells.layer_norm import LayerNormLSTMState as LayerNormLSTMState
from jlstm.cells.lstm import LSTM as LSTM
from jlstm.cells.lstm import LSTMGates as LSTMGates
from jlstm.cells.lstm import LSTMParams as LSTMParams
from jlstm.cells.lstm import LSTMState as LSTMState
from jlstm.cells.min_lstm import MinLSTM as MinLSTM
from jlstm.cells.min_lstm import MinLSTMGates as MinLSTMGates
from jlstm.cells.min_lstm import MinLSTMParams as MinLSTMParams
from jlstm.cells.min_lstm import MinLSTMState as MinLSTMState
from jlstm.cells.original import OriginalLSTM as OriginalLSTM
from jlstm.cells.original import OriginalLSTMGates as OriginalLSTMGates
from jlstm.cells.original import OriginalLSTMParams as OriginalLSTMParams
from jlstm.cells.original import OriginalLSTMState as OriginalLSTMState
from jlstm.cells.slstm import SLSTM as SLSTM
from jlstm.cells.slstm import SLSTMGates as SLSTMGates
from jlstm.cells.slstm import SLSTMParams as SLSTMParams
from jlstm.cells.slstm import SLSTMState as SLSTMState
