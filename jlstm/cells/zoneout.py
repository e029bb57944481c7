"""Zoneout: at every step some units keep their old value (Krueger et al. 2017, arXiv 1606.01305).

    h' = d_h h + (1 - d_h) ĥ        d: masks of 0 and 1, drawn anew at every step
    c' = d_c c + (1 - d_c) ĉ        ĥ, ĉ: what the cell makes of its old h and c

As in the paper, ĥ is made of ĉ, not of c'.
"""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.cells.wrapper import Wrapper, blend, fields, innermost, like, parts, replace, wrapped
from jlstm.types import Array, Cell, Key, Noise, Params, Shape, State, Y, Z


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Zoneout(Wrapper):
    """Zoneout around any cell that names its `state_groups`. Parameters and state are the cell's.

    h_rate: how likely a unit of h keeps its value, in [0, 1).
    c_rate: the same for every other group of the state, its memory. The fields of one group are one number together
        (the sLSTM's c, n and m) and keep or change together, by one mask of the axes that they have in common.

    With a key every example has its own masks. Without one, as for evaluation, the state is the mean that they stand
    for: `rate` of the old, the rest of the new (`cell.blend`).

    The output is h' where the cell's output is its h: where `update` gives one array as both, as LSTMs, projected ones
    too, do. Any other output is what the cell made of ĥ and ĉ. Fields in no group are never kept.

    Raises ValueError for a rate of what the cell has none of, and for a group of several fields in a cell that does
    not say how they `blend`.

    >>> import jlstm
    >>> cell = Zoneout(jlstm.LSTM(5), h_rate=0.05, c_rate=0.5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> x = jnp.ones((2, 7, 3))
    >>> state, y = jlstm.unroll(cell, params, x, key=jax.random.key(1))  # trains
    >>> state, y = jlstm.unroll(cell, params, x)  # the mean
    """

    cell: Cell
    h_rate: float = 0.0
    c_rate: float = 0.0

    def __post_init__(self) -> None:
        checks.fields(self, cell=wrapped("state_groups"), h_rate=checks.rate, c_rate=checks.rate)
        name = type(innermost(self.cell)).__name__
        for rate, groups in zip(("h_rate", "c_rate"), self._groups, strict=True):
            value = getattr(self, rate)
            if value and not groups:
                held = "h" if rate == "h_rate" else "memory beside h"
                raise checks.problem("Zoneout", rate, f"0, since {name} has no {held} in its state_groups", value)
            several = [group for group in groups if len(group) > 1]
            if value and several and getattr(type(innermost(self.cell)), "blend", Cell.blend) is Cell.blend:
                expected = f"a cell with its own blend, which says how {several[0]} mix"
                raise checks.problem("Zoneout", "cell", expected, f"{name}, which has none")

    @property
    def _groups(self) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """(the group of h, those of memory)"""
        groups = self.state_groups or ()
        return [g for g in groups if "h" in g], [g for g in groups if "h" not in g]

    @property
    def _rates(self) -> list[tuple[tuple[str, ...], float]]:
        """Every group that is ever kept, and its rate."""
        rates = zip((self.h_rate, self.c_rate), self._groups, strict=True)
        return [(group, rate) for rate, groups in rates for group in groups if rate]

    def draw(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise:
        """One bool mask a group, True where it keeps its value."""
        like = fields(jax.eval_shape(lambda p: self.cell.initial_state(p, batch_shape), params))
        keys = jax.random.split(jax.random.fold_in(key, t), len(self._rates))
        shapes = [_common([like[name].shape for name in group]) for group, _ in self._rates]
        drawn = zip(keys, self._rates, shapes, strict=True)
        return Noise(step=[jax.random.bernoulli(key, rate, shape) for key, (_, rate), shape in drawn])

    def update(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> tuple[State, Y]:
        own, inner = parts(noise)
        new, y = self.cell.update(params, state, z, inner)
        old, hat, kept = fields(state), fields(new), {}
        for n, (group, rate) in enumerate(self._rates):
            if own.step is None:
                mean = fields(blend(self.cell, state, new, rate))
                kept |= {name: mean[name] for name in group}
            else:
                kept |= {name: _where(own.step[n], old[name], hat[name]) for name in group}
        return replace(new, kept), kept.get("h", y) if y is hat.get("h") else y

    def read(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> None:
        """It does not say: the h that was kept is not made of the memory that was kept."""


def _where(mask: Array, old: Array, new: Array) -> Array:
    """The old value where the mask says so; the mask has the leading axes."""
    return jnp.where(like(jnp.expand_dims(mask, range(mask.ndim, new.ndim)), new), like(old, new), new)


def _common(shapes: list[Shape]) -> Shape:
    """The leading axes that all have."""
    alike = itertools.takewhile(lambda sizes: len(set(sizes)) == 1, zip(*shapes, strict=False))
    return tuple(sizes[0] for sizes in alike)
