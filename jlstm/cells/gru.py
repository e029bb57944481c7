"""The gated recurrent unit: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder".

    r = σ(W_r x + U_r h + b_r)                        reset gate, eq. 5
    z = σ(W_z x + U_z h + b_z)                        update gate, eq. 6
    n = φ(W_n x + b_n + r (U_n h + d_n))              candidate, `reset_after`
    n = φ(W_n x + b_n + U_n (r h))                    candidate, eq. 8: without `reset_after`
    h' = (1 - z) n + z h                              eq. 7

With `reset_after` the three products with h are one matmul. The functions below are the cell, bare; `GRU` is the record
that carries their options through the engine.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks, initializers
from jlstm.cells import gates
from jlstm.cells.gates import Activation
from jlstm.types import Array, Cell, Initializer, Key, Noise, Shape


class GRUParams(NamedTuple):
    """The parameters, gates in the order r, z, n; None where the option is off.

    w_ih: `[D, 3, H]`, input to hidden.    w_hh: `[H, 3, H]`, hidden to hidden.
    b: `[4, H]`, b_r, b_z, b_n and d_n; `[3, H]` without `reset_after`.    h0: `[H]`, the learned initial state.
    """

    w_ih: Array
    w_hh: Array
    b: Array | None
    h0: Array | None = None


class GRUState(NamedTuple):
    """The state between two steps. h: `[*B, H]`, the compute dtype."""

    h: Array


class GRUGates(NamedTuple):
    """One array `[*B, H]` a gate. n_h: U_n h + d_n, which r scales; None without `reset_after`."""

    r: Array
    z: Array
    n: Array
    n_h: Array | None


WEIGHTS = GRUGates._fields[:3]
"""The order of the weights' gate axis."""


def init(
    key: Key,
    input_size: int,
    hidden_size: int,
    *,
    reset_after: bool = True,
    update_bias: float | Initializer = 0.0,
    use_bias: bool = True,
    w_ih_init: Initializer = initializers.GlorotUniform(),
    w_hh_init: Initializer = initializers.Orthogonal(),
    learn_initial_state: bool = False,
    param_dtype: Any = "float32",
) -> GRUParams:
    """`GRUParams` for D = `input_size`, H = `hidden_size`; the options are those of `GRU`.

    >>> init(jax.random.key(0), 3, 5).w_ih.shape
    (3, 3, 5)
    """
    checks.key("init", key)
    dtype = checks.float_dtype("init", "param_dtype", param_dtype)
    D, H = checks.size("init", "input_size", input_size), checks.size("init", "hidden_size", hidden_size)
    G, rows = len(WEIGHTS), len(GRUGates._fields) if reset_after else len(WEIGHTS)

    def constant(key: Key, shape: Shape, dtype: Any) -> Array:
        value = checks.number("init", "update_bias", update_bias)
        return jnp.zeros(shape, dtype).at[WEIGHTS.index("z")].set(value)

    bias = update_bias if callable(update_bias) else constant
    k_ih, k_hh, k_b = jax.random.split(key, 3)
    return GRUParams(
        w_ih=gates.draw("w_ih_init", w_ih_init, k_ih, (D, G, H), dtype),
        w_hh=gates.draw("w_hh_init", w_hh_init, k_hh, (H, G, H), dtype),
        b=gates.draw("update_bias", bias, k_b, (rows, H), dtype) if use_bias else None,
        h0=jnp.zeros(H, dtype) if learn_initial_state else None,
    )


def initial_state(params: GRUParams, batch_shape: Shape = (), *, compute_dtype: Any = None) -> GRUState:
    """The learned initial state, or zeros, for the batch axes `batch_shape`: h `[*B, H]`."""
    checks.instance("initial_state", "params", params, GRUParams)
    batch_shape = checks.batch_shape("initial_state", batch_shape)
    compute, _ = gates.compute_dtypes(compute_dtype, *params)
    return GRUState(gates.start(params.h0, params.w_hh.shape[0], batch_shape, compute))


def project(params: GRUParams, x: Array, *, reset_after: bool = True, compute_dtype: Any = None) -> GRUGates:
    """W x by gate, `[*B, H]` each, and 0 for n_h; x `[*B, D]`."""
    compute, _ = gates.compute_dtypes(compute_dtype, x, *params)
    if reset_after:
        return GRUGates(*gates.project(x, params.w_ih, compute, absent=GRUGates._fields.index("n_h")))
    return GRUGates(*gates.project(x, params.w_ih, compute), n_h=None)


def recur(params: GRUParams, state: GRUState, *, reset_after: bool = True) -> GRUGates:
    """The biases, and U h by gate, `[*B, H]` each; without `reset_after` U_n is `update`'s."""
    n = GRUGates._fields.index("n")
    if reset_after:
        return GRUGates(*gates.recur(state.h, params.w_hh, params.b, absent=n))
    return GRUGates(*gates.recur(state.h, _split(params.w_hh)[0], params.b, absent=n), n_h=None)


def _split(w: Array) -> tuple[Array, Array]:
    """U of the gates r and z `[H, 2, H]`, and U_n `[H, H]`."""
    w_gates, w_n = jax.lax.split(w, (2, 1), axis=1)
    return w_gates, jax.lax.squeeze(w_n, (1,))


