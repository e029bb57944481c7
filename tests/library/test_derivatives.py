"""Derivatives of the default backend: every mode of both orders, under vmap, and truncated ones."""

import itertools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sketches
from small import RAGGED, B, D, T, dot, equal, inputs, total, value

import jlstm

H = cases.H
GRUS = [jlstm.GRU(2), sketches.LSTMP(), jlstm.GRU(2, reset_after=False)]
SLOW = [*GRUS, jlstm.PeepholeLSTM(2), jlstm.CoupledLSTM(2), jlstm.ProjectedLSTM(3, 2)]
CELLS = [jlstm.LSTM(2, learn_initial_state=True), *(pytest.param(cell, marks=pytest.mark.slow) for cell in SLOW)]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
def test_every_mode_of_both_orders(x64, cell):
    """Forward, reverse, and each over each are one number: the finite difference. The Hessian is the ordinary scan's.

    One program; `check_grads`, which is slow, compiles many.
    """
    rng, options = np.random.default_rng(0), {name: a[1:3, ...] for name, a in RAGGED.items()}
    params = cell.init(jax.random.key(0), D)
    like = params, jnp.ones((2, T, D)), cell.initial_state(params, (2,))
    args, v, w = (jax.tree.map(lambda a: rng.normal(size=a.shape), like) for _ in range(3))
    scan, f = (value(cell, backend, return_sequences=True, **options) for backend in cases.BACKENDS)

    def forward(f, v):
        return lambda *args: jax.jvp(f, args, v)[1]

    def reverse(f, v):
        return lambda *args: dot(jax.grad(f, (0, 1, 2))(*args), v)

    def derivatives(args):
        first = [mode(f, v)(*args) for mode in (forward, reverse)]
        second = [outer(inner(f, v), w)(*args) for inner in (forward, reverse) for outer in (forward, reverse)]
        return first, second, [jax.hessian(g, 2)(*args) for g in (scan, f)]

    derivatives, values = (jax.jit(g) for g in (derivatives, f))
    first, second, (want, got) = derivatives(args)

    def difference(f, direction, e=1e-4):
        """Central, of fourth order."""
        a, b, c, d = (f(jax.tree.map(lambda a, d, n=n: a + n * e * d, args, direction)) for n in (-2, -1, 1, 2))
        return (a - 8 * b + 8 * c - d) / (12 * e)

    equal(first, [difference(lambda args: values(*args), v)] * 2, 0, rtol=1e-8)
    equal(second, [difference(lambda args: derivatives(args)[0][1], w)] * 4, 0, rtol=1e-8)
    equal(got, want)


@pytest.mark.parametrize("net", [jlstm.LSTM(H), cases.ROWS["bi-none"]], ids=["LSTM", "Bidirectional"])
def test_vmap_with_masks(x64, net):
    """Over examples, lengths, masks and resets among them, over parameters, and over both: values and gradients.

    They are those of `jax.checkpoint`, too.
    """
    params, x = cases.random_params(np.random.default_rng(0), net), inputs(net)
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a]), params)

    def f(params, x, options):
        return total(*jlstm.unroll(net, params, x, **options))

    @jax.jit
    def run(params, many, x, options):
        grad = jax.value_and_grad(f, (0, 1))
        each = jax.vmap(grad, (None, 0, 0))
        again = jax.value_and_grad(jax.checkpoint(f), (0, 1))
        return [g(params, x, options) for g in (grad, again, each)], jax.vmap(each, (0, None, None))(many, x, options)

    ((whole, (d_params, d_x)), again, each), both = run(params, many, x, RAGGED)
    equal(again, (whole, (d_params, d_x)))
    equal((jnp.sum(each[0]), jax.tree.map(lambda g: jnp.sum(g, 0), each[1][0]), each[1][1]), (whole, d_params, d_x))
    equal(jax.tree.map(lambda g: g[0], both), each)
    equal(jax.tree.map(lambda g: g[2], both), run(jax.tree.map(jnp.negative, params), many, x, RAGGED)[0][2])


@pytest.mark.parametrize("reverse, t", [*(pytest.param(False, t, marks=pytest.mark.slow) for t in (0, 2)), (True, 2)])
def test_truncation_is_a_loop_over_chunks(x64, reverse, t):
    """Chunks between multiples of k = 3 of the position t, a `stop_gradient` on the state from one to the next."""
    net, k = jlstm.Stack((jlstm.LSTM(H), jlstm.Dropout(0.4), jlstm.Residual(cases.Noisy(H)))), 3
    rng = np.random.default_rng(0)
    params, x, key = cases.random_params(rng, net), inputs(net), jax.random.key(1)
    state = cases.random_state(rng, net, params, (B,))
    borders = [0, *[n for n in range(1, T) if (t + n) % k == 0], T]
    chunks = list(itertools.pairwise(borders))[:: -1 if reverse else 1]
    assert len(chunks) > 2

    options = dict(reverse=reverse, key=key, return_sequences=True)

    def loop(params, x, state):
        ys = []
        for n, (start, stop) in enumerate(chunks):
            state = jax.lax.stop_gradient(state) if n else state
            here = dict(options, state=state, t=t + start, backend="scan")
            state, y = jlstm.unroll(net, params, x[:, start:stop], **here)
            ys.append(y)
        return total(state, ys)

    @jax.jit
    def gradients(*args):
        both = [value(net, backend, t=t, truncate_every=k, **options) for backend in cases.BACKENDS]
        return [jax.grad(f, (0, 1, 2))(*args) for f in (*both, loop)]

    *both, want = gradients(params, x, state)
    for got in both:
        equal(got, want)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(want))
