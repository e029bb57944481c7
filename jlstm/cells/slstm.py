"""The sLSTM: Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", eq. 8-17.

    z = W x + R h + b                   R block-diagonal: one block a head
    log i = z_i                         exponential input gate
    log f = log σ(z_f)  or  z_f         sigmoid or exponential forget gate
    m' = max(log f + m, log i)          stabiliser: the largest exponent so far
    c' = f̂ c + î g,   n' = f̂ n + î      î = exp(log i - m'),  f̂ = exp(log f + m - m'),  g = φ(z_g)
    h' = σ(z_o) c' / n'

c and n stand for c exp(m) and n exp(m), which would overflow. While n is 0 nothing is stored, m means nothing, and the
first step sets m' = log i; from then on n ≥ 1, so that the quotient is safe whatever the gates are.
The functions below are the cell, bare; `SLSTM` is the record that carries their options through the engine.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jlstm import checks, initializers
from jlstm.cells import gates
from jlstm.cells.gates import Activation
from jlstm.types import GATES, Array, Cell, Initializer, Key, Noise, Shape

ForgetGate = Literal["sigmoid", "exp"]
FORGET_GATES: tuple[str, ...] = get_args(ForgetGate)


class SLSTMParams(NamedTuple):
    """The parameters, for N heads of H/N cells; None where the option is off.

    w_ih: `[D, 4, H]`, input to hidden.    w_hh: `[H/N, N, 4, H/N]`, hidden to hidden within each head.    b: `[4, H]`.
    h0: `[H]`, the learned initial h.
    """

    w_ih: Array
    w_hh: Array
    b: Array | None
    h0: Array | None = None


class SLSTMState(NamedTuple):
    """The state between two steps, `[*B, H]` each. h: the compute dtype; c, n, m: at least float32.

    c, n and m only make sense together. Head k has the cells k H/N to (k+1) H/N.
    """

    h: Array
    c: Array
    n: Array
    m: Array


class SLSTMGates(NamedTuple):
    """One array `[*B, H]` a gate, in the order of `jlstm.GATES`; the paper's z is g."""

    i: Array
    f: Array
    g: Array
    o: Array


assert SLSTMGates._fields == GATES


