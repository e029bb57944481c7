"""The calls of the native library: their arrays, their shapes, and the same computed in JAX.

Every array leads with M, the members of a `vmap` over weights. An optional array that is absent has no elements.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jlstm.cells import LSTM, LSTMParams, LSTMState
from jlstm.kernels.hoisted import hoisted
from jlstm.kernels.scan import Carry, Fixed, Options, Steps
from jlstm.types import Array, Shape


@dataclasses.dataclass(frozen=True)
class Form:
    """The static part of a call.

    - `sequence`: the outputs of all steps are wanted, not of the last valid step alone.
    - `time_major`: x, y, valid and reset are `[M, T, B, ...]`, else `[M, B, T, ...]`.
    - `clip`: the bound of c; None for none.
    """

    sequence: bool
    reverse: bool
    time_major: bool
    clip: float | None

    def attributes(self) -> dict[str, Any]:
        clip = np.float32(np.inf if self.clip is None else self.clip)
        return dict(reverse=self.reverse, time_major=self.time_major, clip=clip)


class Inputs(NamedTuple):
    """The arguments of a call; float32 but for the flags."""

    x: Array  # [M, B, T, D]
    w_ih: Array  # [M, D, 4, H]
    w_hh: Array  # [M, H, 4, H]
    b: Array  # [M, 4, H]
    h0: Array  # [M, B, H]
    c0: Array  # [M, B, H]
    origin_h: Array  # [M, B, H], the state after a reset; absent without reset
    origin_c: Array  # [M, B, H]
    valid: Array  # bool [M, B, T]; absent if all steps are valid
    reset: Array  # bool [M, B, T]
    cut: Array  # bool [M, T], the gradient stops before this step
    last: Array  # [M, B, H], the output of a row without a valid step; absent where the sequence is wanted


class Kept(NamedTuple):
    """The arrays that the backward pass reads besides the inputs. gates and cs are in the kernel's own order."""

    y: Array  # [M, B, T, H], the outputs
    gates: Array  # [M, B, T, 4 HP]
    cs: Array  # [M, B, T, HP]


FLOATS = tuple(name for name in Inputs._fields if name not in ("valid", "reset", "cut"))
"""The inputs that have a gradient."""

UNITS = 16
"""HP is H rounded up to a multiple of this: whole vectors, whatever the instruction set."""


def split(args: Sequence[Any]) -> tuple[Inputs, Kept, list[Any]]:
    """Inputs, Kept and the rest, of arguments in a row."""
    n, k = len(Inputs._fields), len(Kept._fields)
    return Inputs(*args[:n]), Kept(*args[n : n + k]), list(args[n + k :])


def absent(ndim: int, M: int = 1, dtype: Any = jnp.float32) -> Array:
    return jnp.zeros((M,) + (0,) * (ndim - 1), dtype)


# ---- shapes of results


def forward_shapes(form: Form, train: bool, inputs: Inputs) -> list[Shape]:
    """Of y, last, h, c, gates, cs. `train`: y is there in any case, and so are gates and cs."""
    M, B, T, _ = inputs.x.shape
    B, T = (T, B) if form.time_major else (B, T)
    H, HP = inputs.w_hh.shape[1], -(-inputs.w_hh.shape[1] // UNITS) * UNITS
    y = ((M, T, B, H) if form.time_major else (M, B, T, H)) if form.sequence or train else (M, 0, 0, H)
    steps = (M, B, T) if train else (M, 0, 0)
    return [y, (M, 0, H) if form.sequence else (M, B, H), (M, B, H), (M, B, H), (*steps, 4 * HP), (*steps, HP)]


def tangent_shapes(form: Form, inputs: Inputs) -> list[Shape]:
    """Of the tangents of y or last, of h and of c."""
    y, last, h, c, *_ = forward_shapes(form, False, inputs)
    return [y if form.sequence else last, h, c]


def backward_shapes(with_x: bool, inputs: Inputs) -> list[Shape]:
    """Of the gradients of `FLOATS`; that of x is absent without `with_x`."""
    x = (*inputs.x.shape[:1], 0, 0, *inputs.x.shape[3:])
    return [x if name == "x" and not with_x else getattr(inputs, name).shape for name in FLOATS]


# ---- the library


def shared(inputs: Inputs) -> list[Array]:
    """The arguments that both calls begin with."""
    return [a for name, a in inputs._asdict().items() if name not in ("b", "cut", "last")]


def forward_native(*args: Array, form: Form, train: bool) -> list[Array]:
    inputs = Inputs(*args)
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in forward_shapes(form, train, inputs)]
    arrays = [*shared(inputs), inputs.b, inputs.last]
    return list(jax.ffi.ffi_call("jlstm_lstm_forward", shapes)(*arrays, **form.attributes()))


