"""The native kernel as JAX primitives, so that every transform works on it.

Three primitives: `forward`; `tangent`, its derivative, linear in the tangents; `backward`, the transpose of that. On a
CPU, forward and backward call the native library. `tangent`, the derivatives of `backward`, other platforms and
`jax.export` use the definition, `kernels.scan`.

Every array leads with M, the members of a `vmap` over weights. A `vmap` over examples alone makes the batch larger.
An optional array that is absent has no elements.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jlstm.cells import LSTM, LSTMParams, LSTMState
from jlstm.kernels.scan import Carry, Fixed, Options, Steps, scan
from jlstm.types import Array, Shape


@dataclasses.dataclass(frozen=True)
class Form:
    """The static part of a call.

    - `sequence`: the outputs of all steps are wanted, not of the last valid step alone.
    - `time_major`: x, y, valid and reset are `[M, T, B, ...]`, else `[M, B, T, ...]`.
    - `clip`: of c; None for none.
    """

    sequence: bool
    reverse: bool
    time_major: bool
    clip: float | None


class Inputs(NamedTuple):
    """The arguments of `forward`; float32 but for the flags."""

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
    last: Array  # [M, B, H], the output of a row without a valid step; absent where `sequence`


class Outputs(NamedTuple):
    """The results of `forward`: y `[M, B, T, H]`, the others `[M, B, H]`. One of y and last is absent."""

    y: Array
    last: Array
    h: Array
    c: Array


class Kept(NamedTuple):
    """What the backward pass reads besides the inputs, in the kernel's own order."""

    y: Array  # as in Outputs, but always there
    gates: Array  # [M, B, T, 4 HP]
    cs: Array  # [M, B, T, HP]


PADDED = 16  # HP is the next multiple of this
FLOATS = tuple(name for name in Inputs._fields if name not in ("valid", "reset", "cut"))


def padded(H: int) -> int:
    return -(-H // PADDED) * PADDED


def sizes(form: Form, inputs: Inputs) -> tuple[int, int, int, int, int]:
    """M, B, T, D, H."""
    M, B, T, D = inputs.x.shape
    B, T = (T, B) if form.time_major else (B, T)
    return M, B, T, D, inputs.w_hh.shape[1]


# ---- the same in JAX, for everything that the library does not do


def reference(form: Form, inputs: Inputs) -> Outputs:
    """Compute `forward` by `kernels.scan`."""

    def member(inputs: Inputs) -> Outputs:
        def time_first(a: Array) -> Array | None:
            return None if a.size == 0 else a if form.time_major else jnp.swapaxes(a, 0, 1)

        cell = LSTM(inputs.w_hh.shape[0], cell_clip=form.clip)
        params = LSTMParams(inputs.w_ih, inputs.w_hh, inputs.b)
        x = inputs.x if form.time_major else jnp.swapaxes(inputs.x, 0, 1)
        valid, reset = time_first(inputs.valid), time_first(inputs.reset)
        cut = inputs.cut if inputs.cut.size else None
        z = jax.vmap(cell.project, (None, 0))(params, x)
        fixed = Fixed(LSTMState(inputs.origin_h, inputs.origin_c), jnp.zeros_like(inputs.h0), None)
        carry = Carry(LSTMState(inputs.h0, inputs.c0), None if form.sequence else inputs.last)
        options = Options(return_sequences=form.sequence, reverse=form.reverse)
        carry, (y, _) = scan(cell, options, params, fixed, carry, Steps(None, valid, reset, cut, None, z))
        if form.sequence:
            y, last = y if form.time_major else jnp.swapaxes(y, 0, 1), inputs.last
        else:
            y, last = absent(4)[0], carry.last
        return Outputs(y, last, *carry.state)

    return jax.vmap(member)(inputs)


def absent(ndim: int, M: int = 1, dtype: Any = jnp.float32) -> Array:
    """Return an array `[M, 0, ...]` that stands for none."""
    return jnp.zeros((M,) + (0,) * (ndim - 1), dtype)


def wanted(form: Form, outputs: Outputs) -> list[Array]:
    """The outputs that are there."""
    return [outputs.y if form.sequence else outputs.last, outputs.h, outputs.c]


def reference_tangent(form: Form, perturbed: tuple[str, ...], inputs: Inputs, tangents: Sequence[Array]) -> list[Array]:
    """The tangents of `wanted`, linear in those of the inputs named in `perturbed`."""

    def f(*values: Array) -> list[Array]:
        return wanted(form, reference(form, inputs._replace(**dict(zip(perturbed, values, strict=True)))))

    return jax.jvp(f, [getattr(inputs, name) for name in perturbed], list(tangents))[1]


def reference_backward(form: Form, inputs: Inputs, cotangents: Sequence[Array]) -> list[Array]:
    """The cotangents of the inputs in `FLOATS`."""

    def f(*values: Array) -> list[Array]:
        return wanted(form, reference(form, inputs._replace(**dict(zip(FLOATS, values, strict=True)))))

    return list(jax.vjp(f, *[getattr(inputs, name) for name in FLOATS])[1](list(cotangents)))


# ---- the calls of the library


def attributes(form: Form) -> dict[str, Any]:
    clip = np.float32(np.inf if form.clip is None else form.clip)
    return dict(reverse=form.reverse, time_major=form.time_major, clip=clip)


def forward_shapes(form: Form, train: bool, inputs: Inputs) -> list[Shape]:
    """The shapes of `Outputs`, and of gates and cs."""
    M, B, T, _, H = sizes(form, inputs)
    y = ((M, T, B, H) if form.time_major else (M, B, T, H)) if form.sequence or train else (M, 0, 0, H)
    state = (M, B, H)
    steps = (M, B, T) if train else (M, 0, 0)
    return [y, (M, 0, H) if form.sequence else state, state, state, (*steps, 4 * padded(H)), (*steps, padded(H))]


def forward_native(*args: Array, form: Form, train: bool) -> list[Array]:
    inputs = Inputs(*args)
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in forward_shapes(form, train, inputs)]
    call = jax.ffi.ffi_call("jlstm_lstm_forward", shapes)
    return list(call(*[a for name, a in inputs._asdict().items() if name != "cut"], **attributes(form)))


