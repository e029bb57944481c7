"""The LSTM with a recurrent projection, LSTMP."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import NamedTuple

from jlstm.cells import gates
from jlstm.cells.gates import ForgetBias, LSTMGates, LSTMState, clip, draw, functions, learned, split, start
from jlstm.initializers import GlorotUniform, Orthogonal
from jlstm.records import Activation, DType, Flag, Init, Positive, Size, record
from jlstm.types import Array, Cell, Key, Shape


class ProjectedLSTMParams(NamedTuple):
    """The parameters; None where the option is off."""

    w_ih: Array  # [D, 4, H]
    w_hh: Array  # [P, 4, H]
    w_hr: Array  # [H, P], the projection V
    b: Array | None  # [4, H]
    h0: Array | None = None  # [P], the learned initial state
    c0: Array | None = None  # [H]


@record
class ProjectedLSTM(Cell):
    """The LSTM with a recurrent projection, LSTMP: many units, small weights.

        i = σ(W_i x + U_i h + b_i)        input gate
        f = σ(W_f x + U_f h + b_f)        forget gate
        g = φ(W_g x + U_g h + b_g)        candidate
        o = σ(W_o x + U_o h + b_o)        output gate
        c' = f c + i g
        h' = V (o φ(c'))                  the next step and the next layer see P features

    - `projected_size`: P, the number of features of h.
    - `w_hr_init`: the initialiser of the projection V, `[H, P]`.
    - The other fields are those of `LSTM`. The state is `LSTMState` with h `[*B, P]` and c `[*B, H]`.

    It is torch's LSTM with `proj_size`. The paper's cell also has peepholes and a second, non-recurrent projection
    (Sak, Senior & Beaufays 2014, "Long Short-Term Memory Recurrent Neural Network Architectures for Large Scale
    Acoustic Modeling").

    >>> import jax
    >>> cell = ProjectedLSTM(5, 2)
    >>> cell.init(jax.random.key(0), 3).w_hh.shape
    (2, 4, 5)
    """

    hidden_size: Size
    projected_size: Size
    _: KW_ONLY
    forget_bias: ForgetBias = 1.0
    use_bias: Flag = True
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    w_ih_init: Init = GlorotUniform()
    w_hh_init: Init = Orthogonal()
    w_hr_init: Init = GlorotUniform()
    learn_initial_state: Flag = False
    cell_clip: Positive | None = None
    param_dtype: DType = "float32"
    compute_dtype: DType | None = None

    recurrent_params = ("w_hh",)
    state_groups = (("h",), ("c",))

    def init(self, key: Key, input_size: int) -> ProjectedLSTMParams:
        (k_ih, k_hh, k_b, k_hr, D), H, P = split(self, key, input_size, 4), self.hidden_size, self.projected_size
        return ProjectedLSTMParams(
            w_ih=draw(self, "w_ih_init", k_ih, (D, 4, H)),
            w_hh=draw(self, "w_hh_init", k_hh, (P, 4, H)),
            w_hr=draw(self, "w_hr_init", k_hr, (H, P)),
            b=draw(self, "forget_bias", k_b, (4, H)) if self.use_bias else None,
            **learned(self, h0=P, c0=H),
        )

    def output_size(self, input_size: int) -> int:
        return self.projected_size

    def initial_state(self, params: ProjectedLSTMParams, batch_shape: Shape = ()) -> LSTMState:
        return LSTMState(*start(self, params, batch_shape, h=self.projected_size, c=self.hidden_size))

    def project(self, params: ProjectedLSTMParams, x: Array) -> LSTMGates:
        return LSTMGates(*gates.project(self, params, x))

    def recur(self, params: ProjectedLSTMParams, state: LSTMState) -> LSTMGates:
        return LSTMGates(*gates.recur(state.h, params.w_hh, params.b))

    def update(self, params: ProjectedLSTMParams, state: LSTMState, z: LSTMGates) -> tuple[LSTMState, Array]:
        (φ, σ, elementwise), compute = functions(self), state.h.dtype
        c = elementwise(lambda c, i, f, g: σ(f) * c + σ(i) * φ(g), state.c, z.i, z.f, z.g)
        c = clip(self, c)
        m = elementwise(lambda c, o: σ(o) * φ(c), c, z.o).astype(compute)
        h = gates.product(m, params.w_hr.astype(compute)).astype(compute)
        return LSTMState(h, c), h
