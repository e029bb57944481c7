"""The letters, the protocols and the literals that the whole library is written in.

Shapes use these letters everywhere:

    *B  batch axes: none, one or many      T  time           D  input features
    H   hidden size                        G  gates          K  output features of a dense layer

Gates stand in the order of `GATES` everywhere, and are addressed by name (`GATES.index("f")`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import jax
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

Backend = Literal["scan", "hoisted", "associative"]
Merge = Literal["concat", "sum", "mul", "mean", "none"]

GATES = ("i", "f", "g", "o")
"""The LSTM's gates in the order of every weight's gate axis: input, forget, candidate, output."""

Initializer: TypeAlias = Callable[[Key, Shape, Any], Array]
"""`(key, shape, dtype) -> array`; the library's own are the records in `jlstm.initializers`."""


class Noise(NamedTuple):
    """The random part of a cell's step.

    sequence: pytree, drawn once a sequence from `key` alone (a mask on the weights, on x, on h).
    step: pytree, drawn anew at every step from `fold_in(key, t)`.
    """

    sequence: Any = None
    step: Any = None


class Cell(Protocol):
    """A recurrent cell: a frozen, static record of hyper-parameters with pure methods.

    One step is `update(params, state, project(params, x) + recur(params, state))`. Everything else (time, masks,
    resets, directions, depth, gradients without a weight gradient in the loop) comes from the engine. Make your own
    by deriving from this class and registering the record with `jax.tree_util.register_static`.

    All methods take any number of leading batch axes `*B`, and every leaf of the state leads with `*B`.
    """

    # How many axes of `x` behind the batch and time axes belong to one input: 1 for a vector.
    feature_axes: int = 1
    # For wrappers (zoneout, dropped weights): the names of the recurrent weights among the fields of the parameters,
    # and the fields of the state that only make sense together. A cell that leaves None cannot be wrapped by them.
    # `read` and `blend`, below, are for them as well.
    recurrent_params: ClassVar[tuple[str, ...] | None] = None
    state_groups: ClassVar[tuple[tuple[str, ...], ...] | None] = None

    @abstractmethod
    def init(self, key: Key, input_size: int) -> Params:
        """Parameters for inputs `[*B, D]` with D = `input_size`."""
        ...

    @abstractmethod
    def output_size(self, input_size: int) -> int:
        """The last axis of y."""
        ...

    @abstractmethod
    def initial_state(self, params: Params, batch_shape: Shape = ()) -> State:
        """The state that an episode begins from; `batch_shape` is `*B`, all axes before H."""
        ...

    def noise(self, key: Key, params: Params, batch_shape: Shape, t: Array) -> Noise | None:
        """The random part of step `t`, a pure function of `(key, t)`; None for a cell that has none."""
        del key, params, batch_shape, t
        return None

    def read(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> tuple[State, Y] | None:
        """(state, y) with h and y made anew of the memory in `state`, which something changed after `update`, and of
        the same z. None for a cell that does not say."""
        del params, state, z, noise
        return None

    def blend(self, old: State, new: State, rate: float) -> State:
        """The mean of two states, `rate` of it old: what zoneout expects where nothing is drawn.

        This one is field by field. A cell of which several fields make one number, a scale among them, has its own.
        """
        return jax.tree.map(lambda a, b: rate * a + (1.0 - rate) * b, old, new)

    def fused(self, params: Params) -> Callable[[State, Array], Z] | None:
        """`(state, x) -> project(params, x) + recur(params, state)` as one product, x `[*B, D]`, for a loop that does
        both. None for a cell that has no such product. A class that derives from yours is not asked, but for its own.
        """
        del params
        return None

    @abstractmethod
    def project(self, params: Params, x: Array, noise: Noise | None = None) -> Z:
        """The input's part of z. No recurrence, so the engine runs it for all T at once."""
        ...

    @abstractmethod
    def recur(self, params: Params, state: State, noise: Noise | None = None) -> Z | None:
        """The state's part of z: what has to be computed inside the loop. None where there is none."""
        ...

    @abstractmethod
    def update(self, params: Params, state: State, z: Z, noise: Noise | None = None) -> tuple[State, Y]:
        """The new state and the output y `[*B, output_size]`."""
        ...


class Layer(Protocol):
    """What stands beside a cell in a stack: it maps a sequence to a sequence, with a state or without.

    `unroll` is called by `jlstm.unroll` and `jlstm.step` with time leading and with a `jlstm.unroll.Run`, the record
    of the call; users call those two, which check their input.
    """

    feature_axes: int
    recurrent: bool  # whether the last step's output needs the steps before it

    @abstractmethod
    def init(self, key: Key, input_size: int | None = None) -> Params: ...

    @abstractmethod
    def output_size(self, input_size: int | None) -> int: ...

    @abstractmethod
    def initial_state(self, params: Params, batch_shape: Shape = ()) -> State: ...

    @abstractmethod
    def unroll(self, params: Params, inputs: Array, state: State, run: Any) -> tuple[State, Any, Any]:
        """`(final_state, outputs, traces)`; inputs `[T, *B, D]`; outputs `[T, *B, K]`, or `[*B, K]` for one step."""
        ...
