"""The default: the same scan, and a derivative that carries no recurrent weight's gradient through the loop.

Differentiating a scan in the ordinary way adds a rank-B update to every recurrent weight's gradient at each step: a
read and a write of `[H, 4H]` each time. But a parameter's tangent enters a step only through `recur` and `update`, so
it can be had for all T at once, outside, from the stacked states before each step:

    δz(recur)       = ∂recur/∂params (state_t) δparams           added to z's own tangent
    δ(state, y)     = ∂update/∂params (state_t, z_t) δparams     added to (new state, y) of every step
    δ(final, y_t)   = the linearised scan of these, of z's tangent and of the initial state's

The scan is linearised with all parameters held fixed. The transpose of the first line is one (T*B)-deep matmul for
each recurrent weight. All of it is JAX, so that every transform works on it. One exception is faster: see `carries`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jlstm.cells import LSTM, CoupledLSTM, CoupledLSTMGates, LSTMGates, PeepholeLSTM, ProjectedLSTM
from jlstm.cells import recur as recur_by_gate
from jlstm.kernels.scan import Before, Carry, Fixed, Nudge, Options, Steps, add, one, pack, scan
from jlstm.types import Array, Cell, Noise, Params, State, Y, Z, is_symbolic, noise_of


def reads(f: Callable[..., Any], first: Any, *rest: Any) -> list[int]:
    """The leaves of `first` that the results of `f(first, *rest)` depend on, by a walk from the results back."""
    jaxpr = jax.make_jaxpr(f)(first, *rest).jaxpr
    wanted = {id(v) for v in jaxpr.outvars}
    for eqn in reversed(jaxpr.eqns):
        if any(id(v) in wanted for v in eqn.outvars):
            wanted |= {id(v) for v in eqn.invars}
    return [i for i, _ in enumerate(jax.tree.leaves(first)) if id(jaxpr.invars[i]) in wanted]


# Cells with z = W x + U h + b, and the type of their z. By exact type: a derived class may have another `project`.
FUSED = {LSTM: LSTMGates, PeepholeLSTM: LSTMGates, CoupledLSTM: CoupledLSTMGates, ProjectedLSTM: LSTMGates}
NARROW = 32  # features


def fuses(cell: Cell, params: Params, state: State, steps: Steps) -> bool:
    """Tell if W x + U h as one product inside the loop is faster, going forward. GPUs and TPUs: not measured.

    W x for all T at once is a write and a read of z `[T, *B, 4H]`, which costs a CPU more than a few columns beside U's
    do. But W and U have to be put side by side first, which is a write of them. In 16 bits it is no faster, and jaxlib
    0.9.0 cannot compile it.
    """
    pays = type(cell) in FUSED and not is_symbolic(steps.x)
    pays = pays and steps.x.shape[-1] <= NARROW and _size(params) <= _size(steps.z)
    pays = pays and state.h.dtype == steps.z[0].dtype
    return pays and jax.default_backend() == "cpu" and jax.typeof(steps.x).sharding.mesh.empty


def fused(cell: Cell, params: Any) -> Callable[[Any, Array], Z]:
    """`(state, x) -> project(params, x) + recur(params, state)` as one product, x `[*B, D]`."""
    w = jnp.concatenate([params.w_ih, params.w_hh])

    def z(state: Any, x: Array) -> Z:
        return FUSED[type(cell)](*recur_by_gate(jnp.concatenate([x.astype(state.h.dtype), state.h], -1), w, params.b))

    return z


CARRIED = 64  # numbers of a gradient for one of the state


def carries(params: list[Array], state: State) -> bool:
    """Tell if the loop should carry the gradient of the parameters that `update` reads, because it is small.

    Outside the loop, `update` runs again for all T, from z and states that the loop has to write. That is worth it for
    a matrix, which each step would read and write, but not for peepholes. Measured on a CPU; elsewhere nothing is
    carried.
    """
    small = not is_symbolic(state) and _size(params) <= CARRIED * _size(state)
    return small and jax.default_backend() == "cpu"


def _size(tree: Any) -> int:
    return sum(a.size for a in jax.tree.leaves(tree))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def hoisted(
    cell: Cell, options: Options, params: Params, fixed: Fixed, carry: Carry, steps: Steps
) -> tuple[Carry, tuple[Y | None, None]]:
    """`scan`, with the derivative above. Without one, narrow inputs are multiplied inside the loop."""
    if fuses(cell, params, carry.state, steps):
        fixed = fixed._replace(fused=fused(cell, params))
    return scan(cell, options, params, fixed, carry, steps)  # type: ignore[return-value]


@hoisted.defjvp
def _hoisted_jvp(cell: Cell, options: Options, primals: Any, tangents: Any) -> Any:
    params, fixed, carry, steps = primals
    dparams, dfixed, dcarry, dsteps = tangents
    leaves, tree = jax.tree.flatten(params)

    def recur(params: Params, before: Before, noise: Any) -> Any:
        return cell.recur(params, before.state, *noise_of(cell, Noise(fixed.noise, noise)))

    def update(params: Params, before: Before, noise: Any) -> Any:
        return cell.update(params, before.state, before.z, *noise_of(cell, Noise(fixed.noise, noise)))

    def tangent(f: Callable[..., Any], before: Before) -> Any:
        """∂f/∂params δparams at every step, all T at once."""
        over_time = jax.vmap(f, in_axes=(None, 0, 0))
        return jax.jvp(lambda p: over_time(p, before, steps.noise), (params,), (dparams,))[1]

    read = reads(update, params, Before(carry.state, one(steps.z)), one(steps.noise))
    carried = read if carries([leaves[i] for i in read], carry.state) else []

    # Zeros that no primal computation reads: only their tangents matter.
    T = jax.tree.leaves(steps.z)[0].shape[0]
    after = None
    if read and not carried:
        blank = jax.tree.map(jnp.zeros_like, (carry.state, fixed.blank))
        after = jax.tree.map(lambda a: jnp.broadcast_to(a, (T, *a.shape)), blank)
    nudges = Nudge(jax.tree.map(jnp.zeros_like, pack(steps.z)), after)

    def primal(origin: Any, carry: Carry, nudges: Nudge, own: list[Array]) -> Any:
        of_update = tree.unflatten([own[carried.index(i)] if i in carried else p for i, p in enumerate(leaves)])
        recorded, shared = dataclasses.replace(options, record=True), fixed._replace(origin=origin, of_update=of_update)
        end, (y, before) = scan(cell, recorded, params, shared, carry, steps, nudges)
        return (end, (y, None)), before

    at = fixed.origin, carry, nudges, [leaves[i] for i in carried]
    out, linear, before = jax.linearize(primal, *at, has_aux=True)
    dz = add(pack(dsteps.z), pack(tangent(recur, before)))
    dafter = None if after is None else tangent(update, before)
    dleaves = tree.flatten_up_to(dparams)
    return out, linear(dfixed.origin, dcarry, Nudge(dz, dafter), [dleaves[i] for i in carried])
