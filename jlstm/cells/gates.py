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

    One dot a gate: what reads them next is a loop, and one gate of a common array would cost it strided reads.
    """
    return _product(False, x.astype(compute_dtype), w.astype(compute_dtype))


def recur(h: Array, w: Array, b: Array | None) -> list[Array]:
    """U h + b, a list of G arrays `[*B, H]`; h `[*B, H]` in the compute dtype, w `[H, G, H]`, b `[G, H]`.

    One dot. The bias is added here, inside the loop, where it is part of the elementwise work: added to W x it would
    cost a read and a write of `[T, *B, G, H]`.
    """
    z = _product(True, h, w.astype(h.dtype))
    if b is None:
        return z
    rows = [jnp.expand_dims(b_g, range(h.ndim - 1)) for b_g in ungate(b.astype(z[0].dtype), axis=0)]
    return [z_g + b_g for z_g, b_g in zip(z, rows, strict=True)]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _product(one_dot: bool, x: Array, w: Array) -> list[Array]:
    """x w by gate, in one dot or in one a gate; x `[*B, D]`, w `[D, G, H]`."""
    dot = functools.partial(jnp.einsum, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32))
    if one_dot:
        return ungate(dot("...d,dgh->...gh", x, w), axis=-2)
    return [dot("...d,dh->...h", x, w_g) for w_g in ungate(w, axis=1)]


@functools.partial(_product.defjvp, symbolic_zeros=True)
def _product_jvp(one_dot: bool, primals: Any, tangents: Any) -> tuple[list[Array], list[Array]]:
    """Always one dot, so that the transposes are: x's gradient is one, and so is w's."""
    (x, w), (dx, dw) = primals, tangents
    dot = functools.partial(jnp.einsum, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32))
    z = _product(one_dot, x, w)
    terms = []
    if not isinstance(dx, SymbolicZero):
        # The transpose contracts (g, h), and wants them to lead: from w as it is, a loop would copy it at every step.
        terms.append(dot("...d,ghd->...gh", dx, jnp.moveaxis(w, 0, -1)))
    if not isinstance(dw, SymbolicZero):
        terms.append(dot("...d,dgh->...gh", x, dw))
    return z, ungate(sum(terms[1:], terms[0]), axis=-2) if terms else jax.tree.map(jnp.zeros_like, z)
