"""What is compiled: loops without a weight gradient, nothing stacked in vain, memory, dtypes, traces, export."""

import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import sketches
from compiled import dots_in_loops, scans
from small import B, D, H, T, equal, inputs, lstm, value

import jlstm


def test_the_counter_counts():
    """A lambda called twice in a loop, one dot of the loop's own, and one outside."""
    inner = jax.jit(lambda x: x @ x)

    def program(x):
        return jax.lax.scan(lambda x, _: (inner(inner(x)) @ x, None), x @ x, length=3)[0]

    assert dots_in_loops(jax.jit(program).lower(jnp.ones((2, 2))).as_text()) == 3


LAYERS = jlstm.Stack((jlstm.Bidirectional(jlstm.LSTM(H)), jlstm.LSTM(H), jlstm.Dense(2)))


@pytest.mark.parametrize(
    "net, recurrent, setting",
    [
        (jlstm.LSTM(H), 1, None),
        (sketches.LSTMP(), 2, "nothing_carried"),
        (sketches.OldGRU(), 2, "nothing_carried"),
        (LAYERS, 3, None),
    ],
    ids=["LSTM", "LSTMP", "OldGRU", "layers"],
)
def test_no_weight_gradient_in_the_loop(net, recurrent, setting, request):
    """Dots in the gradient's loops: one forward, one backward for each recurrent weight; on "scan" there are more."""
    if setting:  # for a weight of `update`'s so small that it would be carried
        request.getfixturevalue(setting)
    params, x = net.init(jax.random.key(0), D), inputs(net, "float32")
    count = {}
    for backend in ("scan", "hoisted"):
        text = jax.jit(jax.grad(value(net, backend, return_sequences=True))).lower(params, x, None).as_text()
        count[backend] = dots_in_loops(text)
    assert count["hoisted"] == 2 * recurrent, count
    assert count["scan"] > 2 * recurrent, count


def test_what_the_gradient_keeps():
    """Six coefficients and h before the step, y for the loss; and going back, one array of all gates' gradients."""
    cell, params = lstm("float32")
    jaxpr = jax.make_jaxpr(jax.grad(value(cell, return_sequences=True)))(params, inputs(cell, "float32"), None)
    forward, backward = ([v.aval.shape for v in eqn.outvars if v.aval.shape[:1] == (T,)] for eqn in scans(jaxpr.jaxpr))
    assert forward == [(T, B, H)] * 8 and backward == [(T, B, 4, H)], (forward, backward)


@jlstm.record
class Doubled(jlstm.LSTM):
    """What an LSTM says of its two products does not hold for it."""

    def project(self, params, x):
        return super().project(params, 2 * x)


@pytest.mark.parametrize(
    "cell, size, fused",
    [(jlstm.LSTM(H), 32, True), (jlstm.LSTM(H), 33, False), (jlstm.LSTM(40), 32, False), (Doubled(H), 4, False)],
    ids=["narrow", "wide", "few-steps", "derived"],
)
def test_narrow_inputs_are_multiplied_in_the_loop(cell, size, fused):
    """Without a derivative x goes into the loop, not z for all T, unless the weights are more than z."""
    params = cell.init(jax.random.key(0), size)
    x = jax.random.normal(jax.random.key(1), (B, 30 if cell.hidden_size == H else T, size))
    (loop,) = scans(jax.make_jaxpr(lambda p, x: jlstm.unroll(cell, p, x))(params, x).jaxpr)
    last = [v.aval.shape[-1] for v in loop.invars if v.aval.shape[:2] == (x.shape[1], B)]
    assert last == ([size] if fused else [cell.hidden_size] * 4)
    equal(jlstm.unroll(cell, params, x), jlstm.unroll(cell, params, x, backend="scan"), 1e-5)


def test_last_step_program_stacks_nothing():
    cell, params = lstm("float32")
    x = inputs(cell, "float32")
    for sequences, stacked in ((False, 0), (True, 1)):
        text = jax.jit(jlstm.unroll, static_argnames="return_sequences").lower(
            cell, params, x, return_sequences=sequences
        )
        assert min(1, text.as_text().count("dynamic_update_slice")) == stacked


