"""The engine's promises, on the LSTM and on cells that strain the protocol: numbers, gradients, programs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import sketches
from jax.test_util import check_grads

import jlstm

B, T, D, H = 4, 7, 3, 5
SKETCHES = [sketches.LSTMP(), sketches.OldGRU(), sketches.Noisy(), sketches.MinLSTM(), sketches.ConvRNN()]
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


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("batch", [(), (B,), (2, 2)], ids=str)
def test_oracle(x64, batch, ragged, reverse):
    """Values and gradients of the float64 loops, by hand-written back-propagation; every mask, state and batch shape."""
    cell, params = lstm()
    reshape = (lambda a: a[2]) if batch == () else (lambda a: a.reshape(*batch, *a.shape[1:]))
    x = reshape(inputs(cell))
    options = {k: reshape(v) for k, v in RAGGED.items()} if ragged else {}
    state = jlstm.LSTMState(*np.random.default_rng(5).normal(size=(2, *batch, H)))
    for sequences in (False, True):
        static = dict(reverse=reverse, return_sequences=sequences)
        end, y = jlstm.unroll(cell, params, x, state=state, **static, **options)
        (h, c), out = oracle.lstm(params, x, state=state, **static, **options)
        equal((end.h, end.c, y), (h, c, out))
        weights = [np.random.default_rng(6).normal(size=a.shape) for a in (out, h, c)]

        def loss(params, x, state, weights=weights, static=static):
            end, y = jlstm.unroll(cell, params, x, state=state, **static, **options)
            return sum(jnp.sum(a * w) for a, w in zip((y, end.h, end.c), weights, strict=True))

        got = jax.jit(jax.grad(loss, (0, 1, 2)))(params, x, state)
        want = oracle.lstm_gradients(params, x, *weights, state=state, **static, **options)
        equal(jax.tree.leaves(got), jax.tree.leaves(want), 1e-10)


OPTIONS = [
    dict(return_sequences=True),
    pytest.param(dict(reverse=True, checkpoint_every=3), marks=pytest.mark.slow),
    pytest.param(dict(truncate_every=2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("net", SKETCHES, ids=lambda net: type(net).__name__)
def test_sketches(x64, net, options):
    """hoisted = scan in values, gradients and Hessian-vector products, with everything on; T steps = one unroll."""
    params, x = jax.tree.map(lambda a: a.astype("float64"), net.init(jax.random.key(0), D)), inputs(net)
    state = jax.tree.map(lambda a: a + 0.1, net.initial_state(params, (B,)))
    key = jax.random.key(1)
    results = []
    for backend in ("scan", "hoisted"):
        grad = jax.grad(value(net, backend, key=key, **RAGGED, **options), (0, 1, 2))
        results.append(jax.jit(lambda *a, grad=grad: jax.jvp(grad, a, a))(params, x, state))
    equal(results[1], results[0])
    steps, ys = None, []
    for t in range(T):
        steps, y = jlstm.step(net, params, steps, x[:, t], reset=RAGGED["resets"][:, t], key=key, t=t)
        ys.append(y)
    whole = jlstm.unroll(net, params, x, resets=RAGGED["resets"], key=key, return_sequences=True)
    equal((steps, jnp.stack(ys, 1)), whole)


@pytest.mark.slow
def test_check_grads(x64):
    """Orders 1 and 2, both modes, against finite differences."""
    cell, params = lstm()
    x, state = inputs(cell), cell.initial_state(params, (B,))
    check_grads(jax.jit(value(cell, **RAGGED)), (params, x, state), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


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


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("junk", [np.nan, np.inf])
def test_padding_changes_nothing(junk, reverse):
    """NaN and Inf at invalid steps, and a NaN state before a reset: outputs, states and gradients, bitwise."""
    cell, params = lstm("float32")
    x = inputs(cell, "float32")
    valid = RAGGED["mask"] & np.asarray(jlstm.sequence_mask(RAGGED["lengths"], T))
    dirty = np.where(valid[..., None], x, junk).astype("float32")
    clean = np.where(valid[..., None], x, 0).astype("float32")
    for sequences in (False, True):
        f = value(cell, **RAGGED, reverse=reverse, return_sequences=sequences)
        run = jax.jit(jax.value_and_grad(f, (0, 1, 2)))
        bitwise(run(params, dirty, None), run(params, clean, None))
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


def test_truncation_is_a_loop_over_chunks(x64):
    cell, params = lstm()
    x = inputs(cell)

    def loop(params):
        state, total = None, 0.0
        for t in range(0, T, 3):
            state = jax.lax.stop_gradient(state)
            state, y = jlstm.unroll(cell, params, x[:, t : t + 3], state=state, return_sequences=True)
            total += jnp.sum(jnp.sin(y))
        return total

    def whole(params):
        return jnp.sum(jnp.sin(jlstm.unroll(cell, params, x, truncate_every=3, return_sequences=True)[1]))

    equal(jax.grad(whole)(params), jax.grad(loop)(params))


def dots_in_loops(text: str) -> int:
    """Matmuls of the StableHLO's while loops, calls followed."""
    functions = dict(re.findall(r"func\.func \w+ @([\w.]+)\(.*?\n(.*?)\n  }", text, re.DOTALL))

    def count(body: str) -> int:
        called = sum(count(functions[name]) for name in re.findall(r"call @([\w.]+)\(", body))
        return len(re.findall(r"dot_general", body)) + called

    total = 0
    for body in functions.values():
        for loop in body.split("stablehlo.while")[1:]:
            indent = re.search(r"\n( *)cond", loop)
            assert indent
            total += count(loop[: re.search(rf"\n{indent[1]}}}\n|\Z", loop[indent.end() :]).end() + indent.end()])
    return total


