"""What cells with gates share: products with a gate-stacked weight, the table of activations, checks of options.

A gate-stacked weight `[D, G, H]` is contracted and split along its gate axis, never reshaped to `[D, G*H]`: a
reshape would gather the whole weight where H is sharded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jlstm import checks
from jlstm.types import Array, Initializer, Key, Shape

Activation = str | Callable[[Array], Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "linear": lambda x: x,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_tanh": jax.nn.hard_tanh,
    "softsign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
# Functions that users hand in for a name of the table, beside the table's own.
_ALSO = {jax.lax.tanh: "tanh", jax.lax.logistic: "sigmoid", jax.nn.tanh: "tanh", jax.nn.swish: "silu"}
_NAMES = {**{function: name for name, function in ACTIVATIONS.items()}, **_ALSO}


def activation_name(activation: Activation) -> Activation:
    """The table's name of a known function; names and unknown functions come back as they are."""
    return _NAMES.get(activation, activation) if callable(activation) else activation


def activation_function(activation: Activation) -> Callable[[Array], Array]:
    """The function behind a name of the table; a function comes back as it is."""
    return activation if callable(activation) else ACTIVATIONS[activation]


def slope(f: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """f(x) and f'(x), elementwise."""
    return jax.jvp(f, (x,), (jnp.ones_like(x),))


def compute_dtypes(compute_dtype: Any, *arrays: Array | None) -> tuple[np.dtype, np.dtype]:
    """(compute, wide): matmul operands, h and outputs have the first, z, c and accumulation the second."""
    compute = compute_dtype or jnp.result_type(*[a for a in arrays if a is not None])
    return jnp.dtype(compute), jnp.promote_types(compute, jnp.float32)


def start(value: Array | None, size: int, batch_shape: Shape, dtype: Any) -> Array:
    """The initial state `[*B, size]`: the learned `[size]`, or zeros."""
    value = jnp.zeros(size, dtype) if value is None else value.astype(dtype)
    return jnp.broadcast_to(value, (*batch_shape, size))


def draw(name: str, initializer: Initializer, key: Key, shape: Shape, dtype: Any) -> Array:
    """What an initialiser gives, checked."""
    return checks.drawn("init", name, initializer(key, shape, dtype), shape, dtype)


def check_fields(record: Any, **own: checks.Check) -> None:
    """Normalise the hyper-parameters of a cell: those that cells have in common, and its `own`."""
    activation = checks.choice_or_callable(tuple(ACTIVATIONS), activation_name)
    common: dict[str, checks.Check] = dict(
        hidden_size=checks.size,
        forget_bias=checks.number_or_callable,
        use_bias=checks.boolean,
        activation=activation,
        gate_activation=activation,
        w_ih_init=checks.function,
        w_hh_init=checks.function,
        learn_initial_state=checks.boolean,
        param_dtype=checks.float_dtype,
        compute_dtype=checks.float_dtype_or_none,
    )
    checks.fields(record, **{name: check for name, check in common.items() if hasattr(record, name)} | own)
    checks.name_dtypes(record)


def spread(v: Array, like: Array) -> Array:
    """v `[H]` in the dtype and with the number of axes of `like` `[*B, H]`."""
    return jnp.expand_dims(v.astype(like.dtype), range(like.ndim - 1))


def ungate(w: Array, axis: int) -> list[Array]:
    """The G arrays along the gate axis. A split, not slices: its transpose is one concatenate, not G padded adds."""
    parts = jax.lax.split(w, (1,) * w.shape[axis], axis % w.ndim)
    return [jax.lax.squeeze(part, (axis,)) for part in parts]


def project(x: Array, w: Array, compute_dtype: Any, absent: int | None = None) -> list[Array]:
    """W x, a list of G arrays `[*B, H]` of at least float32; x `[*B, D]`, w `[D, G, H]`.

    One dot a gate: what reads them next is a loop, and one gate of a common array would cost it strided reads.
    absent: the place of one gate more, which w has no weight for: 0.
    """
    x, w = x.astype(compute_dtype), w.astype(compute_dtype)
    return _product_by_gate(x, w) if absent is None else _with_absent(absent, True, x, w, None)


def recur(h: Array, w: Array, b: Array | None, absent: int | None = None) -> list[Array]:
    """U h + b, a list of G arrays `[*B, H]`; h `[*B, H]` in the compute dtype, w `[H, G, H]`, b `[G, H]`.

    One dot. The bias is added here, inside the loop, where it is part of the elementwise work: added to W x it would
    cost a read and a write of `[T, *B, G, H]`. absent: as for `project`; b has a row for this gate too.
    """
    if absent is not None:
        wide = jnp.promote_types(h.dtype, jnp.float32)
        return _with_absent(absent, False, h, w.astype(h.dtype), None if b is None else b.astype(wide))
    z = product(h, w.astype(h.dtype))
    return ungate(z if b is None else z + jnp.expand_dims(b.astype(z.dtype), range(h.ndim - 1)), axis=-2)


def fused(params: Any, gates: Callable[..., Any]) -> Callable[[Any, Array], Any]:
    """A cell's `fused`, for w_ih, w_hh and b among its params and h in its state; gates: what z is, of G arrays."""
    w = jnp.concatenate([params.w_ih, params.w_hh])

    def z(state: Any, x: Array) -> Any:
        return gates(*recur(jnp.concatenate([x.astype(state.h.dtype), state.h], axis=-1), w, params.b))

    return z


@jax.custom_jvp
def product(x: Array, w: Array) -> Array:
    """x w `[*B, G, H]`, at least float32; x `[*B, D]`, w `[D, G, H]`; or `[*B, P]` where w is `[D, P]`."""
    return _dot(x, w, axis=0)


@jax.custom_jvp
def _product_by_gate(x: Array, w: Array) -> list[Array]:
    """The same by gate."""
    return [_dot(x, w_g, axis=0) for w_g in ungate(w, axis=1)]


@functools.partial(product.defjvp, symbolic_zeros=True)
def _product_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z = product(*primals)
    return z, _product_tangent(primals, tangents, z.shape)


@functools.partial(_product_by_gate.defjvp, symbolic_zeros=True)
def _product_by_gate_jvp(primals: Any, tangents: Any) -> tuple[list[Array], list[Array]]:
    z = _product_by_gate(*primals)
    shape = (*z[0].shape[:-1], len(z), z[0].shape[-1])
    return z, ungate(_product_tangent(primals, tangents, shape), axis=-2)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _with_absent(absent: int, by_gate: bool, x: Array, w: Array, b: Array | None) -> list[Array]:
    """x w + b by gate, where w has no weight for the gate at `absent`."""
    z = _insert(_product_by_gate(x, w) if by_gate else ungate(product(x, w), axis=-2), absent)
    return z if b is None else [part + spread(row, part) for part, row in zip(z, ungate(b, axis=0), strict=True)]


@functools.partial(_with_absent.defjvp, symbolic_zeros=True)
def _with_absent_jvp(absent: int, by_gate: bool, primals: Any, tangents: Any) -> tuple[list[Array], list[Array]]:
    """The weight's and the bias's tangents reach all gates of z as one array: so does what comes back, uncopied."""
    z, (x, w, _), (dx, dw, db) = _with_absent(absent, by_gate, *primals), primals, tangents
    δz, at_once = [_nothing(part) for part in z], []
    if not isinstance(dx, SymbolicZero):
        δz = _insert(ungate(_product_tangent((x, w), (dx, SymbolicZero(w.aval)), ()), axis=-2), absent)
    if not isinstance(dw, SymbolicZero):
        before, after = jax.lax.split(dw, (absent, dw.shape[1] - absent), axis=1)
        at_once.append(_dot(x, jnp.concatenate([before, _nothing(dw[:, :1]), after], axis=1), axis=0))
    if not (db is None or isinstance(db, SymbolicZero)):
        at_once.append(jnp.expand_dims(db, range(x.ndim - 1)) + _nothing(jnp.stack(z, axis=-2)))
    return z, [a + b for a, b in zip(δz, ungate(sum(at_once[1:], at_once[0]), axis=-2), strict=True)] if at_once else δz


def _insert(parts: list[Array], at: int) -> list[Array]:
    return [*parts[:at], _nothing(parts[0]), *parts[at:]]


def _nothing(a: Array) -> Array:
    """Zeros of which `vmap` knows that they are batched where a is: rules for tangents must not give any others."""
    return jnp.where(False, a, jnp.zeros((), a.dtype))


def _product_tangent(primals: Any, tangents: Any, shape: Shape) -> Array:
    """Always one dot, so that the transposes are: x's gradient is one, and so is w's."""
    (x, w), (dx, dw), terms = primals, tangents, []
    if not isinstance(dx, SymbolicZero):
        # The transpose contracts (g, h), and wants them to lead: from w as it is, a loop would copy it at every step.
        terms.append(_dot(dx, jnp.moveaxis(w, 0, -1), axis=-1))
    if not isinstance(dw, SymbolicZero):
        terms.append(_dot(x, dw, axis=0))
    return sum(terms[1:], terms[0]) if terms else jnp.zeros(shape, jnp.promote_types(x.dtype, jnp.float32))


def _dot(x: Array, w: Array, axis: int) -> Array:
    """The last axis of x with `axis` of w, at least float32. (`einsum` says it better, and traces 2 ms longer.)"""
    contracted = ((x.ndim - 1,), (axis % w.ndim,))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jax.lax.dot_general(x, w, (contracted, ((), ())), preferred_element_type=wide)
