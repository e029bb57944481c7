"""The LSTM: the cell, and its step as a plain function."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jlstm.cells import gates
from jlstm.cells.gates import ForgetBias, LSTMGates, LSTMState, clip, draw, functions, learned, split, spread, start
from jlstm.initializers import GlorotUniform, Orthogonal
from jlstm.records import Activation, DType, Flag, Init, Positive, Size, record
from jlstm.types import Array, Cell, Key, Shape


class LSTMParams(NamedTuple):
    """The parameters; None where the option is off."""

    w_ih: Array  # [D, 4, H]
    w_hh: Array  # [H, 4, H]
    b: Array | None  # [4, H]
    h0: Array | None = None  # [H], the learned initial state
    c0: Array | None = None  # [H]


def step(params: LSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
    """Take one step of the textbook LSTM, x `[*B, D]`: `(state, h)`. It checks nothing; `jlstm.step` does.

    >>> cell = LSTM(5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> state, h = step(params, cell.initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> h.shape
    (2, 5)
    """
    z = jnp.einsum("...d,dgh->...gh", x, params.w_ih) + jnp.einsum("...d,dgh->...gh", state.h, params.w_hh)
    z = z if params.b is None else z + spread(params.b, z)
    i, f, g, o = (z[..., gate, :] for gate in range(4))
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return LSTMState(h, c), h


@record
class LSTM(Cell):
    """The LSTM with a forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000).

        i = σ(W_i x + U_i h + b_i)        input gate
        f = σ(W_f x + U_f h + b_f)        forget gate
        g = φ(W_g x + U_g h + b_g)        candidate
        o = σ(W_o x + U_o h + b_o)        output gate
        c' = f c + i g
        h' = o φ(c')

    - `hidden_size`: H, the number of units.
    - `forget_bias`: the forget gate's initial bias, or an initialiser of the whole bias `[4, H]`, such as
      `initializers.Chrono(T)` for memories of T steps.
    - `use_bias`: whether the cell has the biases b.
    - `activation`, `gate_activation`: φ and σ, each a name in `cells.ACTIVATIONS` or a function.
    - `w_ih_init`, `w_hh_init`: `(key, shape, dtype) -> array`. Each gate is drawn as a matrix of its own.
    - `learn_initial_state`: train h0 and c0, which start at 0.
    - `cell_clip`: clip c' to ±cell_clip before h' is computed from it, as cuDNN and TensorFlow do. None: no clipping.
    - `param_dtype`: the dtype of the parameters that `init` draws.
    - `compute_dtype`: the dtype of matmul operands, h and outputs. None is `result_type(x, params)`. z, c and all
      accumulation have at least float32. Set it where x is wider than the parameters and you use `step`:
      `initial_state` cannot see x, so each step would round h.

    Raises TypeError or ValueError, which name the field.

    Differs from torch (two biases that add, `[4H, D]` weights) and from Keras (order i, f, c, o; fused `[D, 4H]`
    weights; one orthogonal matrix over all gates).

    >>> cell = LSTM(5)
    >>> cell.init(jax.random.key(0), 3).w_ih.shape
    (3, 4, 5)
    """

    hidden_size: Size
    _: KW_ONLY
    forget_bias: ForgetBias = 1.0
    use_bias: Flag = True
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    w_ih_init: Init = GlorotUniform()
    w_hh_init: Init = Orthogonal()
    learn_initial_state: Flag = False
    cell_clip: Positive | None = None
    param_dtype: DType = "float32"
    compute_dtype: DType | None = None

    recurrent_params = ("w_hh",)
    state_groups = (("h",), ("c",))

    def init(self, key: Key, input_size: int) -> LSTMParams:
        (k_ih, k_hh, k_b, D), H = split(self, key, input_size, 3), self.hidden_size
        return LSTMParams(
            w_ih=draw(self, "w_ih_init", k_ih, (D, 4, H)),
            w_hh=draw(self, "w_hh_init", k_hh, (H, 4, H)),
            b=draw(self, "forget_bias", k_b, (4, H)) if self.use_bias else None,
            **learned(self, h0=H, c0=H),
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: LSTMParams, batch_shape: Shape = ()) -> LSTMState:
        return LSTMState(*start(self, params, batch_shape, h=self.hidden_size, c=self.hidden_size))

    def project(self, params: LSTMParams, x: Array) -> LSTMGates:
        return LSTMGates(*gates.project(self, params, x))

    def recur(self, params: LSTMParams, state: LSTMState) -> LSTMGates:
        return LSTMGates(*gates.recur(state.h, params.w_hh, params.b))

    def update(self, params: LSTMParams, state: LSTMState, z: LSTMGates) -> tuple[LSTMState, Array]:
        φ, σ, elementwise = functions(self)
        c = elementwise(lambda c, i, f, g: σ(f) * c + σ(i) * φ(g), state.c, z.i, z.f, z.g)
        c = clip(self, c)
        h = elementwise(lambda c, o: σ(o) * φ(c), c, z.o).astype(state.h.dtype)
        return LSTMState(h, c), h
