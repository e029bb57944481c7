"""What cells with gates share: the products with a gate-stacked weight, and the table of activations.

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

from jlstm.types import Array

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


def ungate(w: Array, axis: int) -> list[Array]:
    """The G arrays along the gate axis. A split, not slices: its transpose is one concatenate, not G padded adds."""
    return [jnp.squeeze(part, axis) for part in jnp.split(w, w.shape[axis], axis)]


def project(x: Array, w: Array, compute_dtype: Any) -> list[Array]:
    """W x, a list of G arrays `[*B, H]` of at least float32; x `[*B, D]`, w `[D, G, H]`.

    One dot a gate: this runs outside the loop, where the transpose then needs no concatenate of `[T, *B, G, H]`.
    """
    wide = jnp.promote_types(compute_dtype, jnp.float32)
    x, w = x.astype(compute_dtype), w.astype(compute_dtype)
    return [jnp.einsum("...d,dh->...h", x, w_g, preferred_element_type=wide) for w_g in ungate(w, axis=1)]


def recur(h: Array, w: Array, b: Array | None) -> list[Array]:
    """U h + b, a list of G arrays `[*B, H]`; h `[*B, H]` in the compute dtype, w `[H, G, H]`, b `[G, H]`.

    The bias is added here, inside the loop, where it is part of the elementwise work: added to W x it would cost a read
    and a write of `[T, *B, G, H]`.
    """
    z = ungate(_recur(h, w.astype(h.dtype)), axis=-2)
    if b is None:
        return z
    rows = [jnp.expand_dims(b_g, range(h.ndim - 1)) for b_g in ungate(b.astype(z[0].dtype), axis=0)]
    return [z_g + b_g for z_g, b_g in zip(z, rows, strict=True)]


@jax.custom_jvp
def _recur(h: Array, w: Array) -> Array:
    return jnp.einsum("...d,dgh->...gh", h, w, preferred_element_type=jnp.promote_types(h.dtype, jnp.float32))


@functools.partial(_recur.defjvp, symbolic_zeros=True)
def _recur_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (h, w), (dh, dw) = primals, tangents
    wide = jnp.promote_types(h.dtype, jnp.float32)
    terms = []
    if not isinstance(dh, SymbolicZero):
        # w laid out for the transpose of this dot, which contracts (g, h): w itself would be copied at every step.
        terms.append(jnp.einsum("...d,ghd->...gh", dh, jnp.moveaxis(w, 0, -1), preferred_element_type=wide))
    if not isinstance(dw, SymbolicZero):
        # One dot a gate: its transpose, outside the loop, is one matmul a gate and no transposition of `[T, *B, G, H]`.
        each = [jnp.einsum("...d,dh->...h", h, dw_g, preferred_element_type=wide) for dw_g in ungate(dw, axis=1)]
        terms.append(jnp.stack(each, axis=-2))
    out = _recur(h, w)
    return out, sum(terms) if terms else jnp.zeros_like(out)
