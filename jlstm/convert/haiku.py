"""Haiku: `LSTM`. Gates i, g, f, o; one `[D + H, 4H]` matrix with the rows of x above those of h; state `(h, c)`.

Haiku adds 1 to the forget gate in each step, so our forget bias is Haiku's plus 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jlstm.cells import LSTMParams, LSTMState
from jlstm.convert import nets
from jlstm.convert.weights import Layout, Weights, add, to_numpy, to_params
from jlstm.types import GATES, ArrayLike, Params, State

LAYOUT = Layout("igfo")


def from_haiku(weights: Mapping[str, Any], *, prefix: str = "lstm") -> tuple[Any, Params]:
    """Return `(net, params)` for Haiku's LSTM.

    - `weights`: Haiku's parameters, `{"lstm/linear": {"w": ..., "b": ...}}`.
    - `prefix`: the name of the LSTM's module in `weights`, such as "encoder/lstm". Other keys are ignored.

    Raises ValueError or TypeError with the name of the key.

    >>> linear = {"w": np.zeros((8, 20), "float32"), "b": np.zeros(20, "float32")}
    >>> net, params = from_haiku({"lstm/linear": linear})
    >>> params.w_ih.shape, params.b[:, 0].tolist()
    ((3, 4, 5), [0.0, 1.0, 0.0, 0.0])
    """
    found = Weights("from_haiku", weights, prefix, "/", "linear/w")
    H = found.take("linear/b", "[4H]", (None,)).shape[0] // len(GATES)
    b = found.take("linear/b", "[4H]", (4 * H,))
    rows = found.take("linear/w", "[D + H, 4H]", (None, 4 * H)).shape[0]
    w = found.take("linear/w", f"[D + H, 4H] with H = {H}", (max(rows, H + 1), 4 * H))
    b = _add_forget(LAYOUT.ours(b), 1.0)
    params = to_params("from_haiku", LSTMParams, w_ih=LAYOUT.ours(w[:-H]), w_hh=LAYOUT.ours(w[-H:]), b=b)
    return nets.cell(params), params


def _add_forget(b: np.ndarray, value: float) -> np.ndarray:
    one = np.zeros_like(b)
    one[GATES.index("f")] = value
    return add(b, one)


def to_haiku(net: Any, params: Params, *, prefix: str = "lstm") -> dict[str, dict[str, np.ndarray]]:
    """Return Haiku's parameters: the inverse of `from_haiku`.

    - `net`: an `LSTM`.
    - `params`: the parameters of `net`. If there is no bias, Haiku's forget bias is -1.
    - `prefix`: the name of the LSTM's module, as in `from_haiku`.

    Raises ValueError for a cell other than LSTM, for other activations, and for a learned initial state.
    """
    ((_, p),) = nets.plain("to_haiku", "Haiku", nets.split("to_haiku", net, params)[0])
    b = _add_forget(np.zeros(p.w_ih.shape[1:], p.w_ih.dtype) if p.b is None else p.b, -1.0)
    w = np.concatenate([LAYOUT.theirs(p.w_ih), LAYOUT.theirs(p.w_hh)])
    return {f"{prefix}/linear" if prefix else "linear": {"w": w, "b": LAYOUT.theirs(b)}}


def state_from_haiku(state: tuple[ArrayLike, ArrayLike]) -> State:
    """Return an `LSTMState` from Haiku's state.

    - `state`: Haiku's `LSTMState(hidden, cell)`, `[*B, H]` each.

    >>> h, c = np.zeros((2, 5), "float32"), np.ones((2, 5), "float32")
    >>> state_from_haiku((h, c)).h.shape
    (2, 5)
    """
    h, c = (to_numpy("state_from_haiku", name, a) for name, a in zip(("hidden", "cell"), state, strict=True))
    return nets.one_layer("state_from_haiku", [LSTMState(h, c)])


def state_to_haiku(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Return `(hidden, cell)` for `hk.LSTMState(*...)`: the inverse of `state_from_haiku`.

    - `state`: an `LSTMState`, `[*B, H]` each.
    """
    ((h, c),) = nets.states("state_to_haiku", state)
    return h, c
