"""What initialisers draw: the numbers that their papers give, each gate a matrix of its own."""

import jax
import numpy as np
import pytest

import jlstm
from jlstm import GATES, initializers

KEY, D, H = jax.random.key(0), 24, 32


def by_gate(w):
    return dict(zip(GATES, np.moveaxis(np.asarray(w, np.float64), 1, 0), strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_orthogonal_by_gate(dtype):
    tolerance = 1e-5 if dtype == "float32" else 5e-2
    square, flat = (by_gate(initializers.Orthogonal(0.5)(KEY, (n, 4, H), dtype)) for n in (H, D))
    for w in (*square.values(), *flat.values()):
        np.testing.assert_allclose(w @ w.T, 0.25 * np.eye(len(w)), atol=tolerance)
    assert not np.allclose(square["i"], square["f"], atol=0.1)  # one draw a gate


def test_glorot_takes_the_fans_of_one_gate():
    w = np.asarray(initializers.GlorotUniform()(KEY, (D, 4, H), "float32"))
    limit = np.sqrt(6 / (D + H))
    assert 0.99 * limit < np.abs(w).max() <= limit and abs(w.mean()) < 0.02 * limit
    np.testing.assert_allclose(w.std(), limit / np.sqrt(3), rtol=0.03)


def test_biases_of_the_gates():
    b = dict(zip(GATES, np.asarray(initializers.ForgetBias(1.5)(KEY, (4, H), "float32")), strict=True))
    assert (b["f"] == 1.5).all() and not any(b[gate].any() for gate in "igo")
    many = dict(zip(GATES, np.asarray(initializers.Chrono(100)(KEY, (4, 20_000), "float32")), strict=True))
    np.testing.assert_array_equal(many["i"], -many["f"])
    assert not many["g"].any() and not many["o"].any()
    memory = np.exp(many["f"])  # uniform in [1, T - 1]
    assert memory.min() >= 1 - 1e-5 and memory.max() <= 99 + 1e-3
    np.testing.assert_allclose([memory.mean(), memory.std()], [50, 98 / np.sqrt(12)], rtol=0.02)


def test_the_rest():
    assert (initializers.Constant(3.0)(KEY, (2, 3), "float32") == 3).all()
    w = np.asarray(initializers.Normal(0.5)(KEY, (400, 100), "float32"))
    np.testing.assert_allclose([w.mean(), w.std()], [0, 0.5], atol=0.01)
    w = np.asarray(initializers.Uniform(0.25)(KEY, (400, 100), "float32"))
    assert 0.249 < np.abs(w).max() <= 0.25 and abs(w.mean()) < 0.01


def test_a_cell_uses_them():
    cell = jlstm.LSTM(H, forget_bias=initializers.Chrono(50), w_hh_init=initializers.Constant(0.1))
    params = cell.init(KEY, D)
    assert (params.w_hh == np.float32(0.1)).all() and (params.b[GATES.index("f")] > 0).any()
