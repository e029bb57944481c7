"""The sLSTM."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.cells import gates
from jlstm.cells.gates import ForgetBias, LSTMGates, draw, functions, learned, split, start
from jlstm.initializers import GlorotUniform, Orthogonal
from jlstm.records import Activation, DType, Flag, Init, Size, record
from jlstm.types import Array, Cell, Key, Shape


class SLSTMParams(NamedTuple):
    """The parameters, for N heads of H/N units; None where the option is off."""

    w_ih: Array  # [D, 4, H]
    w_hh: Array  # [H/N, N, 4, H/N], within each head
    b: Array | None  # [4, H]
    h0: Array | None = None  # [H], the learned initial h


class SLSTMState(NamedTuple):
    """The state between two steps, `[*B, H]` each. c, n and m only make sense together."""

    h: Array  # the compute dtype
    c: Array  # at least float32, as n and m
    n: Array
    m: Array


@record
class SLSTM(Cell):
    """The sLSTM (Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", eq. 8-17).

        z = W x + R h + b               R block-diagonal: one block a head
        log i = z_i                     exponential input gate
        log f = log σ(z_f)  or  z_f     sigmoid or exponential forget gate
        m' = max(log f + m, log i)      stabiliser: the largest exponent so far
        c' = f̂ c + î φ(z_g)             f̂ = exp(log f + m - m')
        n' = f̂ n + î                    î = exp(log i - m')
        h' = σ(z_o) c' / n'

    c and n stand for c exp(m) and n exp(m), which would overflow. While n is 0 nothing is stored and m has no meaning;
    the first step sets m' = log i. From then on n ≥ 1, so the quotient is safe whatever the gates are.

    - `heads`: N, a divisor of H. Head k has the units k H/N to (k+1) H/N. Heads do not see each other's h.
    - `forget_gate`: "sigmoid" or "exp".
    - `activation`, `gate_activation`: φ and σ, of the candidate and of the output gate.
    - `learn_initial_state`: train h0, which starts at 0; c, n and m start empty in any case.
    - The other fields are those of `LSTM`. The paper's z is the gate g.

    The paper's blocks also have a convolution before the gates i and f, and a norm behind the cell: those are layers.
    Several heads cannot be sharded over an Explicit mesh axis; over an Auto one they can.

    >>> cell = SLSTM(6, heads=2)
    >>> cell.init(jax.random.key(0), 3).w_hh.shape
    (3, 2, 4, 3)
    """

    hidden_size: Size
    _: KW_ONLY
    heads: Size = 1
    forget_gate: Literal["sigmoid", "exp"] = "sigmoid"
    forget_bias: ForgetBias = 1.0
    use_bias: Flag = True
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    w_ih_init: Init = GlorotUniform()
    w_hh_init: Init = Orthogonal()
    learn_initial_state: Flag = False
    param_dtype: DType = "float32"
    compute_dtype: DType | None = None

    recurrent_params = ("w_hh",)
    state_groups = (("h",), ("c", "n", "m"))

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise checks.problem("SLSTM", "heads", f"a divisor of hidden_size = {self.hidden_size}", self.heads)

    def init(self, key: Key, input_size: int) -> SLSTMParams:
        (k_ih, k_hh, k_b, D), H, N = split(self, key, input_size, 3), self.hidden_size, self.heads
        return SLSTMParams(
            w_ih=draw(self, "w_ih_init", k_ih, (D, 4, H)),
            w_hh=draw(self, "w_hh_init", k_hh, (H // N, N, 4, H // N)),
            b=draw(self, "forget_bias", k_b, (4, H)) if self.use_bias else None,
            **learned(self, h0=H),
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: SLSTMParams, batch_shape: Shape = ()) -> SLSTMState:
        return SLSTMState(*start(self, params, batch_shape, **dict.fromkeys("hcnm", self.hidden_size)))

    def project(self, params: SLSTMParams, x: Array) -> LSTMGates:
        return LSTMGates(*gates.project(self, params, x))

    def recur(self, params: SLSTMParams, state: SLSTMState) -> LSTMGates:
        def by_head(a: Array) -> Array:
            return a.reshape(*a.shape[:-1], self.heads, self.hidden_size // self.heads)

        b = None if params.b is None else by_head(params.b)
        z = jax.vmap(gates.recur, in_axes=(-2, 1, -2), out_axes=-2)(by_head(state.h), params.w_hh, b)
        return LSTMGates(*[a.reshape(state.h.shape) for a in z])

    def update(self, params: SLSTMParams, state: SLSTMState, z: LSTMGates) -> tuple[SLSTMState, Array]:
        φ, σ, _ = functions(self)
        log_f = jax.nn.log_sigmoid(z.f) if self.forget_gate == "sigmoid" else z.f
        log_kept = jnp.where(state.n == 0, -jnp.inf, log_f + state.m)
        m = jnp.maximum(log_kept, z.i)
        i, f = jnp.exp(z.i - m), jnp.exp(log_kept - m)
        c, n = f * state.c + i * φ(z.g), f * state.n + i
        h = (σ(z.o) * (c / n)).astype(state.h.dtype)
        return SLSTMState(h, c, n, m), h
