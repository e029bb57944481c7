"""Weights of other frameworks, with the frameworks live: the same function, the same gradients, and back."""

import functools
from typing import Any

import frameworks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from frameworks import LENGTHS, PEERS, B, D, T
from small import bitwise, equal

import jlstm


@pytest.fixture(autouse=True)
def settings():
    with frameworks.settings():
        yield


@functools.partial(jax.jit, static_argnums=0)
def ours(net: Any, params: Any, x: Any, state: Any, of_y: Any, of_state: Any) -> Any:
    def f(x: Any) -> Any:
        end, y = jlstm.unroll(net, params, x, state=state, lengths=LENGTHS, return_sequences=True)
        parts = [jnp.vdot(y, of_y), *map(jnp.vdot, jax.tree.leaves(end), jax.tree.leaves(of_state))]
        return sum(parts), (y, end)

    (_, (y, end)), dx = jax.value_and_grad(f, has_aux=True)(x)
    return y, end, dx


def agree(peer: frameworks.Peer, model: Any, net: Any, params: Any) -> Any:
    """Outputs, final state and input gradient of the model are ours, from a random state; gives theirs."""
    rng = np.random.default_rng(1)

    def normal(like: Any) -> Any:
        return rng.normal(size=like.shape).astype("float32")

    x, start = rng.normal(size=(B, T, D)).astype("float32"), jax.tree.map(normal, net.initial_state(params, (B,)))
    of_y, of_state = rng.normal(size=(B, T, net.output_size(D))).astype("float32"), jax.tree.map(normal, start)
    y, end, dx = theirs = peer.run(model, x, peer.state_to(start), of_y, peer.state_to(of_state))
    want_y, want_end, want_dx = ours(net, params, x, start, of_y, of_state)
    of_net = {"net": net} if peer.needs[0] in ("torch", "keras") else {}
    end = peer.state_from(end, **of_net)
    assert jax.tree.structure(end) == jax.tree.structure(want_end)
    equal((y, dx, end), (want_y, want_dx, want_end), 1e-5)
    bitwise(peer.state_from(peer.state_to(start), **of_net), start)
    return theirs


# Rows whose function or whose names another row has too.
_TWICE = ("linen-OptimizedLSTMCell", "torch-LSTM-no-bias", "equinox-LSTMCell-no-bias")
_ROWS = [pytest.param(name, marks=pytest.mark.slow) if name in _TWICE else name for name in PEERS]


@pytest.mark.parametrize("name", _ROWS)
def test_the_same_function_there_and_here(name: str) -> None:
    peer = PEERS[name]
    frameworks.need(*peer.needs)
    mine = frameworks.params(peer.net)

    # Theirs to ours: every array random, the second bias of torch and ONNX too.
    model = peer.load(frameworks.random(peer.write(peer.net, mine), 2))
    net, params = peer.read(peer.weights(model))
    assert net == peer.net
    before = agree(peer, model, net, params)
    # And back.
    after = agree(peer, peer.load(peer.write(net, params)), net, params)
    equal(after[0], before[0], 1e-6)

    # Ours to theirs, and back.
    model = peer.load(peer.write(net, mine))
    agree(peer, model, net, mine)
    net, back = peer.read(peer.weights(model))
    assert net == peer.net
    if name.startswith("haiku"):
        np.testing.assert_allclose(back.b, mine.b, atol=1e-7, rtol=0)
        back, mine = back._replace(b=None), mine._replace(b=None)
    bitwise(back, mine)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in PEERS if "Optimized" not in name and "options" not in name])
def test_narrow_weights_keep_their_dtype(name: str, dtype: str) -> None:
    peer = PEERS[name]
    params = jax.tree.map(lambda a: a.astype(dtype), frameworks.params(peer.net))
    if name.startswith("onnx"):
        frameworks.need("onnx")
    weights = peer.write(peer.net, params)
    _, back = peer.read(weights)
    for tree in (back,) if name.startswith("onnx") else (weights, back):
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(tree)} == {dtype}
    if name.startswith("haiku"):  # its forget bias, less 1 and plus 1, was rounded twice
        step = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(np.float32(back.b), np.float32(params.b), atol=2 * step, rtol=0)
        back, params = back._replace(b=None), params._replace(b=None)
    bitwise(back, params)


def test_torch_tensors_of_any_dtype() -> None:
    frameworks.need("torch")
    import torch

    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        cell = torch.nn.LSTMCell(D, 4).to(dtype)
        _, params = jlstm.convert.from_torch(cell.state_dict())
        want = cell.weight_hh.detach().float().numpy().reshape(4, 4, 4).transpose(2, 0, 1)
        assert str(params.w_hh.dtype) == str(dtype).removeprefix("torch.")
        np.testing.assert_array_equal(params.w_hh.astype("float32"), want)


def test_activations_of_keras_are_ours() -> None:
    frameworks.need("keras")
    import keras

    from jlstm.cells import gates
    from jlstm.convert.keras import ACTIVATIONS

    x = jnp.linspace(-5.0, 5.0, 101)
    for theirs, mine in ACTIVATIONS.items():
        y, want = keras.activations.get(theirs)(x), gates.activation_function(mine)(x)
        np.testing.assert_allclose(y, want, atol=1e-6, err_msg=str(theirs))
    assert np.abs(keras.activations.get("gelu")(x) - gates.activation_function("gelu")(x)).max() > 1e-4


def test_keras_going_backwards() -> None:
    """`go_backwards` gives outputs in the order of processing, `reverse` in the order of the input."""
    frameworks.need("keras")
    import keras

    layer = keras.layers.LSTM(4, go_backwards=True, return_sequences=True)
    x = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
    theirs = layer(x)
    net, params = jlstm.convert.from_keras(layer.get_weights())
    _, y = jlstm.unroll(net, params, x, reverse=True, return_sequences=True)
    equal(y[:, ::-1], theirs, 1e-5)
