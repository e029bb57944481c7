"""One small ragged problem, and one scalar of all that an unroll returns."""

import jax
import jax.numpy as jnp
import numpy as np

import jlstm

B, T, D, H = 4, 7, 3, 5
RAGGED = dict(
    lengths=np.array([0, 3, 7, 20]),
    mask=np.random.default_rng(1).random((B, T)) < 0.8,
    resets=np.random.default_rng(2).random((B, T)) < 0.3,
)


def equal(got, want, tolerance=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, want)


def bitwise(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), got, want)


def lstm(dtype="float64"):
    cell = jlstm.LSTM(H, param_dtype=dtype, learn_initial_state=True)
    params = cell.init(jax.random.key(0), D)
    noise = np.random.default_rng(0)
    return cell, jax.tree.map(lambda a: a + 0.3 * noise.normal(size=a.shape).astype(dtype), params)


def inputs(net, dtype="float64", T=T):
    shape = (B, T, 5, D) if net.feature_axes == 2 else (B, T, D)
    return np.random.default_rng(3).normal(size=shape).astype(dtype)


def value(net, backend=None, **options):
    """A scalar of everything that an unroll returns."""

    def f(params, x, state):
        end, y = jlstm.unroll(net, params, x, state=state, backend=backend, **options)
        return jnp.sum(jnp.sin(y)) + sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(end))

    return f


def dot(a, b):
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), a, b)))


def total(end, y):
    """A scalar of everything that an unroll returns."""
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((end, y)))
