"""Keras: `LSTM`, `GRU` and `Bidirectional`. Gates i, f, c, o (c is our g); `[D, 4H]`; one bias; state `[h, c]`.

A GRU has the gates z, r, h (h is our n) and the state `[h]`. With `reset_after` its bias is `[2, 3H]`, for x and for h.

Keras's `go_backwards` is `unroll(..., reverse=True)`. Our outputs stay in input order; flip them for Keras's order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jlstm import checks
from jlstm.cells import GRU, LSTM, Activation, GRUParams
from jlstm.cells.gru import WEIGHTS
from jlstm.convert import nets
from jlstm.convert.weights import Layout, Weights, gru_bias, gru_biases, to_numpy, to_params
from jlstm.description import show
from jlstm.types import ArrayLike, Params, State

LAYOUT, GRU_LAYOUT = Layout("ifgo"), Layout("zrn", order=WEIGHTS)
_PATH = r"((?:(forward|backward)_[^/]+/)?[^/]*cell[^/]*/)(?:recurrent_kernel|kernel|bias)"
MERGES = {"concat": "concat", "sum": "sum", "mul": "mul", "ave": "mean", None: "none"}
"""Our `merge` for each `merge_mode` of Keras."""

_SAME = "tanh sigmoid relu linear hard_sigmoid hard_tanh softsign softplus elu silu"
ACTIVATIONS = {name: name for name in _SAME.split()} | {"swish": "silu", None: "linear"}
"""Our activation names by Keras's. gelu is missing: Keras's gelu is exact, jax's is an approximation."""


def from_keras(
    weights: Sequence[ArrayLike] | Mapping[str, ArrayLike],
    *,
    prefix: str = "",
    activation: Activation | None = "tanh",
    recurrent_activation: Activation | None = "sigmoid",
    reset_after: bool = True,
    merge_mode: str | None = "concat",
) -> tuple[Any, Params]:
    """Return `(net, params)` for a Keras LSTM or GRU, or a Bidirectional of one. The shapes determine the cell.

    - `weights`: the layer's `get_weights()`: kernel `[D, 4H]`, recurrent_kernel `[H, 4H]` and, with `use_bias`, bias
      `[4H]`; twice that for a Bidirectional. Or a model's `{w.path: w.numpy() for w in model.weights}`.
    - `prefix`: the layer's path in such a dict. Other keys are ignored.
    - `activation`: the layer's setting, which weights do not contain.
    - `recurrent_activation`: the layer's setting, which weights do not contain.
    - `reset_after`: a GRU's setting. Its bias, if any, is `[2, 3H]` if True, else `[3H]`.
    - `merge_mode`: the setting of a Bidirectional, which weights do not contain.

    Raises ValueError or TypeError with the name of the array.

    >>> shapes = (3, 20), (5, 20), (20,)
    >>> net, params = from_keras([np.ones(shape, "float32") for shape in shapes])
    >>> net.hidden_size, params.w_ih.shape
    (5, (3, 4, 5))
    """
    options = {
        "activation": _activation("activation", activation),
        "gate_activation": _activation("recurrent_activation", recurrent_activation),
    }
    if merge_mode not in MERGES:
        raise checks.problem("from_keras", "merge_mode", "one of " + ", ".join(map(repr, MERGES)), repr(merge_mode))
    if isinstance(weights, Mapping):
        found, directions = _by_path(weights, prefix)
    else:
        found, directions = _by_position(list(weights), prefix)
    layer: list[Any] = []
    for kernel, recurrent, *bias in directions:
        D, H = layer[0][1].w_ih.shape[::2] if layer else (None, None)
        shape = np.shape(found.leaves.get(recurrent, 0))
        if len(shape) == 2 and shape[1] == 3 * shape[0]:
            p = _gru(found, kernel, recurrent, *bias, reset_after=reset_after, input_size=D, hidden_size=H)
            layer.append((nets.cell(p, reset_after=reset_after, **options), p))
        else:
            p = found.lstm(LAYOUT, kernel, recurrent, *bias, input_size=D, hidden_size=H)
            layer.append((nets.cell(p, **options), p))
    return nets.join([layer], merge=MERGES[merge_mode])


def _gru(found: Weights, w_ih: str, w_hh: str, *biases: str, reset_after: bool, **sizes: int | None) -> GRUParams:
    kernel, recurrent = found.products(GRU_LAYOUT, w_ih, w_hh, **sizes)
    H, b = recurrent.shape[0], None
    for key in biases:
        if reset_after:
            b = gru_bias(*map(GRU_LAYOUT.ours, found.take(key, "[2, 3H] of reset_after=True", (2, 3 * H))))
        else:
            b = GRU_LAYOUT.ours(found.take(key, "[3H] of reset_after=False", (3 * H,)))
    return to_params("from_keras", GRUParams, w_ih=kernel, w_hh=recurrent, b=b)


