"""Cells of four papers, beyond what the contract has: other frameworks' numbers, and each cell's own promises."""

from __future__ import annotations

import dataclasses
import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from small import RAGGED, B, T, bitwise, equal, inputs, value
from test_programs import dots_in_loops

import jlstm

H = cases.H
CELLS = [(jlstm.LayerNormLSTM(H), 1)]  # and how many products a step has with the state
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
@pytest.mark.parametrize("net, _", CELLS, **ids)
def test_mesh(net, _):
    """Batch and hidden axes over a 2 x 2 mesh: the same numbers, and no weight is gathered."""
    net = dataclasses.replace(net, hidden_size=8)
    params, x = random(net), inputs(net, "float32")
    f = jax.value_and_grad(value(net, return_sequences=True, **RAGGED), (0, 1))
    want = jax.jit(f)(params, x, None)
    mesh = jax.make_mesh((2, 2), ("b", "h"), axis_types=(AxisType.Auto,) * 2)
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
    net = jlstm.LayerNormLSTM(H, epsilon=1e-3)
    params, x = random(net), inputs(net, "float32")
    weights = np.random.default_rng(1).normal(size=(B, T, H)).astype("float32")

    def loss(params, x):
        y = jlstm.unroll(net, params, x, return_sequences=True)[1]
        return jnp.sum(y * weights), y

    grads, y = jax.grad(loss, (0, 1), has_aux=True)(params, x)
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
