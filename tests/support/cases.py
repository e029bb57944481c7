"""The rows of the contract: a table of nets, their arrays, and a sample of the options. A new cell is a new row.

The cells below are ones that a user could write outside of the library; `reference.py` has all nets in plain NumPy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from grouped import Grouped

import jlstm
from jlstm.cells import Noise, SLSTMState

D, H, VOCABULARY = 3, 4, 5
BACKENDS = ("scan", "hoisted")


# ---- cells


@jlstm.record
class Elman(jlstm.Cell):
    """h' = tanh(x W + h U + b), y = h' V (Elman 1990). Bare tuples and arrays; y is no part of the state."""

    hidden_size: int = H

    def init(self, key, input_size):
        w, u, v = (jax.random.normal(k, (size, self.hidden_size)) for k, size in self._weights(key, input_size))
        return w, u, jnp.zeros(self.hidden_size), v

    def _weights(self, key, input_size):
        return zip(jax.random.split(key, 3), (input_size, self.hidden_size, self.hidden_size), strict=True)

    def output_size(self, input_size):
        return self.hidden_size

    def initial_state(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, self.hidden_size), jnp.result_type(*params))

    def project(self, params, x):
        return x @ params[0] + jnp.expand_dims(params[2], range(x.ndim - 1))

    def recur(self, params, state):
        return state @ params[1]

    def update(self, params, state, z):
        h = jnp.tanh(z)
        return h, h @ params[3]


@jlstm.record
class Noisy(jlstm.LSTM):
    """An LSTM with both kinds of noise: h is dropped on its way into the gates, by one mask a sequence (Gal &
    Ghahramani 2016), and units keep their old state, drawn at every step (Krueger et al. 2017)."""

    rate: float = 0.4

    def noise(self, key, params, batch_shape, t):
        shape = (*batch_shape, self.hidden_size)
        sequence, step = jax.random.split(key)
        kept = jax.random.bernoulli(sequence, 1 - self.rate, shape)
        return Noise(kept, jax.random.bernoulli(jax.random.fold_in(step, t), self.rate, shape))

    def project(self, params, x, noise):
        return super().project(params, x)

    def recur(self, params, state, noise):
        if noise.sequence is None:
            return super().recur(params, state)
        h = jnp.where(noise.sequence, state.h / (1 - self.rate), jnp.zeros_like(state.h))
        return super().recur(params, state._replace(h=h))

    def update(self, params, state, z, noise):
        new, y = super().update(params, state, z)
        if noise.step is None:
            return new, y
        new = jax.tree.map(lambda old, new: jnp.where(noise.step, old, new), state, new)
        return new, new.h


class CounterState(NamedTuple):
    h: Any
    n: Any


@jlstm.record
class Counter(jlstm.Cell):
    """h' = tanh(x W + h U) / (1 + n), n' = n + 1: an integer in the state."""

    hidden_size: int = H

    def init(self, key, input_size):
        w, u = jax.random.split(key)
        return {"w": jax.random.normal(w, (input_size, H)), "u": jax.random.normal(u, (H, H))}

    def output_size(self, input_size):
        return self.hidden_size

    def initial_state(self, params, batch_shape=()):
        h = jnp.zeros((*batch_shape, self.hidden_size), params["w"].dtype)
        return CounterState(h, jnp.zeros(batch_shape, jnp.int32))

    def project(self, params, x):
        return x @ params["w"]

    def recur(self, params, state):
        return state.h @ params["u"]

    def update(self, params, state, z):
        h = jnp.tanh(z) / (1 + jnp.expand_dims(state.n, -1))
        return CounterState(h, state.n + 1), h


def everything(cell: Any) -> Any:
    """Every wrapper. Without a key a group of several fields has no mean, so its rate is 0."""
    c_rate = 0.3 if all(len(group) == 1 for group in cell.state_groups) else 0.0
    inner = jlstm.VariationalDropout(jlstm.ClipGates(cell, 1.0), 0.2, 0.3)
    return jlstm.Zoneout(jlstm.DropConnect(inner, 0.4), 0.2, c_rate)


# ---- rows

LSTMS: dict[str, Any] = {
    "lstm": jlstm.LSTM(H),
    "lstm-learned": jlstm.LSTM(H, learn_initial_state=True, forget_bias=jlstm.initializers.Chrono(20)),
    "lstm-bare": jlstm.LSTM(H, use_bias=False, activation="softsign", gate_activation="hard_sigmoid"),
}
OTHERS: dict[str, Any] = {
    "elman": Elman(),
    "noisy": Noisy(H, learn_initial_state=True),
    "counter": Counter(),
    "stack": jlstm.Stack((jlstm.LSTM(H), jlstm.Dropout(0.4), Elman(), jlstm.Dense(2, activation="tanh"))),
    "embed": jlstm.Stack((jlstm.Embed(VOCABULARY, D), jlstm.Residual(jlstm.LSTM(D)), jlstm.Dense(2))),
    "bi-concat": jlstm.Stack((jlstm.Bidirectional(Noisy(H)), jlstm.Dropout(0.4), jlstm.Dense(2))),
    "bi-sum": jlstm.Bidirectional(jlstm.LSTM(H), Elman(), merge="sum"),
    "bi-mul": jlstm.Stack((jlstm.Bidirectional(Elman(), merge="mul"), Elman())),
    "bi-mean": jlstm.Residual(jlstm.Bidirectional(Elman(D), merge="mean")),
    "bi-none": jlstm.Bidirectional(Elman(), merge="none"),
}
BARE: dict[str, Any] = dict(use_bias=False, activation="sigmoid", gate_activation="tanh")  # smooth, for differences
CELLS: dict[str, Any] = {
    "peephole": jlstm.PeepholeLSTM(H, learn_initial_state=True),
    "coupled": jlstm.CoupledLSTM(H, learn_initial_state=True),
    "projected": jlstm.ProjectedLSTM(H, 2, learn_initial_state=True),
    "gru": jlstm.GRU(H, learn_initial_state=True),
    "gru-before": jlstm.GRU(H, learn_initial_state=True, reset_after=False),
    "layer-norm": jlstm.LayerNormLSTM(H, learn_initial_state=True),
    "slstm": jlstm.SLSTM(H, heads=2, learn_initial_state=True),
    "min-lstm": jlstm.MinLSTM(H, learn_initial_state=True),
    "original": jlstm.OriginalLSTM(H, block_size=2, learn_initial_state=True),
    "zoneout": jlstm.Zoneout(jlstm.LSTM(H, learn_initial_state=True), 0.2, 0.4),
    "zoneout-drop-connect": jlstm.Zoneout(jlstm.DropConnect(Grouped(), 0.3), 0.2),
    "variational": jlstm.VariationalDropout(jlstm.LSTM(H, learn_initial_state=True), 0.3, 0.4),
    "clip": jlstm.ClipGates(jlstm.LSTM(H, learn_initial_state=True, cell_clip=0.7), 2.0),
}
VARIANTS: dict[str, Any] = {  # of these cells, for `--slow`
    "peephole-bare": jlstm.PeepholeLSTM(H, **BARE),
    "coupled-bare": jlstm.CoupledLSTM(H, **BARE),
    "projected-bare": jlstm.ProjectedLSTM(H, 6, **BARE),
    "gru-bare": jlstm.GRU(H, **BARE),
    "gru-before-bare": jlstm.GRU(H, reset_after=False, **BARE),
    "layer-norm-bare": jlstm.LayerNormLSTM(H, epsilon=1e-2, **BARE),
    "slstm-bare": jlstm.SLSTM(H, forget_gate="exp", **BARE),
    "min-lstm-bare": jlstm.MinLSTM(H, use_bias=False, activation="sigmoid"),
    "original-bare": jlstm.OriginalLSTM(H, use_bias=False),
    "variational-zoneout": jlstm.VariationalDropout(jlstm.Zoneout(Grouped(), 0.2), 0.0, 0.4),
    "clip-cell": jlstm.LSTM(H, cell_clip=0.7),
    "clip-zoneout": jlstm.Zoneout(jlstm.DropConnect(jlstm.LSTM(H, cell_clip=0.7), 0.3), 0.2, 0.4),
    "drop-connect": jlstm.DropConnect(jlstm.LSTM(H, learn_initial_state=True), 0.3),
    "bi-zoneout": jlstm.Bidirectional(jlstm.Zoneout(jlstm.LSTM(H, learn_initial_state=True), 0.3), Elman()),
}
ROWS = LSTMS | OTHERS | CELLS
ONE_WAY = tuple(name for name in ROWS if not name.startswith("bi-"))


def random_tree(rng: np.random.Generator, like: Any, dtype: Any = None) -> Any:
    """Random NumPy arrays in place of the leaves; integers become small counts."""

    def leaf(a: Any) -> Any:
        if jnp.issubdtype(a.dtype, jnp.integer):
            return rng.integers(0, 3, a.shape).astype(a.dtype)
        return np.asarray(0.8 * rng.normal(size=a.shape), dtype or a.dtype)

    return jax.tree.map(leaf, like)


def random_params(rng: np.random.Generator, net: Any, dtype: Any = "float64") -> Any:
    """Random everywhere: the zeros and ones that `init` makes would hide swapped gates and missing biases."""
    size = D if net.feature_axes else None
    return random_tree(rng, jax.eval_shape(lambda key: net.init(key, size), jax.random.key(0)), dtype)


def seeded(net: Any, seed: int = 0, dtype: str = "float32") -> Any:
    """Random parameters that a seed names."""
    return random_params(np.random.default_rng(seed), net, dtype)


def random_state(rng: np.random.Generator, net: Any, params: Any, batch: tuple[int, ...]) -> Any:
    state = random_tree(rng, jax.eval_shape(lambda p: net.initial_state(p, batch), params))
    # A weighted mean's sum of weights is 1 at least.
    return state._replace(n=1 + np.abs(state.n)) if isinstance(state, SLSTMState) else state


def random_inputs(rng: np.random.Generator, net: Any, shape: tuple[int, ...], dtype: Any = "float64") -> np.ndarray:
    """`[*B, T, D]`, or ids `[*B, T]`; shape is (*B, T)."""
    if net.feature_axes == 0:
        return rng.integers(0, VOCABULARY, shape)
    return rng.normal(size=(*shape, D)).astype(dtype)


def random_options(rng: np.random.Generator, batch: tuple[int, ...], T: int) -> dict[str, np.ndarray]:
    """Lengths of 0 and above T among them; holes; resets, in padding and at hidden steps too."""
    lengths = np.array([T, T // 2, 0, T + 2, T - 1])
    size = int(np.prod(batch))
    return dict(
        lengths=lengths[:size].reshape(batch) if size > 1 else np.full(batch, T - 1),
        mask=rng.random((*batch, T)) < 0.7,
        resets=rng.random((*batch, T)) < 0.3,
    )


# ---- options


OPTIONS: dict[str, tuple[Any, ...]] = dict(
    backend=BACKENDS,
    reverse=(False, True),
    return_sequences=(False, True),
    time_major=(False, True),
    batch=((4,), (2, 2), ()),
    state=(False, True),
    lengths=(False, True),
    mask=(False, True),
    resets=(False, True),
    key=(False, True),
    checkpoint_every=(None, None, None, 3),  # repeated: what costs a long compilation comes seldom
    scan_unroll=(1, 1, 1, 2),
)
