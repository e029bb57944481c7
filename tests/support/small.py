"""One small ragged problem, comparisons of trees, and one scalar of all that an unroll returns."""

import cases
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


def equal(got, want, tolerance=1e-12, rtol=None):
    """The trees have one structure, and their leaves differ by the tolerance at most, relative and absolute."""
    assert jax.tree.leaves(got)
    rtol = tolerance if rtol is None else rtol
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=tolerance), got, want)


def bitwise(got, want):
    assert jax.tree.leaves(got)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), got, want)


def near(got, want, tolerance, at_least=0.0):
    """Every number of a leaf differs by the tolerance at most, relative to the leaf's largest one."""
    assert jax.tree.leaves(got)

    def leaf(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(at_least, float(np.max(np.abs(b)))))

    jax.tree.map(leaf, got, want)


def check_share(mask, share, *axes):
    """The mask has this share of True, up to five standard errors: over all, or at each place of each axis."""
    for axis in axes or (None,):
        means = np.mean(mask, axis=None if axis is None else tuple({*range(mask.ndim)} - {axis}))
        assert np.max(np.abs(means - share)) < 5 * np.sqrt(share * (1 - share) * np.size(means) / np.size(mask))


def types(tree):
    """(shape, dtype) in place of each array."""
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


def inputs(net, dtype="float64", T=T):
    shape = (B, T, 5, D) if net.feature_axes == 2 else (B, T, D)
    return np.random.default_rng(3).normal(size=shape).astype(dtype)


def problem(net, dtype="float32"):
    """Random parameters, and the inputs."""
    return cases.seeded(net, dtype=dtype), inputs(net, dtype)


def lstm(dtype="float64"):
    """A cell, its parameters, and the inputs."""
    cell = jlstm.LSTM(H, param_dtype=dtype, learn_initial_state=True)
    return cell, *problem(cell, dtype)


def dot(a, b):
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), a, b)))


def total(end, y):
    """A scalar of everything that an unroll returns."""
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((end, y)))


def value(net, backend=None, **options):
    """A function of (params, x, state) that gives the `total` of an unroll."""
    return lambda params, x, state: total(*jlstm.unroll(net, params, x, state=state, backend=backend, **options))
