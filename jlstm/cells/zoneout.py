"""Zoneout: at every step some units keep their old value."""

from __future__ import annotations

import itertools
from typing import Annotated

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.cells.wrapper import Wrapper, fields, innermost, like, replace, wrapped
from jlstm.records import Check, Rate, record
from jlstm.types import Array, Cell, Key, Noise, Params, Shape, State, Y, Z


@record
class Zoneout(Wrapper):
    """Keep the old value of some units at every step (Krueger et al. 2017, arXiv 1606.01305).

        h' = d_h h + (1 - d_h) ĥ        d: masks of 0 and 1, drawn anew at every step
        c' = d_c c + (1 - d_c) ĉ        ĥ, ĉ: the new h and c that the cell computes from its old ones

    As in the paper, ĥ is made of ĉ, not of c'.

    - `cell`: any cell that names its `state_groups`. Parameters and state are the cell's.
    - `h_rate`: the probability that a unit of h keeps its value, in [0, 1).
    - `c_rate`: the same for every other group of the state, its memory. The fields of one group are one number together
      (the sLSTM's c, n and m); one mask keeps or changes them together.

    With a key every example has its own masks. Without one, as for evaluation, a field is the mean that the masks stand
    for: `rate` of the old value, the rest of the new one. A group of several fields has no such mean.

    The output is h' where the cell's output is its h: where `update` returns one array as both, as LSTMs do. Any other
    output is made of ĥ and ĉ. Fields in no group are never kept.

    Raises ValueError for a rate of a group that the cell does not have, and in a call without a key for a group of
    several fields.

    >>> import jlstm
    >>> cell = Zoneout(jlstm.LSTM(5), h_rate=0.05, c_rate=0.5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> x = jnp.ones((2, 7, 3))
    >>> state, y = jlstm.unroll(cell, params, x, key=jax.random.key(1))  # training
    >>> state, y = jlstm.unroll(cell, params, x)  # evaluation: the mean
    """

    cell: Annotated[Cell, Check(wrapped("state_groups"))]
    h_rate: Rate = 0.0
    c_rate: Rate = 0.0

    def __post_init__(self) -> None:
        for field, held in (("h_rate", "h"), ("c_rate", "memory beside h")):
            if getattr(self, field) and all(("h" in group) != (held == "h") for group in self.state_groups or ()):
                expected = f"0, since {type(innermost(self.cell)).__name__} has no {held} in its state_groups"
                raise checks.problem("Zoneout", field, expected, getattr(self, field))

    @property
    def _rates(self) -> list[tuple[tuple[str, ...], float]]:
        """Every group that is ever kept, and its rate; the group of h comes first."""
        groups = sorted(self.state_groups or (), key=lambda group: "h" not in group)
        return [(group, rate) for group in groups if (rate := self.h_rate if "h" in group else self.c_rate)]

    def draw(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise:
        # one bool mask a group, True where it keeps its value
        like = fields(jax.eval_shape(lambda p: self.cell.initial_state(p, batch_shape), params))
        keys = jax.random.split(jax.random.fold_in(key, t), len(self._rates))
        shapes = [_common([like[name].shape for name in group]) for group, _ in self._rates]
        drawn = zip(keys, self._rates, shapes, strict=True)
        return Noise(step=[jax.random.bernoulli(key, rate, shape) for key, (_, rate), shape in drawn])

    def update(self, params: Params, state: State, z: Z, noise: Noise = Noise()) -> tuple[State, Y]:
        masks = self.own(noise).step
        new, y = self.cell.update(params, state, z, *self.inner(noise))
        old, hat, kept = fields(state), fields(new), {}
        for n, (group, rate) in enumerate(self._rates):
            if masks is None and len(group) > 1:
                held = ", ".join(group)
                expected = f"one, since {held} of {type(innermost(self.cell)).__name__} have no mean"
                raise checks.problem("Zoneout", "key", expected, "None", "Type key=jax.random.key(0).")
            for name in group:
                if masks is None:
                    kept[name] = rate * old[name] + (1.0 - rate) * hat[name]
                else:
                    kept[name] = _where(masks[n], old[name], hat[name])
        return replace(new, kept), kept.get("h", y) if y is hat.get("h") else y


def _where(mask: Array, old: Array, new: Array) -> Array:
    """The old value where the mask says so; the mask has the leading axes."""
    return jnp.where(like(jnp.expand_dims(mask, range(mask.ndim, new.ndim)), new), like(old, new), new)


def _common(shapes: list[Shape]) -> Shape:
    """The leading axes that all have."""
    alike = itertools.takewhile(lambda sizes: len(set(sizes)) == 1, zip(*shapes, strict=False))
    return tuple(sizes[0] for sizes in alike)
