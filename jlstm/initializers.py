"""Initialisers: frozen records, called as `(key, shape, dtype) -> array`.

They are records and not closures because a net is compared and hashed by value, printed, and written to a file.
A weight `[D, G, H]` holds G matrices `[D, H]`, one a gate, and each is drawn as a matrix of its own; a weight
`[D, K]` is one matrix. A bias is `[G, H]` with the gates in the order of `jlstm.GATES`.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.types import GATES, Array, Key, Shape


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Constant:
    """Every element is `value`."""

    value: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", checks.number("Constant", "value", self.value))

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        return jnp.full(shape, self.value, dtype)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Normal:
    """Normal with mean 0 and standard deviation `stddev`."""

    stddev: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stddev", checks.number("Normal", "stddev", self.stddev, at_least=0.0))

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        return (self.stddev * jax.random.normal(key, shape, jnp.promote_types(dtype, jnp.float32))).astype(dtype)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform in [-limit, limit]; torch's LSTM uses `limit = 1/sqrt(H)` for all of its parameters."""

    limit: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", checks.number("Uniform", "limit", self.limit, at_least=0.0))

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        wide = jnp.promote_types(dtype, jnp.float32)
        return jax.random.uniform(key, shape, wide, -self.limit, self.limit).astype(dtype)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class GlorotUniform:
    """Uniform in ±sqrt(6 / (fan_in + fan_out)), the fans those of one gate's matrix (Glorot & Bengio 2010, eq. 16).

    Keras takes `fan_out = 4H` for its fused kernel, and so draws smaller weights.
    """

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        return Uniform(math.sqrt(6.0 / max(shape[0] + shape[-1], 1)))(key, shape, dtype)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Orthogonal:
    """One orthogonal matrix a gate, times `scale` (Saxe et al. 2014): W Wᵀ = scale² I where the matrix is square.

    Keras draws the fused `[H, 4H]` matrix at once: its rows are orthonormal over all gates together, so that each
    gate's matrix has half the gain.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", checks.number("Orthogonal", "scale", self.scale))

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        if 0 in shape:
            return jnp.zeros(shape, dtype)
        # QR has no float16 or bfloat16. jax's initialiser would take a third axis for rows of the same matrix.
        wide = jnp.promote_types(dtype, jnp.float32)
        keys = jax.random.split(key, shape[1:-1])
        draw = jax.nn.initializers.orthogonal(self.scale)
        for _ in shape[1:-1]:
            draw = jax.vmap(draw, in_axes=(0, None, None))
        return jnp.moveaxis(draw(keys, (shape[0], shape[-1]), wide), -2, 0).astype(dtype)


def _zeros(where: str, shape: Shape, dtype: jnp.dtype) -> Array:
    """A bias, and no weight, whose first axis is another one."""
    if len(shape) != 2 or shape[0] != len(GATES):
        raise checks.problem(where, "shape", f"[4, H], that of a bias with the gates {', '.join(GATES)}", shape)
    return jnp.zeros(shape, dtype)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ForgetBias:
    """A bias `[4, H]` that is `value` at the forget gate and 0 elsewhere (Gers et al. 2000; Jozefowicz et al. 2015)."""

    value: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", checks.number("ForgetBias", "value", self.value))

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        return _zeros("ForgetBias", shape, dtype).at[GATES.index("f")].set(self.value)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Chrono:
    """A bias `[4, H]` for memories of up to `max_time` steps (Tallec & Ollivier 2018, eq. 16).

    b_f ~ log(U[1, max_time - 1]),  b_i = -b_f,  0 elsewhere
    """

    max_time: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_time", checks.number("Chrono", "max_time", self.max_time, at_least=2.0))

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        wide = jnp.promote_types(dtype, jnp.float32)
        forget = jnp.log(jax.random.uniform(key, shape[1:], wide, 1.0, self.max_time - 1.0)).astype(dtype)
        bias = _zeros("Chrono", shape, dtype)
        return bias.at[GATES.index("f")].set(forget).at[GATES.index("i")].set(-forget)
