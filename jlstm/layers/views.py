"""The two-dimensional view of a sequence that heads and losses want."""

from __future__ import annotations

import math

from jlstm import checks
from jlstm.types import Array, ArrayLike, Shape


def flatten_time(x: ArrayLike) -> Array:
    """Reshape `[*B, T, H]` to `[prod(B)*T, H]`. Labels `[*B, T]` follow by `.reshape(-1)`.

    Raises ValueError for fewer than two axes.

    >>> import jax.numpy as jnp
    >>> flatten_time(jnp.ones((2, 7, 5))).shape
    (14, 5)
    """
    x = checks.array("flatten_time", "x", x)
    if x.ndim < 2:
        raise checks.problem("flatten_time", "x", "[*B, T, H], at least 2 axes", x.shape)
    # No -1: the number of rows has to be told where H is 0.
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def unflatten_time(y: ArrayLike, leading: Shape) -> Array:
    """Reshape `[N, K]` to `[*leading, K]`, where `leading` is `(*B, T)`: the inverse of `flatten_time`.

    Raises ValueError where N is not the product of `leading`.

    >>> import jax.numpy as jnp
    >>> unflatten_time(jnp.ones((14, 3)), (2, 7)).shape
    (2, 7, 3)
    """
    y, leading = checks.array("unflatten_time", "y", y), checks.batch_shape("unflatten_time", leading, name="leading")
    if y.ndim != 2 or y.shape[0] != math.prod(leading):
        raise checks.problem("unflatten_time", "y", f"[N, K] with N = {math.prod(leading)}", y.shape)
    return y.reshape(*leading, y.shape[-1])
