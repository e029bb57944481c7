"""The LSTM with peepholes: Gers & Schmidhuber 2000, "Recurrent Nets that Time and Count".

    i = σ(W_i x + U_i h + p_i c + b_i)        input gate
    f = σ(W_f x + U_f h + p_f c + b_f)        forget gate
    g = φ(W_g x + U_g h + b_g)                candidate
    c' = f c + i g
    o = σ(W_o x + U_o h + p_o c' + b_o)       output gate: it sees the new c
    h' = o φ(c')

A peephole is one weight a cell: p c is elementwise. The functions below are the cell, bare; `PeepholeLSTM` is the
record that carries their options through the engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks, initializers
from jlstm.cells import gates
from jlstm.cells.gates import Activation
from jlstm.types import GATES, Array, Cell, Initializer, Key, Noise, Shape


class PeepholeLSTMParams(NamedTuple):
    """The parameters; None where the option is off.

    w_ih: `[D, 4, H]`, input to hidden.    w_hh: `[H, 4, H]`, hidden to hidden.    p: `[3, H]`, cell to i, f, o.
    b: `[4, H]`.    h0, c0: `[H]`, the learned initial state.
    """

    w_ih: Array
    w_hh: Array
    p: Array
    b: Array | None
    h0: Array | None = None
    c0: Array | None = None


class PeepholeLSTMState(NamedTuple):
    """The state between two steps. h: `[*B, H]`, the compute dtype; c: `[*B, H]`, at least float32."""

    h: Array
    c: Array


class PeepholeLSTMGates(NamedTuple):
    """One array `[*B, H]` a gate, in the order of `jlstm.GATES`."""

    i: Array
    f: Array
    g: Array
    o: Array


assert PeepholeLSTMGates._fields == GATES


def init(
    key: Key,
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float | Initializer = 1.0,
    use_bias: bool = True,
    w_ih_init: Initializer = initializers.GlorotUniform(),
    w_hh_init: Initializer = initializers.Orthogonal(),
    p_init: Initializer = initializers.Constant(0.0),
    learn_initial_state: bool = False,
    param_dtype: Any = "float32",
) -> PeepholeLSTMParams:
    """`PeepholeLSTMParams` for D = `input_size`, H = `hidden_size`; the options are those of `PeepholeLSTM`.

    >>> init(jax.random.key(0), 3, 5).p.shape
    (3, 5)
    """
    checks.key("init", key)
    dtype = checks.float_dtype("init", "param_dtype", param_dtype)
    D, G, H = checks.size("init", "input_size", input_size), len(GATES), checks.size("init", "hidden_size", hidden_size)
    bias = forget_bias if callable(forget_bias) else initializers.ForgetBias(forget_bias)
    k_ih, k_hh, k_b, k_p = jax.random.split(key, 4)
    return PeepholeLSTMParams(
        w_ih=gates.draw("w_ih_init", w_ih_init, k_ih, (D, G, H), dtype),
        w_hh=gates.draw("w_hh_init", w_hh_init, k_hh, (H, G, H), dtype),
        p=gates.draw("p_init", p_init, k_p, (3, H), dtype),
        b=gates.draw("forget_bias", bias, k_b, (G, H), dtype) if use_bias else None,
        h0=jnp.zeros(H, dtype) if learn_initial_state else None,
        c0=jnp.zeros(H, dtype) if learn_initial_state else None,
    )


def initial_state(
    params: PeepholeLSTMParams, batch_shape: Shape = (), *, compute_dtype: Any = None
) -> PeepholeLSTMState:
    """The learned initial state, or zeros, for the batch axes `batch_shape`: h and c `[*B, H]`."""
    checks.instance("initial_state", "params", params, PeepholeLSTMParams)
    batch_shape = checks.batch_shape("initial_state", batch_shape)
    compute, wide = gates.compute_dtypes(compute_dtype, *params)
    H = params.w_hh.shape[0]
    return PeepholeLSTMState(
        h=gates.start(params.h0, H, batch_shape, compute), c=gates.start(params.c0, H, batch_shape, wide)
    )


def project(params: PeepholeLSTMParams, x: Array, *, compute_dtype: Any = None) -> PeepholeLSTMGates:
    """W x by gate, `[*B, H]` each; x `[*B, D]`."""
    compute, _ = gates.compute_dtypes(compute_dtype, x, *params)
    return PeepholeLSTMGates(*gates.project(x, params.w_ih, compute))


def recur(params: PeepholeLSTMParams, state: PeepholeLSTMState) -> PeepholeLSTMGates:
    """U h + b by gate, `[*B, H]` each; the peepholes are `update`'s."""
    return PeepholeLSTMGates(*gates.recur(state.h, params.w_hh, params.b))