@pytest.mark.parametrize(
    "net, recurrent",
    [(jlstm.LSTM(H), 1), (sketches.LSTMP(), 2), (sketches.OldGRU(), 2)],
    ids=["LSTM", "LSTMP", "OldGRU"],
)
def test_no_weight_gradient_in_the_loop(net, recurrent):
    """Dots in the gradient's loops: one forward, one backward for each recurrent weight; on "scan" there are more."""
    params, x = net.init(jax.random.key(0), D), inputs(net, "float32")
    count = {}
    for backend in ("scan", "hoisted"):
        text = jax.jit(jax.grad(value(net, backend, return_sequences=True))).lower(params, x, None).as_text()
        count[backend] = dots_in_loops(text)
    assert count["hoisted"] == 2 * recurrent, count
    assert count["scan"] > 2 * recurrent, count


def test_last_step_program_stacks_nothing():
    cell, params = lstm("float32")
    x = inputs(cell, "float32")
    for sequences, stacked in ((False, 0), (True, 1)):
        text = jax.jit(jlstm.unroll, static_argnames="return_sequences").lower(
            cell, params, x, return_sequences=sequences
        )
        assert min(1, text.as_text().count("dynamic_update_slice")) == stacked


def test_checkpoint_memory():
    """At (16, 1024, 16, 128) chunks of 32 need at most a tenth of the gradient's temporaries."""
    cell = jlstm.LSTM(128)
    params = cell.init(jax.random.key(0), 16)
    x = jax.random.normal(jax.random.key(1), (16, 1024, 16))

    def compiled(k):
        f = jax.grad(lambda p: jnp.sum(jlstm.unroll(cell, p, x, checkpoint_every=k)[1] ** 2))
        return jax.jit(f).lower(params).compile()

    plain, chunked = compiled(None), compiled(32)
    sizes = [c.memory_analysis().temp_size_in_bytes for c in (chunked, plain)]
    assert sizes[0] <= sizes[1] / 10, sizes
    for a, b in zip(jax.tree.leaves(chunked(params)), jax.tree.leaves(plain(params)), strict=True):
        assert np.max(np.abs(a - b)) <= 1e-6 * max(1.0, float(np.max(np.abs(b))))