def update(
    params: GRUParams,
    state: GRUState,
    z: GRUGates,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
) -> tuple[GRUState, Array]:
    """The new state and the output h `[*B, H]`; elementwise where z has n_h.

    r, z = σ(z_r), σ(z_z);  n = φ(z_n + r n_h), or φ(z_n + U_n (r h));  h' = (1 - z) n + z h
    """
    h, compute = state.h.astype(z.r.dtype), state.h.dtype
    if z.n_h is None:
        φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
        w_n = _split(params.w_hh)[1]
        n = φ(z.n + gates.product((σ(z.r) * h).astype(compute), w_n.astype(compute)))
        h = _mix(σ(z.z), n, h)
    else:
        # A function of one's own need not be elementwise, and then has no slope.
        named = isinstance(activation, str) and isinstance(gate_activation, str)
        h = (_update if named else _equations)(activation, gate_activation, h, z)
    h = h.astype(compute)
    return GRUState(h), h


def _mix(z: Array, n: Array, h: Array) -> Array:
    return (1.0 - z) * n + z * h


def _equations(activation: Activation, gate_activation: Activation, h: Array, pre: Any) -> Array:
    """h' from the pre-activations, with n_h."""
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    return _mix(σ(pre.z), φ(pre.n + σ(pre.r) * pre.n_h), h)


_update = jax.custom_jvp(_equations, nondiff_argnums=(0, 1))


@_update.defjvp
def _update_jvp(activation: Activation, gate_activation: Activation, primals: Any, tangents: Any) -> Any:
    """The same equations, differentiated by hand: five coefficients a step are all that reverse mode has to keep."""
    φ, σ = gates.activation_function(activation), gates.activation_function(gate_activation)
    (h, pre), (δh, δpre) = primals, tangents
    (r, dr), (z, dz) = gates.slope(σ, pre.r), gates.slope(σ, pre.z)
    n, dn = gates.slope(φ, pre.n + r * pre.n_h)
    to_n = (1.0 - z) * dn
    δn = to_n * δpre.n + (to_n * r) * δpre.n_h + (to_n * pre.n_h * dr) * δpre.r
    return _mix(z, n, h), δn + ((h - n) * dz) * δpre.z + z * δh


def step(
    params: GRUParams,
    state: GRUState,
    x: Array,
    *,
    reset_after: bool = True,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    compute_dtype: Any = None,
) -> tuple[GRUState, Array]:
    """One step: `(state, y)` from x `[*B, D]`, without checks; `jlstm.step` is the same with them.

    >>> params = init(jax.random.key(0), 3, 5)
    >>> state, y = step(params, initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 5)
    """
    projected = project(params, x, reset_after=reset_after, compute_dtype=compute_dtype)
    z = jax.tree.map(jnp.add, projected, recur(params, state, reset_after=reset_after))
    return update(params, state, z, activation=activation, gate_activation=gate_activation)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class GRU(Cell):
    """A layer of H = `hidden_size` gated recurrent units.

    reset_after: the reset gate scales U_n h + d_n, as in torch and in Keras by default; without it h, as in the paper
        and in Keras's `reset_after=False`.
    update_bias: the update gate's initial bias (above 0 it begins by keeping h), or an initialiser of the whole bias,
        `[4, H]` for r, z, n and d_n, `[3, H]` without `reset_after`.
    activation, gate_activation: φ and σ, names of the table in `jlstm.cells.gates`, or functions.
    w_ih_init, w_hh_init: `(key, shape, dtype) -> array`, each gate a matrix of its own.
    learn_initial_state: h0 is a parameter (initially 0) instead of 0.
    param_dtype: the dtype of `init`'s parameters.
    compute_dtype: the dtype of matmul operands, h and outputs; None is `result_type(x, params)`. z and all accumulation
        have at least float32. A GRU remembers in h alone: in 16 bits what it adds to h over many steps is rounded away.

    Raises TypeError or ValueError, which name the field.

    Differs from torch (two biases a gate; those of r and z add) and from Keras (order z, r, h; two biases; one
    orthogonal matrix over all gates). The paper has no biases.

    >>> cell = GRU(5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> cell.initial_state(params, (2,)).h.shape
    (2, 5)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    reset_after: bool = True
    update_bias: float | Initializer = 0.0
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
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h",),)

    def __post_init__(self) -> None:
        gates.check_fields(self, reset_after=checks.boolean, update_bias=checks.number_or_callable)

    def init(self, key: Key, input_size: int) -> GRUParams:
        checks.enabled("GRU", self)
        return init(
            key,
            checks.size("GRU.init", "input_size", input_size),
            self.hidden_size,
            reset_after=self.reset_after,
            update_bias=self.update_bias,
            use_bias=self.use_bias,
            w_ih_init=self.w_ih_init,
            w_hh_init=self.w_hh_init,
            learn_initial_state=self.learn_initial_state,
            param_dtype=self.param_dtype,
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: GRUParams, batch_shape: Shape = ()) -> GRUState:
        where, H = "GRU.initial_state", self.hidden_size
        checks.instance(where, "params", params, GRUParams)
        checks.shape(where, "params.w_hh", params.w_hh, (H, len(WEIGHTS), H))
        return initial_state(params, batch_shape, compute_dtype=self.compute_dtype)

    def project(self, params: GRUParams, x: Array, noise: Noise | None = None) -> GRUGates:
        return project(params, x, reset_after=self.reset_after, compute_dtype=self.compute_dtype)

    def recur(self, params: GRUParams, state: GRUState, noise: Noise | None = None) -> GRUGates:
        return recur(params, state, reset_after=self.reset_after)

    def update(
        self, params: GRUParams, state: GRUState, z: GRUGates, noise: Noise | None = None
    ) -> tuple[GRUState, Array]:
        return update(params, state, z, activation=self.activation, gate_activation=self.gate_activation)
