"""Clipped gates: ONNX's `clip`."""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp

from jlstm.cells.wrapper import Wrapper, wrapped
from jlstm.records import Check, Positive, record
from jlstm.types import Cell, Noise, Params, State, Y, Z


@record
class ClipGates(Wrapper):
    """Clip all that enters the gates of any cell, as ONNX's `clip` does. Parameters and state are the cell's.

        i = σ(clip(z_i, -limit, limit)), and f, g, o likewise

    - `cell`: the cell that it wraps.
    - `limit`: a number above 0.

    It clips z, the argument of `update`, so every gate and the candidate before their activations. A peephole, which
    `update` itself adds to z, is not clipped. c is free to grow, as in onnxruntime; ONNX's text also clips c' in
    h' = o φ(c'). The gradient is 0 where something is clipped.

    To clip c, as cuDNN and TensorFlow do, give the cell a `cell_clip`.

    >>> import jlstm
    >>> cell = ClipGates(jlstm.LSTM(5), 0.1)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> state, y = jlstm.unroll(cell, params, jnp.ones((2, 7, 3)))
    """

    cell: Annotated[Cell, Check(wrapped())]
    limit: Positive

    def update(self, params: Params, state: State, z: Z, noise: Noise = Noise()) -> tuple[State, Y]:
        z = jax.tree.map(lambda a: jnp.clip(a, -self.limit, self.limit), z)
        return self.cell.update(params, state, z, *self.inner(noise))
