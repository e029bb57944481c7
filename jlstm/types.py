"""The protocols, the names of types and the literals of the whole library; `jlstm` explains the letters of shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray
Shape: TypeAlias = tuple[int, ...]

# Pytrees whose structure the cell or layer decides.
Params: TypeAlias = Any
State: TypeAlias = Any
Z: TypeAlias = Any
Y: TypeAlias = Any

Backend = Literal["scan", "hoisted", "associative", "native"]
Merge = Literal["concat", "sum", "mul", "mean", "none"]

GATES = ("i", "f", "g", "o")
"""The LSTM's gates (input, forget, candidate, output) in the order of every gate axis; `GATES.index("f")` finds one."""

Initializer: TypeAlias = Callable[[Key, Shape, Any], Array]
"""`(key, shape, dtype) -> array`; the library's own are the records in `jlstm.initializers`."""


def is_symbolic(tree: Any) -> bool:
    """Tell if an array has a symbolic size of `jax.export`. A choice made for speed cannot compare such sizes."""
    return any(map(jax.export.is_symbolic_dim, sum((jnp.shape(a) for a in jax.tree.leaves(tree)), ())))


TIME = "jlstm.time"
"""The name of the axis over which the engine maps `project`, for all steps of a sequence at once."""


def is_over_time() -> bool:
    """Tell if this code is mapped over `TIME`; a `step` is not."""
    try:
        jax.lax.axis_index(TIME)  # its size may be symbolic
    except NameError:
        return False
    return True


class Noise(NamedTuple):
    """The random part of a cell's step.

    - `sequence`: a pytree, drawn once a sequence from `key` alone: a mask on the weights, on x, on h.
    - `step`: a pytree, drawn anew at every step from `fold_in(key, t)`.
    """

    sequence: Any = None
    step: Any = None


class Cell(ABC):
    """A recurrent cell: a static record of options, whose methods are the pure functions that define it.

    One step is

        update(params, state, project(params, x) + recur(params, state))

    The engine adds everything else: time, masks, resets, directions, depth and the fast gradient. Derive your own cell
    from this class, and put `@jlstm.record` above it.

    All methods take any number of leading batch axes `*B`. Every leaf of the state leads with `*B`.

    Class attributes:

    - `feature_axes`: the number of axes of x behind batch and time: 1 for a vector.
    - `recurrent_params`: the recurrent weights, by the names of their fields in the params. `DropConnect` needs it.
    - `state_groups`: the fields of the state; fields that only make sense together are one group. `Zoneout` needs it.
    """

    feature_axes: int = 1
    recurrent = True  # as a layer's
    recurrent_params: ClassVar[tuple[str, ...] | None] = None
    state_groups: ClassVar[tuple[tuple[str, ...], ...] | None] = None

    @abstractmethod
    def init(self, key: Key, input_size: int) -> Params:
        """Draw the parameters for inputs `[*B, D]`, D = `input_size`."""

    @abstractmethod
    def output_size(self, input_size: int) -> int:
        """Return the size of the last axis of y."""

    @abstractmethod
    def initial_state(self, params: Params, batch_shape: Shape = ()) -> State:
        """Return the state that an episode begins from. `batch_shape` is `*B`: all axes before H."""

    def noise(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise | None:
        """Draw the noise of step `t`, a pure function of `(key, t)`.

        A cell that defines this method gets the noise as one more argument of `project`, `recur` and `update`; it is
        `Noise(None, None)` where a call has no key.
        """
        del key, params, batch_shape, t
        return None

    @abstractmethod
    def project(self, params: Params, x: Array) -> Z:
        """Return the input's part of z, from x `[*B, D]`. The engine runs it for all T at once."""

    @abstractmethod
    def recur(self, params: Params, state: State) -> Z | None:
        """Return the state's part of z, which the loop computes; None for no part."""

    @abstractmethod
    def update(self, params: Params, state: State, z: Z) -> tuple[State, Y]:
        """Return the new state and the output y `[*B, output_size]`."""


def noise_of(cell: Cell, noise: Noise) -> tuple[Noise, ...]:
    """Return the last argument of `project`, `recur` and `update`: none for a cell that defines no `noise`."""
    return () if type(cell).noise is Cell.noise else (noise,)


class Layer(ABC):
    """A part of a net that is no cell: it maps a sequence to a sequence.

    Class attributes:

    - `feature_axes`: the number of axes of an input behind batch and time: 1 for a vector, 0 for ids.
    - `recurrent`: whether the last step's output needs the steps before it.
    """

    feature_axes: int = 1
    recurrent: bool = True

    @abstractmethod
    def init(self, key: Key, input_size: int | None = None) -> Params:
        """Draw the parameters for inputs `[*B, T, D]`, D = `input_size`; None for ids `[*B, T]`."""

    @abstractmethod
    def output_size(self, input_size: int | None) -> int:
        """Return the size of the last axis of the outputs."""

    @abstractmethod
    def initial_state(self, params: Params, batch_shape: Shape = ()) -> State:
        """Return the state that a sequence begins from, `()` for none. `batch_shape` is `*B`."""

    @abstractmethod
    def unroll(self, params: Params, inputs: Array, state: State, run: Any) -> tuple[State, Any, Any]:
        """Return `(final_state, outputs, traces)` for inputs `[T, *B, D]`; `run` is a `jlstm.Run`.

        - `outputs`: `[T, *B, K]`, or `[*B, K]`, the last valid step's, where `run.return_sequences` is False.
        - `traces`: None, except under `jlstm.trace`.
        """
