"""The cells, one file a variant; each file's module functions are the cell, bare."""

from jlstm.cells import coupled as coupled
from jlstm.cells import gru as gru
from jlstm.cells import lstm as lstm
from jlstm.cells import peephole as peephole
from jlstm.cells import projected as projected
from jlstm.cells.coupled import CoupledLSTM as CoupledLSTM
from jlstm.cells.coupled import CoupledLSTMGates as CoupledLSTMGates
from jlstm.cells.coupled import CoupledLSTMParams as CoupledLSTMParams
from jlstm.cells.coupled import CoupledLSTMState as CoupledLSTMState
from jlstm.cells.gru import GRU as GRU
from jlstm.cells.gru import GRUGates as GRUGates
from jlstm.cells.gru import GRUParams as GRUParams
from jlstm.cells.gru import GRUState as GRUState
from jlstm.cells.lstm import LSTM as LSTM
from jlstm.cells.lstm import LSTMGates as LSTMGates
from jlstm.cells.lstm import LSTMParams as LSTMParams
from jlstm.cells.lstm import LSTMState as LSTMState
from jlstm.cells.peephole import PeepholeLSTM as PeepholeLSTM
from jlstm.cells.peephole import PeepholeLSTMGates as PeepholeLSTMGates
from jlstm.cells.peephole import PeepholeLSTMParams as PeepholeLSTMParams
from jlstm.cells.peephole import PeepholeLSTMState as PeepholeLSTMState
from jlstm.cells.projected import ProjectedLSTM as ProjectedLSTM
from jlstm.cells.projected import ProjectedLSTMGates as ProjectedLSTMGates
from jlstm.cells.projected import ProjectedLSTMParams as ProjectedLSTMParams
from jlstm.cells.projected import ProjectedLSTMState as ProjectedLSTMState
