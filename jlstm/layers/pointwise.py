"""Layers without a memory: the same function at every step. `Dense`, `Dropout`, `Embed`.

A pointwise layer is `init`, `output_size` and `apply(params, x, key)` for one step; `Pointwise` lays it out over time.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks, initializers
from jlstm.cells import gates
from jlstm.cells.gates import Activation
from jlstm.cells.wrapper import like
from jlstm.engine import Run
from jlstm.types import Array, Initializer, Key, Layer, Params, Shape


class Pointwise(Layer):
    """A layer that looks at one step only; derive from it, and write `init`, `output_size` and `apply`."""

    feature_axes: int = 1
    recurrent: bool = False
    random: ClassVar[bool] = False  # whether `apply` uses its key

    @abstractmethod
    def apply(self, params: Params, x: Array, key: Key | None) -> Array:
        """y `[*B, K]` of one step's x `[*B, D]`; `key` is this step's own, None for no noise."""
        ...

    def initial_state(self, params: Params, batch_shape: Shape = ()) -> tuple[()]:
        """`()`: there is none."""
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
    """w: `[D, K]`.   b: `[K]`, or None."""

    w: Array
    b: Array | None


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dense(Pointwise):
    """y = φ(x W + b) with K = `features`, φ the `activation` ("linear": none).

    x `[*B, D]`, y `[*B, K]` in the compute dtype; the product accumulates in at least float32.

    >>> head = Dense(2)
    >>> head.apply(head.init(jax.random.key(0), 3), jnp.ones((4, 3))).shape
    (4, 2)
    """

    features: int
    _: dataclasses.KW_ONLY
    use_bias: bool = True
    activation: Activation = "linear"
    w_init: Initializer = initializers.GlorotUniform()
    param_dtype: Any = dataclasses.field(default="float32", compare=False)
    compute_dtype: Any = dataclasses.field(default=None, compare=False)
    # Compared in place of the two: np.dtype("float64") == None.
    _dtypes: tuple[str, ...] = dataclasses.field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        checks.fields(
            self,
            features=checks.size,
            use_bias=checks.boolean,
            activation=checks.choice_or_callable(tuple(gates.ACTIVATIONS), gates.activation_name),
            w_init=checks.function,
            param_dtype=checks.float_dtype,
            compute_dtype=checks.float_dtype_or_none,
        )
        checks.name_dtypes(self)

    def init(self, key: Key, input_size: int | None = None) -> DenseParams:
        checks.key("Dense.init", key)
        checks.enabled("Dense", self)
        shape = (checks.size("Dense.init", "input_size", input_size), self.features)
        w = checks.drawn("Dense.init", "w_init", self.w_init(key, shape, self.param_dtype), shape, self.param_dtype)
        return DenseParams(w, jnp.zeros(self.features, self.param_dtype) if self.use_bias else None)

    def output_size(self, input_size: int | None) -> int:
        return self.features

    def apply(self, params: DenseParams, x: Array, key: Key | None = None) -> Array:
        """One step, or any other leading axes: x `[..., D]`, y `[..., K]`."""
        compute, wide = gates.compute_dtypes(self.compute_dtype, x, *params)
        y = jnp.einsum("...d,dk->...k", x.astype(compute), params.w.astype(compute), preferred_element_type=wide)
        if params.b is not None:
            y = y + jnp.expand_dims(params.b.astype(wide), range(x.ndim - 1))
        return gates.activation_function(self.activation)(y).astype(compute)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dropout(Pointwise):
    """Sets features to 0 with probability `rate` and divides the others by `1 - rate`, anew at every step.

    Only where a key is given (Srivastava et al. 2014, in the inverted form).
    """

    rate: float

    random = True

    def __post_init__(self) -> None:
        checks.fields(self, rate=checks.rate)

    def init(self, key: Key, input_size: int | None = None) -> tuple[()]:
        return ()

    def output_size(self, input_size: int | None) -> int:
        return checks.size("Dropout.output_size", "input_size", input_size)

    def apply(self, params: tuple[()], x: Array, key: Key | None = None) -> Array:
        if key is None or self.rate == 0.0:
            return x
        keep = jax.random.bernoulli(key, 1.0 - self.rate, x.shape)
        return jnp.where(like(keep, x), x / (1.0 - self.rate), jnp.zeros_like(x))


class EmbedParams(NamedTuple):
    """w: `[V, K]`, one row a token."""

    w: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Embed(Pointwise):
    """Row x of a `[V, K]` table, V = `vocabulary`, K = `size`; x: integers `[*B]`. Stands first in a stack.

    An id outside of [0, V) gives NaN: JAX cannot raise for a value, and a clipped id would train something else.
    """

    vocabulary: int
    size: int
    _: dataclasses.KW_ONLY
    w_init: Initializer = initializers.Normal(1.0)
    param_dtype: Any = dataclasses.field(default="float32", compare=False)
    compute_dtype: Any = dataclasses.field(default=None, compare=False)
    # Compared in place of the two: np.dtype("float64") == None.
    _dtypes: tuple[str, ...] = dataclasses.field(default=(), init=False, repr=False)

    feature_axes = 0

    def __post_init__(self) -> None:
        checks.fields(
            self,
            vocabulary=checks.size,
            size=checks.size,
            w_init=checks.function,
            param_dtype=checks.float_dtype,
            compute_dtype=checks.float_dtype_or_none,
        )
        checks.name_dtypes(self)

    def init(self, key: Key, input_size: None = None) -> EmbedParams:
        if input_size is not None:
            raise checks.problem("Embed.init", "input_size", "None, for it takes integer ids", checks.show(input_size))
        checks.key("Embed.init", key)
        checks.enabled("Embed", self)
        shape = (self.vocabulary, self.size)
        w = self.w_init(key, shape, self.param_dtype)
        return EmbedParams(checks.drawn("Embed.init", "w_init", w, shape, self.param_dtype))

    def output_size(self, input_size: int | None = None) -> int:
        return self.size

    def apply(self, params: EmbedParams, x: Array, key: Key | None = None) -> Array:
        ids = jnp.where(x < 0, self.vocabulary, x)  # negative ids would count from the end
        rows = jnp.take(params.w, ids, axis=0, mode="fill", fill_value=jnp.nan)
        return rows.astype(self.compute_dtype or rows.dtype)
