"""The peers, each written as in its own documentation, with jlstm's weights copied in.

Imports are inside the functions, so that a peer may be missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import jlstm
from experiments.benchmark.problem import Problem, Program

os.environ.setdefault("KERAS_BACKEND", "jax")  # read by keras when it is imported

Layers = tuple[jlstm.LSTMParams, ...]
Weights = tuple[jax.Array, jax.Array, jax.Array]
Call = Callable[[], Any]


def flat(w: Any) -> jax.Array:
    """Reshape `[D, 4, H]` to `[D, 4H]` and `[4, H]` to `[4H]`: the gates i, f, g, o one after another."""
    return w.reshape(*w.shape[:-2], -1)


def gates(w_hh: jax.Array, state: tuple[jax.Array, jax.Array], z: jax.Array) -> Any:
    """Compute one step of the hand-written LSTM."""
    h, c = state
    i, f, g, o = jnp.split(z + h @ w_hh, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def hand_written(problem: Problem) -> Program:
    """Build the scan that people write by hand, with the input's matmul hoisted out of the loop."""

    def layer(params: Weights, x: jax.Array, reverse: bool = False) -> jax.Array:
        w_ih, w_hh, b = params
        z = jnp.swapaxes(x, 0, 1) @ w_ih + b[None, None]
        zeros = jnp.zeros((x.shape[0], w_hh.shape[0]), x.dtype)
        _, h = jax.lax.scan(lambda state, z: gates(w_hh, state, z), (zeros, zeros), z, reverse=reverse)
        return jnp.swapaxes(h, 0, 1)

    def forward(params: Sequence[Weights], x: jax.Array) -> jax.Array:
        match problem.net:
            case "bidirectional":
                return jnp.concatenate([layer(params[0], x), layer(params[1], x, reverse=True)], axis=-1)
            case _:
                for p in params:
                    x = layer(p, x)
                return x

    return Program(lambda params: [(flat(p.w_ih), flat(p.w_hh), flat(p.b)) for p in params], forward)


def hand_written_step(
    problem: Problem, params: jlstm.LSTMParams, state: jlstm.LSTMState, x: jax.Array
) -> dict[str, Call]:
    """Return calls of one step, `() -> (state, y)`."""
    weights, start = flat_weights(params), (state.h, state.c.astype(problem.dtype))

    @jax.jit
    def step(weights: Weights, state: Any, x: jax.Array) -> Any:
        w_ih, w_hh, b = weights
        return gates(w_hh, state, x @ w_ih + b[None])

    return {"hand-written, jitted": lambda: step(weights, start, x)}


def flat_weights(params: jlstm.LSTMParams) -> Weights:
    """Return `(w_ih [D, 4H], w_hh [H, 4H], b [4H])`."""
    return flat(params.w_ih), flat(params.w_hh), flat(params.b)


def hand_written_scan(weights: Weights, state: Any, xs: jax.Array) -> Any:
    """Return y `[T, B, H]` of single steps over xs `[T, B, D]`."""
    w_ih, w_hh, b = weights
    return jax.lax.scan(lambda state, x: gates(w_hh, state, x @ w_ih + b[None]), state, xs)[1]


def flax_nnx(problem: Problem) -> Program:
    """Build `nnx.RNN(nnx.OptimizedLSTMCell)`, split into graph and arrays."""
    convert, model = flax_model(problem)
    return Program(convert, lambda params, x: model(params)(x))


def flax_model(problem: Problem) -> tuple[Callable[[Layers], Any], Callable[[Any], Any]]:
    """Return convert and the function that makes the module from its parameters."""
    from flax import nnx  # pyright: ignore[reportMissingImports]

    def rnn(D: int) -> Any:
        # Zeros: the default, orthogonal, does not support bfloat16.
        options: Any = dict(recurrent_kernel_init=nnx.initializers.zeros, param_dtype=problem.dtype, rngs=nnx.Rngs(0))
        return nnx.RNN(nnx.OptimizedLSTMCell(D, problem.H, **options))

    match problem.net:
        case "lstm":
            module, names = rnn(problem.D), [()]
        case "bidirectional":
            module, names = nnx.Bidirectional(rnn(problem.D), rnn(problem.D)), [("forward_rnn",), ("backward_rnn",)]
        case "stack":
            module, names = nnx.Sequential(rnn(problem.D), rnn(problem.H)), [("layers", 0), ("layers", 1)]
    graph, arrays, rest = nnx.split(module, nnx.Param, ...)

    def convert(params: Layers) -> Any:
        state = nnx.to_pure_dict(arrays)
        for path, p in zip(names, params, strict=True):
            inner: Any = state
            for name in path:
                inner = inner[name]
            inner["cell"]["dense_i"]["kernel"] = flat(p.w_ih)
            inner["cell"]["dense_h"] = {"kernel": flat(p.w_hh), "bias": flat(p.b)}
        return state

    def model(params: Any) -> Any:
        state, others = jax.tree.map(lambda a: a, (arrays, rest))  # new variables for this trace
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state, others)

    return convert, model


