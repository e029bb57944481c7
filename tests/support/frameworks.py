"""Other frameworks' cells, live: one row makes a model, takes and sets its weights, and runs it on ragged input."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import onnx_models
import pytest
import torch_models

import jlstm
from jlstm import convert

B, T, D, H = 3, 5, 3, 4

LENGTHS = np.array([5, 1, 3], np.int32)
ROOT = Path(__file__).parents[2]
VALID = np.arange(T)[:, None] < LENGTHS  # [T, B]
LSTM, GRU, Bidirectional, Stack = jlstm.LSTM, jlstm.GRU, jlstm.Bidirectional, jlstm.Stack


class Peer(NamedTuple):
    """net: what its weights are read as.   read, write: the pair under test.   state_from, state_to: that of states.

    load(weights) -> model: what `write` gave, in a model made new.   weights(model) -> what `read` takes.
    run(model, x [B, T, D], their state, of_y, of_state) -> (y [B, T, K], their state, dx): dx is the gradient of
    sum(y of_y) + sum(state of_state), and the rows of x end at LENGTHS.
    """

    needs: tuple[str, ...]
    net: Any
    load: Callable[[Any], Any]
    weights: Callable[[Any], Any]
    run: Callable[..., tuple[Any, Any, Any]]
    read: Callable[[Any], tuple[Any, Any]]
    write: Callable[[Any, Any], Any]
    state_from: Callable[..., Any]
    state_to: Callable[[Any], Any]


def params(net: Any, seed: int = 0) -> Any:
    """Random parameters, every one of them, without compiling an initialiser."""
    size = D if net.feature_axes else None
    return random(jax.eval_shape(lambda key: net.init(key, size), jax.eval_shape(jax.random.key, 0)), seed)


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Other frameworks promote ranks, and call what is deprecated."""
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def need(*modules: str) -> None:
    for module in modules:
        pytest.importorskip(module, exc_type=ImportError)


def random(tree: Any, seed: int) -> Any:
    """The same tree or ONNX model with random arrays."""
    rng = np.random.default_rng(seed)
    if hasattr(tree, "graph"):
        from onnx import numpy_helper

        for array in tree.graph.initializer:
            if array.name[:2] in ("W.", "R.", "B.", "P."):
                value = rng.normal(scale=0.5, size=array.dims).astype("float32")
                array.CopyFrom(numpy_helper.from_array(value, array.name))
        return tree
    return jax.tree.map(lambda a: rng.normal(scale=0.5, size=a.shape).astype(a.dtype), tree)


# ---- peers that are JAX: model is (weights, apply), apply(weights, x, state) -> (y, state)


def jax_run(model: Any, x: Any, state: Any, of_y: Any, of_state: Any) -> Any:
    weights, apply = model
    return _jax_run(apply, weights, x, state, of_y, of_state)


@functools.partial(jax.jit, static_argnums=0)
def _jax_run(apply: Any, weights: Any, x: Any, state: Any, of_y: Any, of_state: Any) -> Any:
    def f(weights: Any, x: Any) -> Any:  # nnx wants its weights on the same trace
        y, end = apply(weights, x, state)
        y = y * VALID.T[..., None]  # theirs hold other things behind the end
        parts = [jnp.vdot(y, of_y), *map(jnp.vdot, jax.tree.leaves(end), jax.tree.leaves(of_state))]
        return sum(parts), (y, end)

    (_, (y, end)), (_, dx) = jax.value_and_grad(f, argnums=(0, 1), has_aux=True, allow_int=True)(weights, x)
    return y, end, dx


def over_time(step: Callable[..., Any]) -> Callable[..., Any]:
    """`apply` of a cell that knows one step only, `step(weights, x [B, D], state) -> (y, state)`."""

    def apply(weights: Any, x: Any, state: Any) -> Any:
        def body(state: Any, now: Any) -> Any:
            x, valid = now
            y, new = step(weights, x, state)
            return jax.tree.map(lambda a, b: jnp.where(valid[:, None], a, b), new, state), y

        end, y = jax.lax.scan(body, state, (jnp.moveaxis(x, 1, 0), jnp.asarray(VALID)))
        return jnp.moveaxis(y, 0, 1), end

    return apply