@pytest.mark.slow
@pytest.mark.parametrize("B, T, D, H, k, part", [(16, 1024, 16, 128, 32, 10), (1, 4000, 64, 32, 50, 15)])
def test_checkpoint_memory(B, T, D, H, k, part):
    """Chunks of k steps need at most this part of the gradient's temporaries, for one sequence as for many."""
    cell = jlstm.LSTM(H)
    params = cell.init(jax.random.key(0), D)
    x = jax.random.normal(jax.random.key(1), (B, T, D))

    def compiled(k):
        f = jax.grad(lambda p, x: jnp.sum(jlstm.unroll(cell, p, x, checkpoint_every=k)[1] ** 2))
        # As users compile: what conftest's flags compile has other copies.
        fusions = {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else None
        return jax.jit(f).lower(params, x).compile(fusions)

    plain, chunked = compiled(None), compiled(k)
    sizes = [c.memory_analysis().temp_size_in_bytes for c in (chunked, plain)]
    assert sizes[0] <= sizes[1] / part, sizes
    for a, b in zip(jax.tree.leaves(chunked(params, x)), jax.tree.leaves(plain(params, x)), strict=True):
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


@pytest.mark.parametrize(
    "wide", ["float32", "bfloat16", *(pytest.param(wide, marks=pytest.mark.slow) for wide in ("float16", "float64"))]
)
def test_dtypes(x64, wide):
    """Any mix of input, state and parameter dtypes: h and outputs in `result_type(x, params)`, c at least float32.

    `compute_dtype` goes first: another net, though `np.dtype("float64") == None`.
    """
    for param_dtype in ("float32", "bfloat16"):
        cell, x = jlstm.LSTM(H, param_dtype=param_dtype), jnp.ones((2, 3, D), wide)
        params = cell.init(jax.random.key(0), D)
        compute = jnp.result_type(x, params.w_hh)
        for state in (None, jlstm.LSTMState(jnp.ones((2, H), "float64"), jnp.ones((2, H), "bfloat16"))):
            end, y = jlstm.unroll(cell, params, x, state=state)
            assert (y.dtype, end.h.dtype, end.c.dtype) == (compute, compute, jnp.promote_types(compute, "float32"))
        named = jlstm.LSTM(H, param_dtype=param_dtype, compute_dtype=wide)
        assert jlstm.unroll(named, params, x)[1].dtype == wide and named != cell


STEPPED = [
    (jlstm.LSTM(H), "float32"),
    (jlstm.LSTM(H, param_dtype="bfloat16"), "bfloat16"),
    (jlstm.LSTM(H, compute_dtype="bfloat16"), "float32"),
    (jlstm.LSTM(H, param_dtype="float16", compute_dtype="float32"), "float32"),
    (jlstm.Stack((jlstm.LSTM(H, compute_dtype="bfloat16"), jlstm.Residual(jlstm.LSTM(H)), jlstm.Dense(2))), "float32"),
]


@pytest.mark.parametrize("net, dtype", STEPPED)
def test_a_scan_of_ones_own_keeps_the_state(net, dtype):
    """`step` gives back the dtypes of `initial_state`, gradients have those of what they are of; nothing is run."""

    def last(params, x):
        state = net.initial_state(params, (B,))
        end, y = jax.lax.scan(lambda state, x: jlstm.step(net, params, state, x), state, x)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), end) == jax.tree.map(lambda a: (a.shape, a.dtype), state)
        return jnp.sum(y.astype("float32"))

    params = jax.eval_shape(lambda key: net.init(key, D), jax.random.key(0))
    args = params, jax.ShapeDtypeStruct((T, B, D), dtype)
    grads = jax.eval_shape(jax.grad(last, (0, 1)), *args)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), grads) == jax.tree.map(lambda a: (a.shape, a.dtype), args)


def test_the_environment_chooses(monkeypatch):
    """JLSTM_BACKEND is what `backend` is where it is not given."""
    cell, params = lstm("float32")

    def program(backend):
        return jax.jit(jax.grad(value(cell, backend))).lower(params, inputs(cell, "float32"), None).as_text()

    scan, hoisted = program("scan"), program("hoisted")
    assert program(None) == hoisted != scan
    monkeypatch.setenv("JLSTM_BACKEND", "scan")
    assert program(None) == scan and program("hoisted") == hoisted


def test_second_call_does_not_trace():
    traced = []

    @sketches.sketch
    class Counting(sketches.Noisy):
        def update(self, params, h, z, noise):
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

    def net():
        return jlstm.Stack((jlstm.Bidirectional(jlstm.LSTM(H)), jlstm.LSTM(H), jlstm.Dropout(0.5)))

    def calls():
        jlstm.unroll(net(), p, x, lengths=np.full(B, 2), key=jax.random.key(0))
        jlstm.trace(jlstm.LSTM(H), p[0].forward, x)
        jlstm.step(jlstm.LSTM(H), p[0].forward, None, x[:, 0], t=3)

    p, events = net().init(jax.random.key(0), D), []
    calls()

    def listen(name, seconds, **_):
        events.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    calls()
    assert not [name for name in events if "/compile/" in name]
    jlstm.unroll(net(), p, x[:1])
    jax.monitoring.unregister_event_duration_listener(listen)
    assert [name for name in events if "/compile/" in name]  # it would be seen
    assert jlstm.LSTM(3) == jlstm.LSTM(3, activation=jnp.tanh, param_dtype=jnp.float32)
    assert hash(jlstm.LSTM(3)) == hash(jlstm.LSTM(3, activation=jnp.tanh, param_dtype=jnp.float32))


def test_export():
    """A program with our params, states and nets in its signature is written, read in and run."""
    net = jlstm.Stack((jlstm.Bidirectional(jlstm.LSTM(H)), jlstm.LSTM(H), jlstm.Dense(2)))
    params, x = net.init(jax.random.key(0), D), inputs(net, "float32")
    state = net.initial_state(params, (B,))

    def run(net, params, x, state):
        return jlstm.unroll(net, params, x, state=state)

    exported = jax.export.export(jax.jit(run))(net, params, x, state)
    loaded = jax.export.deserialize(exported.serialize())
    equal(loaded.call(net, params, x, state), run(net, params, x, state), 1e-6)
    with pytest.raises(ValueError, match="Dense"):  # another net is another program
        loaded.call(jlstm.Stack((*net.layers[:2], jlstm.Dense(3))), params, x, state)


def test_donation():
    cell, params = lstm("float32")
    x, state = inputs(cell, "float32"), cell.initial_state(params, (B,))
    kept = jax.tree.map(jnp.copy, state)
    donating = jax.jit(lambda s: jlstm.unroll(cell, params, x, state=s)[0], donate_argnums=0)
    equal(donating(state), jlstm.unroll(cell, params, x, state=kept)[0], 1e-6)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_a_step_is_in_the_loop_alone():
    """What a step gives is known from its types: no step beside the loop, which derivatives would be taken of."""
    cell, params = lstm("float32")
    program = str(jax.make_jaxpr(lambda params, x: jlstm.unroll(cell, params, x))(params, inputs(cell, "float32")))
    assert program.count("dot_general[") == 5  # W x by gate, and U h
