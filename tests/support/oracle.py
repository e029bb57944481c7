"""The LSTM as float64 NumPy loops: what every backend, layer and peer is compared with.

Written from Hochreiter & Schmidhuber, "Long Short-Term Memory" (Neural Computation 9(8), 1997), with the forget gate of
Gers, Schmidhuber & Cummins, "Learning to Forget" (Neural Computation 12(10), 2000). Imports nothing of jlstm or of jax,
loops over rows and steps, and reads no input that a row's `lengths` or `mask` hides. Slow: keep T small.

Letters: `*B` batch axes (none, one or many) · `T` time · `D` input features · `H` hidden size · 4 gates, in the order
i, f, g, o.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray
State = tuple[Array, Array]  # (h [*B, H], c [*B, H])


class Params(NamedTuple):
    """The parameters that `lstm` reads, float64: by these names where `params` has them, else by position."""

    w_ih: Array  # [D, 4, H]
    w_hh: Array  # [H, 4, H]
    b: Array | None = None  # [4, H]
    h0: Array | None = None  # [H]
    c0: Array | None = None  # [H]


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


# name -> (the function, its derivative), both of the pre-activation.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "linear": (lambda x: x, np.ones_like),
    "tanh": (np.tanh, lambda x: 1.0 - np.tanh(x) ** 2),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: (x > 0.0) * 1.0),
    "hard_sigmoid": (lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0), lambda x: (np.abs(x) < 3.0) / 6.0),
    "softsign": (lambda x: x / (1.0 + np.abs(x)), lambda x: (1.0 + np.abs(x)) ** -2.0),
}


class _Step(NamedTuple):
    """One step that was taken: what went in and what came out."""

    t: int
    x: Array  # [D]
    h_before: Array  # [H]
    c_before: Array  # [H]
    z: Array  # [4, H], the pre-activations
    h: Array  # [H]
    c: Array  # [H]


class Options(NamedTuple):
    """The options of a run, for all its rows."""

    state: Any = None
    lengths: Any = None
    mask: Any = None
    resets: Any = None
    reverse: bool = False
    activation: str = "tanh"
    gate_activation: str = "sigmoid"


def lstm(params: Any, inputs: ArrayLike, *, return_sequences: bool = False, **options: Any) -> tuple[State, Array]:
    """`((h, c), outputs)` of an LSTM over inputs `[*B, T, D]`.

        i, f, o = gate_activation(x w_ih + h w_hh + b)        g = activation(x w_ih + h w_hh + b)
        c' = f c + i g                                        h' = o activation(c')

    lengths: integers `[*B]`; above T they act as T, below 0 as 0. mask: bool `[*B, T]`, True = valid. A step that
    either of them hides carries the state, outputs 0 and is not read. resets: bool `[*B, T]`, without effect at or
    beyond the length, with effect where only the mask hides the step. A reset at t sets the state to the initial one
    (h0, c0, or zeros) before step t; with `reverse`, where steps run from T-1 to 0, after step t, before step t-1.

    outputs: `[*B, T, H]` in input order with `return_sequences`, else `[*B, H]`: h of the last valid step in the order
    of processing, 0 where there is none. h, c: `[*B, H]` after everything, resets included. All float64.
    """
    p, inputs = _params(params), np.asarray(inputs)
    *batch, time, _ = inputs.shape
    hidden = p.w_hh.shape[0]
    h, c = np.zeros((*batch, hidden)), np.zeros((*batch, hidden))
    sequence, last = np.zeros((*batch, time, hidden)), np.zeros((*batch, hidden))
    for row in np.ndindex(*batch):
        events, (h[row], c[row]) = _run(p, inputs, row, Options(**options))
        for event in filter(None, events):
            sequence[(*row, event.t)] = last[row] = event.h
    return (h, c), sequence if return_sequences else last


def lstm_gradients(
    params: Any, inputs: Any, w_out: Any, w_h: Any, w_c: Any, *, return_sequences: bool = False, **options: Any
) -> tuple[Params, Array, State | None]:
    """Gradients of `sum(outputs * w_out) + sum(h * w_h) + sum(c * w_c)`, where `(h, c), outputs = lstm(...)`.

    Back-propagation through time by hand, one step at a time. Returns `(d_params, d_inputs, d_state)`: None where an
    option is off; `[*B, T, D]`, 0 where hidden; `([*B, H], [*B, H])`, or None where `state` is None. With `state=None`
    and at every reset, the gradient of the initial state belongs to h0 and c0.
    """
    p, inputs, given = _params(params), np.asarray(inputs), Options(**options)
    *batch, _, _ = inputs.shape
    w_out, w_h, w_c = _float64(w_out), _float64(w_h), _float64(w_c)
    d_params = _params([None if leaf is None else np.zeros(leaf.shape) for leaf in p])
    d_inputs = np.zeros(inputs.shape)
    d_state = None if given.state is None else (np.zeros(w_h.shape), np.zeros(w_c.shape))
    act, d_act = ACTIVATIONS[given.activation]
    gate, d_gate = ACTIVATIONS[given.gate_activation]

    def to_initial(dh: Array, dc: Array) -> None:
        for total, part in ((d_params.h0, dh), (d_params.c0, dc)):
            if total is not None:
                total += part

    for row in np.ndindex(*batch):
        events, _ = _run(p, inputs, row, given)
        steps = list(filter(None, events))
        dh, dc = w_h[row], w_c[row]
        for event in reversed(events):
            if event is None:
                to_initial(dh, dc)
                dh, dc = np.zeros_like(dh), np.zeros_like(dc)
                continue
            if return_sequences:
                dh = dh + w_out[(*row, event.t)]
            elif event is steps[-1]:
                dh = dh + w_out[row]
            z_i, z_f, z_g, z_o = event.z
            i, f, g, o = gate(z_i), gate(z_f), act(z_g), gate(z_o)
            dc = dc + dh * o * d_act(event.c)
            d_i, d_f, d_g, d_o = dc * g, dc * event.c_before, dc * i, dh * act(event.c)
            dz = np.stack([d_i * d_gate(z_i), d_f * d_gate(z_f), d_g * d_act(z_g), d_o * d_gate(z_o)])
            d_params.w_ih[...] += np.einsum("d,gh->dgh", event.x, dz)
            d_params.w_hh[...] += np.einsum("d,gh->dgh", event.h_before, dz)
            if d_params.b is not None:
                d_params.b[...] += dz
            d_inputs[(*row, event.t)] = np.einsum("dgh,gh->d", p.w_ih, dz)
            dh, dc = np.einsum("dgh,gh->d", p.w_hh, dz), dc * f
        if d_state is None:
            to_initial(dh, dc)
        else:
            d_state[0][row], d_state[1][row] = dh, dc
    return d_params, d_inputs, d_state


Layer = Any  # `lstm`'s params, or a function that has its own bound


def _call(layer: Layer, inputs: Any, **options: Any) -> tuple[Any, Any]:
    call: Callable[..., Any] = layer if callable(layer) else partial(lstm, layer)
    return call(inputs, **options)


def bidirectional(
    forward: Layer, backward: Layer, inputs: ArrayLike, *, merge: str = "concat", state: Any = None, **options: Any
) -> tuple[tuple[Any, Any], Any]:
    """`((forward's state, backward's state), outputs)`: two layers over the same steps, the second the other way round.

    merge: "concat" (on the last axis), "sum", "mul", "mean", or "none" for the pair. state: a pair of states, or None.
    """
    first, second = (None, None) if state is None else state
    state_f, y_f = _call(forward, inputs, state=first, **options)
    state_b, y_b = _call(backward, inputs, state=second, **options | {"reverse": not options.get("reverse", False)})
    merged = {
        "concat": lambda: np.concatenate([y_f, y_b], axis=-1),
        "sum": lambda: y_f + y_b,
        "mul": lambda: y_f * y_b,
        "mean": lambda: (y_f + y_b) / 2.0,
        "none": lambda: (y_f, y_b),
    }[merge]()
    return (state_f, state_b), merged


def stack(
    layers: Sequence[Layer], inputs: ArrayLike, *, state: Any = None, return_sequences: bool = False, **options: Any
) -> tuple[tuple[Any, ...], Any]:
    """`(one state a layer, the last one's outputs)`."""
    states: list[Any] = []
    y: Any = inputs
    for number, layer in enumerate(layers):
        start, whole = None if state is None else state[number], return_sequences or number < len(layers) - 1
        after, y = _call(layer, y, state=start, return_sequences=whole, **options)
        states.append(after)
    return tuple(states), y


def gradients(f: Callable[..., Any], arrays: Sequence[ArrayLike], eps: float = 1e-5) -> tuple[Array, ...]:
    """Central differences of the scalar `f(*arrays)` by every element of every array; float64, error O(eps^2)."""
    copies = [np.array(array, np.float64) for array in arrays]
    results = tuple(np.zeros(array.shape) for array in copies)
    for array, result in zip(copies, results, strict=True):
        for index in np.ndindex(*array.shape):
            value = array[index]
            for sign in (1.0, -1.0):
                array[index] = value + sign * eps
                result[index] += sign * float(f(*copies)) / (2.0 * eps)
            array[index] = value
    return results


def _run(p: Params, inputs: Array, row: tuple[int, ...], given: Options) -> tuple[list[_Step | None], State]:
    """One row: what happened, in the order of processing (a step that was taken, or None for a reset), and the end."""
    act, gate = ACTIVATIONS[given.activation][0], ACTIVATIONS[given.gate_activation][0]
    time, zero = inputs.shape[-2], np.zeros(p.w_hh.shape[0])
    initial = (zero if p.h0 is None else p.h0, zero if p.c0 is None else p.c0)
    length = time if given.lengths is None else min(max(int(np.asarray(given.lengths)[row]), 0), time)
    events: list[_Step | None] = []
    h, c = initial if given.state is None else (_float64(leaf)[row] for leaf in given.state)
    for t in range(length)[:: -1 if given.reverse else 1]:
        reset = given.resets is not None and bool(np.asarray(given.resets)[(*row, t)])
        valid = given.mask is None or bool(np.asarray(given.mask)[(*row, t)])
        if reset and not given.reverse:
            h, c = initial
            events.append(None)
        if valid:
            x = _float64(inputs[(*row, t)])
            z = np.einsum("d,dgh->gh", x, p.w_ih) + np.einsum("k,kgh->gh", h, p.w_hh)
            if p.b is not None:
                z = z + p.b
            i, f, g, o = gate(z[0]), gate(z[1]), act(z[2]), gate(z[3])
            c_new = f * c + i * g
            h_new = o * act(c_new)
            events.append(_Step(t, x, h, c, z, h_new, c_new))
            h, c = h_new, c_new
        if reset and given.reverse:
            h, c = initial
            events.append(None)
    return events, (h, c)


def _params(params: Any) -> Params:
    named = hasattr(params, "w_ih")
    leaves = [getattr(params, name, None) for name in Params._fields] if named else list(params)
    values: list[Any] = [None if leaf is None else _float64(leaf) for leaf in leaves]
    return Params(*values)


def _float64(x: ArrayLike) -> Array:
    return np.asarray(x, np.float64)
