"""What the wrappers of cells share: parameters and state are the inner cell's, noise is the wrapper's own and its."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.types import Array, Cell, Key, Noise, Params, Shape, State, Y, Z


class Wrapper(Cell):
    """A cell around a cell; it does nothing yet. Its fields are those of a frozen record, `cell` the first.

    Noise is `Noise((own, inner), (own, inner))`: `draw` makes the own part, from a key of its own.
    """

    cell: Cell

    @property
    def feature_axes(self) -> int:  # type: ignore[override]
        return self.cell.feature_axes

    @property
    def recurrent_params(self) -> tuple[str, ...] | None:  # type: ignore[override]
        return getattr(self.cell, "recurrent_params", None)

    @property
    def state_groups(self) -> tuple[tuple[str, ...], ...] | None:  # type: ignore[override]
        return getattr(self.cell, "state_groups", None)

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
        """What the cell says of its fields is so."""
        wrong = [name for name in names if name not in fields(tree)]
        if wrong:
            where, inner = f"{type(self).__name__}.{method}", type(self.cell).__name__
            expected = f"names among {', '.join(map(repr, fields(tree))) or 'the fields of a NamedTuple or dict'}"
            raise checks.problem(where, f"{inner}.{attribute}", expected, ", ".join(map(repr, wrong)))

    def noise(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise:
        own, rest = jax.random.split(key)
        mine = self.draw(own, params, batch_shape, t)
        noise = getattr(self.cell, "noise", None)
        inner = (noise and noise(rest, params, batch_shape, t)) or Noise()
        return Noise((mine.sequence, inner.sequence), (mine.step, inner.step))

    def draw(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise:
        """The wrapper's own noise."""
        return Noise()

    def blend(self, old: State, new: State, rate: float) -> State:
        return blend(self.cell, old, new, rate)

    def read(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> tuple[State, Y] | None:
        return read(self.cell, params, state, z, parts(noise)[1])

    def project(self, params: Params, x: Array, noise: Noise | None = None) -> Z:
        return self.cell.project(params, x, parts(noise)[1])

    def recur(self, params: Params, state: State, noise: Noise | None = None) -> Z | None:
        return self.cell.recur(params, state, parts(noise)[1])

    def update(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> tuple[State, Y]:
        return self.cell.update(params, state, z, parts(noise)[1])


def wrapped(*says: str) -> checks.Check:
    """A check for a cell that has the class attributes `says`, and has them not empty."""

    def check(where: str, name: str, value: Any) -> Cell:
        if not checks.is_cell(checks.net(where, value, name)):
            raise checks.problem(where, name, "a Cell", checks.kind_of(value), kind=TypeError)
        for attribute in says:
            if not getattr(value, attribute, None):
                came = f"{checks.kind_of(value)}, which has none"
                raise checks.problem(where, name, f"a cell that names its {attribute}", came)
        return checks.hashable(where, name, value)

    return check


def parts(noise: Noise | None) -> tuple[Noise, Noise]:
    """A wrapper's noise as (its own, the inner cell's); both are empty where no key was given."""
    if noise is None or noise.sequence is None:
        return Noise(), Noise()
    own, inner = zip(noise.sequence, noise.step, strict=True)
    return Noise(*own), Noise(*inner)


def innermost(cell: Any) -> Any:
    """The cell that wraps no other; of a layer the layer."""
    return innermost(cell.cell) if isinstance(cell, Wrapper) else cell


def blend(cell: Cell, old: State, new: State, rate: float) -> State:
    """`cell.blend`; that of `Cell` for a cell that does not derive from it."""
    return cell.blend(old, new, rate) if hasattr(cell, "blend") else Cell.blend(cell, old, new, rate)


def read(cell: Cell, params: Params, state: State, z: Z, noise: Noise) -> tuple[State, Y] | None:
    """`cell.read`; None for a cell that does not derive from `Cell`."""
    return cell.read(params, state, z, noise) if hasattr(cell, "read") else None


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
