"""Layers without a memory: the same function at every step. `Dense`, `Dropout`, `Embed`.

A pointwise layer is `init`, `output_size` and `apply(params, x, key)` for one step; `Pointwise` lays it out over time.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.cells.gates import checked, compute_dtypes, draw, spread
from jlstm.cells.wrapper import dropped
from jlstm.engine import Run
from jlstm.initializers import GlorotUniform, Normal
from jlstm.records import Activation, DType, Flag, Init, Rate, Size, activation_function, record
from jlstm.types import Array, Key, Layer, Params, Shape


class Pointwise(Layer):
    """A layer that sees one step at a time. Derive your own from it, and write `init`, `output_size` and `apply`."""

    feature_axes: int = 1
    recurrent: bool = False
    random: ClassVar[bool] = False  # whether `apply` uses its key

    @abstractmethod
    def apply(self, params: Params, x: Array, key: Key | None) -> Array:
        """Compute y `[*B, K]` of one step's x `[*B, D]`; `key` is this step's own, None for no noise."""

    def initial_state(self, params: Params, batch_shape: Shape = ()) -> tuple[()]:
        """Return `()`: there is none."""
        checks.batch_shape(type(self).__name__ + ".initial_state", batch_shape)
        return ()

    def unroll(self, params: Params, inputs: Array, state: Any, run: Run) -> tuple[Any, Array, None]:
        if not run.return_sequences and not run.at_last:
            inputs, run = run.pick(inputs), run.replace(at_last=True)
        key = run.key if self.random else None
        keys = None if key is None else jax.vmap(lambda t: jax.random.fold_in(key, t))(run.t)
        if not run.at_last:
            y = jax.vmap(lambda x, key: self.apply(params, x, key))(inputs, keys)
        elif keys is None or run.t.shape[0] == 0:
            y = self.apply(params, inputs, None)
        else:  # rows end at different steps: each takes the noise of its own
            y = run.pick(jax.vmap(lambda key: self.apply(params, inputs, key))(keys))
        return state, run.blank_invalid(y), None


class DenseParams(NamedTuple):
    """The parameters."""

    w: Array  # [D, K]
    b: Array | None  # [K]; None without a bias


@record
class Dense(Pointwise):
    """The dense layer: y = φ(x W + b).

    x is `[*B, D]`; y is `[*B, K]` in the compute dtype. The product accumulates in at least float32.

    - `features`: K.
    - `use_bias`: whether the layer has the bias b, which starts at 0.
    - `activation`: φ, a name in `cells.ACTIVATIONS` or a function. "linear" is none.
    - `w_init`: the initialiser of W `[D, K]`.
    - `param_dtype`, `compute_dtype`: as in `LSTM`.

    >>> head = Dense(2)
    >>> head.apply(head.init(jax.random.key(0), 3), jnp.ones((4, 3))).shape
    (4, 2)
    """

    features: Size
    _: KW_ONLY
    use_bias: Flag = True
    activation: Activation = "linear"
    w_init: Init = GlorotUniform()
    param_dtype: DType = "float32"
    compute_dtype: DType | None = None

    def init(self, key: Key, input_size: int | None = None) -> DenseParams:
        D = checks.size("Dense.init", "input_size", input_size)
        w = draw(self, "w_init", checked(self, key), (D, self.features))
        return DenseParams(w, jnp.zeros(self.features, self.param_dtype) if self.use_bias else None)

    def output_size(self, input_size: int | None) -> int:
        return self.features

    def apply(self, params: DenseParams, x: Array, key: Key | None = None) -> Array:
        """Compute y `[..., K]` of x `[..., D]`: one step's, or with any other leading axes."""
        compute, wide = compute_dtypes(self, x, *params)
        y = jnp.einsum("...d,dk->...k", x.astype(compute), params.w.astype(compute), preferred_element_type=wide)
        if params.b is not None:
            y = y + spread(params.b, y)
        return activation_function(self.activation)(y).astype(compute)


@record
class Dropout(Pointwise):
    """Dropout in the inverted form, drawn anew at every step (Srivastava et al. 2014).

    - `rate`: the probability that a feature is 0, in [0, 1). The others are divided by 1 - rate.

    Without a key nothing is dropped.
    """

    rate: Rate

    random = True

    def init(self, key: Key, input_size: int | None = None) -> tuple[()]:
        return ()

    def output_size(self, input_size: int | None) -> int:
        return checks.size("Dropout.output_size", "input_size", input_size)

    def apply(self, params: tuple[()], x: Array, key: Key | None = None) -> Array:
        if key is None or self.rate == 0.0:
            return x
        return dropped(x, jax.random.bernoulli(key, 1.0 - self.rate, x.shape), self.rate)


class EmbedParams(NamedTuple):
    """The parameters."""

    w: Array  # [V, K], one row a token


@record
class Embed(Pointwise):
    """The row x of a table `[V, K]`, for ids x, integers `[*B]`. It stands first in a stack.

    - `vocabulary`: V.
    - `size`: K.
    - `w_init`: the initialiser of the table.
    - `param_dtype`, `compute_dtype`: as in `LSTM`.

    An id outside of [0, V) gives NaN: JAX cannot raise for a value, and a clipped id would train something else.
    """

    vocabulary: Size
    size: Size
    _: KW_ONLY
    w_init: Init = Normal(1.0)
    param_dtype: DType = "float32"
    compute_dtype: DType | None = None

    feature_axes = 0

    def init(self, key: Key, input_size: None = None) -> EmbedParams:
        if input_size is not None:
            raise checks.problem("Embed.init", "input_size", "None, for it takes integer ids", checks.show(input_size))
        return EmbedParams(draw(self, "w_init", checked(self, key), (self.vocabulary, self.size)))

    def output_size(self, input_size: int | None = None) -> int:
        return self.size

    def apply(self, params: EmbedParams, x: Array, key: Key | None = None) -> Array:
        ids = jnp.where(x < 0, self.vocabulary, x)  # negative ids would count from the end
        rows = jnp.take(params.w, ids, axis=0, mode="fill", fill_value=jnp.nan)
        return rows.astype(self.compute_dtype or rows.dtype)
