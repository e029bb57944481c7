"""`flax_nnx.RNN` stands where `nnx.RNN(nnx.OptimizedLSTMCell(...))` stood, under every transform."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import covering
import frameworks
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import B, D, H, T, bitwise, equal, inputs

import jlstm

nnx = pytest.importorskip("flax.nnx", exc_type=ImportError)
flax_nnx = pytest.importorskip("jlstm.flax_nnx", exc_type=ImportError)

X = inputs(jlstm.LSTM(H), "float32")
LENGTHS = np.array([1, 4, T, 3])


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with frameworks.settings():
        yield


# Quick to compile: the default draws orthogonal matrices.
LSTM = functools.partial(jlstm.LSTM, **dict.fromkeys(("w_ih_init", "w_hh_init"), jlstm.initializers.Uniform(0.5)))


def rnn(net: Any = None, size: int | None = D, **options: Any) -> Any:
    return flax_nnx.RNN(LSTM(H) if net is None else net, size, rngs=nnx.Rngs(0), **options)


def flax_cell() -> Any:
    return nnx.OptimizedLSTMCell(D, H, recurrent_kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))


OPTIONS = dict.fromkeys(
    ("reverse", "keep_order", "time_major", "return_carry", "seq_lengths", "initial_carry"), (False, True)
)


@pytest.mark.parametrize("choice", covering.sample(OPTIONS), ids=covering.label)
def test_a_drop_in_for_nnx_rnn(choice: dict[str, bool]) -> None:
    """Options at the call and at the making are the same; outputs behind the end are flax's own and 0 here."""
    mine = rnn()
    cell = flax_cell()
    nnx.update(cell, jlstm.convert.to_flax(mine.net, mine.arrays(), kind="nnx_optimized"))
    options: dict[str, Any] = dict(choice)
    lengths, started = (options.pop(name) for name in ("seq_lengths", "initial_carry"))
    start = jlstm.LSTMState(*np.random.default_rng(1).normal(size=(2, B, H)).astype("float32"))
    arrays = dict(seq_lengths=jnp.asarray(LENGTHS) if lengths else None, initial_carry=start if started else None)
    x = X.swapaxes(0, 1) if choice["time_major"] else X
    carry = dict(initial_carry=jlstm.convert.state_to_flax(start) if started else None)
    theirs = nnx.RNN(cell)(x, **options, **arrays | carry)
    ours = mine(x, **options, **arrays)
    bitwise(rnn(**options)(x, **arrays), ours)
    if choice["return_carry"]:
        (carry, theirs), (end, ours) = theirs, ours
        equal(end, jlstm.convert.state_from_flax(carry), 1e-5, rtol=1e-7)
    valid = (np.arange(T) < LENGTHS[:, None])[..., None] if lengths else np.ones((B, T, 1), bool)
    valid = valid.swapaxes(0, 1) if choice["time_major"] else valid
    equal(ours, theirs * valid, 1e-5, rtol=1e-7)


def test_a_training_step_is_the_functional_one() -> None:
    """nnx.jit, nnx.grad and nnx.Optimizer around the module, against jax's own around `unroll`: bitwise."""
    model, optimizer = rnn(), optax.adam(1e-2)
    cell, params = model.net, model.arrays()
    nnx_optimizer, opt_state = nnx.Optimizer(model, optimizer, wrt=nnx.Param), optimizer.init(params)

    def loss_fn(y: Any) -> Any:
        return jnp.mean(jnp.square(y - 1.0))

    @nnx.jit
    def nnx_step(model: Any, optimizer: Any, x: Any) -> Any:
        loss, grads = nnx.value_and_grad(lambda model: loss_fn(model(x, seq_lengths=LENGTHS)))(model)
        optimizer.update(model, grads)
        return loss

    @jax.jit
    def step(params: Any, opt_state: Any, x: Any) -> Any:
        def loss(params: Any) -> Any:
            return loss_fn(jlstm.unroll(cell, params, x, lengths=LENGTHS, return_sequences=True)[1])

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    for _ in range(3):
        before = params
        want = nnx_step(model, nnx_optimizer, X)
        params, opt_state, got = step(params, opt_state, X)
        assert got == want
    bitwise(model.arrays(), params)
    assert jnp.any(params.w_hh != before.w_hh)


def test_plain_jax_over_a_split_module() -> None:
    """Where flax's own, whose carry draws from a generator, raises."""
    model = rnn(jlstm.Bidirectional(LSTM(H)))
    graph, state = nnx.split(model)
    grads = jax.jit(jax.grad(lambda state: nnx.merge(graph, state)(X).sum()))(state)
    want = jax.jit(jax.grad(lambda p: jlstm.unroll(model.net, p, X, return_sequences=True)[1].sum()))(model.arrays())
    bitwise(nnx.merge(graph, grads).arrays(), want)

    theirs = nnx.split(nnx.RNN(flax_cell()), nnx.Param, ...)
    with pytest.raises(Exception, match="trace level"):
        jax.grad(lambda state: nnx.merge(theirs[0], state, theirs[2])(X).sum())(theirs[1])


def test_an_ensemble_by_vmap() -> None:
    models = nnx.vmap(lambda key: flax_nnx.RNN(LSTM(H), D, rngs=nnx.Rngs(key)))(jax.random.split(jax.random.key(0), 3))
    y = nnx.vmap(lambda model, x: model(x), in_axes=(0, None))(models, X)
    want = jax.vmap(lambda p: jlstm.unroll(LSTM(H), p, X, return_sequences=True)[1])(models.arrays())
    assert y.shape == (3, B, T, H) and jnp.any(y[0] != y[1])
    equal(y, want, 1e-6, rtol=1e-7)


def test_noise_ids_and_files(tmp_path: Path) -> None:
    model = rnn(jlstm.Stack((jlstm.Embed(7, D), jlstm.Dropout(0.5), LSTM(H))), None)
    ids = np.arange(B * T).reshape(B, T) % 7
    quiet, loud = model(ids), model(ids, rngs=nnx.Rngs(dropout=3))
    want = jlstm.unroll(model.net, model.arrays(), ids, return_sequences=True, key=nnx.Rngs(dropout=3).dropout())[1]
    bitwise(loud, want)
    bitwise(model(ids, rngs=nnx.Rngs(dropout=3).dropout), want)
    assert jnp.any(quiet != loud)
    bitwise(model(ids, initial_carry=model.initial_state((B,))), quiet)
    jlstm.save(tmp_path / "model.safetensors", model.net, model.arrays())
    net, params = jlstm.load(tmp_path / "model.safetensors")
    bitwise(jlstm.unroll(net, params, ids, return_sequences=True)[1], quiet)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"unroll: state: expected LSTMState"):
        rnn()(X, initial_carry=(np.zeros((B, H), "float32"),) * 2)
    with pytest.raises(TypeError, match="RNN: net: expected a Cell or a Layer, got int"):
        flax_nnx.RNN(5, 3, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"LSTM.init: input_size"):
        flax_nnx.RNN(LSTM(H), rngs=nnx.Rngs(0))
