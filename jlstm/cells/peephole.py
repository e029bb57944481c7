"""The LSTM with peepholes."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import NamedTuple

from jlstm.cells import gates
from jlstm.cells.gates import ForgetBias, LSTMGates, LSTMState, clip, draw, functions, learned, split, spread, start
from jlstm.initializers import Constant, GlorotUniform, Orthogonal
from jlstm.records import Activation, DType, Flag, Init, Positive, Size, record
from jlstm.types import Array, Cell, Key, Shape


class PeepholeLSTMParams(NamedTuple):
    """The parameters; None where the option is off."""

    w_ih: Array  # [D, 4, H]
    w_hh: Array  # [H, 4, H]
    p: Array  # [3, H], c to i, f, o: one weight a unit
    b: Array | None  # [4, H]
    h0: Array | None = None  # [H], the learned initial state
    c0: Array | None = None  # [H]


@record
class PeepholeLSTM(Cell):
    """The LSTM whose gates see their own cell (Gers & Schmidhuber 2000, "Recurrent Nets that Time and Count").

        i = σ(W_i x + U_i h + p_i c + b_i)        input gate
        f = σ(W_f x + U_f h + p_f c + b_f)        forget gate
        g = φ(W_g x + U_g h + b_g)                candidate
        c' = f c + i g
        o = σ(W_o x + U_o h + p_o c' + b_o)       output gate: it sees the new c
        h' = o φ(c')

    - `p_init`: the initialiser of the peepholes `[3, H]`. With the default, 0, the cell starts out as an `LSTM`.
    - The other fields are those of `LSTM`.

    It is ONNX's LSTM with P (there in the order i, o, f). The paper stops the gradient at the peepholes; this cell
    does not.

    >>> import jax
    >>> cell = PeepholeLSTM(5)
    >>> cell.init(jax.random.key(0), 3).p.shape
    (3, 5)
    """

    hidden_size: Size
    _: KW_ONLY
    forget_bias: ForgetBias = 1.0
    use_bias: Flag = True
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    w_ih_init: Init = GlorotUniform()
    w_hh_init: Init = Orthogonal()
    p_init: Init = Constant(0.0)
    learn_initial_state: Flag = False
    cell_clip: Positive | None = None
    param_dtype: DType = "float32"
    compute_dtype: DType | None = None

    recurrent_params = ("w_hh", "p")
    state_groups = (("h",), ("c",))

    def init(self, key: Key, input_size: int) -> PeepholeLSTMParams:
        (k_ih, k_hh, k_b, k_p, D), H = split(self, key, input_size, 4), self.hidden_size
        w_ih, w_hh = draw(self, "w_ih_init", k_ih, (D, 4, H)), draw(self, "w_hh_init", k_hh, (H, 4, H))
        b = draw(self, "forget_bias", k_b, (4, H)) if self.use_bias else None
        return PeepholeLSTMParams(w_ih, w_hh, draw(self, "p_init", k_p, (3, H)), b, **learned(self, h0=H, c0=H))

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: PeepholeLSTMParams, batch_shape: Shape = ()) -> LSTMState:
        return LSTMState(*start(self, params, batch_shape, h=self.hidden_size, c=self.hidden_size))

    def project(self, params: PeepholeLSTMParams, x: Array) -> LSTMGates:
        return LSTMGates(*gates.project(self, params, x))

    def recur(self, params: PeepholeLSTMParams, state: LSTMState) -> LSTMGates:
        return LSTMGates(*gates.recur(state.h, params.w_hh, params.b))

    def update(self, params: PeepholeLSTMParams, state: LSTMState, z: LSTMGates) -> tuple[LSTMState, Array]:
        φ, σ, elementwise = functions(self)
        p_i, p_f, p_o = (spread(p, state.c) for p in gates.ungate(params.p, axis=0))
        i, f = z.i + p_i * state.c, z.f + p_f * state.c
        c = elementwise(lambda c, i, f, g: σ(f) * c + σ(i) * φ(g), state.c, i, f, z.g)
        c = clip(self, c)
        h = elementwise(lambda c, o: σ(o) * φ(c), c, z.o + p_o * c).astype(state.h.dtype)
        return LSTMState(h, c), h
