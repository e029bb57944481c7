"""The LSTM as it was: Hochreiter & Schmidhuber 1997, Neural Computation 9(8), section 4. It has no forget gate.

    i = σ(W_i x + U_i h + b_i)        input gate, one a block of S cells
    g = W_g x + U_g h + b_g           the cells' input
    o = σ(W_o x + U_o h + b_o)        output gate, one a block
    c' = c + i (4 σ(g) - 2)           g is squashed to [-2, 2]; the paper's s
    h' = o (2 σ(c') - 1)              c is squashed to [-1, 1]

The error that flows back through c' = c + .. neither grows nor shrinks: the constant error carousel. The paper's
learning rule lets it flow nowhere else: what h carries into the next step's gates and cells is taken for a constant.
The functions below are the cell, bare; `OriginalLSTM` is the record that carries their options through the engine.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks, initializers
from jlstm.cells import gates
from jlstm.types import Array, Cell, Initializer, Key, Noise, Shape


class OriginalLSTMParams(NamedTuple):
    """The parameters, for M = H/S blocks of S cells; None where the option is off.

    w_ih: `[D, H]`, w_hh: `[H, H]`, b: `[H]`, into the cells.
    w_ih_gates: `[D, 2, M]`, w_hh_gates: `[H, 2, M]`, b_gates: `[2, M]`, into the gates i, o.
    h0, c0: `[H]`, the learned initial state.
    """

    w_ih: Array
    w_hh: Array
    b: Array | None
    w_ih_gates: Array
    w_hh_gates: Array
    b_gates: Array | None
    h0: Array | None = None
    c0: Array | None = None


class OriginalLSTMState(NamedTuple):
    """The state between two steps. h: `[*B, H]`, the compute dtype; c: `[*B, H]`, at least float32.

    Block j has the cells j S to (j+1) S.
    """

    h: Array
    c: Array


class OriginalLSTMGates(NamedTuple):
    """i, o: `[*B, M]`, one gate a block; g: `[*B, H]`."""

    i: Array
    g: Array
    o: Array


def init(
    key: Key,
    input_size: int,
    hidden_size: int,
    *,
    block_size: int = 1,
    input_bias: float | Initializer = 0.0,
    output_bias: float | Initializer = 0.0,
    use_bias: bool = True,
    w_ih_init: Initializer = initializers.GlorotUniform(),
    w_hh_init: Initializer = initializers.Orthogonal(),
    learn_initial_state: bool = False,
    param_dtype: Any = "float32",
) -> OriginalLSTMParams:
    """`OriginalLSTMParams` for D = `input_size`, H = `hidden_size`, S = `block_size`; options of `OriginalLSTM`.

    >>> init(jax.random.key(0), 3, 6, block_size=2).w_hh_gates.shape
    (6, 2, 3)
    """
    checks.key("init", key)
    dtype = checks.float_dtype("init", "param_dtype", param_dtype)
    D, H = checks.size("init", "input_size", input_size), checks.size("init", "hidden_size", hidden_size)
    M = _blocks("init", block_size, H)
    keys = jax.random.split(key, 6)

    def bias(name: str, value: float | Initializer, key: Key) -> Array:
        return gates.draw(name, value if callable(value) else initializers.Constant(value), key, (M,), dtype)

    b_gates = jnp.stack([bias("input_bias", input_bias, keys[4]), bias("output_bias", output_bias, keys[5])])

    return OriginalLSTMParams(
        w_ih=gates.draw("w_ih_init", w_ih_init, keys[0], (D, H), dtype),
        w_hh=gates.draw("w_hh_init", w_hh_init, keys[1], (H, H), dtype),
        b=jnp.zeros(H, dtype) if use_bias else None,
        w_ih_gates=gates.draw("w_ih_init", w_ih_init, keys[2], (D, 2, M), dtype),
        w_hh_gates=gates.draw("w_hh_init", w_hh_init, keys[3], (H, 2, M), dtype),
        b_gates=b_gates if use_bias else None,
        h0=jnp.zeros(H, dtype) if learn_initial_state else None,
        c0=jnp.zeros(H, dtype) if learn_initial_state else None,
    )


def _blocks(where: str, block_size: Any, hidden_size: int) -> int:
    block_size = checks.size(where, "block_size", block_size)
    if hidden_size % block_size:
        raise checks.problem(where, "block_size", f"a divisor of hidden_size = {hidden_size}", block_size)
    return hidden_size // block_size


def initial_state(
    params: OriginalLSTMParams, batch_shape: Shape = (), *, compute_dtype: Any = None
) -> OriginalLSTMState:
    """The learned initial state, or zeros, for the batch axes `batch_shape`: h and c `[*B, H]`."""
    checks.instance("initial_state", "params", params, OriginalLSTMParams)
    batch_shape = checks.batch_shape("initial_state", batch_shape)
    compute, wide = gates.compute_dtypes(compute_dtype, *params)
    H = params.w_hh.shape[0]
    return OriginalLSTMState(
        h=gates.start(params.h0, H, batch_shape, compute), c=gates.start(params.c0, H, batch_shape, wide)
    )


def project(params: OriginalLSTMParams, x: Array, *, compute_dtype: Any = None) -> OriginalLSTMGates:
    """W x by gate; x `[*B, D]`."""
    compute, _ = gates.compute_dtypes(compute_dtype, x, *params)
    i, o = gates.project(x, params.w_ih_gates, compute)
    (g,) = gates.project(x, jnp.expand_dims(params.w_ih, 1), compute)
    return OriginalLSTMGates(i, g, o)


def recur(
    params: OriginalLSTMParams, state: OriginalLSTMState, *, truncated_gradient: bool = False
) -> OriginalLSTMGates:
    """U h + b by gate."""
    h = jax.lax.stop_gradient(state.h) if truncated_gradient else state.h
    i, o = gates.recur(h, params.w_hh_gates, params.b_gates)
    (g,) = gates.recur(h, jnp.expand_dims(params.w_hh, 1), None if params.b is None else params.b[None])
    return OriginalLSTMGates(i, g, o)


def update(
    params: OriginalLSTMParams, state: OriginalLSTMState, z: OriginalLSTMGates
) -> tuple[OriginalLSTMState, Array]:
    """The new state and the output h `[*B, H]`; elementwise, the gates spread over their blocks.

    i = σ(z_i);  c' = c + i (4 σ(z_g) - 2);  then `read`
    """
    # 2 σ(x) - 1 = tanh(x / 2), without a difference of near numbers
    return read(params, state._replace(c=state.c + _gated(z.i, 2 * jnp.tanh(z.g / 2))), z)


def read(params: OriginalLSTMParams, state: OriginalLSTMState, z: OriginalLSTMGates) -> tuple[OriginalLSTMState, Array]:
    """The state and the output with h made of c: o = σ(z_o);  h' = o (2 σ(c) - 1)."""
    del params
    h = _gated(z.o, jnp.tanh(state.c / 2)).astype(state.h.dtype)
    return state._replace(h=h), h


