"""The LSTM for JAX: pure functions of `(params, state, input)`, and one engine for time.

`unroll` runs a net over a sequence, `step` takes one step of it, and `trace` records every step. A net is a `Cell` or a
`Layer`. The cells and the layers stand below; these modules have the rest:

- `jlstm.cells`: the parameters and states of all cells, and the parts that a cell of your own is made of.
- `jlstm.layers`: the parameters and outputs of all layers, and the base of a pointwise layer of your own.
- `jlstm.initializers`: the initialisers of weights and biases.
- `jlstm.convert`: weights from and to other frameworks.
- `jlstm.flax_nnx`: any net as a flax `nnx.Module`. It needs flax.

Shapes use these letters everywhere. Gates stand in the order of `GATES`. `Params`, `State`, `Z` and `Y` are pytrees
whose structure the net decides.

    *B  batch axes: none, one or many      T  time           D  input features
    H   hidden size                        G  gates          K  output features
    P   projected size                     N  heads
"""

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

__all__ = [  # noqa: RUF022, the order of the API reference
    "unroll", "step", "trace", "sequence_mask", "flatten_time", "unflatten_time", "save", "load",
    "LSTM", "GRU", "SLSTM", "MinLSTM", "PeepholeLSTM", "CoupledLSTM", "ProjectedLSTM", "LayerNormLSTM", "OriginalLSTM",
    "Zoneout", "VariationalDropout", "DropConnect", "ClipGates",
    "Stack", "Bidirectional", "Residual", "Dense", "Dropout", "Embed",
    "LSTMParams", "LSTMState", "LSTMGates", "GATES",
    "Cell", "Layer", "record", "Run", "run_net",
    "cells", "initializers", "convert", "__version__",
]  # fmt: skip
