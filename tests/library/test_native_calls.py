"""Calls that the native kernel refuses or leaves to XLA, wrong calls of its library, and where there is none."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import B, D, H, T, bitwise, equal, lstm, near, problem, total, value

import jlstm
from jlstm.kernels import available
from jlstm.kernels.native import calls, load, primitives

pytestmark = pytest.mark.skipif(load()[0] is None, reason=f"the native kernel {load()[1]}")


@pytest.mark.parametrize(
    "cell, dtype, says",
    [
        (jlstm.GRU(H), "float32", "runs LSTM alone, got GRU"),
        (jlstm.LSTM(H, activation="relu"), "float32", "runs the activations tanh and sigmoid alone"),
        (jlstm.LSTM(H), "bfloat16", "runs float32 alone"),
        (jlstm.LSTM(H, compute_dtype="bfloat16"), "float32", "runs float32 alone"),
    ],
)
def test_a_refused_call_says_why(cell, dtype, says):
    params, x = problem(cell, dtype)
    with pytest.raises(NotImplementedError, match=f"^unroll: backend: 'native' {says}. Type backend='hoisted'\\."):
        jlstm.unroll(cell, params, x, backend="native")
    equal(*(jlstm.unroll(cell, params, x, backend=backend) for backend in (None, "hoisted")), 1e-6)


def test_a_call_with_wrong_shapes_is_an_error():
    """The library checks every array itself: a wrong call never gives a number."""
    good = calls.Inputs(
        *(jnp.zeros(shape) for shape in ((1, B, T, D), (1, D, 4, H), (1, H, 4, H), (1, 4, H))),
        *(jnp.zeros((1, B, H)) for _ in range(2)),
        *(jnp.zeros((1, 0, 0)) for _ in range(2)),
        *(jnp.zeros((1, 0, 0), bool) for _ in range(2)),
        jnp.zeros((1, 0), bool),
        jnp.zeros((1, 0, 0)),
    )
    form = calls.Form(True, False, False, None)
    primitives.forward.bind(*good, form=form, train=False)
    wrong = {"w_ih": (1, D + 1, 4, H), "b": (1, 4, H + 1), "h0": (1, B + 1, H), "valid": (1, T, B)}
    for name, shape in wrong.items():
        bad = good._replace(**{name: jnp.zeros(shape, getattr(good, name).dtype)})
        with pytest.raises(
            Exception, match=rf"native: {name}: expected \[1, .*\], got \[{', '.join(map(str, shape))}\]"
        ):
            primitives.forward.bind(*bad, form=form, train=False)
    for name, array in {"x": jnp.zeros((B, T, D)), "w_hh": jnp.zeros((1, H, 4, H), jnp.float16)}.items():
        with pytest.raises(Exception, match=r"(?i)rank|dtype|type|tuple|unpack"):
            jax.block_until_ready(primitives.forward.bind(*good._replace(**{name: array}), form=form, train=False))


@pytest.mark.parametrize("rows, units, chosen", [(1, 362, True), (1, 363, False), (2, 363, True)])
def test_one_row_of_a_large_weight_is_left_to_xla(rows, units, chosen):
    cell = jlstm.LSTM(units)
    params = jax.eval_shape(lambda key: cell.init(key, D), jax.random.key(0))
    x = jax.ShapeDtypeStruct((rows, T, D), "float32")
    text = jax.jit(lambda params, x: jlstm.unroll(cell, params, x)).lower(params, x).as_text()
    assert ("@jlstm_lstm_" in text) == chosen


def test_available(monkeypatch):
    assert available() == dict.fromkeys(("scan", "hoisted", "associative", "native"))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert available()["native"] == "runs on a CPU, and JAX's default here is gpu"
    cell, params, x = lstm("float32")
    with pytest.raises(NotImplementedError, match="'native' runs on a CPU, and JAX's default here is gpu"):
        jlstm.unroll(cell, params, x[:, :2], backend="native")


def test_an_instruction_set_that_is_not_here_is_an_error(monkeypatch):
    monkeypatch.setenv("JLSTM_NATIVE_TARGET", "sse9")
    with pytest.raises(ValueError, match=r"^kernels: JLSTM_NATIVE_TARGET: expected one of .*'portable', got 'sse9'\.$"):
        load.__wrapped__()


def test_without_the_library_jax_computes(monkeypatch):
    """As after an installation without a compiler."""
    cell, params, x = lstm("float32")
    want = jlstm.unroll(cell, params, x)
    jax.clear_caches()
    monkeypatch.setattr(sys.modules["jlstm.kernels.native"], "load", lambda: (None, "was not built"))
    assert "jlstm_lstm_" not in jax.jit(functools.partial(jlstm.unroll, cell)).lower(params, x).as_text()
    near(jlstm.unroll(cell, params, x), want, 1e-6)
    with pytest.raises(NotImplementedError, match="'native' was not built"):
        jlstm.unroll(cell, params, x, backend="native")
    jax.clear_caches()


def test_no_steps_leave_no_gradient_unwritten():
    """With resets, and a learned initial state that nothing begins from."""
    cell = jlstm.LSTM(500, learn_initial_state=True)
    params, state = cell.init(jax.random.key(0), D), jlstm.LSTMState(*jnp.ones((2, 64, 500)))

    def f(params):
        return total(*jlstm.unroll(cell, params, jnp.ones((64, 0, D)), state=state, resets=jnp.ones((64, 0), bool)))

    assert not any(np.any(g) for g in jax.tree.leaves(jax.grad(f)(params)))


def test_repeated_calls_give_the_same_bits():
    cell, params, x = lstm("float32")
    f = jax.jit(jax.value_and_grad(value(cell, "native", return_sequences=True), (0, 1)))
    first = f(params, x, None)
    for _ in range(50):
        bitwise(f(params, x, None), first)
