"""The compiled programs: loops without a weight gradient, nothing stacked in vain, memory, traces, export."""

import cases
import covering
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import sketches
from compiled import dots_in_loops, scans
from grouped import Grouped
from small import RAGGED, B, H, T, equal, lstm, near, problem, value

import jlstm


def test_the_counter_counts():
    """A lambda called twice in a loop, one dot of the loop's own, and one outside."""
    inner = jax.jit(lambda x: x @ x)

    def program(x):
        return jax.lax.scan(lambda x, _: (inner(inner(x)) @ x, None), x @ x, length=3)[0]

    assert dots_in_loops(jax.jit(program).lower(jnp.ones((2, 2))).as_text()) == 3


# With the number of recurrent weights: of the matmuls that one step has with them.
PROGRAMS = {
    "LSTM": (jlstm.LSTM(H), 1),
    "LSTMP": (sketches.LSTMP(), 2),
    "OldGRU": (sketches.OldGRU(), 2),
    "layers": (jlstm.Stack((jlstm.Bidirectional(jlstm.LSTM(H)), jlstm.LSTM(H), jlstm.Dense(2))), 3),
    "PeepholeLSTM": (jlstm.PeepholeLSTM(H), 1),
    "CoupledLSTM": (jlstm.CoupledLSTM(H), 1),
    "ProjectedLSTM": (jlstm.ProjectedLSTM(H, 2), 2),
    "GRU": (jlstm.GRU(H), 1),
    "GRU-before": (jlstm.GRU(H, reset_after=False), 2),
    "LayerNormLSTM": (jlstm.LayerNormLSTM(H), 1),
    "SLSTM": (jlstm.SLSTM(4, heads=2), 1),
    "MinLSTM": (jlstm.MinLSTM(H), 0),
    "OriginalLSTM": (jlstm.OriginalLSTM(4, block_size=2), 2),
    "wrapped-LSTM": (cases.everything(jlstm.LSTM(H)), 1),
    "wrapped-Grouped": (cases.everything(Grouped()), 2),
}
# Parameters inside of `update`, so few that the loop would carry their gradients.
READING = ("LSTMP", "OldGRU", "PeepholeLSTM", "ProjectedLSTM", "GRU-before", "LayerNormLSTM", "wrapped-Grouped")


def gradient(net, backend=None, batch=B):
    """The gradient of everything that an unroll gives, traced."""
    params, x = problem(net)
    f = jax.grad(value(net, backend, return_sequences=True, key=jax.random.key(3)))
    return jax.jit(f).trace(params, x[:batch], None)


def shapes(tree):
    return {leaf.shape for leaf in jax.tree.leaves(tree)}


def carried(traced):
    """The shapes that the loops carry: what a scan gives is its carry, as one step gives it, or stacked over time."""
    loops = list(scans(traced.jaxpr.jaxpr))
    given = [pair for eqn in loops for pair in zip(eqn.params["jaxpr"].jaxpr.outvars, eqn.outvars, strict=True)]
    return {one.aval.shape for one, all_steps in given if one.aval.shape == all_steps.aval.shape}


@pytest.mark.parametrize("name", covering.thinned(PROGRAMS, 2))
def test_no_weight_gradient_in_the_loop(name, request):
    """The gradient's loops have two matmuls for each recurrent weight and carry states alone.

    Those of "scan" have three, and carry the weights' gradients.
    """
    if name in READING:
        request.getfixturevalue("nothing_carried")
    net, recurrent = PROGRAMS[name]
    scan, hoisted = (gradient(net, backend) for backend in cases.BACKENDS)
    params, _ = problem(net)
    assert [dots_in_loops(traced.lower().as_text()) for traced in (scan, hoisted)] == [3 * recurrent, 2 * recurrent]
    assert carried(hoisted) == shapes(net.initial_state(params, (B,)))
    assert carried(scan) >= shapes([getattr(params, name) for name in getattr(net, "recurrent_params", None) or ()])


@pytest.mark.usefixtures("hoisted_by_default")
@pytest.mark.parametrize(
    "cell, batch, names",
    [
        (jlstm.LSTM(H), B, ()),
        (jlstm.PeepholeLSTM(H), B, ("p",)),
        (jlstm.GRU(H, reset_after=False), B, ("w_hh",)),
        (jlstm.GRU(40, reset_after=False), 1, ()),
    ],
    ids=["LSTM", "peepholes", "small", "large"],
)
def test_small_gradients_are_carried(cell, batch, names):
    """The loop carries the gradients of what `update` reads of the parameters, where that is little; or nothing."""
    params, _ = problem(cell)
    want = shapes((cell.initial_state(params, (batch,)), [getattr(params, name) for name in names]))
    assert carried(gradient(cell, batch=batch)) == want


