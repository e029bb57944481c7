"""Initialisers draw the numbers that their papers give, each gate a matrix of its own."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from small import equal

import jlstm
from jlstm import GATES, initializers

KEY, D, H = jax.random.key(0), 24, 32


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(H, 4, H), (H, 4, D), (D, 4, H), (D, 2, 3, H), (H, D), (1, 4, 1)])
def test_orthogonal_by_gate(dtype, shape, x64):
    w = np.asarray(initializers.Orthogonal(0.5)(KEY, shape, dtype))
    assert w.shape == shape and w.dtype == dtype
    gates = list(np.moveaxis(w.reshape(shape[0], -1, shape[-1]).astype(np.float64), 1, 0))
    for gate in gates:
        small = gate if shape[0] <= shape[-1] else gate.T
        tolerance = {"float32": 1e-6, "float64": 1e-15, "bfloat16": 1e-2}[dtype]
        np.testing.assert_allclose(small @ small.T, 0.25 * np.eye(len(small)), atol=tolerance)
    assert shape[-1] == 1 or all(not np.allclose(gates[0], gate, atol=0.1) for gate in gates[1:])  # one draw a gate


def test_orthogonal_is_uniform_among_orthogonal_matrices():
    """Haar's moments: for Q [N, N], E tr Q = 0, E (tr Q)² = E tr Q² = 1, E (tr Q)⁴ = 3 (Diaconis & Shahshahani 1994);
    an entry has mean 0, variance 1/N and fourth moment 3/(N (N + 2)). Bounds are five standard errors."""
    N, draws = 5, 20_000
    for shape in ((N, N), (N, N - 2), (N - 2, N)):
        draw = jax.jit(jax.vmap(lambda key, shape=shape: initializers.Orthogonal()(key, shape, "float32")))
        q = np.asarray(draw(jax.random.split(KEY, draws)), np.float64)
        moments = [(q, 0), (q**2, 1 / N), (q**4, 3 / (N * (N + 2)))]
        if shape == (N, N):
            trace = np.trace(q, axis1=1, axis2=2)
            moments += [(trace, 0), (trace**2, 1), (trace**4, 3), (np.trace(q @ q, axis1=1, axis2=2), 1)]
            moments += [(np.linalg.det(q), 0)]
        for sample, mean in moments:
            assert (np.abs(sample.mean(0) - mean) < 5 * sample.std(0) / np.sqrt(draws)).all()


def test_orthogonal_is_a_function_of_the_key():
    """Bitwise, under jit; over seeds and sharded over H up to rounding."""

    def draw(key):
        return initializers.Orthogonal()(key, (H, 4, H), "float32")

    keys = jax.random.split(KEY, 3)
    want = np.stack([jax.jit(draw)(key) for key in keys])
    np.testing.assert_array_equal(jax.jit(draw)(keys[0]), want[0])
    assert not np.isclose(want[0], want[1]).any(axis=-1).all()
    equal(draw(keys[0]), want[0], 1e-6, rtol=1e-7)
    equal(jax.jit(jax.vmap(draw))(keys), want, 1e-6, rtol=1e-7)
    mesh = jax.make_mesh((4,), ("model",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec(None, None, "model"))
    sharded = jax.jit(draw, out_shardings=sharding)(keys[0])
    assert sharded.sharding == sharding
    equal(sharded, want[0], 1e-6, rtol=1e-7)


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