def test_bfloat16():
    """bfloat16 operands, float32 results, c and parameters; within 2e-2 of float32 over T = 200, gradients too."""
    cell, half = jlstm.LSTM(32), jlstm.LSTM(32, compute_dtype="bfloat16")
    params, x = cell.init(jax.random.key(0), D), inputs(cell, "float32", T=200)
    end, y = jlstm.unroll(half, params, x, return_sequences=True)
    assert (y.dtype, end.h.dtype, end.c.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    text = jax.jit(jlstm.unroll).lower(half, params, x).as_text()
    dots = re.findall(r"dot_general.*: \((.*)\) -> (.*)", text)
    assert dots and all(a.count("bf16") == 2 and "f32" in b and "bf16" not in b for a, b in dots), dots
    np.testing.assert_allclose(y.astype("float32"), jlstm.unroll(cell, params, x, return_sequences=True)[1], atol=2e-2)

    def grads(cell):
        def loss(p):
            return jnp.mean(jlstm.unroll(cell, p, x, return_sequences=True)[1].astype("float32") ** 2)

        return jax.tree.leaves(jax.grad(loss)(params))

    for a, b in zip(grads(half), grads(cell), strict=True):
        assert np.linalg.norm(a - b) <= 2e-2 * np.linalg.norm(b)


@pytest.mark.parametrize("wide", ["float32", "bfloat16", "float16", "float64"])
def test_dtypes(x64, wide):
    """Any mix of input, state and parameter dtypes: h and outputs in `result_type(x, params)`, c at least float32."""
    for param_dtype in ("float32", "bfloat16"):
        cell, x = jlstm.LSTM(H, param_dtype=param_dtype), jnp.ones((2, 3, D), wide)
        params = cell.init(jax.random.key(0), D)
        compute = jnp.result_type(x, params.w_hh)
        for state in (None, jlstm.LSTMState(jnp.ones((2, H), "float64"), jnp.ones((2, H), "bfloat16"))):
            end, y = jlstm.unroll(cell, params, x, state=state)
            assert (y.dtype, end.h.dtype, end.c.dtype) == (compute, compute, jnp.promote_types(compute, "float32"))


def test_second_call_does_not_trace():
    traced = []

    @sketches.sketch
    class Counting(sketches.Noisy):
        def update(self, params, h, z, noise=None):
            traced.append(1)
            return super().update(params, h, z, noise)

    params = Counting().init(jax.random.key(0), D)
    x = inputs(Counting(), "float32")
    outer = jax.jit(jlstm.unroll)
    for call in (jlstm.unroll, outer):
        call(Counting(), params, x)
        count = len(traced)
        call(Counting(), params, x)
        assert count and len(traced) == count
    assert jlstm.LSTM(3) == jlstm.LSTM(3, activation=jnp.tanh, param_dtype=jnp.float32)
    assert hash(jlstm.LSTM(3)) == hash(jlstm.LSTM(3, activation=jnp.tanh, param_dtype=jnp.float32))


def test_export_and_donation():
    cell, params = lstm("float32")
    x = inputs(cell, "float32")
    run = jax.jit(lambda params, x: jlstm.unroll(cell, params, x)[1])
    exported = jax.export.deserialize(jax.export.export(run)(params, x).serialize())
    equal(exported.call(params, x), run(params, x), 1e-6)
    state = cell.initial_state(params, (B,))
    kept = jax.tree.map(jnp.copy, state)
    donating = jax.jit(lambda s: jlstm.unroll(cell, params, x, state=s)[0], donate_argnums=0)
    equal(donating(state), jlstm.unroll(cell, params, x, state=kept)[0], 1e-6)
