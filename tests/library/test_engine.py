"""The engine's promises, on the LSTM and on cells that strain the protocol: numbers and gradients."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import sketches
from jax.test_util import check_grads
from small import RAGGED, B, D, H, T, bitwise, dot, equal, inputs, lstm, total, value

import jlstm

SKETCHES = [sketches.LSTMP(), sketches.OldGRU(), sketches.Noisy(), sketches.MinLSTM(), sketches.ConvRNN()]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("batch", [(), (B,), (2, 2)], ids=str)
def test_oracle(x64, batch, ragged, reverse):
    """Values and gradients of the float64 loops, by hand-written back-propagation."""
    cell, params = lstm()
    reshape = (lambda a: a[2]) if batch == () else (lambda a: a.reshape(*batch, *a.shape[1:]))
    x = reshape(inputs(cell))
    options = {k: reshape(v) for k, v in RAGGED.items()} if ragged else {}
    state = jlstm.LSTMState(*np.random.default_rng(5).normal(size=(2, *batch, H)))
    statics = [dict(reverse=reverse, return_sequences=sequences) for sequences in (False, True)]
    wants = [oracle.lstm(params, x, state=state, **static, **options) for static in statics]
    weights = [[np.random.default_rng(6).normal(size=a.shape) for a in (out, h, c)] for (h, c), out in wants]

    def loss(params, x, state, static, weights):
        end, y = jlstm.unroll(cell, params, x, state=state, **static, **options)
        return sum(jnp.sum(a * w) for a, w in zip((y, end.h, end.c), weights, strict=True)), (tuple(end), y)

    @jax.jit
    def run(*args):
        grad = jax.grad(loss, (0, 1, 2), has_aux=True)
        return [grad(*args, static, w) for static, w in zip(statics, weights, strict=True)]

    for (grads, got), want, static, w in zip(run(params, x, state), wants, statics, weights, strict=True):
        equal(got, want)
        want_grads = oracle.lstm_gradients(params, x, *w, state=state, **static, **options)
        equal(jax.tree.leaves(grads), jax.tree.leaves(want_grads), 1e-10)


OURS = [pytest.param(net, marks=pytest.mark.slow) for net in cases.CELLS.values()]
OPTIONS = [
    dict(return_sequences=True),
    pytest.param(dict(reverse=True, checkpoint_every=3), marks=pytest.mark.slow),
    pytest.param(dict(truncate_every=2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "net",  # most sketches are real cells by now, with rows of their own
    [*(pytest.param(net, marks=pytest.mark.slow) for net in SKETCHES[:-1]), SKETCHES[-1], *OURS],
    ids=lambda net: type(net).__name__,
)
def test_sketches(x64, net, options):
    """hoisted = scan in values, gradients and Hessian-vector products, with everything on; T steps = one unroll."""
    params, x = jax.tree.map(lambda a: a.astype("float64"), net.init(jax.random.key(0), D)), inputs(net)
    state = jax.tree.map(lambda a: a + 0.1, net.initial_state(params, (B,)))
    key = jax.random.key(1)

    @jax.jit
    def run(params, x, state):
        grads = [jax.grad(value(net, b, key=key, **RAGGED, **options), (0, 1, 2)) for b in cases.BACKENDS]
        products = [jax.jvp(grad, (params, x, state), (params, x, state)) for grad in grads]
        steps, ys = None, []
        for t in range(T):
            steps, y = jlstm.step(net, params, steps, x[:, t], reset=RAGGED["resets"][:, t], key=key, t=t)
            ys.append(y)
        whole = jlstm.unroll(net, params, x, resets=RAGGED["resets"], key=key, return_sequences=True)
        return products, ((steps, jnp.stack(ys, 1)), whole)

    (scan, hoisted), (stepwise, whole) = run(params, x, state)
    equal(hoisted, scan)
    equal(stepwise, whole)


@pytest.mark.slow
def test_check_grads(x64):
    """Orders 1 and 2, both modes, against finite differences."""
    cell, params = lstm()
    x, state = inputs(cell), cell.initial_state(params, (B,))
    check_grads(jax.jit(value(cell, **RAGGED)), (params, x, state), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def mixing(x):
    """An activation that is not elementwise."""
    return jax.nn.softmax(x, axis=-1)


MIXED = [
    jlstm.LSTM(2, gate_activation=mixing, activation=mixing),
    *(cls(2, activation=mixing) for cls in (jlstm.LSTM, jlstm.PeepholeLSTM, jlstm.CoupledLSTM, jlstm.LayerNormLSTM)),
    jlstm.ProjectedLSTM(3, 2, activation=mixing),
    jlstm.GRU(2, activation=mixing),
    jlstm.GRU(2, activation=mixing, reset_after=False),
    jlstm.SLSTM(2, activation=mixing, gate_activation=mixing),
    jlstm.MinLSTM(2, activation=mixing),
]


@pytest.mark.parametrize("cell", MIXED, ids=lambda cell: type(cell).__name__)
def test_an_activation_need_not_be_elementwise(x64, cell):
    """The gradient along a direction is the central difference, on every backend."""
    backends = (*cases.BACKENDS, "associative") if isinstance(cell, jlstm.MinLSTM) else cases.BACKENDS
    rng = np.random.default_rng(0)
    params, along = (cases.random_params(rng, cell, "float64") for _ in range(2))
    x = cases.random_inputs(rng, cell, (2, 3))

    @jax.jit
    def slopes(params):
        def f(params, backend="scan"):
            return total(*jlstm.unroll(cell, params, x, backend=backend))

        ahead, behind = (f(jax.tree.map(lambda p, v, e=e: p + e * v, params, along)) for e in (1e-5, -1e-5))
        grads = [jax.grad(f)(params, backend) for backend in backends]
        return (ahead - behind) / 2e-5, [dot(g, along) for g in grads]

    difference, slopes_by_backend = slopes(params)
    equal(slopes_by_backend, [difference] * len(backends), 1e-7)
    assert abs(difference) > 1e-3


def test_transforms(x64):
    """vmap over examples, parameters, both; jax.checkpoint; the cell as argument."""
    cell, params = lstm()
    x, state = inputs(cell), cell.initial_state(params, (B,))
    f = value(cell, **RAGGED)
    equal(jax.grad(jax.checkpoint(f))(params, x, state), jax.grad(f)(params, x, state))
    run = jax.jit(jlstm.unroll)
    end, y = run(cell, params, x)
    equal(jax.vmap(lambda x: run(cell, params, x))(x), (end, y))
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    both = jax.vmap(lambda p: jax.vmap(lambda x: run(cell, p, x))(x))(many)
    equal(jax.tree.map(lambda a: a[0], both), (end, y))
    equal(jax.tree.map(lambda a: a[1], both), run(cell, jax.tree.map(lambda a: 2 * a, params), x))


def test_chunks_of_one_sequence(x64):
    """Batch axes of size 1: chunks give what the whole does, ragged, in both directions; values and gradients."""
    cell, params = lstm()
    for shape in ((1,), (2, 1)):
        rows = int(np.prod(shape))
        x = inputs(cell)[-rows:].reshape(*shape, T, D)
        ragged = {name: a[-rows:].reshape(*shape, *a.shape[1:]) for name, a in RAGGED.items()}

        @jax.jit
        def run(params, x, ragged=ragged):
            options = [dict(reverse=reverse, return_sequences=reverse) for reverse in (False, True)]
            fs = [value(cell, checkpoint_every=k, **how, **ragged) for k in (3, None) for how in options]
            return [jax.value_and_grad(f, (0, 1))(params, x, None) for f in fs]

        *chunks, whole, whole_reversed = run(params, x)
        equal(chunks, [whole, whole_reversed])


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_changes_nothing(reverse):
    """NaN and Inf at invalid steps, and a NaN state before a reset: outputs, states and gradients, bitwise."""
    cell, params = lstm("float32")
    x = inputs(cell, "float32")
    valid = RAGGED["mask"] & np.asarray(jlstm.sequence_mask(RAGGED["lengths"], T))
    clean, *dirty = (np.where(valid[..., None], x, junk).astype("float32") for junk in (0, np.nan, np.inf))
    for sequences in (False, True):
        f = value(cell, **RAGGED, reverse=reverse, return_sequences=sequences)
        run = jax.jit(jax.value_and_grad(f, (0, 1, 2)))
        for x_dirty in dirty:
            bitwise(run(params, x_dirty, None), run(params, clean, None))
    reset = np.zeros((B, T), bool)
    reset[:, 0] = True
    run = jax.jit(jax.value_and_grad(value(cell, resets=reset), (0, 1)))
    state = cell.initial_state(params, (B,))
    bitwise(run(params, x, jax.tree.map(lambda a: a + jnp.nan, state)), run(params, x, state))
    broken = x.copy()
    broken[:, 2] = np.nan
    reset[:, 4] = True
    y = [jlstm.unroll(cell, params, a, resets=reset, return_sequences=True)[1][:, 4:] for a in (broken, x)]
    bitwise(*y)


def test_edges():
    """T = 0, batch 0, length 0 and beyond T, nothing valid, chunks of a sequence in both directions."""
    cell, params = lstm("float32")
    x = inputs(cell, "float32")
    start = cell.initial_state(params, (B,))
    for options in ({}, {"return_sequences": True}, {"checkpoint_every": 2}):
        end, y = jlstm.unroll(cell, params, x[:, :0], **options)
        equal(end, start, 0)
        assert not np.any(y) and y.shape == ((B, 0, H) if options.get("return_sequences") else (B, H))
        assert jlstm.unroll(cell, params, x[:0], **options)[1].shape[0] == 0
    end, y = jlstm.unroll(cell, params, x, mask=np.zeros((B, T), bool))
    bitwise((end, y), (start, np.zeros((B, H), "float32")))
    equal(jlstm.unroll(cell, params, x, lengths=np.full(B, 99)), jlstm.unroll(cell, params, x), 1e-6)
    for reverse in (False, True):
        options = dict(reverse=reverse, return_sequences=True)
        whole = jlstm.unroll(cell, params, x, resets=RAGGED["resets"], **options)
        state, parts = None, {}
        for part in (slice(4, T), slice(0, 4)) if reverse else (slice(0, 4), slice(4, T)):
            state, parts[part.start] = jlstm.unroll(
                cell, params, x[:, part], state=state, resets=RAGGED["resets"][:, part], **options
            )
        equal((state, jnp.concatenate([parts[0], parts[4]], 1)), whole, 1e-6)
