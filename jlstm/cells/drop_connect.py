"""DropConnect on the recurrent weights (Merity, Keskar & Socher 2018, arXiv 1708.02182, section 2: the weight-dropped
LSTM; Wan et al. 2013).

    U' = m U / (1 - rate)        m: a mask of 0 and 1, one for the whole sequence, 0 with probability `rate`
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.cells.wrapper import Wrapper, fields, like, parts, read, replace, wrapped
from jlstm.types import Array, Cell, Key, Noise, Params, Shape, State, Y, Z


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class DropConnect(Wrapper):
    """Dropped recurrent weights of any cell that names its `recurrent_params`. Parameters and state are the cell's.

    rate: how likely a weight is 0 for a sequence, in [0, 1). The others are divided by 1 - rate.

    One mask of each weight's shape serves all steps and all examples of a call, as in the paper: one an example would
    need `[*B, H, 4, H]` of memory, and turn one matmul into many. Under `vmap` over keys every key has its own. It
    comes from the key alone, so a reset leaves it, and chunks of one sequence share it if they are given one key.
    Without a key nothing is dropped.

    Differs from dropout on h (`VariationalDropout`), where a unit is dropped for all that read it.

    >>> import jlstm
    >>> cell = DropConnect(jlstm.LSTM(5), 0.5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> state, y = jlstm.unroll(cell, params, jnp.ones((2, 7, 3)), key=jax.random.key(1))
    """

    cell: Cell
    rate: float

    def __post_init__(self) -> None:
        checks.fields(self, cell=wrapped("recurrent_params"), rate=checks.rate)

    def draw(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise:
        """One bool mask a weight, True where it is kept."""
        weights, tree = jax.tree.flatten(self._weights(params))
        keys = jax.random.split(key, len(weights))
        kept = [jax.random.bernoulli(k, 1.0 - self.rate, w.shape) for k, w in zip(keys, weights, strict=True)]
        return Noise(sequence=jax.tree.unflatten(tree, kept))

    def recur(self, params: Params, state: State, noise: Noise | None = None) -> Z | None:
        own, inner = parts(noise)
        return self.cell.recur(self._dropped(params, own), state, inner)

    def update(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> tuple[State, Y]:
        own, inner = parts(noise)
        return self.cell.update(self._dropped(params, own), state, z, inner)

    def read(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> tuple[State, Y] | None:
        own, inner = parts(noise)
        return read(self.cell, self._dropped(params, own), state, z, inner)

    def _weights(self, params: Params) -> dict[str, Params]:
        return {name: fields(params)[name] for name in self.recurrent_params or ()}

    def _dropped(self, params: Params, own: Noise) -> Params:
        if own.sequence is None:
            return params

        def drop(kept: Array, w: Array) -> Array:
            return jnp.where(like(kept, w), w / (1.0 - self.rate), jnp.zeros_like(w))

        return replace(params, jax.tree.map(drop, own.sequence, self._weights(params)))
