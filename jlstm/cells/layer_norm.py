"""The LSTM with layer normalisation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.cells import gates
from jlstm.cells.gates import ForgetBias, LSTMGates, LSTMState, clip, draw, functions, learned, split, spread, start
from jlstm.initializers import GlorotUniform, Orthogonal
from jlstm.records import Activation, Check, DType, Flag, Init, Positive, Size, record
from jlstm.types import Array, Cell, Key, Shape

# A norm of zeros, as of U h at the start, divides by √ε, and so does its derivative.
Epsilon = Annotated[float, Check(functools.partial(checks.number, at_least=1e-12))]


class LayerNormLSTMParams(NamedTuple):
    """The parameters; None where the option is off. Gains α and biases β are those of the three norms."""

    w_ih: Array  # [D, 4, H]
    w_hh: Array  # [H, 4, H]
    b: Array | None  # [4, H]
    gain_ih: Array  # [4, H], of W x
    bias_ih: Array  # [4, H]
    gain_hh: Array  # [4, H], of U h
    bias_hh: Array  # [4, H]
    gain_c: Array  # [H], of c
    bias_c: Array  # [H]
    h0: Array | None = None  # [H], the learned initial state
    c0: Array | None = None  # [H]


def normalize(a: Sequence[Array], gain: Array, bias: Array, epsilon: float) -> list[Array]:
    """N(a; α, β): normalise G arrays `[*B, H]` together over their last axes; gain, bias `[G, H]`.

    >>> a = [jnp.array([-3.0, -1.0]), jnp.array([1.0, 3.0])]
    >>> [b.tolist() for b in normalize(a, jnp.full((2, 2), 4.0), jnp.full((2, 2), 3.0), epsilon=11.0)]
    [[0.0, 2.0], [4.0, 6.0]]
    """
    # Sums over the gates' arrays: joined on one axis they would be gathered where H is sharded.
    mean = sum(jnp.mean(a_g, -1, keepdims=True) for a_g in a) / len(a)
    centred = [a_g - mean for a_g in a]
    variance = sum(jnp.mean(a_g * a_g, -1, keepdims=True) for a_g in centred) / len(a)
    scale = jax.lax.rsqrt(variance + epsilon)
    gains, biases = (gates.ungate(spread(v, jnp.expand_dims(scale, -2)), axis=-2) for v in (gain, bias))
    return [α * (a_g * scale) + β for a_g, α, β in zip(centred, gains, biases, strict=True)]


@record
class LayerNormLSTM(Cell):
    """The LSTM that normalises W x, U h and c' (Ba, Kiros & Hinton 2016, supplementary material).

        z = N(W x; α_x, β_x) + N(U h; α_h, β_h) + b
        c' = σ(z_f) c + σ(z_i) φ(z_g)
        h' = σ(z_o) φ(N(c'; α_c, β_c))
        N(a; α, β) = α (a - mean a) / √(variance a + ε) + β

    - `epsilon`: ε, added to the variance. The paper's equations have none.
    - `use_bias`: whether the cell has the bias b. The norms keep their biases.
    - The other fields are those of `LSTM`. `cell_clip` clips c', which the state holds, before the norm.

    All 4H numbers of W x share one mean and one variance, and so do those of U h. Other implementations normalise each
    gate by itself.

    >>> cell = LayerNormLSTM(5)
    >>> cell.init(jax.random.key(0), 3).gain_ih.shape
    (4, 5)
    """

    hidden_size: Size
    _: KW_ONLY
    epsilon: Epsilon = 1e-5
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

    def init(self, key: Key, input_size: int) -> LayerNormLSTMParams:
        (k_ih, k_hh, k_b, D), H = split(self, key, input_size, 3), self.hidden_size
        w_ih, w_hh = draw(self, "w_ih_init", k_ih, (D, 4, H)), draw(self, "w_hh_init", k_hh, (H, 4, H))
        b = draw(self, "forget_bias", k_b, (4, H)) if self.use_bias else None
        norms = [make(shape, self.param_dtype) for shape in ((4, H), (4, H), (H,)) for make in (jnp.ones, jnp.zeros)]
        return LayerNormLSTMParams(w_ih, w_hh, b, *norms, **learned(self, h0=H, c0=H))

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: LayerNormLSTMParams, batch_shape: Shape = ()) -> LSTMState:
        return LSTMState(*start(self, params, batch_shape, h=self.hidden_size, c=self.hidden_size))

    def project(self, params: LayerNormLSTMParams, x: Array) -> LSTMGates:
        z = gates.project(self, params, x)
        return LSTMGates(*normalize(z, params.gain_ih, params.bias_ih, self.epsilon))

    def recur(self, params: LayerNormLSTMParams, state: LSTMState) -> LSTMGates:
        bias = params.bias_hh if params.b is None else params.bias_hh + params.b
        z = gates.recur(state.h, params.w_hh, None)
        return LSTMGates(*normalize(z, params.gain_hh, bias, self.epsilon))

    def update(self, params: LayerNormLSTMParams, state: LSTMState, z: LSTMGates) -> tuple[LSTMState, Array]:
        φ, σ, elementwise = functions(self)
        c = elementwise(lambda c, i, f, g: σ(f) * c + σ(i) * φ(g), state.c, z.i, z.f, z.g)
        c = clip(self, c)
        (normal,) = normalize([c], params.gain_c[None], params.bias_c[None], self.epsilon)
        h = elementwise(lambda c, o: σ(o) * φ(c), normal, z.o).astype(state.h.dtype)
        return LSTMState(h, c), h