@functools.cache
def linen_apply(name: str) -> Any:
    import flax.linen as nn

    rnn = nn.RNN(getattr(nn, name)(H), return_carry=True)

    def apply(weights: Any, x: Any, state: Any) -> Any:
        return rnn.apply({"params": {"cell": weights}}, x, initial_carry=state, seq_lengths=jnp.asarray(LENGTHS))[::-1]

    return apply


@functools.cache
def nnx_apply(graph: Any) -> Any:
    from flax import nnx

    def apply(weights: Any, x: Any, state: Any) -> Any:
        rnn = nnx.RNN(nnx.merge(graph, weights), return_carry=True)
        return rnn(x, initial_carry=state, seq_lengths=jnp.asarray(LENGTHS))[::-1]

    return apply


def nnx_load(name: str, weights: Any) -> Any:
    from flax import nnx

    cell = getattr(nnx, name)(D, H, rngs=nnx.Rngs(0))
    nnx.update(cell, weights)
    return nnx.state(cell), nnx_apply(nnx.graphdef(cell))


@functools.cache
def haiku_apply() -> Any:
    import haiku as hk

    step = hk.without_apply_rng(hk.transform(lambda x, state: hk.LSTM(H)(x, hk.LSTMState(*state)))).apply

    def one(weights: Any, x: Any, state: Any) -> Any:
        y, new = step(weights, x, state)
        return y, tuple(new)

    return over_time(one)


@over_time
def equinox_apply(cell: Any, x: Any, state: Any) -> Any:
    h, c = jax.vmap(cell)(x, state)
    return h, (h, c)


def equinox_load(weights: Any) -> Any:
    import equinox as eqx

    cell = eqx.nn.LSTMCell(D, H, use_bias=weights["bias"] is not None, key=jax.random.key(0))
    kept = {name: jnp.asarray(a) for name, a in weights.items() if a is not None}
    cell = eqx.tree_at(lambda cell: [getattr(cell, name) for name in kept], cell, list(kept.values()))
    return cell, equinox_apply


@functools.cache
def keras_layer(make: Callable[[Any], Any]) -> Any:
    """One layer for all of a row's weights, and its `apply`: a layer made new is compiled anew."""
    import keras

    layer = make(keras.layers)
    layer.build((None, T, D))
    fixed = [variable.value for variable in layer.non_trainable_variables]

    def apply(weights: Any, x: Any, state: Any) -> Any:
        (y, *end), _ = layer.stateless_call(weights, fixed, x, mask=jnp.asarray(VALID.T), initial_state=state)
        return y, end

    return layer, apply


def keras_load(make: Callable[[Any], Any], weights: Any) -> Any:
    layer, apply = keras_layer(make)
    layer.set_weights(weights)
    return layer.get_weights(), layer, apply


def keras_run(model: Any, *given: Any) -> Any:
    weights, layer, apply = model
    layer.set_weights(weights)
    return _jax_run(apply, [variable.value for variable in layer.trainable_variables], *given)


# ---- the table


def torch(net: Any, make: Callable[[Any], Any], cell: bool = False) -> Peer:
    write = functools.partial(convert.to_torch, cell=cell)
    states = convert.state_from_torch, convert.state_to_torch
    weights = lambda module: module.state_dict()  # noqa: E731
    return Peer(
        ("torch",),
        net,
        functools.partial(torch_models.load, make),
        weights,
        torch_models.run,
        convert.from_torch,
        write,
        *states,
    )


def keras(net: Any, make: Callable[[Any], Any], **options: Any) -> Peer:
    read = functools.partial(convert.from_keras, **options)
    states = convert.state_from_keras, convert.state_to_keras
    weights = lambda model: model[0]  # noqa: E731
    return Peer(
        ("keras",), net, functools.partial(keras_load, make), weights, keras_run, read, convert.to_keras, *states
    )


def jax_peer(needs: str, net: Any, load: Any, read: Any, write: Any, state_from: Any, state_to: Any) -> Peer:
    return Peer((needs,), net, load, lambda model: model[0], jax_run, read, write, state_from, state_to)


def flax(kind: str, name: str) -> Peer:
    load = (lambda w: (w, linen_apply(name))) if kind == "linen" else functools.partial(nnx_load, name)
    needs, write = f"flax.{kind[:3].replace('lin', 'linen')}", functools.partial(convert.to_flax, kind=kind)
    return jax_peer(needs, LSTM(H), load, convert.from_flax, write, convert.state_from_flax, convert.state_to_flax)


