"""The base of the wrappers: params and state are the inner cell's; the noise is the wrapper's own and the cell's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.types import Array, Cell, Key, Noise, Params, Shape, State, Y, Z, noise_of


class Wrapper(Cell):
    """A cell around a cell; it changes nothing yet. A wrapper is a record, and `cell` is its first field.

    Its noise is `Noise((own, inner), (own, inner))`: `draw` makes the own part, from a key of its own.
    """

    cell: Cell

    @property
    def feature_axes(self) -> int:  # type: ignore[override]
        return self.cell.feature_axes

    @property
    def recurrent_params(self) -> tuple[str, ...] | None:  # type: ignore[override]
        return self.cell.recurrent_params

    @property
    def state_groups(self) -> tuple[tuple[str, ...], ...] | None:  # type: ignore[override]
        return self.cell.state_groups

    def init(self, key: Key, input_size: int) -> Params:
        params = self.cell.init(key, input_size)
        self._named("init", params, "recurrent_params", self.recurrent_params or ())
        return params

    def output_size(self, input_size: int) -> int:
        return self.cell.output_size(input_size)

    def initial_state(self, params: Params, batch_shape: Shape = ()) -> State:
        state = self.cell.initial_state(params, batch_shape)
        self._named("initial_state", state, "state_groups", sum(self.state_groups or (), ()))
        return state

    def _named(self, method: str, tree: Any, attribute: str, names: tuple[str, ...]) -> None:
        """Check that the fields which the cell names exist."""
        wrong = [name for name in names if name not in fields(tree)]
        if wrong:
            where, inner = f"{type(self).__name__}.{method}", type(self.cell).__name__
            expected = f"names among {', '.join(map(repr, fields(tree))) or 'the fields of a NamedTuple or dict'}"
            raise checks.problem(where, f"{inner}.{attribute}", expected, ", ".join(map(repr, wrong)))

    def noise(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise:
        own, rest = jax.random.split(key)
        mine = self.draw(own, params, batch_shape, t)
        inner = self.cell.noise(rest, params, batch_shape, t) or Noise()
        return Noise((mine.sequence, inner.sequence), (mine.step, inner.step))

    def draw(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise:
        """Draw the wrapper's own noise."""
        return Noise()

    def project(self, params: Params, x: Array, noise: Noise = Noise()) -> Z:
        return self.cell.project(params, x, *self.inner(noise))

    def recur(self, params: Params, state: State, noise: Noise = Noise()) -> Z | None:
        return self.cell.recur(params, state, *self.inner(noise))

    def update(self, params: Params, state: State, z: Z, noise: Noise = Noise()) -> tuple[State, Y]:
        return self.cell.update(params, state, z, *self.inner(noise))

    def own(self, noise: Noise) -> Noise:
        """The wrapper's part of its noise; empty where no key was given."""
        return noise if noise.sequence is None else Noise(noise.sequence[0], noise.step[0])

    def inner(self, noise: Noise) -> tuple[Noise, ...]:
        """The last argument of the inner cell's methods; none for a cell without noise."""
        return noise_of(self.cell, noise if noise.sequence is None else Noise(noise.sequence[1], noise.step[1]))


def wrapped(*attributes: str) -> checks.Check:
    """The check of a cell that sets these class attributes, and not to nothing."""

    def check(where: str, name: str, value: Any) -> Cell:
        if not isinstance(checks.net(where, name, value), Cell):
            raise checks.problem(where, name, "a Cell", checks.kind_of(value), kind=TypeError)
        for attribute in attributes:
            if not getattr(value, attribute):
                came = f"{checks.kind_of(value)}, which has none"
                raise checks.problem(where, name, f"a cell that names its {attribute}", came)
        return checks.hashable(where, name, value)

    return check


def innermost(cell: Any) -> Any:
    """The cell that wraps no other; a layer as it is."""
    return innermost(cell.cell) if isinstance(cell, Wrapper) else cell


def dropped(a: Array, kept: Array, rate: float) -> Array:
    """a where it is kept, divided by 1 - rate; 0 elsewhere."""
    return jnp.where(like(kept, a), a / (1.0 - rate), jnp.zeros_like(a))


def like(a: Array, b: Array) -> Array:
    """a with the sharding of b, for `jnp.where`: on an Explicit mesh that wants one for all, which a sum finds."""
    if jax.typeof(a).sharding == jax.typeof(b).sharding:  # as everywhere else: no zeros in a loop for nothing
        return a
    return a + jnp.zeros_like(b, dtype=a.dtype)  # of bools it is `or`


def fields(tree: Any) -> dict[str, Any]:
    """Parameters or a state by name: of a NamedTuple or a dict; {} for anything else."""
    return tree if isinstance(tree, dict) else tree._asdict() if hasattr(tree, "_asdict") else {}


def replace(tree: Any, values: dict[str, Any]) -> Any:
    """The tree with other values under these names."""
    return {**tree, **values} if isinstance(tree, dict) else tree._replace(**values)
