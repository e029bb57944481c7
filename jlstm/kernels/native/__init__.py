"""A native kernel for the LSTM on CPUs.

`src/` is its C++. `library.py` loads what was built of it, `calls.py` has its arguments, `primitives.py` makes it
differentiable.

Rows of a batch are independent, so each thread takes its rows through all T steps without a barrier. The projected
inputs are computed for a few steps at a time, so that they stay in the cache and `[T, B, 4H]` never exists.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from jlstm.cells import LSTM
from jlstm.kernels.native import calls, primitives
from jlstm.kernels.native.library import load
from jlstm.kernels.scan import Carry, Fixed, Options, Steps
from jlstm.types import Array, Cell, Params, State, Y, is_symbolic

__all__ = ["absence", "is_slow", "load", "native", "refusal"]


def refusal(cell: Cell, params: Params, state: State, x: Array) -> str | None:
    """Tell why the native kernel cannot run this call; None if it can."""
    if type(cell) is not LSTM:
        return f"runs LSTM alone, got {type(cell).__name__}"
    if (cell.activation, cell.gate_activation) != ("tanh", "sigmoid"):
        return "runs the activations tanh and sigmoid alone"
    if any(a.dtype != jnp.float32 for a in jax.tree.leaves((params, state, x))):
        return "runs float32 alone"
    if is_symbolic((params, state, x)):
        return "needs static sizes"
    if not all(is_local(a) for a in jax.tree.leaves((state, x))):
        return "runs arrays of one device, or inside shard_map"
    return absence()


def absence() -> str | None:
    """Tell why no call can use the native kernel here; None if one can."""
    default = jax.default_backend()
    return load()[1] or None if default == "cpu" else f"runs on a CPU, and JAX's default here is {default}"


def is_slow(params: Params, x: Array) -> bool:
    """Tell if XLA's loop is faster: for one row of a large weight, since threads share rows out, and not units.

    At B = 1, forward + backward, "hoisted" takes 1.19 (H = 256), 0.75 (H = 512) and 0.77 (H = 1024) times as long.
    """
    return math.prod(x.shape[1:-1]) == 1 and params.w_hh.size > 2**19  # 2 MiB


def is_local(a: Array) -> bool:
    """Tell if no axis of a is sharded over a mesh, as far as its type says."""
    mesh = jax.typeof(a).sharding.mesh
    return mesh.empty or all(kind == jax.sharding.AxisType.Manual for kind in mesh.axis_types)


def varying(arrays: Any) -> Any:
    """Inside `shard_map`, let all arrays vary over the same mesh axes: the gradient of shared weights is a sum then."""
    if all(jax.typeof(a).sharding.mesh.empty for a in arrays):
        return arrays
    # JAX has no stable name for these axes, but its own operations join them.
    always = sum(jnp.sum(a.ravel()[:0]).astype(jnp.float32) for a in arrays) == 0
    return jax.tree.map(lambda a: jnp.where(always, a, a), arrays)


def native(
    cell: Cell, options: Options, params: Params, fixed: Fixed, carry: Carry, steps: Steps
) -> tuple[Carry, tuple[Y | None, None]]:
    """`scan`, to rounding. `scan_unroll` has no effect."""
    T, *batch_shape, _ = steps.x.shape
    axes, at = len(batch_shape), 1 if options.time_major else 0
    B, H = math.prod(batch_shape), cell.output_size(steps.x.shape[-1])

    def by_step(a: Array | None, ndim: int) -> Array:
        """`[T, *B, ...]` as `[1, B, T, ...]` or `[1, T, B, ...]`: as the caller's array lies, without a copy."""
        if a is None:
            return calls.absent(ndim, dtype=bool)
        a = a if options.time_major else jnp.moveaxis(a, 0, axes)
        return a.reshape(1, *a.shape[:at], B, *a.shape[at + axes :])

    def state(a: Array | None) -> Array:
        return calls.absent(3) if a is None else a.reshape(1, B, H)

    origin = (None, None) if steps.reset is None else fixed.origin
    inputs = calls.Inputs(
        x=by_step(steps.x, 4),
        w_ih=params.w_ih[None],
        w_hh=params.w_hh[None],
        b=jnp.zeros((1, 4, H), jnp.float32) if params.b is None else params.b[None],
        h0=state(carry.state.h),
        c0=state(carry.state.c),
        origin_h=state(origin[0]),
        origin_c=state(origin[1]),
        valid=by_step(steps.valid, 3),
        reset=by_step(steps.reset, 3),
        cut=calls.absent(2, dtype=bool) if steps.cut is None else steps.cut[None],
        last=state(carry.last),
    )
    form = calls.Form(options.return_sequences, options.reverse, options.time_major, cell.cell_clip)  # type: ignore[attr-defined]
    y, last, *after, _, _ = primitives.forward.bind(*varying(inputs), form=form, train=False)
    new = type(carry.state)(*[a.reshape(*batch_shape, H) for a in after])
    if not options.return_sequences:
        return Carry(new, last.reshape(*batch_shape, H)), (None, None)
    if options.time_major:
        return Carry(new, None), (y.reshape(T, *batch_shape, H), None)
    return Carry(new, None), (jnp.moveaxis(y.reshape(*batch_shape, T, H), axes, 0), None)
