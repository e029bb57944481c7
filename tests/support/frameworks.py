"""Other frameworks' cells, live: one row makes a model, takes and sets its weights, and runs it on ragged input."""

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
from onnx_models import LENGTHS, D, H

import jlstm
from jlstm import GRU, LSTM, Bidirectional, Stack, convert

B, T = 3, 5
ROOT = Path(__file__).parents[2]
VALID = np.arange(T)[:, None] < LENGTHS  # [T, B]


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


def jax_run(model: Any, *given: Any) -> Any:
    weights, apply = model
    return _jax_run(apply, weights, *given)


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

    def step(x: Any, state: Any) -> Any:
        y, new = hk.LSTM(H)(x, hk.LSTMState(*state))
        return y, tuple(new)

    return over_time(hk.without_apply_rng(hk.transform(step)).apply)


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
    return layer.get_weights(), apply


# ---- the table


def converters(framework: str) -> list[Any]:
    return [getattr(convert, form + framework) for form in ("from_", "to_", "state_from_", "state_to_")]


def torch(net: Any, make: Callable[[Any], Any], cell: bool = False) -> Peer:
    load, (read, write, *states) = functools.partial(torch_models.load, make), converters("torch")
    write = functools.partial(write, cell=cell)
    return Peer(("torch",), net, load, lambda module: module.state_dict(), torch_models.run, read, write, *states)


def jax_peer(needs: str, net: Any, load: Any, *pairs: Any) -> Peer:
    return Peer((needs,), net, load, lambda model: model[0], jax_run, *pairs)


def keras(net: Any, make: Callable[[Any], Any], **options: Any) -> Peer:
    read, *others = converters("keras")
    return jax_peer("keras", net, functools.partial(keras_load, make), functools.partial(read, **options), *others)


def flax(kind: str, name: str) -> Peer:
    load = (lambda w: (w, linen_apply(name))) if kind == "linen" else functools.partial(nnx_load, name)
    read, write, *states = converters("flax")
    needs = "flax.linen" if kind == "linen" else "flax.nnx"
    return jax_peer(needs, LSTM(H), load, read, functools.partial(write, kind=kind), *states)


def onnx(net: Any, **options: Any) -> Peer:
    read, needs = functools.partial(convert.from_onnx, **options), ("onnx", "onnxruntime")
    states = functools.partial(convert.state_from_onnx, net=net), convert.state_to_onnx
    return Peer(needs, net, lambda model: model, lambda model: model, onnx_models.run, read, onnx_models.write, *states)


def two_layers(cell: Any) -> Any:
    return Stack((Bidirectional(cell), Bidirectional(cell)))


_PLAIN, _NO_BIAS, _GRU, _PROJECTED = LSTM(H), LSTM(H, use_bias=False), GRU(H), jlstm.ProjectedLSTM(H, 2)
_OPTIONS = LSTM(H, use_bias=False, activation="softsign", gate_activation="hard_sigmoid")
_MEAN, _BEFORE = Bidirectional(_PLAIN, merge="mean"), Bidirectional(GRU(H, reset_after=False))
_KERAS = dict(activation="softsign", recurrent_activation="hard_sigmoid")
_FULL, _TWO = dict(return_sequences=True, return_state=True), dict(num_layers=2, bidirectional=True)

PEERS: dict[str, Peer] = {
    "torch-LSTM": torch(two_layers(_PLAIN), lambda nn: nn.LSTM(D, H, **_TWO)),
    "torch-LSTM-no-bias": torch(_NO_BIAS, lambda nn: nn.LSTM(D, H, bias=False)),
    "torch-LSTMCell": torch(_PLAIN, lambda nn: nn.LSTMCell(D, H), cell=True),
    "torch-proj": torch(two_layers(_PROJECTED), lambda nn: nn.LSTM(D, H, proj_size=2, **_TWO)),
    "torch-GRU": torch(two_layers(_GRU), lambda nn: nn.GRU(D, H, **_TWO)),
    "torch-GRUCell": torch(GRU(H, use_bias=False), lambda nn: nn.GRUCell(D, H, bias=False), cell=True),
    "keras-LSTM": keras(_PLAIN, lambda k: k.LSTM(H, **_FULL)),
    "keras-LSTM-options": keras(_OPTIONS, lambda k: k.LSTM(H, use_bias=False, **_KERAS, **_FULL), **_KERAS),
    "keras-Bidirectional": keras(_MEAN, lambda k: k.Bidirectional(k.LSTM(H, **_FULL), "ave"), merge_mode="ave"),
    "keras-GRU": keras(_GRU, lambda k: k.GRU(H, **_FULL)),
    "keras-GRU-before": keras(
        _BEFORE, lambda k: k.Bidirectional(k.GRU(H, reset_after=False, **_FULL)), reset_after=False
    ),
    "onnx-two-ways": onnx(two_layers(_PLAIN)),
    "onnx-peepholes": onnx(jlstm.PeepholeLSTM(H)),
    "onnx-coupled": onnx(Bidirectional(jlstm.CoupledLSTM(H))),
    "onnx-sum-no-bias": onnx(Bidirectional(_NO_BIAS, merge="sum"), merge="sum"),
    "linen-LSTMCell": flax("linen", "LSTMCell"),
    "linen-OptimizedLSTMCell": flax("linen", "OptimizedLSTMCell"),
    "nnx-LSTMCell": flax("nnx", "LSTMCell"),
    "nnx-OptimizedLSTMCell": flax("nnx_optimized", "OptimizedLSTMCell"),
    "haiku-LSTM": jax_peer("haiku", _PLAIN, lambda w: (w, haiku_apply()), *converters("haiku")),
    "equinox-LSTMCell": jax_peer("equinox", _PLAIN, equinox_load, *converters("equinox")),
    "equinox-LSTMCell-no-bias": jax_peer("equinox", _NO_BIAS, equinox_load, *converters("equinox")),
}