def update(
    params: PeepholeLSTMParams,
    state: PeepholeLSTMState,
    z: PeepholeLSTMGates,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[PeepholeLSTMState, Array]:
    """The new state and the output h `[*B, H]`; elementwise.

    i, f, g = σ(z_i + p_i c), σ(z_f + p_f c), φ(z_g);  c' = f c + i g;  then `read`
    """
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    c = state.c
    p_i, p_f, _ = (gates.spread(p, c) for p in gates.ungate(params.p, axis=0))
    i, f, g = σ(z.i + p_i * c), σ(z.f + p_f * c), φ(z.g)
    new = state._replace(c=f * c + i * g)
    return read(params, new, z, activation=activation, gate_activation=gate_activation)


def read(
    params: PeepholeLSTMParams,
    state: PeepholeLSTMState,
    z: PeepholeLSTMGates,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[PeepholeLSTMState, Array]:
    """The state and the output with h made of c: o = σ(z_o + p_o c);  h = o φ(c)."""
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    c = state.c
    *_, p_o = (gates.spread(p, c) for p in gates.ungate(params.p, axis=0))
    h = (σ(z.o + p_o * c) * φ(c)).astype(state.h.dtype)
    return state._replace(h=h), h


def step(
    params: PeepholeLSTMParams,
    state: PeepholeLSTMState,
    x: Array,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    compute_dtype: Any = None,
) -> tuple[PeepholeLSTMState, Array]:
    """One step: `(state, y)` from x `[*B, D]`, without checks; `jlstm.step` is the same with them.

    >>> params = init(jax.random.key(0), 3, 5)
    >>> state, y = step(params, initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 5)
    """
    z = jax.tree.map(jnp.add, project(params, x, compute_dtype=compute_dtype), recur(params, state))
    return update(params, state, z, activation=activation, gate_activation=gate_activation)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class PeepholeLSTM(Cell):
    """An LSTM of H = `hidden_size` cells whose gates see the cells, each its own.

    p_init: the peepholes' initialiser, `[3, H]` for i, f, o. With the default, 0, it begins as an `LSTM`.
    forget_bias: the forget gate's initial bias, or an initialiser of the whole bias `[4, H]`
        (`initializers.Chrono(T)` for memories of T steps).
    activation, gate_activation: φ and σ, names of the table in `jlstm.cells.gates`, or functions.
    w_ih_init, w_hh_init: `(key, shape, dtype) -> array`, each gate a matrix of its own.
    learn_initial_state: h0 and c0 are parameters (initially 0) instead of 0.
    param_dtype: the dtype of `init`'s parameters.
    compute_dtype: the dtype of matmul operands, h and outputs; None is `result_type(x, params)`. z, c and all
        accumulation have at least float32.

    Raises TypeError or ValueError, which name the field.

    It is ONNX's `LSTM` with P (there in the order i, o, f). The gradient is the whole one; the paper's stops at the
    peepholes.

    >>> cell = PeepholeLSTM(5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> cell.initial_state(params, (2,)).h.shape
    (2, 5)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float | Initializer = 1.0
    use_bias: bool = True
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    w_ih_init: Initializer = initializers.GlorotUniform()
    w_hh_init: Initializer = initializers.Orthogonal()
    p_init: Initializer = initializers.Constant(0.0)
    learn_initial_state: bool = False
    param_dtype: Any = dataclasses.field(default="float32", compare=False)
    compute_dtype: Any = dataclasses.field(default=None, compare=False)
    # Compared in place of the two: np.dtype("float64") == None.
    _dtypes: tuple[str, ...] = dataclasses.field(default=(), init=False, repr=False)

    recurrent_params: ClassVar[tuple[str, ...]] = ("w_hh", "p")
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h",), ("c",))

    def __post_init__(self) -> None:
        gates.check_fields(self, p_init=checks.function)

    def init(self, key: Key, input_size: int) -> PeepholeLSTMParams:
        checks.enabled("PeepholeLSTM", self)
        return init(
            key,
            checks.size("PeepholeLSTM.init", "input_size", input_size),
            self.hidden_size,
            forget_bias=self.forget_bias,
            use_bias=self.use_bias,
            w_ih_init=self.w_ih_init,
            w_hh_init=self.w_hh_init,
            p_init=self.p_init,
            learn_initial_state=self.learn_initial_state,
            param_dtype=self.param_dtype,
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: PeepholeLSTMParams, batch_shape: Shape = ()) -> PeepholeLSTMState:
        where, H = "PeepholeLSTM.initial_state", self.hidden_size
        checks.instance(where, "params", params, PeepholeLSTMParams)
        checks.shape(where, "params.w_hh", params.w_hh, (H, len(GATES), H))
        return initial_state(params, batch_shape, compute_dtype=self.compute_dtype)

    def project(self, params: PeepholeLSTMParams, x: Array, noise: Noise | None = None) -> PeepholeLSTMGates:
        return project(params, x, compute_dtype=self.compute_dtype)

    def recur(
        self, params: PeepholeLSTMParams, state: PeepholeLSTMState, noise: Noise | None = None
    ) -> PeepholeLSTMGates:
        return recur(params, state)

    def fused(self, params: PeepholeLSTMParams) -> Callable[[PeepholeLSTMState, Array], PeepholeLSTMGates]:
        return gates.fused(params, PeepholeLSTMGates)

    def update(
        self, params: PeepholeLSTMParams, state: PeepholeLSTMState, z: PeepholeLSTMGates, noise: Noise | None = None
    ) -> tuple[PeepholeLSTMState, Array]:
        return update(params, state, z, activation=self.activation, gate_activation=self.gate_activation)

    def read(
        self, params: PeepholeLSTMParams, state: PeepholeLSTMState, z: PeepholeLSTMGates, noise: Noise | None = None
    ) -> tuple[PeepholeLSTMState, Array]:
        return read(params, state, z, activation=self.activation, gate_activation=self.gate_activation)
