"""The LSTM with layer normalisation: Ba, Kiros & Hinton 2016, supplementary material.

    z = N(W x; α_x, β_x) + N(U h; α_h, β_h) + b
    i, f, o = σ(z_i), σ(z_f), σ(z_o)
    g = φ(z_g)
    c' = f c + i g
    h' = o φ(N(c'; α_c, β_c))

    N(a; α, β) = α (a - mean a) / √(variance a + ε) + β

The mean and variance of W x and of U h are those of all G*H numbers of one product, not of each gate.
The functions below are the cell, bare; `LayerNormLSTM` is the record that carries their options through the engine.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks, initializers
from jlstm.cells import gates
from jlstm.cells.gates import Activation
from jlstm.types import GATES, Array, Cell, Initializer, Key, Noise, Shape


class LayerNormLSTMParams(NamedTuple):
    """The parameters; None where the option is off.

    w_ih: `[D, 4, H]`, input to hidden.    w_hh: `[H, 4, H]`, hidden to hidden.    b: `[4, H]`.
    gain_ih, bias_ih, gain_hh, bias_hh: `[4, H]`, of the norms of the two products.    gain_c, bias_c: `[H]`, of c's.
    h0, c0: `[H]`, the learned initial state.
    """

    w_ih: Array
    w_hh: Array
    b: Array | None
    gain_ih: Array
    bias_ih: Array
    gain_hh: Array
    bias_hh: Array
    gain_c: Array
    bias_c: Array
    h0: Array | None = None
    c0: Array | None = None


class LayerNormLSTMState(NamedTuple):
    """The state between two steps. h: `[*B, H]`, the compute dtype; c: `[*B, H]`, at least float32, not normalised."""

    h: Array
    c: Array


class LayerNormLSTMGates(NamedTuple):
    """One array `[*B, H]` a gate, in the order of `jlstm.GATES`."""

    i: Array
    f: Array
    g: Array
    o: Array


assert LayerNormLSTMGates._fields == GATES


def init(
    key: Key,
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float | Initializer = 1.0,
    use_bias: bool = True,
    w_ih_init: Initializer = initializers.GlorotUniform(),
    w_hh_init: Initializer = initializers.Orthogonal(),
    learn_initial_state: bool = False,
    param_dtype: Any = "float32",
) -> LayerNormLSTMParams:
    """`LayerNormLSTMParams` for D = `input_size`, H = `hidden_size`; the norms' gains are 1, their biases 0.

    >>> init(jax.random.key(0), 3, 5).gain_ih.shape
    (4, 5)
    """
    checks.key("init", key)
    dtype = checks.float_dtype("init", "param_dtype", param_dtype)
    D, G, H = checks.size("init", "input_size", input_size), len(GATES), checks.size("init", "hidden_size", hidden_size)
    bias = forget_bias if callable(forget_bias) else initializers.ForgetBias(forget_bias)
    k_ih, k_hh, k_b = jax.random.split(key, 3)
    return LayerNormLSTMParams(
        w_ih=gates.draw("w_ih_init", w_ih_init, k_ih, (D, G, H), dtype),
        w_hh=gates.draw("w_hh_init", w_hh_init, k_hh, (H, G, H), dtype),
        b=gates.draw("forget_bias", bias, k_b, (G, H), dtype) if use_bias else None,
        gain_ih=jnp.ones((G, H), dtype),
        bias_ih=jnp.zeros((G, H), dtype),
        gain_hh=jnp.ones((G, H), dtype),
        bias_hh=jnp.zeros((G, H), dtype),
        gain_c=jnp.ones(H, dtype),
        bias_c=jnp.zeros(H, dtype),
        h0=jnp.zeros(H, dtype) if learn_initial_state else None,
        c0=jnp.zeros(H, dtype) if learn_initial_state else None,
    )


def initial_state(
    params: LayerNormLSTMParams, batch_shape: Shape = (), *, compute_dtype: Any = None
) -> LayerNormLSTMState:
    """The learned initial state, or zeros, for the batch axes `batch_shape`: h and c `[*B, H]`."""
    checks.instance("initial_state", "params", params, LayerNormLSTMParams)
    batch_shape = checks.batch_shape("initial_state", batch_shape)
    compute, wide = gates.compute_dtypes(compute_dtype, *params)
    H = params.w_hh.shape[0]
    return LayerNormLSTMState(
        h=gates.start(params.h0, H, batch_shape, compute), c=gates.start(params.c0, H, batch_shape, wide)
    )


def normalize(a: Sequence[Array], gain: Array, bias: Array, epsilon: float) -> list[Array]:
    """N(a; α, β): a, arrays `[*B, H]`, normalised together over their last axes; gain, bias `[len(a), H]`.

    >>> a = [jnp.array([-3.0, -1.0]), jnp.array([1.0, 3.0])]
    >>> [b.tolist() for b in normalize(a, jnp.full((2, 2), 4.0), jnp.full((2, 2), 3.0), epsilon=11.0)]
    [[0.0, 2.0], [4.0, 6.0]]
    """
    # Sums over the gates' arrays: to join them on an axis G*H would gather them where H is sharded.
    mean = sum(jnp.mean(a_g, -1, keepdims=True) for a_g in a) / len(a)
    centred = [a_g - mean for a_g in a]
    variance = sum(jnp.mean(a_g * a_g, -1, keepdims=True) for a_g in centred) / len(a)
    scale = jax.lax.rsqrt(variance + epsilon)

    def over_batch(by_gate: Array) -> list[Array]:
        by_gate = jnp.expand_dims(by_gate.astype(scale.dtype), range(scale.ndim - 1))
        return gates.ungate(by_gate, axis=-2)

    return [α * (a_g * scale) + β for a_g, α, β in zip(centred, over_batch(gain), over_batch(bias), strict=True)]


def project(
    params: LayerNormLSTMParams, x: Array, *, epsilon: float = 1e-5, compute_dtype: Any = None
) -> LayerNormLSTMGates:
    """N(W x; α_x, β_x) by gate, `[*B, H]` each; x `[*B, D]`."""
    compute, _ = gates.compute_dtypes(compute_dtype, x, *params)
    z = gates.project(x, params.w_ih, compute)
    return LayerNormLSTMGates(*normalize(z, params.gain_ih, params.bias_ih, epsilon))


def recur(params: LayerNormLSTMParams, state: LayerNormLSTMState, *, epsilon: float = 1e-5) -> LayerNormLSTMGates:
    """N(U h; α_h, β_h) + b by gate, `[*B, H]` each."""
    z = gates.recur(state.h, params.w_hh, None)
    bias = params.bias_hh if params.b is None else params.bias_hh + params.b
    return LayerNormLSTMGates(*normalize(z, params.gain_hh, bias, epsilon))


def update(
    params: LayerNormLSTMParams,
    state: LayerNormLSTMState,
    z: LayerNormLSTMGates,
    *,
    epsilon: float = 1e-5,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[LayerNormLSTMState, Array]:
    """The new state and the output h `[*B, H]`.

    i, f = σ(z_i), σ(z_f);  g = φ(z_g);  c' = f c + i g;  then `read`
    """
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    new = state._replace(c=σ(z.f) * state.c + σ(z.i) * φ(z.g))
    return read(params, new, z, epsilon=epsilon, activation=activation, gate_activation=gate_activation)


def read(
    params: LayerNormLSTMParams,
    state: LayerNormLSTMState,
    z: LayerNormLSTMGates,
    *,
    epsilon: float = 1e-5,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[LayerNormLSTMState, Array]:
    """The state and the output with h made of c: o = σ(z_o);  h' = o φ(N(c; α_c, β_c))."""
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    (c,) = normalize([state.c], params.gain_c[None], params.bias_c[None], epsilon)
    h = (σ(z.o) * φ(c)).astype(state.h.dtype)
    return state._replace(h=h), h