@pytest.mark.parametrize("name", covering.thinned(["PeepholeLSTM", "ProjectedLSTM", "GRU-before", "LayerNormLSTM"], 2))
def test_derivatives_with_nothing_carried(name, x64, nothing_carried):
    """Of cells that read parameters in `update`: value, gradient and its derivative are those of "scan"."""
    cell, _ = PROGRAMS[name]
    params, x = problem(cell, "float64")

    @jax.jit
    def derivatives(params, along):
        fs = [value(cell, backend, return_sequences=True, **RAGGED) for backend in cases.BACKENDS]
        return [jax.jvp(jax.value_and_grad(lambda p, f=f: f(p, x, None)), (params,), (along,)) for f in fs]

    equal(*derivatives(params, jax.tree.map(jnp.cos, params)), 1e-10)


@pytest.mark.usefixtures("hoisted_by_default")
def test_what_the_gradient_keeps():
    """Six coefficients and h before the step, y for the loss; and going back, one array of all gates' gradients."""
    cell, params, x = lstm("float32")
    jaxpr = jax.make_jaxpr(jax.grad(value(cell, return_sequences=True)))(params, x, None)
    forward, backward = ([v.aval.shape for v in eqn.outvars if v.aval.shape[:1] == (T,)] for eqn in scans(jaxpr.jaxpr))
    assert forward == [(T, B, H)] * 8 and backward == [(T, B, 4, H)], (forward, backward)


@jlstm.record
class Doubled(jlstm.LSTM):
    """Its products are not those that an LSTM says it has."""

    def project(self, params, x):
        return super().project(params, 2 * x)


@pytest.mark.usefixtures("hoisted_by_default")
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


@pytest.mark.usefixtures("hoisted_by_default")
def test_last_step_program_stacks_nothing():
    run = jax.jit(jlstm.unroll, static_argnames="return_sequences")
    for sequences in (False, True):
        text = run.lower(*lstm("float32"), return_sequences=sequences).as_text()
        assert ("dynamic_update_slice" in text) == sequences


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
    near(chunked(params, x), plain(params, x), 1e-6, at_least=1.0)


def test_the_environment_chooses(monkeypatch):
    """JLSTM_BACKEND is what `backend` is where it is not given."""
    cell, *arrays = lstm("float32")

    def program(backend):
        return jax.jit(jax.grad(value(cell, backend))).lower(*arrays, None).as_text()

    scan, hoisted = program("scan"), program("hoisted")
    assert program(None) != scan != hoisted
    monkeypatch.setenv("JLSTM_BACKEND", "scan")
    assert program(None) == scan and program("hoisted") == hoisted


def test_second_call_does_not_trace():
    traced = []

    @sketches.sketch
    class Counting(sketches.Noisy):
        def update(self, params, h, z, noise):
            traced.append(1)
            return super().update(params, h, z, noise)

    for call in (jlstm.unroll, jax.jit(jlstm.unroll)):
        call(Counting(), *problem(Counting()))
        count = len(traced)
        call(Counting(), *problem(Counting()))
        assert count and len(traced) == count

    def net():
        return jlstm.Stack((jlstm.Bidirectional(jlstm.LSTM(H)), jlstm.LSTM(H), jlstm.Dropout(0.5)))

    def calls():
        jlstm.unroll(net(), p, x, lengths=np.full(B, 2), key=jax.random.key(0))
        jlstm.trace(jlstm.LSTM(H), p[0].forward, x)
        jlstm.step(jlstm.LSTM(H), p[0].forward, None, x[:, 0], t=3)

    (p, x), compiled = problem(net()), []
    calls()

    def listen(name, seconds, **_):
        compiled.extend([name] if "/compile/" in name else [])

    jax.monitoring.register_event_duration_secs_listener(listen)
    calls()
    assert not compiled
    jlstm.unroll(net(), p, x[:1])
    jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled  # it would be seen


def test_export():
    """A program with our params, states and nets in its signature is written, read in and run."""
    net, _ = PROGRAMS["layers"]
    params, x = problem(net)
    state = net.initial_state(params, (B,))

    def run(net, params, x, state):
        return jlstm.unroll(net, params, x, state=state)

    exported = jax.export.export(jax.jit(run))(net, params, x, state)
    loaded = jax.export.deserialize(exported.serialize())
    equal(loaded.call(net, params, x, state), run(net, params, x, state), 1e-6)
    with pytest.raises(ValueError, match="Dense"):  # another net is another program
        loaded.call(jlstm.Stack((*net.layers[:2], jlstm.Dense(3))), params, x, state)


def test_donation():
    cell, params, x = lstm("float32")
    state = cell.initial_state(params, (B,))
    kept = jax.tree.map(jnp.copy, state)
    donating = jax.jit(lambda s: jlstm.unroll(cell, params, x, state=s)[0], donate_argnums=0)
    equal(donating(state), jlstm.unroll(cell, params, x, state=kept)[0], 1e-6)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


@pytest.mark.usefixtures("hoisted_by_default")
def test_a_step_is_in_the_loop_alone():
    """The types of a step's result are known without one: no step beside the loop, to be differentiated with it."""
    cell, *arrays = lstm("float32")
    program = str(jax.make_jaxpr(lambda params, x: jlstm.unroll(cell, params, x))(*arrays))
    assert program.count("dot_general[") == 5  # W x by gate, and U h
