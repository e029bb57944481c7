"""The LSTM with coupled input and forget gates, CIFG: Greff et al. 2017, "LSTM: A Search Space Odyssey".

    i = σ(W_i x + U_i h + b_i)        input gate
    g = φ(W_g x + U_g h + b_g)        candidate
    o = σ(W_o x + U_o h + b_o)        output gate
    c' = (1 - i) c + i g              f = 1 - i: what is written replaces as much of what was there
    h' = o φ(c')

The functions below are the cell, bare; `CoupledLSTM` is the record that carries their options through the engine.
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


class CoupledLSTMParams(NamedTuple):
    """The parameters; None where the option is off.

    w_ih: `[D, 3, H]`, input to hidden.    w_hh: `[H, 3, H]`, hidden to hidden.    b: `[3, H]`.
    h0, c0: `[H]`, the learned initial state.
    """

    w_ih: Array
    w_hh: Array
    b: Array | None
    h0: Array | None = None
    c0: Array | None = None


class CoupledLSTMState(NamedTuple):
    """The state between two steps. h: `[*B, H]`, the compute dtype; c: `[*B, H]`, at least float32."""

    h: Array
    c: Array


class CoupledLSTMGates(NamedTuple):
    """One array `[*B, H]` a gate: in the order of `jlstm.GATES`, without f."""

    i: Array
    g: Array
    o: Array


assert CoupledLSTMGates._fields == tuple(gate for gate in GATES if gate != "f")


def init(
    key: Key,
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float | Initializer = 1.0,
    use_bias: bool = True,
    w_ih_init: Initializer = initializers.GlorotUniform(),
    w_hh_init: Initializer = initializers.Orthogonal(),
    learn_initial_state: bool = False,
    param_dtype: Any = "float32",
) -> CoupledLSTMParams:
    """`CoupledLSTMParams` for D = `input_size`, H = `hidden_size`; the options are those of `CoupledLSTM`.

    >>> init(jax.random.key(0), 3, 5).w_ih.shape
    (3, 3, 5)
    """
    checks.key("init", key)
    dtype = checks.float_dtype("init", "param_dtype", param_dtype)
    D, H = checks.size("init", "input_size", input_size), checks.size("init", "hidden_size", hidden_size)
    G = len(CoupledLSTMGates._fields)
    bias = forget_bias if callable(forget_bias) else initializers.ForgetBias(forget_bias)
    k_ih, k_hh, k_b = jax.random.split(key, 3)
    return CoupledLSTMParams(
        w_ih=gates.draw("w_ih_init", w_ih_init, k_ih, (D, G, H), dtype),
        w_hh=gates.draw("w_hh_init", w_hh_init, k_hh, (H, G, H), dtype),
        b=_coupled(gates.draw("forget_bias", bias, k_b, (len(GATES), H), dtype)) if use_bias else None,
        h0=jnp.zeros(H, dtype) if learn_initial_state else None,
        c0=jnp.zeros(H, dtype) if learn_initial_state else None,
    )


def _coupled(b: Array) -> Array:
    """An LSTM's bias `[4, H]` as `[3, H]`: f = 1 - i, so that i's is minus f's."""
    bias = dict(zip(GATES, gates.ungate(b, axis=0), strict=True))
    return jnp.stack([-bias["f"], bias["g"], bias["o"]])


def initial_state(params: CoupledLSTMParams, batch_shape: Shape = (), *, compute_dtype: Any = None) -> CoupledLSTMState:
    """The learned initial state, or zeros, for the batch axes `batch_shape`: h and c `[*B, H]`."""
    checks.instance("initial_state", "params", params, CoupledLSTMParams)
    batch_shape = checks.batch_shape("initial_state", batch_shape)
    compute, wide = gates.compute_dtypes(compute_dtype, *params)
    H = params.w_hh.shape[0]
    return CoupledLSTMState(
        h=gates.start(params.h0, H, batch_shape, compute), c=gates.start(params.c0, H, batch_shape, wide)
    )


def project(params: CoupledLSTMParams, x: Array, *, compute_dtype: Any = None) -> CoupledLSTMGates:
    """W x by gate, `[*B, H]` each; x `[*B, D]`."""
    compute, _ = gates.compute_dtypes(compute_dtype, x, *params)
    return CoupledLSTMGates(*gates.project(x, params.w_ih, compute))


def recur(params: CoupledLSTMParams, state: CoupledLSTMState) -> CoupledLSTMGates:
    """U h + b by gate, `[*B, H]` each."""
    return CoupledLSTMGates(*gates.recur(state.h, params.w_hh, params.b))


