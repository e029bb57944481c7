"""torch: `LSTM`, `GRU` and their cells. Gates i, f, g, o or r, z, n; `[4H, D]`; two biases, summed except for n's.

The first index of h_n and c_n `[layers * directions, *B, H]` is layer * directions + direction. torch returns
`out, (h, c)`, jlstm `state, out`. The state of a GRU is h alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from jlstm import checks
from jlstm.cells import GRU, LSTM, GRUParams, LSTMParams, ProjectedLSTM, ProjectedLSTMParams
from jlstm.cells.gru import WEIGHTS
from jlstm.convert import nets
from jlstm.convert.weights import Layout, Weights, add, gru_bias, gru_biases, to_numpy, to_params
from jlstm.description import show
from jlstm.types import ArrayLike, Params, State

LAYOUT = Layout("ifgo", transposed=True)
GRU_LAYOUT = Layout("rzn", transposed=True, order=WEIGHTS)
_KEY = r"(?:weight|bias)_(?:ih|hh|hr)(?:_l(\d+)(_reverse)?)?"


def from_torch(weights: Any, *, prefix: str = "", dropout: float = 0.0) -> tuple[Any, Params]:
    """Return `(net, params)` for a torch LSTM, GRU, LSTMCell or GRUCell. The names and shapes determine which.

    - `weights`: a `state_dict()` of tensors or of NumPy arrays.
    - `prefix`: the path of the module in `weights`, such as "encoder.lstm". Other keys are ignored.
    - `dropout`: torch's dropout between layers, which weights do not contain.

    The net is an `LSTM`, a `ProjectedLSTM` (for `proj_size`) or a `GRU`; a `Bidirectional` of it; or a `Stack` of
    several layers. The two biases are summed, except those of a GRU's candidate. If torch's `batch_first` is False,
    call `unroll` with `time_major=True`.

    Raises ValueError or TypeError with the name of the key.

    >>> shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5)}
    >>> shapes |= {"bias_ih_l0": (20,), "bias_hh_l0": (20,)}
    >>> weights = {f"lstm.{k}": np.ones(s, "float32") for k, s in shapes.items()}
    >>> net, params = from_torch(weights, prefix="lstm")
    >>> net.hidden_size, params.w_ih.shape
    (5, (3, 4, 5))
    """
    found = Weights("from_torch", weights, prefix, ".", _KEY)
    keys = [match for key in found.leaves if (match := re.fullmatch(_KEY, key))]
    is_cell = all(match[1] is None for match in keys)
    depth = 1 + max(int(match[1] or 0) for match in keys)
    bidirectional, biased = any(match[2] for match in keys), any("bias" in match[0] for match in keys)
    read = _reader(found, [match[0] for match in keys])
    layers, size, H = [], None, None
    for n in range(depth):
        layer = []
        for s in [""] if is_cell else _suffixes(n, bidirectional):
            p = read(found, s, biased, size, H)
            size, H = p.w_ih.shape[0], p.w_hh.shape[-1]
            layer.append((nets.cell(p), p))
        layers.append(layer)
        size = len(layer) * layer[0][0].output_size(size)
    return nets.join(layers, dropout=checks.rate("from_torch", "dropout", dropout))


def _reader(found: Weights, keys: list[str]) -> Callable[..., Any]:
    """Return the reader of one direction. A projection has its own weight; a GRU's recurrent weight is `[3H, H]`."""
    if any("_hr" in key for key in keys):
        return _projected
    shapes = [np.shape(found.leaves[key]) for key in keys if "weight_hh" in key]
    return _gru if any(len(shape) == 2 and shape[0] == 3 * shape[1] for shape in shapes) else _lstm


def _lstm(found: Weights, s: str, biased: bool, D: int | None, H: int | None) -> LSTMParams:
    biases = [f"bias_ih{s}", f"bias_hh{s}"] if biased else []
    return found.lstm(LAYOUT, f"weight_ih{s}", f"weight_hh{s}", *biases, input_size=D, hidden_size=H)


def _projected(found: Weights, s: str, biased: bool, D: int | None, H: int | None) -> ProjectedLSTMParams:
    w_hr = found.take(f"weight_hr{s}", "[P, H]", (None, H))
    kernel, recurrent = (
        LAYOUT.ours(found.take(f"weight_{key}{s}", *LAYOUT.expected(letter, rows, w_hr.shape[1])))
        for key, letter, rows in (("ih", "D", D), ("hh", "P", len(w_hr)))
    )
    b = add(*found.biases(LAYOUT, w_hr.shape[1], f"bias_ih{s}", f"bias_hh{s}")) if biased else None
    return to_params(found.where, ProjectedLSTMParams, w_ih=kernel, w_hh=recurrent, w_hr=w_hr.T, b=b)


def _gru(found: Weights, s: str, biased: bool, D: int | None, H: int | None) -> GRUParams:
    kernel, recurrent = found.products(GRU_LAYOUT, f"weight_ih{s}", f"weight_hh{s}", D, H)
    b = None
    if biased:
        b = gru_bias(*found.biases(GRU_LAYOUT, recurrent.shape[0], f"bias_ih{s}", f"bias_hh{s}"))
    return to_params(found.where, GRUParams, w_ih=kernel, w_hh=recurrent, b=b)


