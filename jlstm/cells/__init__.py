"""The cells and the wrappers of cells, one file each, and the parts that a cell of your own is made of.

- For the fields of its record: `Size`, `Flag`, `Number`, `Positive`, `Rate`, `Init`, `Activation`, `DType` and
  `ForgetBias` are types that carry a check. `Check` and `number_or` make others.
- For `init`: `split`, `draw` and `learned`. For `initial_state`: `start`.
- For `project` and `recur`: functions of the same names, and `product`, `ungate` and `spread`.
- For `update`: `functions` and `elementwise`.
"""

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

__all__ = [  # noqa: RUF022, the order of the API reference
    "LSTM", "LSTMParams", "LSTMState", "LSTMGates", "GRU", "GRUParams", "GRUState", "GRUGates", "UpdateBias",
    "SLSTM", "SLSTMParams", "SLSTMState", "MinLSTM", "MinLSTMParams", "MinLSTMGates",
    "PeepholeLSTM", "PeepholeLSTMParams", "CoupledLSTM", "CoupledLSTMParams", "CoupledLSTMGates",
    "ProjectedLSTM", "ProjectedLSTMParams", "LayerNormLSTM", "LayerNormLSTMParams",
    "OriginalLSTM", "OriginalLSTMParams", "OriginalLSTMGates",
    "Zoneout", "VariationalDropout", "DropConnect", "ClipGates",
    "Size", "Flag", "Number", "Positive", "Rate", "Init", "Activation", "DType", "ForgetBias", "Check", "number_or",
    "ACTIVATIONS", "activation_function", "Noise", "split", "draw", "learned", "start", "compute_dtypes",
    "functions", "elementwise", "project", "recur", "product", "ungate", "spread", "lstm",
]  # fmt: skip
