"""jlstm: the LSTM for JAX. Pure functions of (params, state, input), one engine for time."""

# isort: off
from jlstm import cells, convert, initializers
from jlstm.api import sequence_mask, step, trace, unroll
from jlstm.cells import GRU, LSTM, SLSTM, CoupledLSTM, LayerNormLSTM, MinLSTM, OriginalLSTM, PeepholeLSTM, ProjectedLSTM
from jlstm.cells import ClipGates, DropConnect, VariationalDropout, Zoneout
from jlstm.cells import LSTMGates, LSTMParams, LSTMState
from jlstm.engine import Run, run_net
from jlstm.files import load, save
from jlstm.layers import Bidirectional, Dense, Dropout, Embed, Residual, Stack, flatten_time, unflatten_time
from jlstm.records import record
from jlstm.types import GATES, Cell, Layer
from jlstm.version import __version__
# isort: on

__all__ = [
    "GATES", "GRU", "LSTM", "SLSTM", "Bidirectional", "Cell", "ClipGates", "CoupledLSTM", "Dense", "DropConnect",
    "Dropout", "Embed", "LSTMGates", "LSTMParams", "LSTMState", "Layer", "LayerNormLSTM", "MinLSTM", "OriginalLSTM",
    "PeepholeLSTM", "ProjectedLSTM", "Residual", "Run", "Stack", "VariationalDropout", "Zoneout", "__version__",
    "cells", "convert", "flatten_time", "initializers", "load", "record", "run_net", "save", "sequence_mask",
    "step", "trace", "unflatten_time", "unroll",
]  # fmt: skip
