"""Initialisers: records, called as `(key, shape, dtype) -> array`.

A weight `[D, G, H]` holds G matrices `[D, H]`, one a gate; each is drawn as a matrix of its own. A weight `[D, K]` is
one matrix. A bias is `[G, H]`, with the gates in the order of `jlstm.GATES`.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.records import Check, Number, record
from jlstm.types import GATES, Array, Key, Shape

NonNegative = Annotated[float, Check(functools.partial(checks.number, at_least=0.0))]
"""A finite number of at least 0."""


@record
class Constant:
    """Set every element to `value`."""

    value: Number = 0.0

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        return jnp.full(shape, self.value, dtype)


@record
class Normal:
    """Draw from a normal distribution with mean 0 and standard deviation `stddev`."""

    stddev: NonNegative = 1.0

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        return (self.stddev * jax.random.normal(key, shape, jnp.promote_types(dtype, jnp.float32))).astype(dtype)


@record
class Uniform:
    """Draw uniformly from [-limit, limit]. torch's LSTM uses `limit = 1/sqrt(H)` for all of its parameters."""

    limit: NonNegative

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        wide = jnp.promote_types(dtype, jnp.float32)
        return jax.random.uniform(key, shape, wide, -self.limit, self.limit).astype(dtype)


@record
class GlorotUniform:
    """Draw uniformly from ±sqrt(6 / (fan_in + fan_out)), with the fans of one gate (Glorot & Bengio 2010, eq. 16).

    Keras takes `fan_out = 4H` for its fused kernel, so its weights are smaller.
    """

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        return Uniform(math.sqrt(6.0 / max(shape[0] + shape[-1], 1)))(key, shape, dtype)


@record
class Orthogonal:
    """Draw one orthogonal matrix a gate, times `scale` (Saxe et al. 2014): W Wᵀ = scale² I for a square W.

    A tall matrix has orthonormal columns, a wide one orthonormal rows; each is uniform among all such matrices (Haar).
    Keras draws the fused `[H, 4H]` matrix at once: its rows are orthonormal over all gates together, so that each
    gate's matrix has half the gain.
    """

    scale: Number = 1.0

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        if 0 in shape:
            return jnp.zeros(shape, dtype)
        return _orthogonal(key, self.scale, tuple(shape), jnp.dtype(dtype))


@functools.partial(jax.jit, static_argnums=(2, 3))  # one program where an `init` without jit would compile twenty
def _orthogonal(key: Key, scale: float, shape: Shape, dtype: jnp.dtype) -> Array:
    """Draw one orthogonal matrix a gate, times `scale`."""
    x = jax.random.normal(key, shape, jnp.promote_types(dtype, jnp.float32)).reshape(shape[0], -1, shape[-1])
    axes = (0, 1, 2) if shape[0] <= shape[-1] else (2, 1, 0)
    return (scale * jax.vmap(_orthonormal_rows, 1, 1)(x.transpose(axes)).transpose(axes)).reshape(shape).astype(dtype)


def _orthonormal_rows(x: Array) -> Array:
    """A uniformly distributed `[M, N]` matrix with orthonormal rows, made of independent normals x `[M, N]`, M <= N.

    It is a product of reflections v -> v - 2 (v·u) u, one a row (Stewart 1980, "The Efficient Generation of Random
    Orthogonal Matrices"). A QR decomposition of normals takes the same reflections one after the other from what is
    left of the matrix; that is normal again, and so each can have normals of its own from the start.

    It calls no LAPACK. On a CPU such a call may wait for the very thread that it runs on, and then hangs for ever.
    """
    x = jnp.triu(x)  # row k leaves the first k axes alone
    sign = jnp.where(jnp.eye(*x.shape, dtype=bool), jnp.where(x < 0, -1, 1), 0).astype(x.dtype)
    v = x + sign * jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True))
    v *= jnp.sqrt(2 / jnp.sum(v * v, axis=1, keepdims=True))

    def reflect(q: Array, v: Array) -> tuple[Array, None]:
        return q - jnp.outer(jnp.matmul(q, v, precision="highest"), v), None

    return jax.lax.scan(reflect, -sign, v, reverse=True)[0]


def _zeros(where: str, shape: Shape, dtype: jnp.dtype) -> Array:
    """Zeros for a bias `[4, H]`; an error for a weight."""
    if len(shape) != 2 or shape[0] != len(GATES):
        raise checks.problem(where, "shape", f"[4, H], that of a bias with the gates {', '.join(GATES)}", shape)
    return jnp.zeros(shape, dtype)


@record
class ForgetBias:
    """Set a bias `[4, H]` to `value` at the forget gate, 0 elsewhere (Gers et al. 2000; Jozefowicz et al. 2015)."""

    value: Number = 1.0

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        return _zeros("ForgetBias", shape, dtype).at[GATES.index("f")].set(self.value)


@record
class Chrono:
    """Draw a bias `[4, H]` for memories of up to `max_time` steps (Tallec & Ollivier 2018, eq. 16).

        b_f ~ log(U[1, max_time - 1]),  b_i = -b_f,  0 elsewhere

    - `max_time`: a number of at least 2.
    """

    max_time: Annotated[float, Check(functools.partial(checks.number, at_least=2.0))]

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        time = jax.random.uniform(key, shape[1:], jnp.promote_types(dtype, jnp.float32), 1.0, self.max_time - 1.0)
        f, bias = jnp.log(time).astype(dtype), _zeros("Chrono", shape, dtype)
        return bias.at[GATES.index("f")].set(f).at[GATES.index("i")].set(-f)
