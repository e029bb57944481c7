"""The native kernel as JAX primitives, so that every transform works on it.

- `forward` computes the outputs.
- `tangent` is its derivative, linear in the tangents.
- `backward` is the transpose of `tangent`.

On a CPU, `forward` and `backward` call the library. `tangent`, the derivatives of `backward`, other platforms and
`jax.export` use `kernels.hoisted`, where `backward` computes the forward pass again. A `vmap` over examples makes the
batch larger; one over weights makes M larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jlstm.kernels.native import calls
from jlstm.kernels.native.calls import FLOATS, Form, Inputs, Kept, split
from jlstm.types import Array, Shape


def primitive(name: str, shapes: Callable[..., list[Shape]], in_jax: Any, in_library: Any = None) -> Primitive:
    """A primitive with float32 results of these shapes."""
    p = Primitive(f"jlstm_lstm_{name}")
    p.multiple_results = True
    p.def_impl(in_library or in_jax)

    def abstract(*avals: Any, **params: Any) -> list[Any]:
        if all(aval.sharding.mesh.empty for aval in avals):
            return [ShapedArray(shape, jnp.dtype("float32")) for shape in shapes(*avals, **params)]

        # Inside `shard_map` a result varies over every mesh axis that an argument varies over.
        def like(*args: Array) -> list[Array]:
            zero = sum(jnp.sum(a).astype(jnp.float32) for a in args)
            return [jnp.broadcast_to(zero, shape) for shape in shapes(*avals, **params)]

        return jax.make_jaxpr(like)(*avals).out_avals

    p.def_abstract_eval(abstract)
    as_jax = mlir.lower_fun(in_jax, multiple_results=True)
    mlir.register_lowering(p, as_jax)
    if in_library is not None:
        as_call = mlir.lower_fun(in_library, multiple_results=True)

        def lower(ctx: Any, *args: Any, **params: Any) -> Any:
            # An exported program may run where this library is not.
            exported = ctx.module_context.lowering_parameters.for_export
            return (as_jax if exported else as_call)(ctx, *args, **params)

        mlir.register_lowering(p, lower, platform="cpu")
    return p


forward = primitive(
    "forward",
    lambda *avals, form, train: calls.forward_shapes(form, train, Inputs(*avals)),
    calls.forward_reference,
    calls.forward_native,
)
tangent = primitive(
    "tangent",
    lambda *avals, form, perturbed: calls.tangent_shapes(form, split(avals)[0]),
    calls.tangent_reference,
)
backward = primitive(
    "backward",
    lambda *avals, form, with_x: calls.backward_shapes(with_x, split(avals)[0]),
    calls.backward_reference,
    calls.backward_native,
)

# ---- derivatives


def forward_jvp(primals: Any, tangents: Any, *, form: Form, train: bool) -> tuple[list[Array], list[Any]]:
    y, last, h, c, gates, cs = forward.bind(*primals, form=form, train=True)
    given = {n: t for n, t in zip(Inputs._fields, tangents, strict=True) if n in FLOATS and type(t) is not ad.Zero}
    δy, δh, δc = tangent.bind(*primals, y, gates, cs, *given.values(), form=form, perturbed=tuple(given))
    if not train:
        gates, cs = gates[:, :0, :0], cs[:, :0, :0]
        y = y if form.sequence else y[:, :0, :0]
    # No derivative reads the tangents of gates and cs.
    zero = [ad.Zero(jax.typeof(a).to_tangent_aval()) for a in (y, last, gates, cs)]
    return [y, last, h, c, gates, cs], [*([δy, zero[1]] if form.sequence else [zero[0], δy]), δh, δc, *zero[2:]]


def jvp_in_jax(f: Callable[..., list[Array]], primals: Any, tangents: Any, **params: Any) -> Any:
    """The derivative of f, which does not read `Kept`."""
    kept = range(len(Inputs._fields), len(Inputs._fields) + len(Kept._fields))
    moved = [n for n, t in enumerate(tangents) if type(t) is not ad.Zero and n not in kept]

    def of_moved(*values: Array) -> list[Array]:
        args = list(primals)
        for n, value in zip(moved, values, strict=True):
            args[n] = value
        return f(*args, **params)

    return jax.jvp(of_moved, [primals[n] for n in moved], [tangents[n] for n in moved])


def tangent_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    return jvp_in_jax(calls.tangent_reference, primals, tangents, **params)


def backward_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    return backward.bind(*primals, **params), jvp_in_jax(calls.backward_reference, primals, tangents, **params)[1]


def tangent_transpose(cotangents: Any, *args: Any, form: Form, perturbed: tuple[str, ...]) -> list[Any]:
    known = args[: len(args) - len(perturbed)]
    given = map(ad.instantiate_zeros, cotangents)
    gradients = dict(zip(FLOATS, backward.bind(*known, *given, form=form, with_x="x" in perturbed), strict=True))
    return [None] * len(known) + [gradients[name] for name in perturbed]


ad.primitive_jvps[forward] = forward_jvp
ad.primitive_jvps[tangent] = tangent_jvp
ad.primitive_jvps[backward] = backward_jvp
ad.primitive_transposes[tangent] = tangent_transpose

# ---- vmap

WITHOUT_BATCH = ("w_ih", "w_hh", "b", "cut")
BY_STEP = ("x", "valid", "reset", "y")
"""The arrays that are `[M, T, B, ...]` in a time-major call. In all others the batch is axis 1."""


def batched(p: Primitive, names_in: Callable[..., list[str]], names_out: list[str], folds: bool) -> None:
    """Define `vmap` of p; `folds`: a vmap over examples alone makes the batch larger."""

    def rule(args: Sequence[Array], dims: Sequence[int | None], *, form: Form, **params: Any) -> Any:
        names = names_in(**params)
        n = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
        fold = folds and all(d is None for name, d in zip(names, dims, strict=True) if name in WITHOUT_BATCH)

        def axis(name: str) -> int:
            return 0 if not fold else 2 if form.time_major and name in BY_STEP else 1

        def merge(name: str, a: Array, d: int | None) -> Array:
            if fold and name in WITHOUT_BATCH:
                return a
            a, at = jnp.broadcast_to(a, (n, *a.shape)) if d is None else jnp.moveaxis(a, d, 0), axis(name)
            return jnp.moveaxis(a, 0, at).reshape(*a.shape[1 : at + 1], n * a.shape[at + 1], *a.shape[at + 2 :])

        def unmerge(name: str, a: Array) -> Array:
            at = axis(name)
            return jnp.moveaxis(a.reshape(*a.shape[:at], n, a.shape[at] // n, *a.shape[at + 1 :]), at, 0)

        results = p.bind(*map(merge, names, args, dims), form=form, **params)
        return list(map(unmerge, names_out, results)), [0] * len(results)

    batching.primitive_batchers[p] = rule


GIVEN = [*Inputs._fields, *Kept._fields]
batched(forward, lambda train: [*Inputs._fields], ["y", "last", "h", "c", "gates", "cs"], folds=True)
batched(tangent, lambda perturbed: [*GIVEN, *perturbed], ["y", "h", "c"], folds=True)
# Every member of a vmap has gradients of its own.
batched(backward, lambda with_x: [*GIVEN, "y", "h", "c"], [*FLOATS], folds=False)