def forward_reference(*args: Array, form: Form, train: bool) -> list[Array]:
    """The backward pass in JAX keeps nothing, so zeros stand for what it would read."""
    inputs = Inputs(*args)
    outputs = reference(form, inputs)
    shapes = forward_shapes(form, train, inputs)
    y = outputs.y if form.sequence else jnp.zeros(shapes[0], jnp.float32)
    return [y, *outputs[1:], *(jnp.zeros(shape, jnp.float32) for shape in shapes[4:])]


def backward_shapes(form: Form, with_x: bool, inputs: Inputs) -> list[Shape]:
    return [(a.shape[0], 0, 0, a.shape[3]) if name == "x" and not with_x else a.shape for name, a in floats(inputs)]


def floats(inputs: Inputs) -> list[tuple[str, Array]]:
    return [(name, getattr(inputs, name)) for name in FLOATS]


def backward_native(*args: Array, form: Form, with_x: bool) -> list[Array]:
    inputs, (y, gates, cs), (dy, dh, dc) = split(args)
    M, _, _, _, H = sizes(form, inputs)
    dy, dlast = (dy, absent(3, M)) if form.sequence else (absent(4, M), dy)
    shapes = [gates.shape, *backward_shapes(form, with_x, inputs)]
    call = jax.ffi.ffi_call(
        "jlstm_lstm_backward", [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes], input_output_aliases={12: 0}
    )
    given = [a for name, a in inputs._asdict().items() if name not in ("b", "last")]
    return list(call(*given, y, cs, gates, dy, dlast, dh, dc, **attributes(form)))[1:]


def backward_reference(*args: Array, form: Form, with_x: bool) -> list[Array]:
    inputs, _, cotangents = split(args)
    grads = reference_backward(form, inputs, cotangents)
    return grads if with_x else [grads[0][:, :0, :0], *grads[1:]]


def split(args: Sequence[Any]) -> tuple[Inputs, Kept, list[Any]]:
    n, k = len(Inputs._fields), len(Kept._fields)
    return Inputs(*args[:n]), Kept(*args[n : n + k]), list(args[n + k :])


# ---- the primitives


def primitive(name: str, shapes: Callable[..., list[Shape]], native: Any, reference: Any) -> Primitive:
    p = Primitive(f"jlstm_lstm_{name}")
    p.multiple_results = True
    p.def_impl(native or reference)

    def abstract(*avals: Any, **params: Any) -> list[Any]:
        results = shapes(*avals, **params)
        if all(aval.sharding.mesh.empty for aval in avals):
            return [jax.core.ShapedArray(shape, jnp.dtype("float32")) for shape in results]
        # Inside `shard_map` a result varies over every mesh axis that an argument varies over.
        def like(*args: Array) -> list[Array]:
            zero = sum(jnp.sum(a).astype(jnp.float32) for a in args)
            return [jnp.broadcast_to(zero, shape) for shape in results]

        return jax.make_jaxpr(like)(*avals).out_avals

    p.def_abstract_eval(abstract)
    in_jax = mlir.lower_fun(reference, multiple_results=True)
    mlir.register_lowering(p, in_jax)
    if native is not None:
        on_cpu = mlir.lower_fun(native, multiple_results=True)

        def lower(ctx: Any, *args: Any, **params: Any) -> Any:
            # An exported program may run where this library is not.
            exported = ctx.module_context.lowering_parameters.for_export
            return (in_jax if exported else on_cpu)(ctx, *args, **params)

        mlir.register_lowering(p, lower, platform="cpu")
    return p


def tangent_reference(*args: Array, form: Form, perturbed: tuple[str, ...]) -> list[Array]:
    inputs, _, tangents = split(args)
    return reference_tangent(form, perturbed, inputs, tangents)


def tangent_shapes(*avals: Any, form: Form, perturbed: tuple[str, ...]) -> list[Shape]:
    shapes = forward_shapes(form, False, split(avals)[0])
    return [shapes[0 if form.sequence else 1], *shapes[2:4]]