def step(
    params: LayerNormLSTMParams,
    state: LayerNormLSTMState,
    x: Array,
    *,
    epsilon: float = 1e-5,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    compute_dtype: Any = None,
) -> tuple[LayerNormLSTMState, Array]:
    """One step: `(state, y)` from x `[*B, D]`, without checks; `jlstm.step` is the same with them.

    >>> params = init(jax.random.key(0), 3, 5)
    >>> state, y = step(params, initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 5)
    """
    projected = project(params, x, epsilon=epsilon, compute_dtype=compute_dtype)
    recurred = recur(params, state, epsilon=epsilon)
    z = LayerNormLSTMGates(*[a + b for a, b in zip(projected, recurred, strict=True)])
    return update(params, state, z, epsilon=epsilon, activation=activation, gate_activation=gate_activation)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LayerNormLSTM(Cell):
    """An LSTM of H = `hidden_size` cells whose products W x and U h, and whose c, are normalised.

    epsilon: ε, added to the variance; the paper's equations have none.
    use_bias: b; the norms keep their biases without it.
    The other fields are those of `jlstm.LSTM`.

    Raises TypeError or ValueError, which name the field.

    Differs from LSTMs that normalise each gate by itself: here one mean and one variance stand for all four gates.

    >>> cell = LayerNormLSTM(5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> cell.initial_state(params, (2,)).h.shape
    (2, 5)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-5
    forget_bias: float | Initializer = 1.0
    use_bias: bool = True
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    w_ih_init: Initializer = initializers.GlorotUniform()
    w_hh_init: Initializer = initializers.Orthogonal()
    learn_initial_state: bool = False
    param_dtype: Any = dataclasses.field(default="float32", compare=False)
    compute_dtype: Any = dataclasses.field(default=None, compare=False)
    # Compared in place of the two: np.dtype("float64") == None.
    _dtypes: tuple[str, ...] = dataclasses.field(default=(), init=False, repr=False)

    recurrent_params: ClassVar[tuple[str, ...]] = ("w_hh",)
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h",), ("c",))

    def __post_init__(self) -> None:
        # A norm of zeros, as of U h at the start, divides by √ε, and its derivative's does too.
        gates.check_fields(self, epsilon=functools.partial(checks.number, at_least=1e-12))

    def init(self, key: Key, input_size: int) -> LayerNormLSTMParams:
        checks.enabled("LayerNormLSTM", self)
        return init(
            key,
            checks.size("LayerNormLSTM.init", "input_size", input_size),
            self.hidden_size,
            forget_bias=self.forget_bias,
            use_bias=self.use_bias,
            w_ih_init=self.w_ih_init,
            w_hh_init=self.w_hh_init,
            learn_initial_state=self.learn_initial_state,
            param_dtype=self.param_dtype,
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: LayerNormLSTMParams, batch_shape: Shape = ()) -> LayerNormLSTMState:
        checks.instance("LayerNormLSTM.initial_state", "params", params, LayerNormLSTMParams)
        H = self.hidden_size
        checks.shape("LayerNormLSTM.initial_state", "params.w_hh", params.w_hh, (H, len(GATES), H))
        return initial_state(params, batch_shape, compute_dtype=self.compute_dtype)

    def project(self, params: LayerNormLSTMParams, x: Array, noise: Noise | None = None) -> LayerNormLSTMGates:
        return project(params, x, epsilon=self.epsilon, compute_dtype=self.compute_dtype)

    def recur(
        self, params: LayerNormLSTMParams, state: LayerNormLSTMState, noise: Noise | None = None
    ) -> LayerNormLSTMGates:
        return recur(params, state, epsilon=self.epsilon)

    def update(
        self, params: LayerNormLSTMParams, state: LayerNormLSTMState, z: LayerNormLSTMGates, noise: Noise | None = None
    ) -> tuple[LayerNormLSTMState, Array]:
        return update(params, state, z, **self._functions)

    def read(
        self, params: LayerNormLSTMParams, state: LayerNormLSTMState, z: LayerNormLSTMGates, noise: Noise | None = None
    ) -> tuple[LayerNormLSTMState, Array]:
        return read(params, state, z, **self._functions)

    @property
    def _functions(self) -> dict[str, Any]:
        return dict(epsilon=self.epsilon, activation=self.activation, gate_activation=self.gate_activation)
