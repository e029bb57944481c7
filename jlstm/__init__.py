"""jlstm: the LSTM for JAX. Pure functions of (params, state, input), one engine for time."""

from jlstm import cells, convert, initializers
from jlstm.api import sequence_mask, step, trace, unroll
from jlstm.cells import (
    GRU,
    LSTM,
    SLSTM,
    ClipGates,
    CoupledLSTM,
    DropConnect,
    LayerNormLSTM,
    LSTMGates,
    LSTMParams,
    LSTMState,
    MinLSTM,
    OriginalLSTM,
    PeepholeLSTM,
    ProjectedLSTM,
    VariationalDropout,
    Zoneout,
)
from jlstm.engine import Run, run_net
from jlstm.files import load, save
from jlstm.layers import (
    Bidirectional,
    Dense,
    Dropout,
    Embed,
    Residual,
    Stack,
    flatten_time,
    unflatten_time,
)
from jlstm.records import record
from jlstm.types import GATES, Cell, Layer
from jlstm.version import __version__

__all__ = [
    "GATES", "GRU", "LSTM", "SLSTM", "Bidirectional", "Cell", "ClipGates", "CoupledLSTM", "Dense", "DropConnect",
    "Dropout", "Embed", "LSTMGates", "LSTMParams", "LSTMState", "Layer", "LayerNormLSTM", "MinLSTM", "OriginalLSTM",
    "PeepholeLSTM", "ProjectedLSTM", "Residual", "Run", "Stack", "VariationalDropout", "Zoneout", "__version__",
    "cells", "convert", "flatten_time", "initializers", "load", "record", "run_net", "save", "sequence_mask",
    "step", "trace", "unflatten_time", "unroll",
]  # fmt: skip
