"""The LSTM of 1997, without a forget gate."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.cells import gates
from jlstm.cells.gates import LSTMState, clip, draw, learned, split, start
from jlstm.initializers import Constant, GlorotUniform, Orthogonal
from jlstm.records import DType, Flag, Init, Positive, Size, number_or, record
from jlstm.types import Array, Cell, Initializer, Key, Shape

Bias = Annotated[float | Initializer, number_or(Constant)]


class OriginalLSTMParams(NamedTuple):
    """The parameters, for M = H/S blocks of S units; None where the option is off. The gates are i, o."""

    w_ih: Array  # [D, H], into the units
    w_hh: Array  # [H, H]
    b: Array | None  # [H]
    w_ih_gates: Array  # [D, 2, M]
    w_hh_gates: Array  # [H, 2, M]
    b_gates: Array | None  # [2, M]
    h0: Array | None = None  # [H], the learned initial state
    c0: Array | None = None  # [H]


class OriginalLSTMGates(NamedTuple):
    """Pre-activations."""

    i: Array  # [*B, M], one a block
    g: Array  # [*B, H]
    o: Array  # [*B, M]


@record
class OriginalLSTM(Cell):
    """The LSTM without a forget gate (Hochreiter & Schmidhuber 1997, Neural Computation 9(8), section 4).

        i = σ(W_i x + U_i h + b_i)        input gate, one a block of S units
        g = W_g x + U_g h + b_g           the units' input
        o = σ(W_o x + U_o h + b_o)        output gate, one a block
        c' = c + i (4 σ(g) - 2)           g is squashed to [-2, 2]; the paper's s
        h' = o (2 σ(c') - 1)              c is squashed to [-1, 1]

    The error that flows back through c' = c + .. neither grows nor shrinks: the constant error carousel.

    - `block_size`: S, a divisor of H. Block j has the units j S to (j+1) S.
    - `truncated_gradient`: the paper's learning rule: the h that enters the next step's gates and units is a constant.
    - `input_bias`, `output_bias`: the gates' initial biases, or initialisers of biases `[H/S]`. The paper starts with
      negative ones, a smaller one for each block, so that the blocks come into use one after another.
    - `w_ih_init`, `w_hh_init`: of the units' and the gates' weights; in the paper `initializers.Uniform(0.1)` or 0.2.
    - The other fields are those of `LSTM`. The squashing functions are the paper's.

    The paper leaves a choice; here the gates see x and the units' h, and no other gates.

    >>> cell = OriginalLSTM(6, block_size=2)
    >>> cell.init(jax.random.key(0), 3).w_hh_gates.shape
    (6, 2, 3)
    """

    hidden_size: Size
    _: KW_ONLY
    block_size: Size = 1
    truncated_gradient: Flag = False
    input_bias: Bias = 0.0
    output_bias: Bias = 0.0
    use_bias: Flag = True
    w_ih_init: Init = GlorotUniform()
    w_hh_init: Init = Orthogonal()
    learn_initial_state: Flag = False
    cell_clip: Positive | None = None
    param_dtype: DType = "float32"
    compute_dtype: DType | None = None

    recurrent_params = ("w_hh", "w_hh_gates")
    state_groups = (("h",), ("c",))

    def __post_init__(self) -> None:
        H, S = self.hidden_size, self.block_size
        if H % S:
            raise checks.problem("OriginalLSTM", "block_size", f"a divisor of hidden_size = {H}", S)

    def init(self, key: Key, input_size: int) -> OriginalLSTMParams:
        (*keys, D), H, M = split(self, key, input_size, 6), self.hidden_size, self.hidden_size // self.block_size
        biases = [draw(self, name, k, (M,)) for name, k in zip(("input_bias", "output_bias"), keys[4:], strict=True)]
        return OriginalLSTMParams(
            w_ih=draw(self, "w_ih_init", keys[0], (D, H)),
            w_hh=draw(self, "w_hh_init", keys[1], (H, H)),
            b=jnp.zeros(H, self.param_dtype) if self.use_bias else None,
            w_ih_gates=draw(self, "w_ih_init", keys[2], (D, 2, M)),
            w_hh_gates=draw(self, "w_hh_init", keys[3], (H, 2, M)),
            b_gates=jnp.stack(biases) if self.use_bias else None,
            **learned(self, h0=H, c0=H),
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: OriginalLSTMParams, batch_shape: Shape = ()) -> LSTMState:
        return LSTMState(*start(self, params, batch_shape, h=self.hidden_size, c=self.hidden_size))

    def project(self, params: OriginalLSTMParams, x: Array) -> OriginalLSTMGates:
        i, o = gates.project(self, params, x, params.w_ih_gates)
        (g,) = gates.project(self, params, x, params.w_ih[:, None])
        return OriginalLSTMGates(i, g, o)

    def recur(self, params: OriginalLSTMParams, state: LSTMState) -> OriginalLSTMGates:
        h = jax.lax.stop_gradient(state.h) if self.truncated_gradient else state.h
        i, o = gates.recur(h, params.w_hh_gates, params.b_gates)
        (g,) = gates.recur(h, params.w_hh[:, None], None if params.b is None else params.b[None])
        return OriginalLSTMGates(i, g, o)

    def update(self, params: OriginalLSTMParams, state: LSTMState, z: OriginalLSTMGates) -> tuple[LSTMState, Array]:
        def gated(gate: Array, a: Array) -> Array:  # [*B, M] times [*B, H]
            return (jax.nn.sigmoid(gate)[..., None] * a.reshape(*gate.shape, self.block_size)).reshape(a.shape)

        # 2 σ(x) - 1 = tanh(x / 2), without a difference of near numbers
        c = clip(self, state.c + gated(z.i, 2 * jnp.tanh(z.g / 2)))
        h = gated(z.o, jnp.tanh(c / 2)).astype(state.h.dtype)
        return LSTMState(h, c), h