def _gated(gate: Array, cells: Array) -> Array:
    """σ(gate) `[*B, M]`, one a block, times cells `[*B, H]`."""
    blocks = cells.reshape(*gate.shape, cells.shape[-1] // gate.shape[-1])
    return (jnp.expand_dims(jax.nn.sigmoid(gate), -1) * blocks).reshape(cells.shape)


def step(
    params: OriginalLSTMParams,
    state: OriginalLSTMState,
    x: Array,
    *,
    truncated_gradient: bool = False,
    compute_dtype: Any = None,
) -> tuple[OriginalLSTMState, Array]:
    """One step: `(state, y)` from x `[*B, D]`, without checks; `jlstm.step` is the same with them.

    >>> params = init(jax.random.key(0), 3, 6, block_size=2)
    >>> state, y = step(params, initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 6)
    """
    projected = project(params, x, compute_dtype=compute_dtype)
    recurred = recur(params, state, truncated_gradient=truncated_gradient)
    return update(params, state, jax.tree.map(jnp.add, projected, recurred))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class OriginalLSTM(Cell):
    """The LSTM of 1997: H = `hidden_size` cells in blocks of S = `block_size`, whose cells share their two gates.

    truncated_gradient: the paper's learning rule: no error flows back through what h carries into gates and cells.
    input_bias, output_bias: the gates' initial biases, or initialisers of biases `[H/S]`. The paper's experiments begin
        with negative ones, a smaller one for each block, so that the blocks come into use one after another.
    w_ih_init, w_hh_init: of the cells' weights and of the gates'; the paper has `initializers.Uniform(0.1)` or 0.2.
    The other fields are those of `jlstm.LSTM`; squashing functions are the paper's.

    Raises TypeError or ValueError, which name the field.

    Differs from the paper where that leaves a choice: gates see x and the cells' h, and no other gates.

    >>> cell = OriginalLSTM(6, block_size=2)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> cell.initial_state(params, (2,)).h.shape
    (2, 6)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    block_size: int = 1
    truncated_gradient: bool = False
    input_bias: float | Initializer = 0.0
    output_bias: float | Initializer = 0.0
    use_bias: bool = True
    w_ih_init: Initializer = initializers.GlorotUniform()
    w_hh_init: Initializer = initializers.Orthogonal()
    learn_initial_state: bool = False
    param_dtype: Any = dataclasses.field(default="float32", compare=False)
    compute_dtype: Any = dataclasses.field(default=None, compare=False)
    # Compared in place of the two: np.dtype("float64") == None.
    _dtypes: tuple[str, ...] = dataclasses.field(default=(), init=False, repr=False)

    recurrent_params: ClassVar[tuple[str, ...]] = ("w_hh", "w_hh_gates")
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h",), ("c",))

    def __post_init__(self) -> None:
        gates.check_fields(
            self,
            block_size=checks.size,
            truncated_gradient=checks.boolean,
            input_bias=checks.number_or_callable,
            output_bias=checks.number_or_callable,
        )
        _blocks("OriginalLSTM", self.block_size, self.hidden_size)

    def init(self, key: Key, input_size: int) -> OriginalLSTMParams:
        checks.enabled("OriginalLSTM", self)
        return init(
            key,
            checks.size("OriginalLSTM.init", "input_size", input_size),
            self.hidden_size,
            block_size=self.block_size,
            input_bias=self.input_bias,
            output_bias=self.output_bias,
            use_bias=self.use_bias,
            w_ih_init=self.w_ih_init,
            w_hh_init=self.w_hh_init,
            learn_initial_state=self.learn_initial_state,
            param_dtype=self.param_dtype,
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: OriginalLSTMParams, batch_shape: Shape = ()) -> OriginalLSTMState:
        checks.instance("OriginalLSTM.initial_state", "params", params, OriginalLSTMParams)
        H, M = self.hidden_size, self.hidden_size // self.block_size
        checks.shape("OriginalLSTM.initial_state", "params.w_hh_gates", params.w_hh_gates, (H, 2, M))
        return initial_state(params, batch_shape, compute_dtype=self.compute_dtype)

    def project(self, params: OriginalLSTMParams, x: Array, noise: Noise | None = None) -> OriginalLSTMGates:
        return project(params, x, compute_dtype=self.compute_dtype)

    def recur(
        self, params: OriginalLSTMParams, state: OriginalLSTMState, noise: Noise | None = None
    ) -> OriginalLSTMGates:
        return recur(params, state, truncated_gradient=self.truncated_gradient)

    def update(
        self, params: OriginalLSTMParams, state: OriginalLSTMState, z: OriginalLSTMGates, noise: Noise | None = None
    ) -> tuple[OriginalLSTMState, Array]:
        return update(params, state, z)

    def read(
        self, params: OriginalLSTMParams, state: OriginalLSTMState, z: OriginalLSTMGates, noise: Noise | None = None
    ) -> tuple[OriginalLSTMState, Array]:
        return read(params, state, z)
