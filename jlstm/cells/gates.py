"""What cells with gates share: the products with a gate-stacked weight, and the table of activations.

A gate-stacked weight `[D, G, H]` is contracted and split along its gate axis, never reshaped to `[D, G*H]`: a
reshape would gather the whole weight where H is sharded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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


def compute_dtypes(compute_dtype: Any, *arrays: Array | None) -> tuple[np.dtype, np.dtype]:
    """(compute, wide): matmul operands, h and outputs have the first, z, c and accumulation the second."""
    compute = compute_dtype or jnp.result_type(*[a for a in arrays if a is not None])
    return jnp.dtype(compute), jnp.promote_types(compute, jnp.float32)


def ungate(w: Array, axis: int) -> list[Array]:
    """The G arrays along the gate axis. A split, not slices: its transpose is one concatenate, not G padded adds."""
    return [jnp.squeeze(part, axis) for part in jnp.split(w, w.shape[axis], axis)]


def project(x: Array, w: Array, b: Array | None, compute_dtype: Any = None) -> list[Array]:
    """W x + b, a list of G arrays `[*B, H]`; x `[*B, D]`, w `[D, G, H]`, b `[G, H]`.

    One dot a gate: this runs outside the loop, where the transpose then needs no concatenate of `[T, *B, G, H]`.
    """
    compute, wide = compute_dtypes(compute_dtype, x, w, b)
    x = x.astype(compute)
    z = [jnp.einsum("...d,dh->...h", x, w_g, preferred_element_type=wide) for w_g in ungate(w.astype(compute), axis=1)]
    if b is None:
        return z
    rows = [jnp.expand_dims(b_g, range(x.ndim - 1)) for b_g in ungate(b.astype(wide), axis=0)]
    return [z_g + b_g for z_g, b_g in zip(z, rows, strict=True)]


def recur(h: Array, w: Array) -> list[Array]:
    """W h, a list of G arrays `[*B, H]`; h `[*B, H]` in the compute dtype, w `[H, G, H]`. One dot: the loop's."""
    wide = jnp.promote_types(h.dtype, jnp.float32)
    return ungate(jnp.einsum("...d,dgh->...gh", h, w.astype(h.dtype), preferred_element_type=wide), axis=-2)