def _activation(name: str, value: Any) -> Any:
    """Return our name for Keras's activation. A function is returned unchanged."""
    if not callable(value) and value not in ACTIVATIONS:
        expected = "a function, or one of " + ", ".join(map(repr, ACTIVATIONS))
        raise checks.problem("from_keras", name, expected, repr(value))
    return value if callable(value) else ACTIVATIONS[value]


def _by_position(arrays: list[ArrayLike], prefix: str) -> tuple[Weights, list[list[str]]]:
    """Return the weights and the keys of each direction. The key of an array is its index in the list."""
    if prefix:
        hint = "With a prefix, pass {w.path: w.numpy() for w in model.weights}."
        raise checks.problem("from_keras", "prefix", "'' with a list of arrays", repr(prefix), hint)
    biased = len(arrays) % 3 == 0
    ways, rest = divmod(len(arrays), 3 if biased else 2)
    if rest or ways not in (1, 2):
        expected = "[kernel, recurrent_kernel] and a bias with use_bias, or twice that for a Bidirectional"
        raise checks.problem("from_keras", "weights", expected, show([np.shape(a) for a in arrays]))
    keys = [str(n) for n in range(len(arrays))]
    per = len(keys) // ways
    return Weights("from_keras", arrays, "", "/", r"\d+"), [keys[:per], keys[per:]][:ways]


def _by_path(arrays: Mapping[str, ArrayLike], prefix: str) -> tuple[Weights, list[list[str]]]:
    """Return the same as `_by_position`, from a dict by path."""
    found = Weights("from_keras", arrays, prefix, "/", _PATH)
    starts = {match[1]: match[2] for key in found.leaves if (match := re.fullmatch(_PATH, key))}
    ways = sorted(starts, key=lambda start: starts[start] or "", reverse=True)  # forward before backward
    if [starts[start] for start in ways] not in ([None], ["forward", "backward"]):
        expected = "one LSTM or GRU, or a forward_ and a backward_ one"
        raise checks.problem("from_keras", found.start or "weights", expected, show(ways))
    names = ["kernel", "recurrent_kernel"] + ["bias"] * any(f"{start}bias" in found.leaves for start in ways)
    return found, [[start + name for name in names] for start in ways]


def to_keras(net: Any, params: Params) -> list[np.ndarray]:
    """Return the list for `set_weights` of an LSTM, a GRU or a Bidirectional: the inverse of `from_keras`.

    - `net`: an `LSTM`, a `GRU`, or a `Bidirectional` of two.
    - `params`: the parameters of `net`.

    Activations, `reset_after` and the merge are arguments of the layer, not weights. If only one direction has a bias,
    the other gets zeros.

    Raises ValueError for a net that is not an LSTM, a GRU or a Bidirectional of two, and for a learned initial state.
    """
    (layer,) = nets.split("to_keras", net, params, allowed=(LSTM, GRU), merges=tuple(MERGES.values()))
    biased = any(p.b is not None for _, p in layer)
    weights = []
    for one, p in nets.plain("to_keras", "Keras", layer, says=("activation", "gate_activation", "reset_after")):
        layout = GRU_LAYOUT if isinstance(one, GRU) else LAYOUT
        weights += [layout.theirs(p.w_ih), layout.theirs(p.w_hh)]
        if biased:
            two = isinstance(one, GRU) and one.reset_after
            zero = np.zeros((4 if two else p.w_ih.shape[1], one.hidden_size), p.w_ih.dtype)
            b = zero if p.b is None else p.b
            weights.append(np.stack([*map(layout.theirs, gru_biases(b))]) if two else layout.theirs(b))
    return weights


def state_from_keras(state: Sequence[ArrayLike], net: Any = None) -> State:
    """Return the state of `net` from the states of a Keras layer.

    - `state`: an LSTM's `[h, c]`, a GRU's `[h]`, or twice that for a Bidirectional; each array is `[B, H]`.
    - `net`: the net that takes the state. With None, two arrays give an `LSTMState`, four a `BidirectionalState` of
      two.

    >>> h, c = np.zeros((2, 5), "float32"), np.ones((2, 5), "float32")
    >>> state_from_keras([h, c]).c.shape
    (2, 5)
    """
    arrays = [to_numpy("state_from_keras", f"state[{n}]", a) for n, a in enumerate(state)]
    per = 1 if isinstance(getattr(net, "forward", net), GRU) else 2
    if len(arrays) not in (per, 2 * per):
        expected = "[h] or [h, h]" if per == 1 else "[h, c] or [h, c, h, c]"
        raise checks.problem("state_from_keras", "state", expected, f"{len(arrays)} arrays")
    found = [arrays[n : n + per] for n in range(0, len(arrays), per)]
    return nets.one_layer("state_from_keras", found) if net is None else nets.fill_all("state_from_keras", net, found)


def state_to_keras(state: State) -> list[np.ndarray]:
    """Return the list for `initial_state` of a Keras layer: the inverse of `state_from_keras`.

    - `state`: the state of an `LSTM`, a `GRU`, or a `Bidirectional` of two.
    """
    return [a for one in nets.states("state_to_keras", state) for a in one]
