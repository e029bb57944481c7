"""The LSTM with coupled input and forget gates, CIFG."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import NamedTuple

import jax.numpy as jnp

from jlstm.cells import gates
from jlstm.cells.gates import ForgetBias, LSTMState, clip, draw, functions, learned, split, start
from jlstm.initializers import GlorotUniform, Orthogonal
from jlstm.records import Activation, DType, Flag, Init, Positive, Size, record
from jlstm.types import Array, Cell, Key, Shape


class CoupledLSTMParams(NamedTuple):
    """The parameters, gates in the order i, g, o; None where the option is off."""

    w_ih: Array  # [D, 3, H]
    w_hh: Array  # [H, 3, H]
    b: Array | None  # [3, H]
    h0: Array | None = None  # [H], the learned initial state
    c0: Array | None = None  # [H]


class CoupledLSTMGates(NamedTuple):
    """Pre-activations, `[*B, H]` each: those of `LSTMGates` without f."""

    i: Array
    g: Array
    o: Array


@record
class CoupledLSTM(Cell):
    """The LSTM with coupled input and forget gates, CIFG (Greff et al. 2017, "LSTM: A Search Space Odyssey").

        i = σ(W_i x + U_i h + b_i)        input gate
        g = φ(W_g x + U_g h + b_g)        candidate
        o = σ(W_o x + U_o h + b_o)        output gate
        c' = (1 - i) c + i g              f = 1 - i: the new content replaces as much of the old
        h' = o φ(c')

    - `forget_bias`: the forget gate's initial bias, or an initialiser of an `LSTM`'s whole bias `[4, H]`. The bias of i
      is minus that of f, since f = 1 - σ(z_i) = σ(-z_i).
    - The other fields are those of `LSTM`.

    It has 3/4 of an LSTM's parameters. It is ONNX's LSTM with `input_forget=1`. The paper's cell also has peepholes.

    >>> import jax
    >>> cell = CoupledLSTM(5)
    >>> cell.init(jax.random.key(0), 3).w_ih.shape
    (3, 3, 5)
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

    def init(self, key: Key, input_size: int) -> CoupledLSTMParams:
        (k_ih, k_hh, k_b, D), H = split(self, key, input_size, 3), self.hidden_size
        w_ih, w_hh, b = draw(self, "w_ih_init", k_ih, (D, 3, H)), draw(self, "w_hh_init", k_hh, (H, 3, H)), None
        if self.use_bias:
            _, f, g, o = gates.ungate(draw(self, "forget_bias", k_b, (4, H)), axis=0)
            b = jnp.stack([-f, g, o])
        return CoupledLSTMParams(w_ih, w_hh, b, **learned(self, h0=H, c0=H))

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: CoupledLSTMParams, batch_shape: Shape = ()) -> LSTMState:
        return LSTMState(*start(self, params, batch_shape, h=self.hidden_size, c=self.hidden_size))

    def project(self, params: CoupledLSTMParams, x: Array) -> CoupledLSTMGates:
        return CoupledLSTMGates(*gates.project(self, params, x))

    def recur(self, params: CoupledLSTMParams, state: LSTMState) -> CoupledLSTMGates:
        return CoupledLSTMGates(*gates.recur(state.h, params.w_hh, params.b))

    def update(self, params: CoupledLSTMParams, state: LSTMState, z: CoupledLSTMGates) -> tuple[LSTMState, Array]:
        φ, σ, elementwise = functions(self)
        c = elementwise(lambda c, i, g: (1 - σ(i)) * c + σ(i) * φ(g), state.c, z.i, z.g)
        c = clip(self, c)
        h = elementwise(lambda c, o: σ(o) * φ(c), c, z.o).astype(state.h.dtype)
        return LSTMState(h, c), h