forward = primitive(
    "forward", lambda *avals, form, train: forward_shapes(form, train, Inputs(*avals)), forward_native, forward_reference
)
tangent = primitive("tangent", tangent_shapes, None, tangent_reference)
backward = primitive(
    "backward",
    lambda *avals, form, with_x: backward_shapes(form, with_x, split(avals)[0]),
    backward_native,
    backward_reference,
)


def forward_jvp(primals: Any, tangents: Any, *, form: Form, train: bool) -> tuple[list[Array], list[Any]]:
    y, last, h, c, gates, cs = forward.bind(*primals, form=form, train=True)
    names = [name for name, t in zip(Inputs._fields, tangents, strict=True) if name in FLOATS and type(t) is not ad.Zero]
    given = dict(zip(Inputs._fields, tangents, strict=True))
    δy, δh, δc = tangent.bind(*primals, y, gates, cs, *(given[n] for n in names), form=form, perturbed=tuple(names))
    if not train:
        M, H = c.shape[0], c.shape[-1]
        y = y if form.sequence else jnp.zeros((M, 0, 0, H), y.dtype)
        gates, cs = gates[:, :0, :0], cs[:, :0, :0]

    # No derivative reads the tangents of what is kept.
    zeros = [ad.Zero(jax.typeof(a).to_tangent_aval()) for a in (y, last, gates, cs)]
    out = [δy, zeros[1]] if form.sequence else [zeros[0], δy]
    return [y, last, h, c, gates, cs], [*out, δh, δc, *zeros[2:]]


ad.primitive_jvps[forward] = forward_jvp


def in_jax_jvp(f: Callable[..., list[Array]], skipped: range) -> Callable[..., Any]:
    """The rule of a function whose derivative is that of f in JAX; the arguments in `skipped` do not matter to f."""

    def rule(primals: Any, tangents: Any, **params: Any) -> Any:
        on = [i for i, t in enumerate(tangents) if type(t) is not ad.Zero and i not in skipped]

        def of(*values: Array) -> list[Array]:
            args = list(primals)
            for i, value in zip(on, values, strict=True):
                args[i] = value
            return f(*args, **params)

        return jax.jvp(of, [primals[i] for i in on], [tangents[i] for i in on])

    return rule


KEPT = range(len(Inputs._fields), len(Inputs._fields) + len(Kept._fields))
ad.primitive_jvps[tangent] = in_jax_jvp(tangent_reference, KEPT)


def backward_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    _, out = in_jax_jvp(backward_reference, KEPT)(primals, tangents, **params)
    return backward.bind(*primals, **params), out


ad.primitive_jvps[backward] = backward_jvp


def tangent_transpose(cotangents: Any, *args: Any, form: Form, perturbed: tuple[str, ...]) -> list[Any]:
    given = [ad.instantiate_zeros(ct) for ct in cotangents]
    known = args[: KEPT.stop]
    grads = dict(zip(FLOATS, backward.bind(*known, *given, form=form, with_x="x" in perturbed), strict=True))
    return [None] * len(known) + [grads[name] for name in perturbed]


ad.primitive_transposes[tangent] = tangent_transpose

# ---- vmap

STATES = ("h0", "c0", "origin_h", "origin_c", "last", "h", "c", "gates", "cs")
SHARED = ("w_ih", "w_hh", "b", "cut")  # arrays without a batch axis


def batched(p: Primitive, names_in: Callable[..., list[str]], names_out: list[str], folds: bool) -> None:
    """Batch p: a vmap over examples makes the batch larger; over weights, or where `folds` is False, it makes M."""

    def rule(args: Sequence[Array], dims: Sequence[int | None], *, form: Form, **params: Any) -> Any:
        names = names_in(**params)
        n = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
        fold = folds and all(d is None for name, d in zip(names, dims, strict=True) if name in SHARED)

        def axis(name: str) -> int:
            return 1 if name in STATES or not form.time_major else 2

        def merge(name: str, a: Array, d: int | None) -> Array:
            if fold and name in SHARED:
                return a
            a = jnp.broadcast_to(a, (n, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
            at = axis(name) if fold else 0
            a = jnp.moveaxis(a, 0, at)
            return a.reshape(*a.shape[:at], a.shape[at] * a.shape[at + 1], *a.shape[at + 2 :])

        def unmerge(name: str, a: Array) -> Array:
            at = axis(name) if fold else 0
            a = a.reshape(*a.shape[:at], n, a.shape[at] // n, *a.shape[at + 1 :])
            return jnp.moveaxis(a, at, 0)

        out = p.bind(*map(merge, names, args, dims), form=form, **params)
        return [unmerge(name, a) for name, a in zip(names_out, out, strict=True)], [0] * len(out)

    batching.primitive_batchers[p] = rule


INPUTS = list(Inputs._fields)
batched(forward, lambda train: INPUTS, ["y", "last", "h", "c", "gates", "cs"], folds=True)
batched(
    tangent, lambda perturbed: [*INPUTS, "y", "gates", "cs", *perturbed], ["y", "h", "c"], folds=True
)
batched(backward, lambda with_x: [*INPUTS, "y", "gates", "cs", "y", "h", "c"], list(FLOATS), folds=False)