def backward_native(*args: Array, form: Form, with_x: bool) -> list[Array]:
    inputs, (y, gates, cs), (dy, dh, dc) = split(args)
    dy, dlast = (dy, absent(3, len(dh))) if form.sequence else (absent(4, len(dh)), dy)
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in (gates.shape, *backward_shapes(with_x, inputs))]
    arrays = [*shared(inputs), inputs.cut, y, cs, gates, dy, dlast, dh, dc]
    # The gates' buffer becomes that of dz.
    call = jax.ffi.ffi_call("jlstm_lstm_backward", shapes, input_output_aliases={len(arrays) - 5: 0})
    return list(call(*arrays, **form.attributes()))[1:]


# ---- the same in JAX


def reference(form: Form, inputs: Inputs) -> list[Array]:
    """Compute y or last, h and c by `kernels.hoisted`."""

    def member(inputs: Inputs) -> list[Array]:
        def time_first(a: Array) -> Array | None:
            return None if a.size == 0 else a if form.time_major else jnp.swapaxes(a, 0, 1)

        cell = LSTM(inputs.w_hh.shape[0], cell_clip=form.clip)
        params = LSTMParams(inputs.w_ih, inputs.w_hh, inputs.b)
        x = inputs.x if form.time_major else jnp.swapaxes(inputs.x, 0, 1)
        z, cut = jax.vmap(cell.project, (None, 0))(params, x), inputs.cut if inputs.cut.size else None
        steps = Steps(x, time_first(inputs.valid), time_first(inputs.reset), cut, None, z)
        fixed = Fixed(LSTMState(inputs.origin_h, inputs.origin_c), jnp.zeros_like(inputs.h0), None)
        carry = Carry(LSTMState(inputs.h0, inputs.c0), None if form.sequence else inputs.last)
        options = Options(return_sequences=form.sequence, reverse=form.reverse)
        carry, (y, _) = hoisted(cell, options, params, fixed, carry, steps)
        if not form.sequence:
            return [carry.last, *carry.state]  # type: ignore
        return [y if form.time_major else jnp.swapaxes(y, 0, 1), *carry.state]  # type: ignore

    return jax.vmap(member)(inputs)


def in_terms_of(names: Sequence[str], form: Form, inputs: Inputs) -> tuple[Callable[..., list[Array]], list[Array]]:
    """Return `reference` as a function of the inputs of these names, and their values."""

    def f(*values: Array) -> list[Array]:
        return reference(form, inputs._replace(**dict(zip(names, values, strict=True))))

    return f, [getattr(inputs, name) for name in names]


def forward_reference(*args: Array, form: Form, train: bool) -> list[Array]:
    """The backward pass in JAX keeps nothing: there are zeros in place of what it would read."""
    inputs = Inputs(*args)
    y, h, c = reference(form, inputs)
    zeros = [jnp.zeros(shape, jnp.float32) for shape in forward_shapes(form, train, inputs)]
    return [y, zeros[1], h, c, *zeros[4:]] if form.sequence else [zeros[0], y, h, c, *zeros[4:]]


def tangent_reference(*args: Array, form: Form, perturbed: tuple[str, ...]) -> list[Array]:
    """Linear in the tangents, which are those of the inputs named in `perturbed`."""
    inputs, _, tangents = split(args)
    return jax.jvp(*in_terms_of(perturbed, form, inputs), tangents)[1]


def backward_reference(*args: Array, form: Form, with_x: bool) -> list[Array]:
    inputs, _, cotangents = split(args)
    f, values = in_terms_of(FLOATS, form, inputs)
    dx, *others = jax.vjp(f, *values)[1](cotangents)
    return [dx if with_x else dx[:, :0, :0], *others]
