"""All steps of a cell at once whose state only changes linearly, c' = keep c + add: `MinLSTM`'s.

Two such steps in a row are one, so that `lax.associative_scan` takes T of them in O(log T) rounds of elementwise work,
without a loop. Where a step begins from a known state (the first one, an episode's first), what came before does not
count; a hidden step has keep = 1, add = 0.

The T steps are one bidiagonal system of equations in c, and `lax.custom_linear_solve` knows the derivatives of its
solution: another solve each, the transposed one in reverse mode. Reverse mode thus keeps c and `keep`, and no rounds.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlstm.kernels.scan import Carry, Fixed, Options, Steps, scan, select
from jlstm.types import Array, Cell, Params, Y


def associative(
    cell: Cell, options: Options, params: Params, fixed: Fixed, carry: Carry, steps: Steps
) -> tuple[Carry, tuple[Y | None, None]]:
    """`scan`, to rounding. `scan_unroll` has no effect."""
    T, origin, state = steps.z.keep.shape[0], fixed.origin.c, carry.state
    if T == 0:
        return scan(cell, options, params, fixed, carry, steps)  # type: ignore[return-value]
    last = 0 if options.reverse else -1
    order = jnp.arange(T)[:: -1 if options.reverse else 1].reshape(T, *(1,) * (state.c.ndim - 1))
    keep = select(steps.valid, steps.z.keep, jnp.ones_like(steps.z.keep))
    add = select(steps.valid, steps.z.add, jnp.zeros_like(steps.z.add))

    def stopped(before: Array) -> Array:
        return before if steps.cut is None else select(steps.cut, jax.lax.stop_gradient(before), before)

    # The state before a step, where it is known, else 0.
    known = jnp.broadcast_to(order == 0, keep.shape[:-1])
    start = select(known, jnp.broadcast_to(state.c, keep.shape), jnp.zeros_like(keep))
    start = start if options.reverse else stopped(start)
    if steps.reset is not None:
        # Going back, it is step t that begins anew for a reset at t+1.
        begins = _before(steps.reset, reverse=True) if options.reverse else steps.reset
        start, known = select(begins, jnp.broadcast_to(origin, keep.shape), start), known | begins
    start = stopped(start) if options.reverse else start
    c = _solve(keep, add, known, start, options.reverse)
    if steps.cut is not None:
        # Where the gradient stops the state before counts as known, too: by the numbers of a first solution.
        cut = ~known & jnp.expand_dims(steps.cut, range(1, known.ndim))
        start = select(cut, jax.lax.stop_gradient(_before(c, options.reverse)), start)
        c = _solve(keep, add, known | cut, start, options.reverse)

    end, h = c[last], c.astype(state.h.dtype)
    if steps.reset is not None and options.reverse:
        end = select(steps.reset[last], origin, end)
    final = end.astype(state.h.dtype)
    if steps.valid is not None:  # a row without a step keeps the h it was given
        moved = steps.valid if steps.reset is None else steps.valid | steps.reset
        kept = state.h if steps.cut is None else select(jnp.any(steps.cut), jax.lax.stop_gradient(state.h), state.h)
        final = select(jnp.any(moved, axis=0), final, kept)
    after = type(state)(final, end)
    if options.return_sequences:
        return Carry(after, None), (select(steps.valid, h, jnp.broadcast_to(fixed.blank, h.shape)), None)
    if steps.valid is None:
        return Carry(after, h[last]), (None, None)
    latest = jnp.max(jnp.where(steps.valid, order, -1), axis=0)
    taken = select(steps.valid & (order == latest[None]), h, jnp.zeros_like(h))
    y = jnp.sum(taken, axis=0).astype(h.dtype)  # of one step
    return Carry(after, select(latest >= 0, y, carry.last)), (None, None)


def _before(a: Array, reverse: bool) -> Array:
    """The value of the step before, in the order of processing; 0 at the first step."""
    nothing = jnp.zeros_like(a[:1])
    return jnp.concatenate([a[1:], nothing] if reverse else [nothing, a[:-1]])


def _solve(keep: Array, add: Array, known: Array, start: Array, reverse: bool) -> Array:
    """c `[T, *B, H]` of c_t = keep_t c_{t-1} + add_t, where c_{t-1} is start_t if known_t, bool `[T, *B]`."""
    # A `where` and no product with 0: nothing that came before gets past a border, NaN included.
    known = jnp.expand_dims(known, -1)

    def equations(c: Array) -> Array:
        return c - keep * jnp.where(known, 0.0, _before(c, reverse))

    def solve(_: Any, b: Array) -> Array:
        return _compose(keep, b, known, reverse)

    def solve_transposed(_: Any, b: Array) -> Array:
        # λ_t = b_t + keep_{t+1} λ_{t+1}, from the last step to the first.
        return _compose(_before(keep, not reverse), b, _before(known, not reverse), not reverse)

    return jax.lax.custom_linear_solve(equations, add + keep * start, solve, solve_transposed)


def _compose(keep: Array, add: Array, known: Array, reverse: bool) -> Array:
    """c_t = keep_t c_{t-1} + add_t, and add_t where known_t."""

    def then(one: tuple[Array, ...], two: tuple[Array, ...]) -> tuple[Array, ...]:
        known = one[0] | two[0]
        return known, one[1] * two[1], jnp.where(two[0], two[2], two[1] * one[2] + two[2])

    return jax.lax.associative_scan(then, (known, keep, add), reverse=reverse)[-1]