def init(
    key: Key,
    input_size: int,
    hidden_size: int,
    *,
    heads: int = 1,
    forget_bias: float | Initializer = 1.0,
    use_bias: bool = True,
    w_ih_init: Initializer = initializers.GlorotUniform(),
    w_hh_init: Initializer = initializers.Orthogonal(),
    learn_initial_state: bool = False,
    param_dtype: Any = "float32",
) -> SLSTMParams:
    """`SLSTMParams` for D = `input_size`, H = `hidden_size`, N = `heads`; the options are those of `SLSTM`.

    >>> init(jax.random.key(0), 3, 6, heads=2).w_hh.shape
    (3, 2, 4, 3)
    """
    checks.key("init", key)
    dtype = checks.float_dtype("init", "param_dtype", param_dtype)
    D, G, H = checks.size("init", "input_size", input_size), len(GATES), checks.size("init", "hidden_size", hidden_size)
    N = _heads("init", heads, H)
    bias = forget_bias if callable(forget_bias) else initializers.ForgetBias(forget_bias)
    k_ih, k_hh, k_b = jax.random.split(key, 3)
    return SLSTMParams(
        w_ih=gates.draw("w_ih_init", w_ih_init, k_ih, (D, G, H), dtype),
        w_hh=gates.draw("w_hh_init", w_hh_init, k_hh, (H // N, N, G, H // N), dtype),
        b=gates.draw("forget_bias", bias, k_b, (G, H), dtype) if use_bias else None,
        h0=jnp.zeros(H, dtype) if learn_initial_state else None,
    )


def _heads(where: str, heads: Any, hidden_size: int) -> int:
    heads = checks.size(where, "heads", heads)
    if hidden_size % heads:
        raise checks.problem(where, "heads", f"a divisor of hidden_size = {hidden_size}", heads)
    return heads


def initial_state(params: SLSTMParams, batch_shape: Shape = (), *, compute_dtype: Any = None) -> SLSTMState:
    """The learned h, or zeros, and c, n and m that hold nothing: zeros, for the batch axes `batch_shape`."""
    checks.instance("initial_state", "params", params, SLSTMParams)
    batch_shape = checks.batch_shape("initial_state", batch_shape)
    compute, wide = gates.compute_dtypes(compute_dtype, *params)
    H = params.w_ih.shape[-1]
    empty = gates.start(None, H, batch_shape, wide)
    return SLSTMState(gates.start(params.h0, H, batch_shape, compute), empty, empty, empty)


def project(params: SLSTMParams, x: Array, *, compute_dtype: Any = None) -> SLSTMGates:
    """W x by gate, `[*B, H]` each; x `[*B, D]`."""
    compute, _ = gates.compute_dtypes(compute_dtype, x, *params)
    return SLSTMGates(*gates.project(x, params.w_ih, compute))


def recur(params: SLSTMParams, state: SLSTMState) -> SLSTMGates:
    """R h + b by gate, `[*B, H]` each: every head sees its own h alone."""
    K, N = params.w_hh.shape[:2]

    def split(a: Array) -> Array:
        return a.reshape(*a.shape[:-1], N, K)

    b = None if params.b is None else split(params.b)
    by_head = jax.vmap(gates.recur, in_axes=(-2, 1, -2), out_axes=-2)
    return SLSTMGates(*[z.reshape(state.h.shape) for z in by_head(split(state.h), params.w_hh, b)])


def update(
    params: SLSTMParams,
    state: SLSTMState,
    z: SLSTMGates,
    *,
    forget_gate: ForgetGate = "sigmoid",
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[SLSTMState, Array]:
    """The new state and the output h `[*B, H]`; elementwise. The equations are those above."""
    φ = gates.activation_function(activation)
    log_f = jax.nn.log_sigmoid(z.f) if forget_gate == "sigmoid" else z.f
    log_kept = jnp.where(state.n == 0, -jnp.inf, log_f + state.m)
    m = jnp.maximum(log_kept, z.i)
    i, f = jnp.exp(z.i - m), jnp.exp(log_kept - m)
    c, n = f * state.c + i * φ(z.g), f * state.n + i
    return read(params, SLSTMState(state.h, c, n, m), z, gate_activation=gate_activation)


def read(
    params: SLSTMParams, state: SLSTMState, z: SLSTMGates, *, gate_activation: Activation = "sigmoid"
) -> tuple[SLSTMState, Array]:
    """The state and the output with h made of c and n, which hold something: h' = σ(z_o) c / n."""
    del params
    h = (gates.activation_function(gate_activation)(z.o) * (state.c / state.n)).astype(state.h.dtype)
    return state._replace(h=h), h


def blend(old: SLSTMState, new: SLSTMState, rate: float) -> SLSTMState:
    """The mean of h, of c exp(m) and of n exp(m), `rate` of it old; new holds something. n is 1."""
    m_old = jnp.where(old.n == 0, -jnp.inf, old.m)
    m = jnp.maximum(m_old, new.m)
    a, b = rate * jnp.exp(m_old - m), (1.0 - rate) * jnp.exp(new.m - m)
    c, n = a * old.c + b * new.c, a * old.n + b * new.n
    # Without the quotients n would shrink from step to step while m stays where it was.
    return SLSTMState(rate * old.h + (1.0 - rate) * new.h, c / n, jnp.ones_like(n), m + jnp.log(n))


def step(
    params: SLSTMParams,
    state: SLSTMState,
    x: Array,
    *,
    forget_gate: ForgetGate = "sigmoid",
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    compute_dtype: Any = None,
) -> tuple[SLSTMState, Array]:
    """One step: `(state, y)` from x `[*B, D]`, without checks; `jlstm.step` is the same with them.

    >>> params = init(jax.random.key(0), 3, 6, heads=2)
    >>> state, y = step(params, initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 6)
    """
    projected = project(params, x, compute_dtype=compute_dtype)
    z = SLSTMGates(*[a + b for a, b in zip(projected, recur(params, state), strict=True)])
    return update(params, state, z, forget_gate=forget_gate, activation=activation, gate_activation=gate_activation)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class SLSTM(Cell):
    """An sLSTM of H = `hidden_size` cells in N = `heads` heads that do not see each other's h.

    forget_gate: "sigmoid" or "exp".
    activation, gate_activation: φ and σ, of the candidate and of the output gate.
    learn_initial_state: h0 is a parameter (initially 0); c, n and m begin empty in any case.
    The other fields are those of `jlstm.LSTM`.

    Raises TypeError or ValueError, which name the field.

    The paper's blocks also have a convolution before the gates i and f, and a norm behind the cell: those are layers.
    Over an Explicit mesh axis, several heads cannot be sharded; over an Auto one they can.

    >>> cell = SLSTM(6, heads=2)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> cell.initial_state(params, (2,)).n.shape
    (2, 6)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    heads: int = 1
    forget_gate: ForgetGate = "sigmoid"
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
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h",), ("c", "n", "m"))

    def __post_init__(self) -> None:
        one_of = functools.partial(checks.choice, names=FORGET_GATES)
        gates.check_fields(self, heads=checks.size, forget_gate=one_of)
        _heads("SLSTM", self.heads, self.hidden_size)

    def init(self, key: Key, input_size: int) -> SLSTMParams:
        checks.enabled("SLSTM", self)
        return init(
            key,
            checks.size("SLSTM.init", "input_size", input_size),
            self.hidden_size,
            heads=self.heads,
            forget_bias=self.forget_bias,
            use_bias=self.use_bias,
            w_ih_init=self.w_ih_init,
            w_hh_init=self.w_hh_init,
            learn_initial_state=self.learn_initial_state,
            param_dtype=self.param_dtype,
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: SLSTMParams, batch_shape: Shape = ()) -> SLSTMState:
        checks.instance("SLSTM.initial_state", "params", params, SLSTMParams)
        N, K = self.heads, self.hidden_size // self.heads
        checks.shape("SLSTM.initial_state", "params.w_hh", params.w_hh, (K, N, len(GATES), K))
        return initial_state(params, batch_shape, compute_dtype=self.compute_dtype)

    def project(self, params: SLSTMParams, x: Array, noise: Noise | None = None) -> SLSTMGates:
        return project(params, x, compute_dtype=self.compute_dtype)

    def recur(self, params: SLSTMParams, state: SLSTMState, noise: Noise | None = None) -> SLSTMGates:
        return recur(params, state)

    def update(
        self, params: SLSTMParams, state: SLSTMState, z: SLSTMGates, noise: Noise | None = None
    ) -> tuple[SLSTMState, Array]:
        return update(
            params,
            state,
            z,
            forget_gate=self.forget_gate,
            activation=self.activation,
            gate_activation=self.gate_activation,
        )

    def read(
        self, params: SLSTMParams, state: SLSTMState, z: SLSTMGates, noise: Noise | None = None
    ) -> tuple[SLSTMState, Array]:
        return read(params, state, z, gate_activation=self.gate_activation)

    def blend(self, old: SLSTMState, new: SLSTMState, rate: float) -> SLSTMState:
        return blend(old, new, rate)
