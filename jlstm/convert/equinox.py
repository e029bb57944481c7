"""Equinox: `LSTMCell`. Gates i, f, g, o; `[4H, D]`; one bias; state `(h, c)`."""

from __future__ import annotations

from typing import Any

import numpy as np

from jlstm.cells import LSTMState
from jlstm.convert import nets
from jlstm.convert.weights import Layout, Weights, to_numpy
from jlstm.types import ArrayLike, Params, State

LAYOUT = Layout("ifgo", transposed=True)


def from_equinox(weights: Any, *, prefix: str = "") -> tuple[Any, Params]:
    """`(net, params)` of Equinox's LSTMCell.

    weights: the cell, a module that holds it, or a dict of its arrays.   prefix: where in them the cell stands, as
    "encoder.cells.0"; other keys are left alone.

    Raises ValueError or TypeError, which name the key.

    >>> weights = {"weight_ih": np.ones((20, 3), "float32"), "weight_hh": np.ones((20, 5), "float32")}
    >>> net, params = from_equinox(weights | {"bias": np.ones(20, "float32")})
    >>> net.hidden_size, params.w_ih.shape
    (5, (3, 4, 5))
    """
    found = Weights("from_equinox", weights, prefix, ".", "weight_[ih]h")
    params = found.lstm(LAYOUT, "weight_ih", "weight_hh", *(["bias"] if "bias" in found.leaves else []))
    return nets.cell(params), params


def to_equinox(net: Any, params: Params) -> dict[str, np.ndarray | None]:
    """The inverse of `from_equinox`: `weight_ih`, `weight_hh` and `bias`, None without one; for `eqx.tree_at`.

    Raises ValueError for a net that Equinox cannot say: other than an LSTM, other activations, a learned initial state.
    """
    ((_, p),) = nets.plain("to_equinox", "Equinox", nets.split("to_equinox", net, params)[0])
    b = None if p.b is None else LAYOUT.theirs(p.b)
    return {"weight_ih": LAYOUT.theirs(p.w_ih), "weight_hh": LAYOUT.theirs(p.w_hh), "bias": b}


def state_from_equinox(state: tuple[ArrayLike, ArrayLike]) -> State:
    """`LSTMState` from Equinox's `(h, c)`, `[H]` each, `[*B, H]` from a vmap.

    >>> state_from_equinox((np.zeros((2, 5), "float32"), np.ones((2, 5), "float32"))).h.shape
    (2, 5)
    """
    h, c = (to_numpy("state_from_equinox", name, a) for name, a in zip("hc", state, strict=True))
    return nets.one_layer("state_from_equinox", [LSTMState(h, c)])


def state_to_equinox(state: State) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `state_from_equinox`: `(h, c)`."""
    ((h, c),) = nets.states("state_to_equinox", state)
    return h, c
