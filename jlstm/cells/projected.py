"""The LSTM with a recurrent projection, LSTMP: Sak, Senior & Beaufays 2014, "Long Short-Term Memory Recurrent Neural
Network Architectures for Large Scale Acoustic Modeling".

    i = σ(W_i x + U_i h + b_i)        input gate
    f = σ(W_f x + U_f h + b_f)        forget gate
    g = φ(W_g x + U_g h + b_g)        candidate
    o = σ(W_o x + U_o h + b_o)        output gate
    c' = f c + i g
    h' = V (o φ(c'))                  H cells seen by the next step, and by the next layer, as P features

The functions below are the cell, bare; `ProjectedLSTM` is the record that carries their options through the engine.
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


class ProjectedLSTMParams(NamedTuple):
    """The parameters; None where the option is off.

    w_ih: `[D, 4, H]`, input to hidden.    w_hh: `[P, 4, H]`, hidden to hidden.    w_hr: `[H, P]`, the projection V.
    b: `[4, H]`.    h0: `[P]`, c0: `[H]`, the learned initial state.
    """

    w_ih: Array
    w_hh: Array
    w_hr: Array
    b: Array | None
    h0: Array | None = None
    c0: Array | None = None


class ProjectedLSTMState(NamedTuple):
    """The state between two steps. h: `[*B, P]`, the compute dtype; c: `[*B, H]`, at least float32."""

    h: Array
    c: Array


class ProjectedLSTMGates(NamedTuple):
    """One array `[*B, H]` a gate, in the order of `jlstm.GATES`."""

    i: Array
    f: Array
    g: Array
    o: Array


assert ProjectedLSTMGates._fields == GATES


def init(
    key: Key,
    input_size: int,
    hidden_size: int,
    projected_size: int,
    *,
    forget_bias: float | Initializer = 1.0,
    use_bias: bool = True,
    w_ih_init: Initializer = initializers.GlorotUniform(),
    w_hh_init: Initializer = initializers.Orthogonal(),
    w_hr_init: Initializer = initializers.GlorotUniform(),
    learn_initial_state: bool = False,
    param_dtype: Any = "float32",
) -> ProjectedLSTMParams:
    """`ProjectedLSTMParams` for D = `input_size`, H = `hidden_size`, P = `projected_size`.

    The options are those of `ProjectedLSTM`.

    >>> init(jax.random.key(0), 3, 5, 2).w_hh.shape
    (2, 4, 5)
    """
    checks.key("init", key)
    dtype = checks.float_dtype("init", "param_dtype", param_dtype)
    D, G, H = checks.size("init", "input_size", input_size), len(GATES), checks.size("init", "hidden_size", hidden_size)
    P = checks.size("init", "projected_size", projected_size)
    bias = forget_bias if callable(forget_bias) else initializers.ForgetBias(forget_bias)
    k_ih, k_hh, k_b, k_hr = jax.random.split(key, 4)
    return ProjectedLSTMParams(
        w_ih=gates.draw("w_ih_init", w_ih_init, k_ih, (D, G, H), dtype),
        w_hh=gates.draw("w_hh_init", w_hh_init, k_hh, (P, G, H), dtype),
        w_hr=gates.draw("w_hr_init", w_hr_init, k_hr, (H, P), dtype),
        b=gates.draw("forget_bias", bias, k_b, (G, H), dtype) if use_bias else None,
        h0=jnp.zeros(P, dtype) if learn_initial_state else None,
        c0=jnp.zeros(H, dtype) if learn_initial_state else None,
    )


def initial_state(
    params: ProjectedLSTMParams, batch_shape: Shape = (), *, compute_dtype: Any = None
) -> ProjectedLSTMState:
    """The learned initial state, or zeros, for the batch axes `batch_shape`: h `[*B, P]` and c `[*B, H]`."""
    checks.instance("initial_state", "params", params, ProjectedLSTMParams)
    batch_shape = checks.batch_shape("initial_state", batch_shape)
    compute, wide = gates.compute_dtypes(compute_dtype, *params)
    H, P = params.w_hr.shape
    return ProjectedLSTMState(
        h=gates.start(params.h0, P, batch_shape, compute), c=gates.start(params.c0, H, batch_shape, wide)
    )


def project(params: ProjectedLSTMParams, x: Array, *, compute_dtype: Any = None) -> ProjectedLSTMGates:
    """W x by gate, `[*B, H]` each; x `[*B, D]`."""
    compute, _ = gates.compute_dtypes(compute_dtype, x, *params)
    return ProjectedLSTMGates(*gates.project(x, params.w_ih, compute))


def recur(params: ProjectedLSTMParams, state: ProjectedLSTMState) -> ProjectedLSTMGates:
    """U h + b by gate, `[*B, H]` each."""
    return ProjectedLSTMGates(*gates.recur(state.h, params.w_hh, params.b))


def update(
    params: ProjectedLSTMParams,
    state: ProjectedLSTMState,
    z: ProjectedLSTMGates,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[ProjectedLSTMState, Array]:
    """The new state and the output h `[*B, P]`; V is a matmul.

    i, f, g = σ(z_i), σ(z_f), φ(z_g);  c' = f c + i g;  then `read`
    """
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    i, f, g = σ(z.i), σ(z.f), φ(z.g)
    new = state._replace(c=f * state.c + i * g)
    return read(params, new, z, activation=activation, gate_activation=gate_activation)


def read(
    params: ProjectedLSTMParams,
    state: ProjectedLSTMState,
    z: ProjectedLSTMGates,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[ProjectedLSTMState, Array]:
    """The state and the output with h made of c: o = σ(z_o);  h = V (o φ(c))."""
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    compute = state.h.dtype
    m = (σ(z.o) * φ(state.c)).astype(compute)
    h = gates.product(m, params.w_hr.astype(compute)).astype(compute)
    return state._replace(h=h), h


def step(
    params: ProjectedLSTMParams,
    state: ProjectedLSTMState,
    x: Array,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    compute_dtype: Any = None,
) -> tuple[ProjectedLSTMState, Array]:
    """One step: `(state, y)` from x `[*B, D]`, without checks; `jlstm.step` is the same with them.

    >>> params = init(jax.random.key(0), 3, 5, 2)
    >>> state, y = step(params, initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 2)
    """
    z = jax.tree.map(jnp.add, project(params, x, compute_dtype=compute_dtype), recur(params, state))
    return update(params, state, z, activation=activation, gate_activation=gate_activation)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ProjectedLSTM(Cell):
    """An LSTM of H = `hidden_size` cells whose h has P = `projected_size` features: many cells, small weights.

    forget_bias: the forget gate's initial bias, or an initialiser of the whole bias `[4, H]`
        (`initializers.Chrono(T)` for memories of T steps).
    activation, gate_activation: φ and σ, names of the table in `jlstm.cells.gates`, or functions.
    w_ih_init, w_hh_init: `(key, shape, dtype) -> array`, each gate a matrix of its own.
    w_hr_init: that of the projection `[H, P]`.
    learn_initial_state: h0 and c0 are parameters (initially 0) instead of 0.
    param_dtype: the dtype of `init`'s parameters.
    compute_dtype: the dtype of matmul operands, h and outputs; None is `result_type(x, params)`. z, c and all
        accumulation have at least float32.

    Raises TypeError or ValueError, which name the field.

    It is torch's `LSTM` with `proj_size`. The paper's cell has peepholes and a second, non-recurrent projection, too.

    >>> cell = ProjectedLSTM(5, 2)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> cell.initial_state(params, (2,)).h.shape
    (2, 2)
    """

    hidden_size: int
    projected_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float | Initializer = 1.0
    use_bias: bool = True
    activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"
    w_ih_init: Initializer = initializers.GlorotUniform()
    w_hh_init: Initializer = initializers.Orthogonal()
    w_hr_init: Initializer = initializers.GlorotUniform()
    learn_initial_state: bool = False
    param_dtype: Any = dataclasses.field(default="float32", compare=False)
    compute_dtype: Any = dataclasses.field(default=None, compare=False)
    # Compared in place of the two: np.dtype("float64") == None.
    _dtypes: tuple[str, ...] = dataclasses.field(default=(), init=False, repr=False)

    recurrent_params: ClassVar[tuple[str, ...]] = ("w_hh",)
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h",), ("c",))

    def __post_init__(self) -> None:
        gates.check_fields(self, projected_size=checks.size, w_hr_init=checks.function)

    def init(self, key: Key, input_size: int) -> ProjectedLSTMParams:
        checks.enabled("ProjectedLSTM", self)
        return init(
            key,
            checks.size("ProjectedLSTM.init", "input_size", input_size),
            self.hidden_size,
            self.projected_size,
            forget_bias=self.forget_bias,
            use_bias=self.use_bias,
            w_ih_init=self.w_ih_init,
            w_hh_init=self.w_hh_init,
            w_hr_init=self.w_hr_init,
            learn_initial_state=self.learn_initial_state,
            param_dtype=self.param_dtype,
        )

    def output_size(self, input_size: int) -> int:
        return self.projected_size

    def initial_state(self, params: ProjectedLSTMParams, batch_shape: Shape = ()) -> ProjectedLSTMState:
        where, H, P = "ProjectedLSTM.initial_state", self.hidden_size, self.projected_size
        checks.instance(where, "params", params, ProjectedLSTMParams)
        checks.shape(where, "params.w_hh", params.w_hh, (P, len(GATES), H))
        checks.shape(where, "params.w_hr", params.w_hr, (H, P))
        return initial_state(params, batch_shape, compute_dtype=self.compute_dtype)

    def project(self, params: ProjectedLSTMParams, x: Array, noise: Noise | None = None) -> ProjectedLSTMGates:
        return project(params, x, compute_dtype=self.compute_dtype)

    def recur(
        self, params: ProjectedLSTMParams, state: ProjectedLSTMState, noise: Noise | None = None
    ) -> ProjectedLSTMGates:
        return recur(params, state)

    def fused(self, params: ProjectedLSTMParams) -> Callable[[ProjectedLSTMState, Array], ProjectedLSTMGates]:
        return gates.fused(params, ProjectedLSTMGates)

    def update(
        self, params: ProjectedLSTMParams, state: ProjectedLSTMState, z: ProjectedLSTMGates, noise: Noise | None = None
    ) -> tuple[ProjectedLSTMState, Array]:
        return update(params, state, z, activation=self.activation, gate_activation=self.gate_activation)

    def read(
        self, params: ProjectedLSTMParams, state: ProjectedLSTMState, z: ProjectedLSTMGates, noise: Noise | None = None
    ) -> tuple[ProjectedLSTMState, Array]:
        return read(params, state, z, activation=self.activation, gate_activation=self.gate_activation)
