"""Variational dropout: one mask a sequence on x and on h."""

from __future__ import annotations

from typing import Annotated

import jax

from jlstm import checks
from jlstm.cells.wrapper import Wrapper, dropped, fields, replace, wrapped
from jlstm.records import Check, Rate, record
from jlstm.types import Array, Cell, Key, Noise, Params, Shape, State, Z


@record
class VariationalDropout(Wrapper):
    """Drop features of x and of h on their way into the gates of any cell. Parameters and state are the cell's.

        z = W (m_x x / (1 - input_rate)) + U (m_h h / (1 - recurrent_rate)) + b
        m_x, m_h: masks of 0 and 1

    - `cell`: the cell that it wraps.
    - `input_rate`: the probability that a feature of x is 0 for a sequence, in [0, 1). The others are divided by
      1 - input_rate.
    - `recurrent_rate`: the same for h, where `recur` reads it. The state itself, the output, and the h that `update`
      reads (a GRU's z h, and r h where its reset comes before the matmul) stay as they are.

    Every example has masks of its own, `[*B, D]` and `[*B, H]`, the same at all steps and for all gates. They come from
    the key alone, so a reset leaves them. Without a key nothing is dropped. It is the dropout of Gal & Ghahramani 2016,
    arXiv 1512.05287, with tied masks: one for all gates.

    Differs from Keras's `dropout` and `recurrent_dropout`, which have a mask a gate; from `DropConnect`, which drops
    single weights; from `jlstm.Dropout`, which draws anew at every step.

    Raises ValueError for a recurrent rate of a cell whose `state_groups` have no h, or that names no recurrent weights.

    >>> import jlstm
    >>> cell = VariationalDropout(jlstm.LSTM(5), input_rate=0.2, recurrent_rate=0.3)
    >>> params, x = cell.init(jax.random.key(0), 3), jax.numpy.ones((2, 7, 3))
    >>> state, y = jlstm.unroll(cell, params, x, key=jax.random.key(1))
    """

    cell: Annotated[Cell, Check(wrapped())]
    input_rate: Rate = 0.0
    recurrent_rate: Rate = 0.0

    def __post_init__(self) -> None:
        if self.recurrent_rate:
            wrapped("state_groups", "recurrent_params")("VariationalDropout", "cell", self.cell)
            if not any("h" in group for group in self.state_groups or ()):
                came = f"{type(self.cell).__name__}, whose state_groups have none"
                raise checks.problem("VariationalDropout", "cell", "a cell with an h", came)

    def draw(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise:
        # (the key of x's mask, whose size only x tells; h's mask, bool [*B, H], True where it is kept)
        k_x, k_h = jax.random.split(key)
        h = None
        if self.recurrent_rate:
            state = jax.eval_shape(lambda p: self.cell.initial_state(p, batch_shape), params)
            h = jax.random.bernoulli(k_h, 1.0 - self.recurrent_rate, fields(state)["h"].shape)
        return Noise(sequence=(k_x if self.input_rate else None, h))

    def project(self, params: Params, x: Array, noise: Noise = Noise()) -> Z:
        key, _ = self.own(noise).sequence or (None, None)
        if key is not None:
            x = dropped(x, jax.random.bernoulli(key, 1.0 - self.input_rate, x.shape), self.input_rate)
        return self.cell.project(params, x, *self.inner(noise))

    def recur(self, params: Params, state: State, noise: Noise = Noise()) -> Z | None:
        _, kept = self.own(noise).sequence or (None, None)
        if kept is not None:
            state = replace(state, {"h": dropped(fields(state)["h"], kept, self.recurrent_rate)})
        return self.cell.recur(params, state, *self.inner(noise))
