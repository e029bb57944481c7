"""The definition: one step with its masks, and `lax.scan` over it with JAX's ordinary differentiation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jlstm.types import Array, Backend, Cell, Noise, Params, State, Y, Z, noise_of


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The static part of a call.

    - `name`: the public function, for error messages.
    - `one_step`: a call of `step`.
    - `record`: return `Before` of every step.
    - The others are options of `unroll`.
    """

    name: str = "unroll"
    one_step: bool = False
    record: bool = False
    return_sequences: bool = False
    reverse: bool = False
    time_major: bool = False
    checkpoint_every: int | None = None
    truncate_every: int | None = None
    scan_unroll: int = 1
    backend: Backend | None = None


class Fixed(NamedTuple):
    """The values that all steps of a sequence share.

    - `origin`: the state that an episode begins from.
    - `blank`: zeros like one y.
    - `noise`: the per-sequence part.
    - `fused`: `(state, x) -> z`, if the steps are to make z of x.
    - `of_update`: the parameters of `update`, if not `params`.
    """

    origin: State
    blank: Y
    noise: Any
    fused: Callable[[State, Array], Z] | None = None
    of_update: Params = None


class Steps(NamedTuple):
    """The values that differ from step to step; every leaf leads with T, None where the option is off.

    - `x`: the inputs.
    - `valid`, `reset`: bool `[T, *B]`.
    - `cut`: bool `[T]`, the gradient stops before this step.
    - `t`: int32 `[T]`, the position.
    - `z`: the projected inputs.
    - `noise`: the per-step part.
    """

    x: Any
    valid: Array | None
    reset: Array | None
    cut: Array | None
    t: Array | None
    z: Z = None
    noise: Any = None


class Carry(NamedTuple):
    """The state, and the output of the last valid step; None where outputs are stacked."""

    state: State
    last: Y | None


class Before(NamedTuple):
    """The arguments of `update` at a step."""

    state: State
    z: Z


def select(condition: Array | None, new: Any, old: Any) -> Any:
    """`where` over two trees; condition `[*B]` stands for all axes behind; None is True. A product would let NaN by."""
    if condition is None:
        return new

    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(jnp.expand_dims(condition, range(condition.ndim, a.ndim)), a, b)

    return jax.tree.map(leaf, new, old)


def add(a: Any, b: Any) -> Any:
    """a + b, leaf by leaf; an absent (None) b adds nothing."""
    return a if b is None else jax.tree.map(jnp.add, a, b)


class Nudge(NamedTuple):
    """The places where tangents enter a step, for `hoisted` to differentiate by; None where none do.

    - `z`: `pack`ed like z.
    - `after`: like (new state, y).
    """

    z: Any = None
    after: Any = None


@jax.custom_jvp
def nudged(value: Any, nudge: Any) -> Any:
    """value, whose tangent is its own and nudge's: the primal program never reads the nudge."""
    return value


@nudged.defjvp
def _nudged_jvp(primals: Any, tangents: Any) -> Any:
    def leaf(a: Any, b: Any) -> Any:
        return a if a.dtype == jax.dtypes.float0 else a + b

    return primals[0], jax.tree.map(leaf, *tangents)


def pack(z: Z) -> Any:
    """Gate slabs `[.., H]` of one shape as one array `[.., G, H]`; any other z as it is.

    A forward loop reads slabs faster. A backward loop has them side by side for its own dot and writes them so; the
    contraction outside is then one dot.
    """
    leaves = jax.tree.leaves(z)
    alike = len(leaves) > 1 and len({(a.shape, a.dtype) for a in leaves}) == 1 and leaves[0].ndim > 0
    return jnp.stack(leaves, axis=-2) if alike else z


def unpack(packed: Any, like: Z) -> Z:
    """The inverse of `pack`; like: any z of the cell's."""
    if jax.tree.structure(packed) == jax.tree.structure(like):
        return packed
    parts = jnp.split(packed, packed.shape[-2], axis=-2)
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.squeeze(part, -2) for part in parts])


def one(tree: Any) -> Any:
    """Stands for one step of a tree that leads with T (0 included), where only shapes, dtypes and sharding matter."""

    def leaf(a: Array) -> Array:
        return jax.lax.squeeze(a, (0,)) if a.shape[0] == 1 else jnp.sum(a, 0).astype(a.dtype)

    return jax.tree.map(leaf, tree)


def body(
    cell: Cell, options: Options, params: Params, fixed: Fixed, carry: Carry, step: Steps, nudge: Nudge = Nudge()
) -> tuple[Carry, tuple[Y | None, Before | None]]:
    """One step."""
    state = carry.state
    if step.cut is not None:
        state = select(step.cut, jax.lax.stop_gradient(state), state)
    if step.reset is not None and not options.reverse:
        state = select(step.reset, fixed.origin, state)
    noise = noise_of(cell, Noise(fixed.noise, step.noise))
    z = fixed.fused(state, step.x) if fixed.fused else add(step.z, cell.recur(params, state, *noise))
    if nudge.z is not None:
        z = nudged(z, unpack(nudge.z, z))
    new, y = cell.update(params if fixed.of_update is None else fixed.of_update, state, z, *noise)
    if nudge.after is not None:
        new, y = nudged((new, y), nudge.after)
    new = select(step.valid, new, state)
    if step.reset is not None and options.reverse:
        # The episode that begins at t ends here for a scan that comes from behind: step t-1 must not see it.
        new = select(step.reset, fixed.origin, new)
    before = Before(state, z) if options.record else None
    if options.return_sequences:
        return Carry(new, None), (select(step.valid, y, fixed.blank), before)
    return Carry(new, select(step.valid, y, carry.last)), (None, before)


def scan(
    cell: Cell, options: Options, params: Params, fixed: Fixed, carry: Carry, steps: Steps, nudges: Nudge = Nudge()
) -> tuple[Carry, tuple[Y | None, Before | None]]:
    """All steps: the final carry, and what `body` emits stacked over T (in input order)."""
    steps = steps._replace(t=None, **{"z" if fixed.fused else "x": None})

    def f(carry: Carry, xs: tuple[Steps, Nudge]) -> tuple[Carry, Any]:
        return body(cell, options, params, fixed, carry, *xs)

    if jax.tree.leaves(steps)[0].shape[0] == 0:  # lax.scan without jit refuses it
        emitted = jax.eval_shape(lambda: f(carry, one((steps, nudges)))[1])
        return carry, jax.tree.map(lambda a: jnp.zeros((0, *a.shape), a.dtype), emitted)
    return jax.lax.scan(f, carry, (steps, nudges), reverse=options.reverse, unroll=options.scan_unroll)
