"""The recurrent layers inside a net, and the gates and states of one of them at every step of a sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jlstm
from jlstm.cells import activation_function

GATES = {"i": "input gate i", "f": "forget gate f", "g": "candidate g", "o": "output gate o"}
STATES = {"c": "cell state c", "h": "hidden state h"}
WRAPPERS = (jlstm.Zoneout, jlstm.DropConnect, jlstm.VariationalDropout, jlstm.ClipGates)


class LeftOutError(Exception):
    """The picture cannot be drawn. The message is one line with the reason."""


class Rows(NamedTuple):
    """One quantity of all units over time: values `[T, units]`, and the range of its activation."""

    name: str
    values: np.ndarray
    low: float | None  # None: the largest value, to both sides of 0
    high: float | None


class Part(NamedTuple):
    """A recurrent layer: its name, and its gates and states in drawing order."""

    name: str
    gates: tuple[Rows, ...]
    states: tuple[Rows, ...]  # after each step


class _Found(NamedTuple):
    where: str
    cell: jlstm.Cell
    seen: Any
    final: Any
    backwards: bool


def look(net: Any, params: Any, inputs: Any) -> list[Part]:
    """Return the first LSTM of a net, else its first recurrent layer, on one sequence `[T, D]` or `[T]`.

    Both directions are returned if it has two. Raises LeftOutError if none can be drawn.
    """
    final, seen = jax.tree.map(np.asarray, jlstm.trace(net, params, inputs))
    by_layer = list(_layers(net, seen, final, ""))
    if not by_layer:
        raise LeftOutError("gates: the net has no recurrent layer that could be looked into.")
    # Most users want to see an LSTM: take the first one, or else the first recurrent layer.
    chosen = next((layer for layer in by_layer if type(_nested(layer[0].cell)[0]) is jlstm.LSTM), by_layer[0])
    return [_part(direction) for direction in chosen]


def _layers(net: Any, seen: Any, final: Any, where: str, backwards: bool = False) -> Iterator[list[_Found]]:
    """Yield the recurrent layers from the input up, each as a list of its directions."""
    if isinstance(net, jlstm.Stack):
        parts = [n for n, layer in enumerate(net.layers) if list(_layers(layer, seen[n], final[n], ""))]
        for number, n in enumerate(parts):  # layers without a state are not counted in the picture
            place = f"layer {number + 1} of {len(parts)}" if len(parts) > 1 else ""
            there = ", ".join(name for name in (where, place) if name)
            yield from _layers(net.layers[n], seen[n], final[n], there, backwards)
    elif isinstance(net, jlstm.Bidirectional):
        forward, backward = (
            list(_layers(part, seen[n], final[n], _add(where, name), backwards != (n == 1)))
            for n, (part, name) in enumerate(zip(net.directions, ("forward", "backward"), strict=True))
        )
        both = [*forward[:1], *backward[:1]]
        if both:
            yield [direction for layer in both for direction in layer]
    elif isinstance(net, jlstm.Residual):
        yield from _layers(net.layer, seen, final, where, backwards)
    elif seen is not None and hasattr(seen, "states") and hasattr(seen, "z"):
        yield [_Found(where, net, seen, final, backwards)]


def _add(where: str, direction: str) -> str:
    return f"{where}, {direction} direction" if where else f"{direction} direction"


def _part(found: _Found) -> Part:
    name = " in ".join(type(cell).__name__ for cell in _nested(found.cell))
    z, states = _by_name(found.seen.z), _by_name(found.seen.states)
    if z is None:
        raise LeftOutError(f"gates: {name} does not name its gates.")
    after, end = states or {"state": found.seen.states}, _by_name(found.final) or {"state": found.final}
    if any(np.ndim(values) != 2 for values in (*z.values(), *after.values())):
        raise LeftOutError(f"gates: {name} has more than one axis of units.")
    units = max(values.shape[1] for values in after.values())
    rows = [Rows(STATES.get(key, f"state {key}"), _shift(v, end[key], found.backwards), None, None)
            for key, v in sorted(after.items(), key=lambda item: item[0] != "c")]  # fmt: skip
    title = f"{name} of {units} units" + (f" ({found.where})" if found.where else "")
    gates = [_gate(found.cell, key, values) for key, values in z.items()]
    return Part(title, *(tuple(row._replace(values=row.values.astype(float)) for row in r) for r in (gates, rows)))


def _nested(cell: Any) -> list[Any]:
    """Return a cell and its wrappers, from the inside out."""
    return [*_nested(cell.cell), cell] if isinstance(cell, WRAPPERS) else [cell]


def _gate(cell: jlstm.Cell, key: str, z: np.ndarray) -> Rows:
    """Return the gate, the activation of z. Only for the LSTM is the update known to apply nothing else to z."""
    cell, *wrappers = _nested(cell)
    if type(cell) is not jlstm.LSTM or any(isinstance(wrapper, jlstm.ClipGates) for wrapper in wrappers):
        return Rows(f"{key}, before its activation", z, None, None)
    activation = cell.activation if key == "g" else cell.gate_activation
    values = np.asarray(activation_function(activation)(jnp.asarray(z)))
    low, high = {"sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}.get(
        str(activation), (None,) * 2
    )
    return Rows(GATES[key], values, low, high)


def _shift(before: np.ndarray, final: np.ndarray, backwards: bool) -> np.ndarray:
    """Return the states after each step from those before it: those before the next step, and the final state."""
    parts = (final[None], before[:-1]) if backwards else (before[1:], final[None])
    return np.concatenate(parts)


def _by_name(tree: Any) -> Mapping[str, np.ndarray] | None:
    """Return the arrays of a NamedTuple or a dict by name; None if they have no names."""
    named = tree._asdict() if hasattr(tree, "_asdict") else tree
    return named if isinstance(named, Mapping) else None
