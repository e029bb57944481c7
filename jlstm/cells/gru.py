"""The gated recurrent unit."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, NamedTuple

import jax.numpy as jnp

from jlstm.cells import gates
from jlstm.cells.gates import draw, functions, learned, split, start
from jlstm.initializers import GlorotUniform, Orthogonal
from jlstm.records import Activation, DType, Flag, Init, Number, Size, number_or, record
from jlstm.types import Array, Cell, Initializer, Key, Shape


class GRUParams(NamedTuple):
    """The parameters, gates in the order r, z, n; None where the option is off."""

    w_ih: Array  # [D, 3, H]
    w_hh: Array  # [H, 3, H]
    b: Array | None  # [4, H], b_r, b_z, b_n, d_n; [3, H] without `reset_after`
    h0: Array | None = None  # [H], the learned initial state


class GRUState(NamedTuple):
    """The state between two steps."""

    h: Array  # [*B, H], the compute dtype


class GRUGates(NamedTuple):
    """Pre-activations, `[*B, H]` each. n_h: U_n h + d_n, which r scales; None without `reset_after`."""

    r: Array
    z: Array
    n: Array
    n_h: Array | None


WEIGHTS = GRUGates._fields[:3]
"""The order of the weights' gate axis."""


@record
class UpdateBias:
    """Set a GRU's bias to `value` at the update gate, 0 elsewhere."""

    value: Number = 0.0

    def __call__(self, key: Key, shape: Shape, dtype: jnp.dtype) -> Array:
        return jnp.zeros(shape, dtype).at[WEIGHTS.index("z")].set(self.value)


@record
class GRU(Cell):
    """The gated recurrent unit (Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder").

        r = σ(W_r x + U_r h + b_r)                  reset gate, eq. 5
        z = σ(W_z x + U_z h + b_z)                  update gate, eq. 6
        n = φ(W_n x + b_n + r (U_n h + d_n))        candidate, with reset_after
        n = φ(W_n x + b_n + U_n (r h))              candidate, without reset_after: eq. 8
        h' = (1 - z) n + z h                        eq. 7

    - `reset_after`: scale U_n h + d_n by the reset gate, as torch does and Keras by default; otherwise h, as the paper.
    - `update_bias`: the update gate's initial bias (above 0 it starts by keeping h), or an initialiser of the whole b.
    - The other fields are those of `LSTM`.

    A GRU's only memory is h. In 16 bits, small changes over many steps are rounded away.
    Differs from torch (two biases a gate; those of r and z add) and from Keras (gate order z, r, h).

    >>> import jax
    >>> cell = GRU(5)
    >>> cell.init(jax.random.key(0), 3).w_ih.shape
    (3, 3, 5)
    """

    hidden_size: Size
    _: KW_ONLY
    reset_after: Flag = True
    update_bias: Annotated[float | Initializer, number_or(UpdateBias)] = 0.0
    use_bias: Flag = True
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    w_ih_init: Init = GlorotUniform()
    w_hh_init: Init = Orthogonal()
    learn_initial_state: Flag = False
    param_dtype: DType = "float32"
    compute_dtype: DType | None = None

    recurrent_params = ("w_hh",)
    state_groups = (("h",),)

    def init(self, key: Key, input_size: int) -> GRUParams:
        (k_ih, k_hh, k_b, D), H = split(self, key, input_size, 3), self.hidden_size
        return GRUParams(
            w_ih=draw(self, "w_ih_init", k_ih, (D, 3, H)),
            w_hh=draw(self, "w_hh_init", k_hh, (H, 3, H)),
            b=draw(self, "update_bias", k_b, (4 if self.reset_after else 3, H)) if self.use_bias else None,
            **learned(self, h0=H),
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: GRUParams, batch_shape: Shape = ()) -> GRUState:
        return GRUState(*start(self, params, batch_shape, h=self.hidden_size))

    def project(self, params: GRUParams, x: Array) -> GRUGates:
        if self.reset_after:
            return GRUGates(*gates.project(self, params, x, absent=3))
        return GRUGates(*gates.project(self, params, x), n_h=None)

    def recur(self, params: GRUParams, state: GRUState) -> GRUGates:
        if self.reset_after:
            return GRUGates(*gates.recur(state.h, params.w_hh, params.b, absent=2))
        return GRUGates(*gates.recur(state.h, params.w_hh[:, :2], params.b, absent=2), n_h=None)

    def update(self, params: GRUParams, state: GRUState, z: GRUGates) -> tuple[GRUState, Array]:
        (φ, σ, elementwise), compute, h = functions(self), state.h.dtype, state.h.astype(z.r.dtype)
        if self.reset_after:
            h = elementwise(lambda h, r, z, n, n_h: (1 - σ(z)) * φ(n + σ(r) * n_h) + σ(z) * h, h, z.r, z.z, z.n, z.n_h)
        else:
            n = z.n + gates.product((σ(z.r) * h).astype(compute), params.w_hh[:, 2].astype(compute))
            h = elementwise(lambda h, z, n: (1 - σ(z)) * φ(n) + σ(z) * h, h, z.z, n)
        h = h.astype(compute)
        return GRUState(h), h
