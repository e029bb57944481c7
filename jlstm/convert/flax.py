"""flax: linen's and nnx's `LSTMCell` and `OptimizedLSTMCell`. Gates i, f, g, o; `[D, H]` per gate; state `(c, h)`.

linen has one kernel per gate: ii, if, ig, io for the input and hi, hf, hg, ho for h. nnx's LSTMCell has the same, with
`if_` for `if`. nnx's OptimizedLSTMCell has dense_i and dense_h, `[D, 4H]`. The bias belongs to the kernels for h.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from jlstm import checks
from jlstm.cells import Activation, LSTMState
from jlstm.convert import nets
from jlstm.convert.weights import Layout, Weights, to_numpy
from jlstm.types import ArrayLike, Params, State

LAYOUT = Layout("ifgo")
Kind = Literal["linen", "nnx", "nnx_optimized"]
_SIGNS = r"(?:[ih][ifgo]_?|dense_[ih])/kernel"


def from_flax(
    weights: Mapping[str, Any], *, prefix: str = "", gate_fn: Activation = "sigmoid", activation_fn: Activation = "tanh"
) -> tuple[Any, Params]:
    """Return `(net, params)` for one of flax's LSTM cells.

    - `weights`: nested dicts of arrays, `variables["params"]` of linen or `nnx.state(cell)`.
    - `prefix`: the path of the cell in `weights`, such as "encoder/cell". Other keys are ignored.
    - `gate_fn`: the cell's own gate activation.
    - `activation_fn`: the cell's own activation.

    Raises ValueError or TypeError with the name of the key.

    >>> dense_i = {"kernel": np.ones((3, 20), "float32")}
    >>> dense_h = {"kernel": np.ones((5, 20), "float32"), "bias": np.ones(20, "float32")}
    >>> weights = {"rnn": {"cell": {"dense_i": dense_i, "dense_h": dense_h}}}
    >>> net, params = from_flax(weights, prefix="rnn/cell")
    >>> net.hidden_size, params.w_ih.shape
    (5, (3, 4, 5))
    """
    found = Weights("from_flax", weights, prefix, "/", _SIGNS)
    if not any(key.startswith("dense_") for key in found.leaves):
        found.leaves |= _fuse(found, "if_" if "if_/kernel" in found.leaves else "if")
    params = found.lstm(LAYOUT, "dense_i/kernel", "dense_h/kernel", "dense_h/bias")
    return nets.cell(params, activation=activation_fn, gate_activation=gate_fn), params


def _fuse(found: Weights, forget: str) -> dict[str, np.ndarray]:
    """Concatenate linen's arrays, one per gate, into the three arrays of the fused cell."""
    H = found.take("hi/kernel", "[H, H]", (None, None)).shape[1]
    D = found.take("ii/kernel", "[D, H]", (None, H)).shape[0]
    x = [found.take(f"{gate}/kernel", "[D, H]", (D, H)) for gate in ("ii", forget, "ig", "io")]
    h = [found.take(f"h{gate}/kernel", "[H, H]", (H, H)) for gate in LAYOUT.gates]
    b = [found.take(f"h{gate}/bias", "[H]", (H,)) for gate in LAYOUT.gates]
    return {f"dense_{key}": np.concatenate(w, -1) for key, w in {"i/kernel": x, "h/kernel": h, "h/bias": b}.items()}


def to_flax(net: Any, params: Params, *, kind: Kind = "linen") -> dict[str, Any]:
    """Return linen's `variables["params"]`, or the argument of `nnx.update(cell, ...)`: the inverse of `from_flax`.

    - `net`: an `LSTM`.
    - `params`: the parameters of `net`. If there is no bias, flax's bias is 0.
    - `kind`: the naming scheme: "linen" (both cells), "nnx" (`nnx.LSTMCell`) or "nnx_optimized"
      (`nnx.OptimizedLSTMCell`).

    Raises ValueError for a net that is not an LSTM, and for a learned initial state.
    """
    checks.choice("to_flax", "kind", kind, get_args(Kind))
    ((_, p),) = nets.plain(
        "to_flax", "flax", nets.split("to_flax", net, params)[0], says=("activation", "gate_activation")
    )
    b = np.zeros(p.w_ih.shape[1:], p.w_ih.dtype) if p.b is None else p.b
    if kind == "nnx_optimized":
        kernel, recurrent, bias = map(LAYOUT.theirs, (p.w_ih, p.w_hh, b))
        return {"dense_i": {"kernel": kernel}, "dense_h": {"kernel": recurrent, "bias": bias}}
    weights: dict[str, Any] = {}
    for n, gate in enumerate(LAYOUT.gates):
        weights["if_" if (kind, gate) == ("nnx", "f") else f"i{gate}"] = {"kernel": p.w_ih[:, n].copy()}
        weights[f"h{gate}"] = {"kernel": p.w_hh[:, n].copy(), "bias": b[n].copy()}
    return weights


def state_from_flax(state: tuple[ArrayLike, ArrayLike]) -> State:
    """Return an `LSTMState` from flax's carry.

    - `state`: the carry `(c, h)`, `[*B, H]` each.

    >>> state_from_flax((np.zeros((2, 5), "float32"), np.ones((2, 5), "float32"))).h.sum()
    Array(10., dtype=float32)
    """
    c, h = (to_numpy("state_from_flax", name, a) for name, a in zip("ch", state, strict=True))
    return nets.one_layer("state_from_flax", [LSTMState(h, c)])


def state_to_flax(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Return flax's carry `(c, h)`: the inverse of `state_from_flax`.

    - `state`: an `LSTMState`, `[*B, H]` each.
    """
    ((h, c),) = nets.states("state_to_flax", state)
    return c, h
