"""The LSTM: Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000.

    i = σ(W_i x + U_i h + b_i)        input gate
    f = σ(W_f x + U_f h + b_f)        forget gate
    g = φ(W_g x + U_g h + b_g)        candidate
    o = σ(W_o x + U_o h + b_o)        output gate
    c' = f c + i g
    h' = o φ(c')

The functions below are the cell, bare; `LSTM` is the record that carries their options through the engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks, initializers
from jlstm.cells import gates
from jlstm.cells.gates import Activation
from jlstm.types import GATES, Array, Cell, Initializer, Key, Noise, Shape


class LSTMParams(NamedTuple):
    """The parameters; None where the option is off.

    w_ih: `[D, 4, H]`, input to hidden.    w_hh: `[H, 4, H]`, hidden to hidden.    b: `[4, H]`.
    h0, c0: `[H]`, the learned initial state.
    """

    w_ih: Array
    w_hh: Array
    b: Array | None
    h0: Array | None = None
    c0: Array | None = None


class LSTMState(NamedTuple):
    """The state between two steps. h: `[*B, H]`, the compute dtype; c: `[*B, H]`, at least float32."""

    h: Array
    c: Array


class LSTMGates(NamedTuple):
    """One array `[*B, H]` a gate, in the order of `jlstm.GATES`."""

    i: Array
    f: Array
    g: Array
    o: Array


assert LSTMGates._fields == GATES


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
) -> LSTMParams:
    """`LSTMParams` for D = `input_size`, H = `hidden_size`; the options are those of `LSTM`.

    >>> init(jax.random.key(0), 3, 5).w_ih.shape
    (3, 4, 5)
    """
    checks.key("init", key)
    dtype = checks.float_dtype("init", "param_dtype", param_dtype)
    D, G, H = checks.size("init", "input_size", input_size), len(GATES), checks.size("init", "hidden_size", hidden_size)
    bias = forget_bias if callable(forget_bias) else initializers.ForgetBias(forget_bias)
    k_ih, k_hh, k_b = jax.random.split(key, 3)
    return LSTMParams(
        w_ih=gates.draw("w_ih_init", w_ih_init, k_ih, (D, G, H), dtype),
        w_hh=gates.draw("w_hh_init", w_hh_init, k_hh, (H, G, H), dtype),
        b=gates.draw("forget_bias", bias, k_b, (G, H), dtype) if use_bias else None,
        h0=jnp.zeros(H, dtype) if learn_initial_state else None,
        c0=jnp.zeros(H, dtype) if learn_initial_state else None,
    )


def initial_state(params: LSTMParams, batch_shape: Shape = (), *, compute_dtype: Any = None) -> LSTMState:
    """The learned initial state, or zeros, for the batch axes `batch_shape`: h and c `[*B, H]`."""
    checks.instance("initial_state", "params", params, LSTMParams)
    batch_shape = checks.batch_shape("initial_state", batch_shape)
    compute, wide = gates.compute_dtypes(compute_dtype, *params)
    H = params.w_hh.shape[0]
    return LSTMState(h=gates.start(params.h0, H, batch_shape, compute), c=gates.start(params.c0, H, batch_shape, wide))


def project(params: LSTMParams, x: Array, *, compute_dtype: Any = None) -> LSTMGates:
    """W x by gate, `[*B, H]` each; x `[*B, D]`."""
    compute, _ = gates.compute_dtypes(compute_dtype, x, *params)
    return LSTMGates(*gates.project(x, params.w_ih, compute))


def recur(params: LSTMParams, state: LSTMState) -> LSTMGates:
    """U h + b by gate, `[*B, H]` each."""
    return LSTMGates(*gates.recur(state.h, params.w_hh, params.b))


def update(
    params: LSTMParams,
    state: LSTMState,
    z: LSTMGates,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[LSTMState, Array]:
    """The new state and the output h `[*B, H]`; elementwise.

    i, f, o = σ(z_i), σ(z_f), σ(z_o);  g = φ(z_g);  c' = f c + i g;  h' = o φ(c')
    """
    del params
    # A function of one's own need not be elementwise, and then has no slope.
    named = isinstance(activation, str) and isinstance(gate_activation, str)
    c, h = (_update if named else _equations)(activation, gate_activation, state.c, z)
    h = h.astype(state.h.dtype)
    return LSTMState(h, c), h


def _equations(activation: Activation, gate_activation: Activation, c: Array, z: LSTMGates) -> tuple[Array, Array]:
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    i, f, g, o = σ(z.i), σ(z.f), φ(z.g), σ(z.o)
    c = f * c + i * g
    return c, o * φ(c)


_update = jax.custom_jvp(_equations, nondiff_argnums=(0, 1))


@_update.defjvp
def _update_jvp(activation: Activation, gate_activation: Activation, primals: Any, tangents: Any) -> Any:
    """The same equations, differentiated by hand: six coefficients a step are all that reverse mode has to keep."""
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    (c, z), (δc, δz) = primals, tangents
    (i, di), (f, df), (g, dg), (o, do) = (gates.slope(a, x) for a, x in zip((σ, σ, φ, σ), z, strict=True))
    new = f * c + i * g
    y, dy = gates.slope(φ, new)
    δnew = f * δc + (g * di) * δz.i + (c * df) * δz.f + (i * dg) * δz.g
    return (new, o * y), (δnew, (o * dy) * δnew + (y * do) * δz.o)


def step(
    params: LSTMParams,
    state: LSTMState,
    x: Array,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    compute_dtype: Any = None,
) -> tuple[LSTMState, Array]:
    """One step: `(state, y)` from x `[*B, D]`, without checks; `jlstm.step` is the same with them.

    >>> params = init(jax.random.key(0), 3, 5)
    >>> state, y = step(params, initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 5)
    """
    projected = project(params, x, compute_dtype=compute_dtype)
    z = LSTMGates(*[a + b for a, b in zip(projected, recur(params, state), strict=True)])
    return update(params, state, z, activation=activation, gate_activation=gate_activation)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LSTM(Cell):
    """An LSTM of H = `hidden_size` cells, with forget gate, without peepholes.

    forget_bias: the forget gate's initial bias, or an initialiser of the whole bias `[4, H]`
        (`initializers.Chrono(T)` for memories of T steps).
    activation, gate_activation: φ and σ, names of the table in `jlstm.cells.gates`, or functions.
    w_ih_init, w_hh_init: `(key, shape, dtype) -> array`, each gate a matrix of its own.
    learn_initial_state: h0 and c0 are parameters (initially 0) instead of 0.
    param_dtype: the dtype of `init`'s parameters.
    compute_dtype: the dtype of matmul operands, h and outputs; None is `result_type(x, params)`. z, c and all
        accumulation have at least float32. Where x is wider than the parameters and `step` runs in your own scan,
        name it: `initial_state` cannot see x.

    Raises TypeError or ValueError, which name the field.

    Differs from torch (two biases that add, `[4H, D]` weights) and from Keras (order i, f, c, o; fused `[D, 4H]`
    weights; one orthogonal matrix over all gates).

    >>> cell = LSTM(5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> cell.initial_state(params, (2,)).h.shape
    (2, 5)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
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
        gates.check_fields(self)

    def init(self, key: Key, input_size: int) -> LSTMParams:
        checks.enabled("LSTM", self)
        return init(
            key,
            checks.size("LSTM.init", "input_size", input_size),
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

    def initial_state(self, params: LSTMParams, batch_shape: Shape = ()) -> LSTMState:
        checks.instance("LSTM.initial_state", "params", params, LSTMParams)
        H = self.hidden_size
        checks.shape("LSTM.initial_state", "params.w_hh", params.w_hh, (H, len(GATES), H))
        return initial_state(params, batch_shape, compute_dtype=self.compute_dtype)

    def project(self, params: LSTMParams, x: Array, noise: Noise | None = None) -> LSTMGates:
        return project(params, x, compute_dtype=self.compute_dtype)

    def recur(self, params: LSTMParams, state: LSTMState, noise: Noise | None = None) -> LSTMGates:
        return recur(params, state)

    def fused(self, params: LSTMParams) -> Callable[[LSTMState, Array], LSTMGates]:
        return gates.fused(params, LSTMGates)

    def update(
        self, params: LSTMParams, state: LSTMState, z: LSTMGates, noise: Noise | None = None
    ) -> tuple[LSTMState, Array]:
        return update(params, state, z, activation=self.activation, gate_activation=self.gate_activation)

    def read(
        self, params: LSTMParams, state: LSTMState, z: LSTMGates, noise: Noise | None = None
    ) -> tuple[LSTMState, Array]:
        φ, σ = gates.activation_function(self.activation), gates.activation_function(self.gate_activation)
        h = (σ(z.o) * φ(state.c)).astype(state.h.dtype)
        return LSTMState(h, state.c), h
