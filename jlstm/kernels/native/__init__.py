"""A native kernel for the LSTM on CPUs: `src/` is its C++, `ops.py` the primitives, `library.py` finds what was built.

Rows of a batch are independent, so each thread takes its rows through all T steps without a barrier. The projected
inputs are computed for a few steps at a time, so that they stay in the cache and `[T, B, 4H]` never exists.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlstm.cells import LSTM
from jlstm.kernels.native.library import load
from jlstm.kernels.scan import Carry, Fixed, Options, Steps
from jlstm.types import Array, Cell, Params, State, Y, is_symbolic

__all__ = ["load", "native", "reason"]


def reason(cell: Cell, params: Params, state: State, x: Array) -> str | None:
    """Tell why the native kernel cannot run this call; None if it can."""
    if type(cell) is not LSTM:
        return f"runs LSTM alone, got {type(cell).__name__}"
    if (cell.activation, cell.gate_activation) != ("tanh", "sigmoid"):
        return "runs the activations tanh and sigmoid alone"
    if any(a.dtype != jnp.float32 for a in jax.tree.leaves((params, state, x))):
        return "runs float32 alone"
    if cell.compute_dtype not in (None, "float32"):
        return f"runs float32 alone, got compute_dtype={cell.compute_dtype!r}"
    if is_symbolic((params, state, x)):
        return "needs static sizes"
    if jax.default_backend() != "cpu":
        return f"runs on a CPU, and JAX's default here is {jax.default_backend()}"
    if not all(is_local(a) for a in jax.tree.leaves((state, x))):
        return "runs arrays of one device, or inside shard_map"
    return load()[1] or None


def is_local(a: Array) -> bool:
    """Tell if no axis of a is sharded over a mesh, as far as its type says."""
    mesh = jax.typeof(a).sharding.mesh
    return mesh.empty or all(kind == jax.sharding.AxisType.Manual for kind in mesh.axis_types)


def native(
    cell: Cell, options: Options, params: Params, fixed: Fixed, carry: Carry, steps: Steps
) -> tuple[Carry, tuple[Y | None, None]]:
    """`scan`, to rounding. `scan_unroll` has no effect."""
    from jlstm.kernels.native import ops

    assert isinstance(cell, LSTM)
    T, *batch_shape, _ = steps.x.shape
    H, batch = cell.hidden_size, len(batch_shape)

    def rows(a: Any, ndim: int, dtype: Any = jnp.float32) -> Array:
        """`[T, *B, ...]` as `[1, B, T, ...]`, or `[1, T, B, ...]` for a time-major call: as the caller's array lies."""
        if a is None:
            return ops.absent(ndim, dtype=dtype)
        a = a if options.time_major else jnp.moveaxis(a, 0, batch)
        at = 1 if options.time_major else 0
        return a.reshape(1, *a.shape[:at], -1, *a.shape[at + batch :]) if a.size else a.reshape(fold(a.shape, at))

    def fold(shape: Any, at: int) -> tuple[int, ...]:
        size = 1
        for n in shape[at : at + batch]:
            size *= n
        return (1, *shape[:at], size, *shape[at + batch :])

    def state(a: Any) -> Array:
        return ops.absent(3) if a is None else a.reshape(fold(a.shape, 0))

    origin = (None, None) if steps.reset is None else fixed.origin
    inputs = ops.Inputs(
        x=rows(steps.x, 4),
        w_ih=params.w_ih[None],
        w_hh=params.w_hh[None],
        b=jnp.zeros((1, 4, H), jnp.float32) if params.b is None else params.b[None],
        h0=state(carry.state.h),
        c0=state(carry.state.c),
        origin_h=state(origin[0]),
        origin_c=state(origin[1]),
        valid=rows(steps.valid, 3, bool),
        reset=rows(steps.reset, 3, bool),
        cut=ops.absent(2, dtype=bool) if steps.cut is None else steps.cut[None],
        last=state(carry.last),
    )
    form = ops.Form(options.return_sequences, options.reverse, options.time_major, cell.cell_clip)
    y, last, h, c, *_ = ops.forward.bind(*inputs, form=form, train=False)

    def shaped(a: Array) -> Array:
        return a.reshape(*batch_shape, H)

    after = type(carry.state)(shaped(h), shaped(c))
    if not options.return_sequences:
        return Carry(after, shaped(last)), (None, None)
    if options.time_major:
        return Carry(after, None), (y.reshape(T, *batch_shape, H), None)
    return Carry(after, None), (jnp.moveaxis(y.reshape(*batch_shape, T, H), batch, 0), None)
