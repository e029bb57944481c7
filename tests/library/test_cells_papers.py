"""Cells of four papers, beyond what the contract has: other frameworks' numbers, and each cell's own promises."""

from __future__ import annotations

import dataclasses
import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import oracle_papers
import pytest
from compiled import dots_in_loops
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from small import RAGGED, B, D, T, bitwise, equal, inputs, value

import jlstm

H = cases.H
# With the number of products that a step has with the state.
CELLS = [
    (jlstm.LayerNormLSTM(H), 1),
    (jlstm.SLSTM(H, heads=2), 1),
    (jlstm.MinLSTM(H), 0),
    (jlstm.OriginalLSTM(H, block_size=2), 2),
]
ids = dict(ids=lambda value: type(value).__name__ if dataclasses.is_dataclass(value) else str(value))


def random(net, dtype="float32"):
    return cases.random_params(np.random.default_rng(0), net, dtype)


@pytest.mark.parametrize("net, recurrent", CELLS, **ids)
def test_no_weight_gradient_in_the_loop(net, recurrent):
    """One product forward, one backward for each recurrent weight."""
    x = inputs(net, "float32")
    text = jax.jit(jax.grad(value(net, "hoisted", return_sequences=True))).lower(random(net), x, None).as_text()
    assert dots_in_loops(text) == 2 * recurrent


@pytest.mark.parametrize("net, _", CELLS, **ids)
def test_files_and_dtypes(net, _, tmp_path):
    """`load` gives what was saved; bfloat16 operands leave the accumulators in float32, near float32's numbers."""
    net = dataclasses.replace(net, learn_initial_state=True)
    params, x = random(net), inputs(net, "float32")
    jlstm.save(tmp_path / "a.safetensors", net, params)
    loaded, again = jlstm.load(tmp_path / "a.safetensors")
    assert loaded == net and hash(loaded) == hash(net) and type(again) is type(params)
    bitwise(again, params)
    half = dataclasses.replace(net, compute_dtype="bfloat16")
    assert half != net
    end, y = jlstm.unroll(half, params, x, return_sequences=True)
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == ("bfloat16" if name == "h" else "float32") for name, leaf in end._asdict().items())
    np.testing.assert_allclose(
        y.astype("float32"), jlstm.unroll(net, params, x, return_sequences=True)[1], atol=0.1, rtol=0.1
    )
    named = {name for group in net.state_groups for name in group}
    assert named == set(end._fields) and set(net.recurrent_params) <= set(params._fields)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
@pytest.mark.parametrize("net, _", CELLS, **ids)
def test_mesh(net, _, kind):
    """Batch and hidden axes over a 2 x 2 mesh: the same numbers, and no weight is gathered."""
    net = dataclasses.replace(net, hidden_size=8)
    if isinstance(net, jlstm.SLSTM) and kind == AxisType.Explicit:
        net = dataclasses.replace(net, heads=1)  # more than one head do not go over such an axis
    params, x = random(net), inputs(net, "float32")
    f = jax.value_and_grad(value(net, return_sequences=True, **RAGGED), (0, 1))
    want = jax.jit(f)(params, x, None)
    mesh = jax.make_mesh((2, 2), ("b", "h"), axis_types=(kind,) * 2)
    split = jax.tree.map(lambda a: NamedSharding(mesh, P(*(None,) * (a.ndim - 1), "h")), params)
    with jax.set_mesh(mesh):
        args = jax.device_put(params, split), jax.device_put(x, NamedSharding(mesh, P("b"))), None
        compiled = jax.jit(f).lower(*args).compile()
        equal(jax.device_get(compiled(*args)), want, 2e-5)
    gathered = set(re.findall(r"f32\[([\d,]*)\]\S* all-gather", compiled.as_text()))
    assert not gathered & {",".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(params) if leaf.ndim > 2}


# ---- LayerNormLSTM


def test_layer_norm_is_torchs():
    """Its `layer_norm`, over both axes `[4, H]`; float32, random weights, values and gradients."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    net = jlstm.LayerNormLSTM(H, epsilon=1e-3)
    params, x = random(net), inputs(net, "float32")
    weights = np.random.default_rng(1).normal(size=(B, T, H)).astype("float32")

    def loss(params, x):
        y = jlstm.unroll(net, params, x, return_sequences=True)[1]
        return jnp.sum(y * weights), y

    gradient = jax.grad(loss, (0, 1), has_aux=True)
    grads, y = jax.jit(gradient)(params, x)
    p = type(params)(*[None if a is None else torch.tensor(a, requires_grad=True) for a in params])
    x_t = torch.tensor(x, requires_grad=True)
    h, c, ys = torch.zeros(B, H), torch.zeros(B, H), []

    def norm(a, gain, bias):
        return torch.nn.functional.layer_norm(a, gain.shape, gain, bias, net.epsilon)

    for t in range(T):
        z = norm(torch.einsum("bd,dgh->bgh", x_t[:, t], p.w_ih), p.gain_ih, p.bias_ih)
        z = z + norm(torch.einsum("bd,dgh->bgh", h, p.w_hh), p.gain_hh, p.bias_hh) + p.b
        i, f, g, o = z.unbind(1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * norm(c, p.gain_c, p.bias_c).tanh()
        ys.append(h)
    got = torch.stack(ys, 1)
    (got * torch.tensor(weights)).sum().backward()
    equal(y, got.detach().numpy(), 1e-5)
    equal(grads, (type(params)(*[a if a is None else a.grad.numpy() for a in p]), x_t.grad.numpy()), 1e-4)


def test_layer_norm_is_blind_to_scale():
    """W, U and, through them, x ten times as large: the same output, as far as ε is small."""
    net = jlstm.LayerNormLSTM(H, epsilon=1e-12)
    params, x = random(net), inputs(net, "float32")
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
    np.testing.assert_allclose(gated(z)[1][0, :, 0], [1.0, 1.0, -1.0], atol=1e-6)


def test_slstm_heads_do_not_see_each_other(x64):
    """Block-diagonal: one head of a dense R with zeros in its place is the same; h of one head reaches no other."""
    net, dense = jlstm.SLSTM(H, heads=2), jlstm.SLSTM(H)
    params, x = random(net, "float64"), inputs(net)
    w = np.zeros((H, 1, 4, H))
    for k in (0, 1):
        w[2 * k : 2 * k + 2, 0, :, 2 * k : 2 * k + 2] = params.w_hh[:, k]
    run = jax.jit(jlstm.unroll, static_argnames="return_sequences")
    equal(run(net, params, x, return_sequences=True), run(dense, params._replace(w_hh=w), x, return_sequences=True))
    with pytest.raises(ValueError, match=r"SLSTM: heads: expected a divisor of hidden_size = 4, got 3."):
        jlstm.SLSTM(H, heads=3)
    with pytest.raises(ValueError, match=r"SLSTM: forget_gate: expected one of 'sigmoid', 'exp', got 'tanh'."):
        jlstm.SLSTM(H, forget_gate="tanh")


# ---- OriginalLSTM


@pytest.mark.parametrize("backend", ["hoisted", pytest.param("scan", marks=pytest.mark.slow)])
def test_the_papers_learning_rule(x64, backend):
    """`truncated_gradient=True` against the derivatives that the paper carries forward in time; another gradient."""
    net = jlstm.OriginalLSTM(6, block_size=2, truncated_gradient=True)
    params, x = random(net, "float64"), inputs(net)
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
