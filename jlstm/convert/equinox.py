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
    """Return `(net, params)` for Equinox's LSTMCell.

    - `weights`: the cell, a module that contains it, or a dict of its arrays.
    - `prefix`: the path of the cell in `weights`, such as "encoder.cells.0". Other keys are ignored.

    Raises ValueError or TypeError with the name of the key.

    >>> w_ih, w_hh, b = (np.ones(shape, "float32") for shape in ((20, 3), (20, 5), 20))
    >>> net, params = from_equinox({"weight_ih": w_ih, "weight_hh": w_hh, "bias": b})
    >>> net.hidden_size, params.w_ih.shape
    (5, (3, 4, 5))
    """
    found = Weights("from_equinox", weights, prefix, ".", "weight_[ih]h")
    params = found.lstm(LAYOUT, "weight_ih", "weight_hh", *(["bias"] if "bias" in found.leaves else []))
    return nets.cell(params), params


def to_equinox(net: Any, params: Params) -> dict[str, np.ndarray | None]:
    """Return `weight_ih`, `weight_hh` and `bias` (or None) for `eqx.tree_at`: the inverse of `from_equinox`.

    - `net`: an `LSTM`.
    - `params`: the parameters of `net`.

    Raises ValueError for a cell other than LSTM, for other activations, and for a learned initial state.
    """
    ((_, p),) = nets.plain("to_equinox", "Equinox", nets.split("to_equinox", net, params)[0])
    b = None if p.b is None else LAYOUT.theirs(p.b)
    return {"weight_ih": LAYOUT.theirs(p.w_ih), "weight_hh": LAYOUT.theirs(p.w_hh), "bias": b}


def state_from_equinox(state: tuple[ArrayLike, ArrayLike]) -> State:
    """Return an `LSTMState` from Equinox's state.

    - `state`: Equinox's `(h, c)`, each `[H]`, or `[*B, H]` from a vmap.

    >>> h, c = np.zeros((2, 5), "float32"), np.ones((2, 5), "float32")
    >>> state_from_equinox((h, c)).h.shape
    (2, 5)
    """
    h, c = (to_numpy("state_from_equinox", name, a) for name, a in zip("hc", state, strict=True))
    return nets.one_layer("state_from_equinox", [LSTMState(h, c)])


def state_to_equinox(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Return Equinox's `(h, c)`: the inverse of `state_from_equinox`.

    - `state`: an `LSTMState`, each array `[H]` or `[*B, H]`.
    """
    ((h, c),) = nets.states("state_to_equinox", state)
    return h, c
