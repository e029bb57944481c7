"""Convert weights from and to other frameworks: `from_X` and `to_X`, for states `state_from_X` and `state_to_X`.

Weights have the framework's own structure and may be NumPy arrays, so no framework has to be installed (except `onnx`,
for ONNX files). `from_X(weights, prefix=...)` returns `(net, params)` and ignores keys outside the prefix. Arrays keep
their dtype. Settings that the weights do not contain are options with the framework's defaults.

    torch    from_torch(lstm.state_dict())                          LSTM, GRU, their cells; layers, directions
    Keras    from_keras(layer.get_weights())                        LSTM, GRU, Bidirectional
    ONNX     from_onnx("model.onnx")                                LSTM nodes, P and clip; to_onnx writes whole nets
    flax     from_flax(variables["params"]), or nnx.state(cell)     LSTMCell, OptimizedLSTMCell of linen and nnx
    Haiku    from_haiku(params)                                     LSTM
    Equinox  from_equinox(cell)                                     LSTMCell
"""

from jlstm.convert.equinox import from_equinox as from_equinox
from jlstm.convert.equinox import state_from_equinox as state_from_equinox
from jlstm.convert.equinox import state_to_equinox as state_to_equinox
from jlstm.convert.equinox import to_equinox as to_equinox
from jlstm.convert.flax import from_flax as from_flax
from jlstm.convert.flax import state_from_flax as state_from_flax
from jlstm.convert.flax import state_to_flax as state_to_flax
from jlstm.convert.flax import to_flax as to_flax
from jlstm.convert.haiku import from_haiku as from_haiku
from jlstm.convert.haiku import state_from_haiku as state_from_haiku
from jlstm.convert.haiku import state_to_haiku as state_to_haiku
from jlstm.convert.haiku import to_haiku as to_haiku
from jlstm.convert.keras import from_keras as from_keras
from jlstm.convert.keras import state_from_keras as state_from_keras
from jlstm.convert.keras import state_to_keras as state_to_keras
from jlstm.convert.keras import to_keras as to_keras
from jlstm.convert.onnx import from_onnx as from_onnx
from jlstm.convert.onnx import state_from_onnx as state_from_onnx
from jlstm.convert.onnx import state_to_onnx as state_to_onnx
from jlstm.convert.onnx_graph import to_onnx as to_onnx
from jlstm.convert.torch import from_torch as from_torch
from jlstm.convert.torch import state_from_torch as state_from_torch
from jlstm.convert.torch import state_to_torch as state_to_torch
from jlstm.convert.torch import to_torch as to_torch