def equinox(net: Any) -> Peer:
    pair = convert.from_equinox, convert.to_equinox
    return jax_peer("equinox", net, equinox_load, *pair, convert.state_from_equinox, convert.state_to_equinox)


def onnx(net: Any, **options: Any) -> Peer:
    read, needs = functools.partial(convert.from_onnx, **options), ("onnx", "onnxruntime")
    states = functools.partial(convert.state_from_onnx, net=net), convert.state_to_onnx
    return Peer(needs, net, lambda model: model, lambda model: model, onnx_models.run, read, onnx_models.write, *states)


_HAIKU = convert.from_haiku, convert.to_haiku, convert.state_from_haiku, convert.state_to_haiku
_PLAIN, _OPTIONS = LSTM(H), LSTM(H, use_bias=False, activation="softsign", gate_activation="hard_sigmoid")
_PROJECTED, _GRU = jlstm.ProjectedLSTM(H, 2), GRU(H)
_TWO = Stack((Bidirectional(_PLAIN), Bidirectional(_PLAIN)))
_KERAS = dict(activation="softsign", recurrent_activation="hard_sigmoid")
_FULL = dict(return_sequences=True, return_state=True)

PEERS: dict[str, Peer] = {
    "torch-LSTM": torch(_TWO, lambda nn: nn.LSTM(D, H, 2, bidirectional=True)),
    "torch-LSTM-no-bias": torch(LSTM(H, use_bias=False), lambda nn: nn.LSTM(D, H, bias=False)),
    "torch-LSTMCell": torch(_PLAIN, lambda nn: nn.LSTMCell(D, H), cell=True),
    "torch-proj": torch(
        Stack((Bidirectional(_PROJECTED), Bidirectional(_PROJECTED))),
        lambda nn: nn.LSTM(D, H, 2, bidirectional=True, proj_size=2),
    ),
    "torch-GRU": torch(
        Stack((Bidirectional(_GRU), Bidirectional(_GRU))), lambda nn: nn.GRU(D, H, 2, bidirectional=True)
    ),
    "torch-GRUCell": torch(GRU(H, use_bias=False), lambda nn: nn.GRUCell(D, H, bias=False), cell=True),
    "keras-LSTM": keras(_PLAIN, lambda layers: layers.LSTM(H, **_FULL)),
    "keras-LSTM-options": keras(_OPTIONS, lambda layers: layers.LSTM(H, use_bias=False, **_KERAS, **_FULL), **_KERAS),
    "keras-Bidirectional": keras(
        Bidirectional(_PLAIN, merge="mean"),
        lambda layers: layers.Bidirectional(layers.LSTM(H, **_FULL), merge_mode="ave"),
        merge_mode="ave",
    ),
    "keras-GRU": keras(_GRU, lambda layers: layers.GRU(H, **_FULL)),
    "keras-GRU-before": keras(
        Bidirectional(GRU(H, reset_after=False)),
        lambda layers: layers.Bidirectional(layers.GRU(H, reset_after=False, **_FULL)),
        reset_after=False,
    ),
    "onnx-two-ways": onnx(_TWO),
    "onnx-peepholes": onnx(jlstm.PeepholeLSTM(H)),
    "onnx-coupled": onnx(Bidirectional(jlstm.CoupledLSTM(H))),
    "onnx-sum-no-bias": onnx(Bidirectional(LSTM(H, use_bias=False), merge="sum"), merge="sum"),
    "linen-LSTMCell": flax("linen", "LSTMCell"),
    "linen-OptimizedLSTMCell": flax("linen", "OptimizedLSTMCell"),
    "nnx-LSTMCell": flax("nnx", "LSTMCell"),
    "nnx-OptimizedLSTMCell": flax("nnx_optimized", "OptimizedLSTMCell"),
    "haiku-LSTM": jax_peer("haiku", _PLAIN, lambda w: (w, haiku_apply()), *_HAIKU),
    "equinox-LSTMCell": equinox(_PLAIN),
    "equinox-LSTMCell-no-bias": equinox(LSTM(H, use_bias=False)),
}
