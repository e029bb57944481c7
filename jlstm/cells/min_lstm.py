"""The minLSTM."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jlstm.cells import gates
from jlstm.cells.gates import ForgetBias, LSTMState, draw, split, spread, start
from jlstm.initializers import GlorotUniform
from jlstm.records import Activation, DType, Flag, Init, Size, activation_function, record
from jlstm.types import Array, Cell, Key, Shape


class MinLSTMParams(NamedTuple):
    """The parameters, gates in the order i, f, g; None where the option is off."""

    w_ih: Array  # [D, 3, H]
    b: Array | None  # [3, H]
    c0: Array | None = None  # [H], the learned initial state


class MinLSTMGates(NamedTuple):
    """One step's c' = keep c + add, `[*B, H]` each."""

    keep: Array  # f'
    add: Array  # i' g


@record
class MinLSTM(Cell):
    """The minLSTM (Feng et al. 2024, "Were RNNs All We Needed?", section 3.2).

        i = σ(W_i x + b_i)                input gate
        f = σ(W_f x + b_f)                forget gate
        g = φ(W_g x + b_g)                candidate, φ(x) = x
        f', i' = f/(f+i), i/(f+i)         normalised gates
        c' = f' c + i' g
        h' = c'

    No gate sees the state. So the gates are computed for all steps at once, and the last two lines are a linear
    recurrence, which the backend "associative" solves in O(log T) rounds. The paper calls c h; here h is c in the
    compute dtype, as in every cell.

    - `activation`: φ, of the candidate. The gates are sigmoids, for the closed form of f/(f+i).
    - `forget_bias`: the forget gate's initial bias, or an initialiser of a bias `[4, H]`, whose last gate is left out.
    - `learn_initial_state`: train c0, which starts at 0.
    - The other fields are those of `LSTM`.

    The paper's log-space code has another candidate: x + 0.5 for positive x, σ(x) for others. Give it as `activation`.
    Here the candidate may have any sign.

    >>> cell = MinLSTM(5)
    >>> cell.init(jax.random.key(0), 3).w_ih.shape
    (3, 3, 5)
    """

    hidden_size: Size
    _: KW_ONLY
    forget_bias: ForgetBias = 1.0
    use_bias: Flag = True
    activation: Activation = "linear"
    w_ih_init: Init = GlorotUniform()
    learn_initial_state: Flag = False
    param_dtype: DType = "float32"
    compute_dtype: DType | None = None

    recurrent_params = ()
    state_groups = (("h", "c"),)

    def init(self, key: Key, input_size: int) -> MinLSTMParams:
        (k_ih, k_b, D), H = split(self, key, input_size, 2), self.hidden_size
        return MinLSTMParams(
            w_ih=draw(self, "w_ih_init", k_ih, (D, 3, H)),
            b=draw(self, "forget_bias", k_b, (4, H))[:3] if self.use_bias else None,
            **gates.learned(self, c0=H),
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: MinLSTMParams, batch_shape: Shape = ()) -> LSTMState:
        h, c = start(self, params, batch_shape, h=self.hidden_size, c=self.hidden_size)
        return LSTMState(h if params.c0 is None else jnp.array(c, h.dtype, copy=True), c)

    def project(self, params: MinLSTMParams, x: Array) -> MinLSTMGates:
        z = gates.project(self, params, x)
        if params.b is not None:
            z = [z_g + spread(b, z_g) for z_g, b in zip(z, gates.ungate(params.b, axis=0), strict=True)]
        i, f, g = z
        # f/(f+i) = σ(log f - log i), which is never 0/0, and 1 - f' = σ(log i - log f).
        ratio = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
        return MinLSTMGates(jax.nn.sigmoid(ratio), jax.nn.sigmoid(-ratio) * activation_function(self.activation)(g))

    def recur(self, params: MinLSTMParams, state: LSTMState) -> None:
        return None

    def update(self, params: MinLSTMParams, state: LSTMState, z: MinLSTMGates) -> tuple[LSTMState, Array]:
        c = z.keep * state.c + z.add
        h = c.astype(state.h.dtype)
        return LSTMState(h, c), h