def to_torch(net: Any, params: Params, *, cell: bool = False) -> dict[str, np.ndarray]:
    """Return a dict for `load_state_dict`, after `torch.from_numpy` on each array: the inverse of `from_torch`.

    - `net`: an `LSTM`, a `ProjectedLSTM` or a `GRU`; a `Bidirectional` of it; or a `Stack` of several layers.
    - `params`: the parameters of `net`.
    - `cell`: True uses the names of an `LSTMCell` or a `GRUCell`.

    Our bias becomes `bias_ih`; `bias_hh` is 0, except for a GRU's d_n. `Dropout` layers are left out; set torch's
    `dropout`. `torch.from_numpy` does not accept bfloat16; convert such an array to float32 first.

    Raises ValueError for a net that torch cannot express: other cells or activations, `reset_after=False`, a learned
    initial state, a merge other than "concat", layers of different sizes or cells.
    """
    layers = nets.split("to_torch", net, params, allowed=(LSTM, ProjectedLSTM, GRU), merges=("concat",), depth=True)
    kinds = {(len(layer), type(one), one.hidden_size, one.output_size(0)) for layer in layers for one, _ in layer}
    if len(kinds) != 1 or (cell and ((len(layers), len(layers[0])) != (1, 1) or isinstance(net, ProjectedLSTM))):
        expected = "one LSTM or GRU" if cell else "layers of one cell and size, all of them Bidirectional or none"
        got = [[f"{type(one).__name__} of {one.hidden_size}" for one, _ in layer] for layer in layers]
        raise checks.problem("to_torch", "net", expected, got)
    if isinstance(one := layers[0][0][0], ProjectedLSTM) and one.projected_size >= one.hidden_size:
        expected = f"less than hidden_size = {one.hidden_size}, since torch requires that"
        raise checks.problem("to_torch", "projected_size", expected, one.projected_size)
    biased = any(p.b is not None for layer in layers for _, p in layer)
    weights = {}
    for n, layer in enumerate(layers):
        for s, (_, p) in zip(_suffixes(n, len(layer) > 1), nets.plain("to_torch", "torch", layer), strict=False):
            s, layout = "" if cell else s, GRU_LAYOUT if isinstance(p, GRUParams) else LAYOUT
            weights |= {f"weight_ih{s}": layout.theirs(p.w_ih), f"weight_hh{s}": layout.theirs(p.w_hh)}
            if isinstance(p, ProjectedLSTMParams):
                weights[f"weight_hr{s}"] = np.ascontiguousarray(p.w_hr.T)
            if biased:
                weights |= dict(zip((f"bias_ih{s}", f"bias_hh{s}"), _biases(p, layout), strict=True))
    return weights


def _biases(p: Any, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return torch's two biases, `[GH]` each."""
    zero = np.zeros(p.w_ih.shape[1:], p.w_ih.dtype)
    b_ih, b_hh = (zero if p.b is None else p.b), zero
    if isinstance(p, GRUParams) and p.b is not None:
        b_ih, b_hh = gru_biases(p.b)
    return layout.theirs(b_ih), layout.theirs(b_hh)


def _suffixes(layer: int, bidirectional: bool) -> list[str]:
    return [f"_l{layer}{way}" for way in (("", "_reverse") if bidirectional else ("",))]


def state_from_torch(state: tuple[ArrayLike, ArrayLike] | ArrayLike, net: Any = None) -> State:
    """Return the state of `net` from torch's `(h_n, c_n)`, or from a GRU's h_n.

    - `state`: `(h_n, c_n)`, `[layers * directions, *B, H]` each, or h_n alone.
    - `net`: the net that takes the state. With None, the result is an `LSTMState` or `GRUState` of one layer, from
      `[1, B, H]`, or of a cell, from `[B, H]`.

    >>> h, c = np.zeros((1, 2, 5), "float32"), np.zeros((1, 2, 5), "float32")
    >>> state_from_torch((h, c)).h.shape
    (2, 5)
    """
    given = state if isinstance(state, tuple | list) else (state,)
    arrays = [to_numpy("state_from_torch", name, a) for name, a in zip("hc"[: len(given)], given, strict=True)]
    if net is None and arrays[0].ndim == 2:
        arrays = [a[None] for a in arrays]
    return nets.fill_all("state_from_torch", net, list(zip(*arrays, strict=True)))


def state_to_torch(state: State) -> tuple[np.ndarray, np.ndarray] | np.ndarray:
    """Return torch's `(h_n, c_n)`, or a GRU's h_n: the inverse of `state_from_torch`.

    - `state`: the state of a net. An `LSTMState` is already the `(h, c)` of an LSTMCell.

    h_n and c_n are `[layers * directions, *B, H]` each.
    """
    found = nets.states("state_to_torch", state)
    if len({type(one) for one in found}) != 1:
        got = show([type(one).__name__ for one in found])
        raise checks.problem("state_to_torch", "state", "states of one kind of cell", got)
    h, *c = (np.stack(arrays) for arrays in zip(*found, strict=True))
    return (h, *c) if c else h  # type: ignore[return-value]
