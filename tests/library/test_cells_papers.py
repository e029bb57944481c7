"""Cells of four papers: beside the contract, each cell's own promises."""

from __future__ import annotations

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import oracle_papers
import pytest
from small import B, D, T, equal, inputs, problem

import jlstm

H = cases.H

# ---- LayerNormLSTM


def test_layer_norm_is_torchs():
    """The norm over both axes `[4, H]`, values and gradients; the contract shows that the cell is made of it."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    rng = np.random.default_rng(0)
    *arrays, weights = (rng.normal(size=shape).astype("float32") for shape in ((B, 4, H), (4, H), (4, H), (B, 4, H)))

    def ours(a, gain, bias):
        y = jnp.stack(jlstm.cells.layer_norm.normalize(list(jnp.moveaxis(a, 1, 0)), gain, bias, 1e-3), 1)
        return jnp.sum(y * weights), y

    grads, y = jax.jit(jax.grad(ours, (0, 1, 2), has_aux=True))(*arrays)
    a, gain, bias = theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    want = torch.nn.functional.layer_norm(a, (4, H), gain, bias, 1e-3)
    (want * torch.tensor(weights)).sum().backward()
    equal((y, grads), (want.detach().numpy(), tuple(a.grad.numpy() for a in theirs)), 1e-5)


def test_layer_norm_is_blind_to_scale():
    """W, U and, through them, x ten times as large: the same output, as far as ε is small."""
    net = jlstm.LayerNormLSTM(H, epsilon=1e-12)
    params, x = problem(net)
    scaled = params._replace(w_ih=10 * params.w_ih, w_hh=0.1 * params.w_hh)
    equal(jlstm.unroll(net, scaled, x)[1], jlstm.unroll(net, params, x)[1], 1e-4)
    with pytest.raises(ValueError, match=r"LayerNormLSTM: epsilon: expected a finite number >= 1e-12, got 0"):
        jlstm.LayerNormLSTM(H, epsilon=0)


# ---- SLSTM


def gated(z, state=None, **options):
    """An sLSTM of one cell whose gates are z `[B, T, 4]`, in the dtype of z: the final state and h `[B, T, 1]`."""
    net = jlstm.SLSTM(1, use_bias=False, **options)
    params = jlstm.cells.SLSTMParams(jnp.eye(4, dtype=z.dtype)[..., None], jnp.zeros((1, 1, 4, 1), z.dtype), None)
    return jlstm.unroll(net, params, z, state=state, return_sequences=True)


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
def test_slstm_is_a_weighted_mean(x64, forget_gate):
    """Without the stabiliser, h is a mean of all candidates, weighted by exp(z_i) and all forget gates since."""
    z = 2 * np.random.default_rng(0).normal(size=(B, T, 4))
    end, h = gated(z, forget_gate=forget_gate)
    forget = np.exp(z[..., 1]) if forget_gate == "exp" else 1 / (1 + np.exp(-z[..., 1]))
    for t in range(T):
        weights = np.stack([np.exp(z[:, s, 0]) * np.prod(forget[:, s + 1 : t + 1], 1) for s in range(t + 1)], 1)
        mean = np.sum(weights * np.tanh(z[:, : t + 1, 2]), 1) / np.sum(weights, 1)
        equal(h[:, t, 0], mean / (1 + np.exp(-z[:, t, 3])))
    equal((end.n * np.exp(end.m))[:, 0], np.sum(weights, 1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
def test_slstm_does_not_overflow(forget_gate, dtype):
    """All gates at 0 and ±1e4, each combination first, then random ones: h is a mean of candidates, with gradients."""
    gates = np.stack(np.meshgrid(*[[-1e4, 0.0, 1e4]] * 4), -1).reshape(-1, 4)
    rng = np.random.default_rng(0)
    z = jnp.asarray(np.concatenate([gates[:, None], rng.choice([-1e4, 0.0, 1e4], (len(gates), 9, 4))], 1), dtype)

    def loss(z):
        end, h = gated(z, forget_gate=forget_gate)
        return jnp.sum(h.astype("float32")), (end, h)

    gradient, (end, h) = jax.jit(jax.grad(loss, has_aux=True))(z)
    for leaf in (*jax.tree.leaves(end), h, gradient):
        assert jnp.all(jnp.isfinite(leaf.astype("float32")))
    assert jnp.all(jnp.abs(h) <= 1) and jnp.all(end.n >= 1) and jnp.any(gradient != 0)
    first = np.where(gates[:, 3] > 0, 1.0, np.where(gates[:, 3] < 0, 0.0, 0.5)) * np.sign(gates[:, 2])
    np.testing.assert_array_equal(h[:, 0, 0].astype("float32"), first)  # whatever i and f are


def test_slstm_forgets_by_what_is_stored():
    """One candidate after another: the larger exponent wins, and an open forget gate keeps it."""
    z = np.array([[[50.0, 0.0, 9.0, 99.0], [-50.0, 99.0, -9.0, 99.0], [300.0, 99.0, -9.0, 99.0]]], "float32")
    equal(gated(z)[1][0, :, 0], [1.0, 1.0, -1.0], 1e-6, rtol=0)


def test_slstm_heads_do_not_see_each_other(x64):
    """Block-diagonal: one head of a dense R with zeros in its place is the same; h of one head reaches no other."""
    net, dense = jlstm.SLSTM(H, heads=2), jlstm.SLSTM(H)
    params, x = problem(net, "float64")
    w = np.zeros((H, 1, 4, H))
    for k in (0, 1):
        w[2 * k : 2 * k + 2, 0, :, 2 * k : 2 * k + 2] = params.w_hh[:, k]
    whole = params._replace(w_hh=w)
    equal(*(jlstm.unroll(*given, x, return_sequences=True) for given in ((net, params), (dense, whole))))
    with pytest.raises(ValueError, match=r"SLSTM: heads: expected a divisor of hidden_size = 4, got 3."):
        jlstm.SLSTM(H, heads=3)
    with pytest.raises(ValueError, match=r"SLSTM: forget_gate: expected one of 'sigmoid', 'exp', got 'tanh'."):
        jlstm.SLSTM(H, forget_gate="tanh")


# ---- OriginalLSTM


@pytest.mark.parametrize("backend", ["hoisted", pytest.param("scan", marks=pytest.mark.slow)])
def test_the_papers_learning_rule(x64, backend):
    """`truncated_gradient=True` against the derivatives that the paper carries forward in time; another gradient."""
    net = jlstm.OriginalLSTM(6, block_size=2, truncated_gradient=True)
    params, x = problem(net, "float64")
    errors = np.random.default_rng(1).normal(size=(B, T, 6))

    def gradient(net):
        def loss(params):
            return jnp.sum(errors * jlstm.unroll(net, params, x, return_sequences=True, backend=backend)[1])

        return jax.jit(jax.grad(loss))(params)

    truncated, whole = gradient(net), gradient(dataclasses.replace(net, truncated_gradient=False))
    rules = [oracle_papers.original_lstm_learning_rule(net, params, *row) for row in zip(x, errors, strict=True)]
    for name in ("w_ih", "w_hh", "b", "w_ih_gates", "w_hh_gates", "b_gates"):
        want = sum(rule[name] for rule in rules)
        equal(getattr(truncated, name), want)
        assert np.max(np.abs(getattr(whole, name) - want)) > 1e-3


def test_a_block_shares_its_gates():
    """Cells of a block differ by their own weights alone, and what a shut output gate hides stays in c."""
    net = jlstm.OriginalLSTM(4, block_size=2, output_bias=-99.0, input_bias=99.0)
    params = net.init(jax.random.key(0), D)
    assert params.w_hh_gates.shape == (4, 2, 2) and np.array_equal(params.b_gates, [[99.0] * 2, [-99.0] * 2])
    end, y = jlstm.unroll(net, params, inputs(net, "float32"))
    assert not np.any(np.abs(y) > 1e-6) and np.abs(end.c).min() > 1e-6
    with pytest.raises(ValueError, match=r"OriginalLSTM: block_size: expected a divisor of hidden_size = 4, got 3."):
        jlstm.OriginalLSTM(4, block_size=3)
