"""Clipping inside of a cell, in the two ways that others have: of the memory, and of what goes into the gates.

    "state"    c' = clip(f c + i g, -limit, limit);  h' = o φ(c')        what cuDNN clips, and TensorFlow's `cell_clip`
    "gates"    i = σ(clip(z_i, -limit, limit)), and f, g, o so           ONNX's `clip`

Written for the LSTM; they do the same to any cell that has a memory, or pre-activations.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.cells.wrapper import Wrapper, fields, parts, read, replace, wrapped
from jlstm.types import Cell, Noise, Params, State, Y, Z


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ClipState(Wrapper):
    """Any cell with its memory or its gates kept within ±`limit`, above 0. Parameters and state are the cell's.

    what: "state" clips the memory after the update: the fields of `state_groups` beside h, each a number by itself.
            h and y are read from the clipped memory where the cell says how (`Cell.read`, as LSTM does); those of any
            other cell, `Zoneout` around one too, are what it made of the memory before it was clipped.
        "gates" clips z, all that `update` is given, and so every gate and the candidate before their activation; what
            `update` itself adds to z, a peephole, is not clipped. c is free to grow; so it is in onnxruntime, while
            ONNX's text has φ(clip(c')) in h', too.

    The gradient is 0 where something is clipped. Differs from clipping gradients, which an optimiser does.

    Raises ValueError, for "state", where the cell has no memory beside h or one of several fields (the sLSTM's c is a
    number only together with n and m).

    >>> import jlstm
    >>> cell = ClipState(jlstm.LSTM(5), 0.1)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> state, y = jlstm.unroll(cell, params, jnp.ones((2, 7, 3)))
    >>> bool(jnp.all(jnp.abs(state.c) <= 0.1))
    True
    """

    cell: Cell
    limit: float
    what: Literal["state", "gates"] = "state"

    def __post_init__(self) -> None:
        what = functools.partial(checks.choice, names=("state", "gates"))
        checks.fields(self, limit=checks.positive, what=what, cell=wrapped())
        if self.what == "gates":
            return
        checks.fields(self, cell=wrapped("state_groups"))
        memory = [group for group in self.state_groups or () if "h" not in group]
        if not memory or max(map(len, memory)) > 1:
            came = f"{type(self.cell).__name__}, whose state_groups are {self.state_groups}"
            raise checks.problem("ClipState", "cell", "a cell with memory beside h, each field by itself", came)

    def _clip(self, tree: Any) -> Any:
        return jax.tree.map(lambda a: jnp.clip(a, -self.limit, self.limit), tree)

    def update(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> tuple[State, Y]:
        inner = parts(noise)[1]
        if self.what == "gates":
            return self.cell.update(params, state, self._clip(z), inner)
        new, y = self.cell.update(params, state, z, inner)
        memory = {name: fields(new)[name] for group in self.state_groups or () for name in group if "h" not in group}
        new = replace(new, self._clip(memory))
        return read(self.cell, params, new, z, inner) or (new, y)

    def read(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> tuple[State, Y] | None:
        return read(self.cell, params, state, self._clip(z) if self.what == "gates" else z, parts(noise)[1])
