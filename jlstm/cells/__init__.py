"""The cells, one file each, and the pieces that a cell of your own is made of."""

# isort: off
from jlstm.cells import lstm as lstm
from jlstm.cells.coupled import CoupledLSTM, CoupledLSTMGates, CoupledLSTMParams
from jlstm.cells.gru import GRU, GRUGates, GRUParams, GRUState, UpdateBias
from jlstm.cells.layer_norm import LayerNormLSTM, LayerNormLSTMParams
from jlstm.cells.lstm import LSTM, LSTMParams
from jlstm.cells.min_lstm import MinLSTM, MinLSTMGates, MinLSTMParams
from jlstm.cells.original import OriginalLSTM, OriginalLSTMGates, OriginalLSTMParams
from jlstm.cells.peephole import PeepholeLSTM, PeepholeLSTMParams
from jlstm.cells.projected import ProjectedLSTM, ProjectedLSTMParams
from jlstm.cells.slstm import SLSTM, SLSTMParams, SLSTMState

from jlstm.cells.clip_gates import ClipGates
from jlstm.cells.drop_connect import DropConnect
from jlstm.cells.variational_dropout import VariationalDropout
from jlstm.cells.zoneout import Zoneout

# for a cell of your own: types, the types of fields, parameters and states, equations, products
from jlstm.cells.gates import LSTMGates, LSTMState
from jlstm.types import Noise
from jlstm.records import Activation, Check, DType, Flag, Init, Number, Positive, Rate, Size, number_or
from jlstm.cells.gates import ForgetBias, compute_dtypes, draw, learned, split, start
from jlstm.cells.gates import elementwise, functions
from jlstm.records import ACTIVATIONS, activation_function
from jlstm.cells.gates import product, project, recur, spread, ungate
# isort: on

__all__ = [
    "ACTIVATIONS", "GRU", "LSTM", "SLSTM", "Activation", "Check", "ClipGates", "CoupledLSTM", "CoupledLSTMGates",
    "CoupledLSTMParams", "DType", "DropConnect", "Flag", "ForgetBias", "GRUGates", "GRUParams", "GRUState", "Init",
    "LSTMGates", "LSTMParams", "LSTMState", "LayerNormLSTM", "LayerNormLSTMParams", "MinLSTM", "MinLSTMGates",
    "MinLSTMParams", "Noise", "Number", "OriginalLSTM", "OriginalLSTMGates", "OriginalLSTMParams", "PeepholeLSTM",
    "PeepholeLSTMParams", "Positive", "ProjectedLSTM", "ProjectedLSTMParams", "Rate", "SLSTMParams", "SLSTMState",
    "Size", "UpdateBias", "VariationalDropout", "Zoneout", "activation_function", "compute_dtypes", "draw",
    "elementwise", "functions", "learned", "lstm", "number_or", "product", "project", "recur", "split", "spread",
    "start", "ungate",
]  # fmt: skip
