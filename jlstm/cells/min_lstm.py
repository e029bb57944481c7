"""The minLSTM: Feng et al. 2024, "Were RNNs All We Needed?", section 3.2.

    i = σ(W_i x + b_i)                input gate
    f = σ(W_f x + b_f)                forget gate
    g = φ(W_g x + b_g)                candidate, φ(x) = x
    f', i' = f/(f+i), i/(f+i)         normalised gates
    c' = f' c + i' g
    h' = c'

No gate sees the state, so that all but the last two lines is done for all steps at once, and those are a linear
recurrence, which the backend "associative" solves in O(log T) steps. The paper calls c h; here h is c in the compute
dtype, as everywhere.
The functions below are the cell, bare; `MinLSTM` is the record that carries their options through the engine.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks, initializers
from jlstm.cells import gates
from jlstm.cells.gates import Activation
from jlstm.types import GATES, Array, Cell, Initializer, Key, Noise, Shape


class MinLSTMParams(NamedTuple):
    """The parameters; None where the option is off. The gates are i, f, g.

    w_ih: `[D, 3, H]`.    b: `[3, H]`.    c0: `[H]`, the learned initial state.
    """

    w_ih: Array
    b: Array | None
    c0: Array | None = None


class MinLSTMState(NamedTuple):
    """The state between two steps, which is c: `[*B, H]`, at least float32. h: `[*B, H]`, c in the compute dtype."""

    h: Array
    c: Array


class MinLSTMGates(NamedTuple):
    """What is done for all steps at once, `[*B, H]` each: c' = keep c + add.

    keep: f'.    add: i' g.
    """

    keep: Array
    add: Array


MIN_GATES = GATES[:3]
assert MIN_GATES == ("i", "f", "g")


def init(
    key: Key,
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float | Initializer = 1.0,
    use_bias: bool = True,
    w_ih_init: Initializer = initializers.GlorotUniform(),
    learn_initial_state: bool = False,
    param_dtype: Any = "float32",
) -> MinLSTMParams:
    """`MinLSTMParams` for D = `input_size`, H = `hidden_size`; the options are those of `MinLSTM`.

    >>> init(jax.random.key(0), 3, 5).w_ih.shape
    (3, 3, 5)
    """
    checks.key("init", key)
    dtype = checks.float_dtype("init", "param_dtype", param_dtype)
    D, H = checks.size("init", "input_size", input_size), checks.size("init", "hidden_size", hidden_size)
    bias = forget_bias if callable(forget_bias) else initializers.ForgetBias(forget_bias)
    G, (k_ih, k_b) = len(MIN_GATES), jax.random.split(key)
    return MinLSTMParams(
        w_ih=gates.draw("w_ih_init", w_ih_init, k_ih, (D, G, H), dtype),
        # Initialisers of biases have four gates.
        b=gates.draw("forget_bias", bias, k_b, (len(GATES), H), dtype)[:G] if use_bias else None,
        c0=jnp.zeros(H, dtype) if learn_initial_state else None,
    )


def initial_state(params: MinLSTMParams, batch_shape: Shape = (), *, compute_dtype: Any = None) -> MinLSTMState:
    """The learned initial state, or zeros, for the batch axes `batch_shape`: h and c `[*B, H]`."""
    checks.instance("initial_state", "params", params, MinLSTMParams)
    batch_shape = checks.batch_shape("initial_state", batch_shape)
    compute, wide = gates.compute_dtypes(compute_dtype, *params)
    H = params.w_ih.shape[-1]
    return MinLSTMState(gates.start(params.c0, H, batch_shape, compute), gates.start(params.c0, H, batch_shape, wide))


def project(
    params: MinLSTMParams, x: Array, *, activation: Activation = "linear", compute_dtype: Any = None
) -> MinLSTMGates:
    """f' and i' g, `[*B, H]` each; x `[*B, D]`.

    f' = f/(f+i) = σ(log f - log i), which has no 0/0 where both gates are shut, and i' = 1 - f' = σ(log i - log f).
    """
    compute, _ = gates.compute_dtypes(compute_dtype, x, *params)
    z = gates.project(x, params.w_ih, compute)
    if params.b is not None:
        b = jnp.expand_dims(params.b.astype(z[0].dtype), range(x.ndim - 1))
        z = [z_g + b_g for z_g, b_g in zip(z, gates.ungate(b, axis=-2), strict=True)]
    i, f, g = z
    ratio = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
    φ = gates.activation_function(activation)
    return MinLSTMGates(jax.nn.sigmoid(ratio), jax.nn.sigmoid(-ratio) * φ(g))


def recur(params: MinLSTMParams, state: MinLSTMState) -> None:
    """Nothing: no gate sees the state."""
    return


def update(params: MinLSTMParams, state: MinLSTMState, z: MinLSTMGates) -> tuple[MinLSTMState, Array]:
    """The new state and the output h `[*B, H]`; elementwise.

    c' = f' c + i' g;  h' = c'
    """
    del params
    c = z.keep * state.c + z.add
    h = c.astype(state.h.dtype)
    return MinLSTMState(h, c), h


def step(
    params: MinLSTMParams,
    state: MinLSTMState,
    x: Array,
    *,
    activation: Activation = "linear",
    compute_dtype: Any = None,
) -> tuple[MinLSTMState, Array]:
    """One step: `(state, y)` from x `[*B, D]`, without checks; `jlstm.step` is the same with them.

    >>> params = init(jax.random.key(0), 3, 5)
    >>> state, y = step(params, initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 5)
    """
    return update(params, state, project(params, x, activation=activation, compute_dtype=compute_dtype))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class MinLSTM(Cell):
    """A minLSTM of H = `hidden_size` cells.

    activation: φ, of the candidate.
    forget_bias: the forget gate's initial bias, or an initialiser of a bias `[4, H]`, whose last gate is left out.
    learn_initial_state: c0 is a parameter (initially 0) instead of 0.
    The other fields are those of `jlstm.LSTM`; gates are sigmoids, for the closed form of f/(f+i).

    Raises TypeError or ValueError, which name the field.

    Differs from the paper's log-space code, whose candidate is x + 0.5 for positive x and σ(x) for others: give that
    as `activation`. Numbers of any sign are fine here.

    >>> cell = MinLSTM(5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> cell.initial_state(params, (2,)).h.shape
    (2, 5)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float | Initializer = 1.0
    use_bias: bool = True
    activation: Activation = "linear"
    w_ih_init: Initializer = initializers.GlorotUniform()
    learn_initial_state: bool = False
    param_dtype: Any = dataclasses.field(default="float32", compare=False)
    compute_dtype: Any = dataclasses.field(default=None, compare=False)
    # Compared in place of the two: np.dtype("float64") == None.
    _dtypes: tuple[str, ...] = dataclasses.field(default=(), init=False, repr=False)

    recurrent_params: ClassVar[tuple[str, ...]] = ()
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h", "c"),)

    def __post_init__(self) -> None:
        gates.check_fields(self)

    def init(self, key: Key, input_size: int) -> MinLSTMParams:
        checks.enabled("MinLSTM", self)
        return init(
            key,
            checks.size("MinLSTM.init", "input_size", input_size),
            self.hidden_size,
            forget_bias=self.forget_bias,
            use_bias=self.use_bias,
            w_ih_init=self.w_ih_init,
            learn_initial_state=self.learn_initial_state,
            param_dtype=self.param_dtype,
        )

    def output_size(self, input_size: int) -> int:
        return self.hidden_size

    def initial_state(self, params: MinLSTMParams, batch_shape: Shape = ()) -> MinLSTMState:
        checks.instance("MinLSTM.initial_state", "params", params, MinLSTMParams)
        expected = (params.w_ih.shape[0], len(MIN_GATES), self.hidden_size)
        checks.shape("MinLSTM.initial_state", "params.w_ih", params.w_ih, expected)
        return initial_state(params, batch_shape, compute_dtype=self.compute_dtype)

    def project(self, params: MinLSTMParams, x: Array, noise: Noise | None = None) -> MinLSTMGates:
        return project(params, x, activation=self.activation, compute_dtype=self.compute_dtype)

    def recur(self, params: MinLSTMParams, state: MinLSTMState, noise: Noise | None = None) -> None:
        return recur(params, state)

    def update(
        self, params: MinLSTMParams, state: MinLSTMState, z: MinLSTMGates, noise: Noise | None = None
    ) -> tuple[MinLSTMState, Array]:
        return update(params, state, z)

    def blend(self, old: MinLSTMState, new: MinLSTMState, rate: float) -> MinLSTMState:
        """The mean of two states, `rate` of it old."""
        c = rate * old.c + (1.0 - rate) * new.c
        return MinLSTMState(c.astype(old.h.dtype), c)
