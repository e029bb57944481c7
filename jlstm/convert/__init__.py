"""Convert weights from and to other frameworks: `from_X` and `to_X`, for states `state_from_X` and `state_to_X`.

Weights have the framework's own structure and may be NumPy arrays, so no framework has to be installed (except `onnx`,
for ONNX files). `from_X(weights, prefix=...)` returns `(net, params)` and ignores keys outside the prefix. Arrays keep
their dtype. Settings that the weights do not contain are options with the framework's defaults.

| framework | call | cells |
|---|---|---|
| torch | `from_torch(lstm.state_dict())` | LSTM, GRU, their cells; layers, directions |
| Keras | `from_keras(layer.get_weights())` | LSTM, GRU, Bidirectional |
| ONNX | `from_onnx("model.onnx")` | LSTM nodes, P and clip; `to_onnx` writes whole nets |
| flax linen | `from_flax(variables["params"])` | LSTMCell, OptimizedLSTMCell |
| flax nnx | `from_flax(nnx.state(cell))` | LSTMCell, OptimizedLSTMCell |
| Haiku | `from_haiku(params)` | LSTM |
| Equinox | `from_equinox(cell)` | LSTMCell |
"""

from jlstm.convert.equinox import from_equinox, state_from_equinox, state_to_equinox, to_equinox
from jlstm.convert.flax import from_flax, state_from_flax, state_to_flax, to_flax
from jlstm.convert.haiku import from_haiku, state_from_haiku, state_to_haiku, to_haiku
from jlstm.convert.keras import from_keras, state_from_keras, state_to_keras, to_keras
from jlstm.convert.onnx import from_onnx, state_from_onnx, state_to_onnx
from jlstm.convert.onnx_graph import to_onnx
from jlstm.convert.torch import from_torch, state_from_torch, state_to_torch, to_torch

__all__ = [  # noqa: RUF022, the order of the API reference
    "from_torch", "to_torch", "state_from_torch", "state_to_torch",
    "from_keras", "to_keras", "state_from_keras", "state_to_keras",
    "from_onnx", "to_onnx", "state_from_onnx", "state_to_onnx",
    "from_flax", "to_flax", "state_from_flax", "state_to_flax",
    "from_haiku", "to_haiku", "state_from_haiku", "state_to_haiku",
    "from_equinox", "to_equinox", "state_from_equinox", "state_to_equinox",
]  # fmt: skip
