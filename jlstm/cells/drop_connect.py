"""DropConnect on the recurrent weights."""

from __future__ import annotations

from typing import Annotated

import jax

from jlstm.cells.wrapper import Wrapper, dropped, fields, replace, wrapped
from jlstm.records import Check, Rate, record
from jlstm.types import Array, Cell, Key, Noise, Params, Shape, State, Y, Z


@record
class DropConnect(Wrapper):
    """Drop recurrent weights of any cell that names its `recurrent_params`. Parameters and state are the cell's.

        U' = m U / (1 - rate)        m: a mask of 0 and 1, one for the whole sequence

    - `cell`: the cell that it wraps.
    - `rate`: the probability that a weight is 0 for a sequence, in [0, 1). The others are divided by 1 - rate.

    One mask of each weight's shape serves all steps and all examples of a call, as in the paper. A mask an example
    would need `[*B, H, 4, H]` of memory, and turn one matmul into many. Under `vmap` over keys every key has its own.
    The mask comes from the key alone: a reset leaves it, and chunks of one sequence share it if they share the key.
    Without a key nothing is dropped.

    Differs from dropout on h (`VariationalDropout`), which drops a unit for all its readers. It is the weight-dropped
    LSTM of Merity, Keskar & Socher 2018, arXiv 1708.02182, section 2, after Wan et al. 2013.

    >>> import jlstm
    >>> cell = DropConnect(jlstm.LSTM(5), 0.5)
    >>> params, x = cell.init(jax.random.key(0), 3), jax.numpy.ones((2, 7, 3))
    >>> state, y = jlstm.unroll(cell, params, x, key=jax.random.key(1))
    """

    cell: Annotated[Cell, Check(wrapped("recurrent_params"))]
    rate: Rate

    def draw(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise:
        # one bool mask a weight, True where it is kept
        weights, tree = jax.tree.flatten(self._weights(params))
        keys = jax.random.split(key, len(weights))
        kept = [jax.random.bernoulli(k, 1.0 - self.rate, w.shape) for k, w in zip(keys, weights, strict=True)]
        return Noise(sequence=jax.tree.unflatten(tree, kept))

    def recur(self, params: Params, state: State, noise: Noise = Noise()) -> Z | None:
        return self.cell.recur(self._dropped(params, noise), state, *self.inner(noise))

    def update(self, params: Params, state: State, z: Z, noise: Noise = Noise()) -> tuple[State, Y]:
        return self.cell.update(self._dropped(params, noise), state, z, *self.inner(noise))

    def _weights(self, params: Params) -> dict[str, Params]:
        return {name: fields(params)[name] for name in self.recurrent_params or ()}

    def _dropped(self, params: Params, noise: Noise) -> Params:
        kept = self.own(noise).sequence
        if kept is None:
            return params
        drop = jax.tree.map(lambda kept, w: dropped(w, kept, self.rate), kept, self._weights(params))
        return replace(params, drop)