def update(
    params: CoupledLSTMParams,
    state: CoupledLSTMState,
    z: CoupledLSTMGates,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[CoupledLSTMState, Array]:
    """The new state and the output h `[*B, H]`; elementwise.

    i, g = σ(z_i), φ(z_g);  c' = (1 - i) c + i g;  then `read`
    """
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    i, g = σ(z.i), φ(z.g)
    new = state._replace(c=(1.0 - i) * state.c + i * g)
    return read(params, new, z, activation=activation, gate_activation=gate_activation)


def read(
    params: CoupledLSTMParams,
    state: CoupledLSTMState,
    z: CoupledLSTMGates,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[CoupledLSTMState, Array]:
    """The state and the output with h made of c: o = σ(z_o);  h = o φ(c)."""
    del params
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    h = (σ(z.o) * φ(state.c)).astype(state.h.dtype)
    return state._replace(h=h), h


def step(
    params: CoupledLSTMParams,
    state: CoupledLSTMState,
    x: Array,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    compute_dtype: Any = None,
) -> tuple[CoupledLSTMState, Array]:
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
class CoupledLSTM(Cell):
    """An LSTM of H = `hidden_size` cells whose forget gate is 1 - i: three quarters of the parameters.

    forget_bias: the forget gate's initial bias, or an initialiser of an `LSTM`'s whole bias `[4, H]`
        (`initializers.Chrono(T)` for memories of T steps). f = 1 - σ(z_i) = σ(-z_i): i's bias is minus f's.
    activation, gate_activation: φ and σ, names of the table in `jlstm.cells.gates`, or functions.
    w_ih_init, w_hh_init: `(key, shape, dtype) -> array`, each gate a matrix of its own.
    learn_initial_state: h0 and c0 are parameters (initially 0) instead of 0.
    param_dtype: the dtype of `init`'s parameters.
    compute_dtype: the dtype of matmul operands, h and outputs; None is `result_type(x, params)`. z, c and all
        accumulation have at least float32.

    Raises TypeError or ValueError, which name the field.

    It is ONNX's `LSTM` with `input_forget=1`. The paper's cell has peepholes, too.

    >>> cell = CoupledLSTM(5)
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
    learn_initial_state: bool = False
    param_dtype: Any = dataclasses.field(default="float32", compare=False)
    compute_dtype: Any = dataclasses.field(default=None, compare=False)
    # Compared in place of the two: np.dtype("float64") == None.
    _dtypes: tuple[str, ...] = dataclasses.field(default=(), init=False, repr=False)

    recurrent_params: ClassVar[tuple[str, ...]] = ("w_hh",)
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h",), ("c",))

    def __post_init__(self) -> None:
        gates.check_fields(self)

    def init(self, key: Key, input_size: int) -> CoupledLSTMParams:
        checks.enabled("CoupledLSTM", self)
        return init(
            key,
            checks.size("CoupledLSTM.init", "input_size", input_size),
            self.hidden_size,
            forget_bias=self.forget_bias,
            use_bias=self.use_bias,
            w_ih_init=self.w_ih_init,
            w_hh_init=self.w_hh_init,
            learn_initial_state=self.learn_initial_state,
            param_dtype=self.param_dtype,
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: CoupledLSTMParams, batch_shape: Shape = ()) -> CoupledLSTMState:
        where, H = "CoupledLSTM.initial_state", self.hidden_size
        checks.instance(where, "params", params, CoupledLSTMParams)
        checks.shape(where, "params.w_hh", params.w_hh, (H, len(CoupledLSTMGates._fields), H))
        return initial_state(params, batch_shape, compute_dtype=self.compute_dtype)

    def project(self, params: CoupledLSTMParams, x: Array, noise: Noise | None = None) -> CoupledLSTMGates:
        return project(params, x, compute_dtype=self.compute_dtype)

    def recur(self, params: CoupledLSTMParams, state: CoupledLSTMState, noise: Noise | None = None) -> CoupledLSTMGates:
        return recur(params, state)

    def fused(self, params: CoupledLSTMParams) -> Callable[[CoupledLSTMState, Array], CoupledLSTMGates]:
        return gates.fused(params, CoupledLSTMGates)

    def update(
        self, params: CoupledLSTMParams, state: CoupledLSTMState, z: CoupledLSTMGates, noise: Noise | None = None
    ) -> tuple[CoupledLSTMState, Array]:
        return update(params, state, z, activation=self.activation, gate_activation=self.gate_activation)

    def read(
        self, params: CoupledLSTMParams, state: CoupledLSTMState, z: CoupledLSTMGates, noise: Noise | None = None
    ) -> tuple[CoupledLSTMState, Array]:
        return read(params, state, z, activation=self.activation, gate_activation=self.gate_activation)
