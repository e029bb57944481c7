"""torch: `LSTM` and `LSTMCell`. Gates i, f, g, o; `[4H, D]`; two biases that add; h_n `[layers * directions, *B, H]`.

Index n of h_n and c_n is layer * directions + direction. torch's order of results is `out, (h, c)`, ours `state, out`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from jlstm import checks
from jlstm.cells import LSTMState
from jlstm.convert import nets
from jlstm.convert.weights import Layout, Weights, to_numpy
from jlstm.types import ArrayLike, Params, State

LAYOUT = Layout("ifgo", transposed=True)
_KEY = r"(?:weight|bias)_(?:ih|hh|hr)(?:_l(\d+)(_reverse)?)?"


def from_torch(weights: Any, *, prefix: str = "", dropout: float = 0.0) -> tuple[Any, Params]:
    """`(net, params)` of a torch LSTM or LSTMCell.

    weights: a `state_dict()`, its tensors as they are or as NumPy arrays.   prefix: where in it the LSTM stands, as
    "encoder.lstm"; other keys are left alone.   dropout: torch's, between layers; weights do not tell it.

    net: an `LSTM`; a `Bidirectional` of it; a `Stack` of either for more than one layer. The two biases become their
    sum. Where torch's `batch_first` is False, call `unroll` with `time_major=True`.

    Raises ValueError or TypeError, which name the key; NotImplementedError for `proj_size`.

    >>> shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,), "bias_hh_l0": (20,)}
    >>> net, params = from_torch({f"lstm.{k}": np.ones(s, "float32") for k, s in shapes.items()}, prefix="lstm")
    >>> net.hidden_size, params.w_ih.shape
    (5, (3, 4, 5))
    """
    found = Weights("from_torch", weights, prefix, ".", _KEY)
    keys = [match for key in found.leaves if (match := re.fullmatch(_KEY, key))]
    if projected := [match[0] for match in keys if "_hr" in match[0]]:
        expected = "no projection: jlstm has no ProjectedLSTM yet"
        raise checks.problem("from_torch", projected[0], expected, "weights of proj_size", kind=NotImplementedError)
    is_cell = all(match[1] is None for match in keys)
    depth = 1 + max(int(match[1] or 0) for match in keys)
    bidirectional, biased = any(match[2] for match in keys), any("bias" in match[0] for match in keys)
    layers, size, H = [], None, None
    for n in range(depth):
        layer = []
        for s in [""] if is_cell else _suffixes(n, bidirectional):
            biases = [f"bias_ih{s}", f"bias_hh{s}"] if biased else []
            p = found.lstm(LAYOUT, f"weight_ih{s}", f"weight_hh{s}", *biases, input_size=size, hidden_size=H)
            size, H = p.w_ih.shape[0], p.w_hh.shape[0]
            layer.append((nets.cell(p), p))
        layers.append(layer)
        size = len(layer) * layer[0][0].hidden_size
    return nets.join(layers, dropout=checks.rate("from_torch", "dropout", dropout))


def to_torch(net: Any, params: Params, *, cell: bool = False) -> dict[str, np.ndarray]:
    """The inverse of `from_torch`: what `load_state_dict` takes once `torch.from_numpy` is mapped over it.

    Our bias becomes `bias_ih`, and `bias_hh` is 0.   cell: with the names of an `LSTMCell`.   `Dropout` layers are
    left out: set torch's `dropout`.   (torch.from_numpy refuses bfloat16: give it the float32 of such an array.)

    Raises ValueError for a net that torch cannot say: other activations, a learned initial state, merges but "concat",
    layers of different sizes.
    """
    layers = nets.split("to_torch", net, params, merges=("concat",), depth=True)
    kinds = {(len(layer), one.hidden_size) for layer in layers for one, _ in layer}
    if len(kinds) != 1 or (cell and (len(layers), len(layers[0])) != (1, 1)):
        expected = "one LSTM" if cell else "layers of one hidden size, all of them Bidirectional or none"
        raise checks.problem("to_torch", "net", expected, [[one.hidden_size for one, _ in layer] for layer in layers])
    biased = any(p.b is not None for layer in layers for _, p in layer)
    weights = {}
    for n, layer in enumerate(layers):
        for s, (_, p) in zip(_suffixes(n, len(layer) > 1), nets.plain("to_torch", "torch", layer), strict=False):
            s = "" if cell else s
            weights |= {f"weight_ih{s}": LAYOUT.theirs(p.w_ih), f"weight_hh{s}": LAYOUT.theirs(p.w_hh)}
            if biased:
                zero = np.zeros(weights[f"weight_hh{s}"].shape[:1], p.w_ih.dtype)
                weights |= {f"bias_ih{s}": zero if p.b is None else LAYOUT.theirs(p.b), f"bias_hh{s}": zero}
    return weights


def _suffixes(layer: int, bidirectional: bool) -> list[str]:
    return [f"_l{layer}{way}" for way in (("", "_reverse") if bidirectional else ("",))]


def state_from_torch(state: tuple[ArrayLike, ArrayLike], net: Any = None) -> State:
    """The state of `net` from torch's `(h_n, c_n)`, `[layers * directions, *B, H]` each.

    Without a net it is `LSTMState` of one layer: from `[1, B, H]` of an LSTM or from `[B, H]` of an LSTMCell.

    >>> state_from_torch((np.zeros((1, 2, 5), "float32"), np.zeros((1, 2, 5), "float32"))).h.shape
    (2, 5)
    """
    h, c = (to_numpy("state_from_torch", name, a) for name, a in zip("hc", state, strict=True))
    if net is None and h.ndim == 2:
        h, c = h[None], c[None]
    return nets.fill_all("state_from_torch", net, [LSTMState(*pair) for pair in zip(h, c, strict=True)])


def state_to_torch(state: State) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `state_from_torch`: `(h_n, c_n)`, `[layers * directions, *B, H]` each.

    An LSTMCell's `(h, c)` is an `LSTMState` as it stands.
    """
    h, c = zip(*nets.states("state_to_torch", state), strict=True)
    return np.stack(h), np.stack(c)
