"""The backend "associative": the loop's numbers without a loop, what it refuses, and who picks it."""

from __future__ import annotations

import functools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import RAGGED, B, D, T, dot, equal, near, problem, total, value

import jlstm
from experiments.benchmark import linear
from jlstm import kernels
from jlstm.cells import MinLSTMParams
from jlstm.kernels.native import load
from jlstm.kernels.scan import Options

BOTH = ("hoisted", "associative")
NET = jlstm.MinLSTM(cases.H, learn_initial_state=True)
MIXED = jlstm.Stack((NET, jlstm.Dropout(0.4), jlstm.Bidirectional(jlstm.MinLSTM(3)), jlstm.Dense(2)))


def arrays(net=NET, dtype="float64"):
    """Parameters, inputs, state."""
    params, x = problem(net, dtype)
    return params, x, cases.random_state(np.random.default_rng(0), net, params, (B,))


def along(tree):
    """A random direction."""
    return cases.random_tree(np.random.default_rng(1), tree)


@pytest.mark.parametrize("net", [NET, pytest.param(MIXED, marks=pytest.mark.slow)], ids=["cell", "stack"])
def test_values_and_derivatives(x64, net):
    """Those of "scan", with everything on, noise between layers too: gradients and Hessian-vector products."""
    args = arrays(net)
    choices = [
        dict(return_sequences=True),
        dict(reverse=True, checkpoint_every=3),
        dict(truncate_every=2),
        dict(truncate_every=2, reverse=True, return_sequences=True),
    ]

    def f(params, x, state, backend, options):
        result = jlstm.unroll(net, params, x, state=state, key=jax.random.key(1), backend=backend, **RAGGED, **options)
        return total(*result), result

    @functools.partial(jax.jit, static_argnums=0)
    def run(backend, args):
        fs = [functools.partial(f, backend=backend, options=options) for options in choices]
        return [jax.jvp(jax.value_and_grad(g, (0, 1, 2), has_aux=True), args, along(args)) for g in fs]

    equal(run("associative", args), run("scan", args))


def test_forward_mode_and_vmap(x64):
    args = arrays()
    v = along(args)

    def f(params, x, state, options):
        return total(*jlstm.unroll(NET, params, x, state=state, backend="associative", **options))

    @jax.jit
    def run(args, options):
        whole = functools.partial(f, options=options)
        forward, reverse = jax.jvp(whole, args, v)[1], dot(jax.grad(whole, (0, 1, 2))(*args), v)
        each = jax.vmap(jax.value_and_grad(f, 1), (None, 0, 0, 0))(*args, options)
        return forward, reverse, each, jax.value_and_grad(f, 1)(*args, options)

    forward, reverse, each, whole = run(args, RAGGED)
    equal(forward, reverse)
    equal((jnp.sum(each[0]), each[1]), whole)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
def test_long_sequences_agree(reverse):
    """T = 4,096 in float32, episodes and holes: 1e-5 in values; gradients, sums of 4,096 terms, 1e-5 of the largest."""
    rng = np.random.default_rng(0)
    params, state = arrays(dtype="float32")[::2]
    x = rng.normal(size=(B, 4096, D)).astype("float32")
    masks = dict(resets=rng.random((B, 4096)) < 0.002, mask=rng.random((B, 4096)) < 0.9)

    def f(params, x, backend):
        options = dict(reverse=reverse, return_sequences=True, **masks)
        result = jlstm.unroll(NET, params, x, state=state, backend=backend, **options)
        return total(*result), result

    run = jax.jit(jax.grad(f, (0, 1), has_aux=True), static_argnums=2)
    (want_grads, want), (got_grads, got) = (run(params, x, backend) for backend in BOTH)
    equal(got, want, 1e-5)
    near(got_grads, want_grads, 1e-5)


def test_no_loop_over_time():
    """Neither in the program nor in its gradient, with everything on; "hoisted" has one, and the test sees it."""
    loops = {}
    for backend in BOTH:
        f = value(NET, backend, truncate_every=3, return_sequences=True, **RAGGED)
        lowered = jax.jit(jax.value_and_grad(f, (0, 1, 2))).lower(*arrays(dtype="float32"))
        loops[backend] = lowered.as_text().count("while"), lowered.compile().as_text().count(" while(")
    assert loops["associative"] == (0, 0) and min(loops["hoisted"]) > 0, loops


def test_the_arrays_that_the_gradient_keeps():
    """Arrays over all T steps, and none of half the steps or less, which are the rounds' own."""
    params, x = problem(NET)

    def kept(params, x):
        return jax.vjp(lambda *a: jlstm.unroll(NET, *a, return_sequences=True, backend="associative")[1], params, x)[1]

    x = np.tile(x, (1, 8, 1))
    leading = [leaf.shape[0] for leaf in jax.tree.leaves(jax.eval_shape(kept, params, x)) if leaf.ndim == 3]
    assert set(leading) == {8 * T, D}  # D: the weights


@pytest.mark.slow
def test_the_race_is_between_equals():
    runs = {name: call() for name, call in linear.calls(2, 5, 3, 4).items()}
    for kind in ("forward", "both"):
        equal(runs[f"associative {kind}"], runs[f"hoisted {kind}"], 1e-5)


def test_gates_that_are_shut():
    """Both at -1e4: f/(f+i) is 0/0 in the paper's form, and a half here; the larger one wins."""
    z = np.array([[[-1e4, -1e4, 3.0], [-1e4, -2e4, 5.0], [-2e4, -1e4, 7.0]]], "float32")
    net, params = jlstm.MinLSTM(1, use_bias=False), MinLSTMParams(jnp.eye(3)[..., None], None)
    for backend in BOTH:
        equal(jlstm.unroll(net, params, z, return_sequences=True, backend=backend)[1][0, :, 0], [1.5, 5.0, 5.0], 1e-6)


def test_other_cells_are_refused(monkeypatch):
    @jlstm.record
    class Mine(jlstm.MinLSTM):
        pass

    only = "backend: 'associative' runs MinLSTM alone"
    for net, name in ((Mine(4), "Mine"), (jlstm.Stack((NET, jlstm.LSTM(2))), "LSTM"), (jlstm.LSTM(4), "LSTM")):
        params, x = problem(net)
        with pytest.raises(NotImplementedError, match=rf"unroll: {only}.*got {name}"):
            jlstm.unroll(net, params, x, backend="associative")
        with pytest.raises(NotImplementedError, match=rf"step: backend: .*got {name}"):
            jlstm.step(net, params, None, x[:, 0], backend="associative")
    monkeypatch.setenv("JLSTM_BACKEND", "associative")
    with pytest.raises(NotImplementedError, match="got LSTM"):
        jlstm.unroll(net, params, x)


def test_without_a_name_the_platform_decides(monkeypatch):
    """The loop on CPU, the parallel form elsewhere, for this cell alone."""

    def program(backend):
        return jax.jit(lambda *args: jlstm.unroll(NET, *args, backend=backend)).lower(*problem(NET)).as_text()

    assert program(None) == program("hoisted") != program("associative")
    picked = {}
    for platform in ("cpu", "gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        chosen = picked[platform] = []
        for cell in (NET, jlstm.LSTM(4)):
            params = cell.init(jax.random.key(0), 3)
            chosen.append(kernels.choose(Options(), cell, params, cell.initial_state(params), jnp.ones((7, 3))))
    on_cpu = ["hoisted", "native" if load()[0] else "hoisted"]
    assert picked == {"cpu": on_cpu, "gpu": ["associative", "hoisted"], "tpu": ["associative", "hoisted"]}