def flax_nnx_step(problem: Problem, params: jlstm.LSTMParams, state: jlstm.LSTMState, x: jax.Array) -> dict[str, Call]:
    """Return calls of one step, `() -> (state, y)`; the jitted one takes the split graph's arrays as a flat list."""
    convert, model = flax_model(problem)
    leaves, tree = jax.tree.flatten(convert((params,)))
    cell = model(convert((params,))).cell
    start = (state.c.astype(problem.dtype), state.h)

    @jax.jit
    def step(leaves: list[jax.Array], carry: Any, x: jax.Array) -> Any:
        return model(jax.tree.unflatten(tree, leaves)).cell(carry, x)

    return {
        "flax-nnx cell, jitted": lambda: step(leaves, start, x),
        "flax-nnx cell, eager": lambda: cell(start, x),
    }


def keras(problem: Problem) -> Program:
    """Build `keras.layers.LSTM` with `stateless_call`."""
    import keras  # pyright: ignore[reportMissingImports]

    if keras.backend.backend() != "jax":
        raise RuntimeError(f"keras runs on {keras.backend.backend()}. Type export KERAS_BACKEND=jax")

    def lstm() -> Any:
        return keras.layers.LSTM(problem.H, return_sequences=True, recurrent_initializer="zeros", dtype=problem.dtype)

    match problem.net:
        case "lstm":
            model = lstm()
        case "bidirectional":
            model = keras.layers.Bidirectional(lstm(), dtype=problem.dtype)
        case "stack":
            model = keras.Sequential([lstm(), lstm()])
    model.build((problem.B, problem.T, problem.D))
    fixed = [variable.value for variable in model.non_trainable_variables]

    def convert(params: Layers) -> list[jax.Array]:
        return [flat(a) for p in params for a in (p.w_ih, p.w_hh, p.b)]

    return Program(convert, lambda params, x: model.stateless_call(params, fixed, x)[0])


def equinox(problem: Problem) -> Program:
    """Build `eqx.nn.LSTMCell` in `lax.scan`, under `vmap` over examples."""
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    dtype = jnp.dtype(problem.dtype)
    blank = eqx.nn.LSTMCell(problem.D, problem.H, dtype=dtype, key=jax.random.key(0))

    def convert(params: Layers) -> Any:
        (p,) = params
        where: Callable[[Any], Any] = lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias)  # noqa: E731
        return eqx.tree_at(where, blank, (flat(p.w_ih).T, flat(p.w_hh).T, flat(p.b)))

    def forward(cell: Any, x: jax.Array) -> jax.Array:
        def step(state: Any, x: jax.Array) -> Any:
            state = cell(x, state)
            return state, state[0]

        zeros = jnp.zeros(cell.hidden_size, dtype)
        return jax.vmap(lambda xs: jax.lax.scan(step, (zeros, zeros), xs)[1])(x)

    return Program(convert, forward)


def haiku(problem: Problem) -> Program:
    """Build `hk.LSTM` in `hk.dynamic_unroll`."""
    import haiku  # pyright: ignore[reportMissingImports]

    hk: Any = haiku  # its stubs only allow a core that returns all states

    @hk.without_apply_rng
    @hk.transform
    def model(x: jax.Array) -> jax.Array:
        core = hk.LSTM(problem.H)
        state = jax.tree.map(lambda s: s.astype(x.dtype), core.initial_state(x.shape[0]))
        return hk.dynamic_unroll(core, x, state, time_major=False)[0]

    def convert(params: Layers) -> Any:
        (p,) = params

        def order(w: jax.Array) -> jax.Array:
            i, f, g, o = (w[..., n, :] for n in range(4))
            return jnp.concatenate([i, g, f, o], axis=-1)

        assert p.b is not None
        i, f, g, o = p.b
        # Haiku adds 1 to the forget gate in each step.
        b = jnp.concatenate([i, g, f - 1, o])
        return {"lstm/linear": {"w": jnp.concatenate([order(p.w_ih), order(p.w_hh)]), "b": b}}

    return Program(convert, model.apply)


def torch_arrays(params: Layers) -> list[jax.Array]:
    """Return `nn.LSTM`'s w_ih, w_hh, b_ih, b_hh for each layer or direction; b_ih is the whole bias."""
    return [a for p in params for a in (flat(p.w_ih).T, flat(p.w_hh).T, flat(p.b), jnp.zeros_like(flat(p.b)))]
