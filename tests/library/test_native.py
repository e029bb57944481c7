"""The native kernel: transforms, instruction sets, threads, wrong calls. Its options stand in the contract."""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from small import RAGGED, B, D, H, T, equal, lstm, near, problem, total, value

import jlstm
from jlstm.kernels.native import load

pytestmark = pytest.mark.skipif(load()[0] is None, reason=f"the native kernel {load()[1]}")
ALL = dict(RAGGED, return_sequences=True)


def both(f, *args, tolerance=1e-5):
    """f(backend, *args) gives the same numbers with either backend, and "native" is in the program."""
    native, scan = (jax.jit(functools.partial(f, backend)) for backend in ("native", "scan"))
    assert "jlstm_lstm_" in native.lower(*args).as_text()
    near(native(*args), scan(*args), tolerance, at_least=0.1)


def loss(backend, cell, options=ALL):
    return lambda params, x, state=None: value(cell, backend, **options)(params, x, state)


# ---- transforms

TRANSFORMS = {
    "jvp": lambda f, p, x: jax.jvp(f, (p, x), (p, jnp.cos(x))),
    "grad of grad": lambda f, p, x: jax.grad(lambda x: jnp.sum(jnp.sin(jax.grad(f, 1)(p, x))))(x),
    "jvp of grad": lambda f, p, x: jax.jvp(jax.grad(f), (p, x), (p, jnp.cos(x))),
    "grad of jvp": lambda f, p, x: jax.grad(lambda p: jax.jvp(f, (p, x), (p, x))[1])(p),
    "checkpoint": lambda f, p, x: jax.grad(jax.checkpoint(f), (0, 1))(p, x),
    "vmap over examples": lambda f, p, x: jax.vmap(lambda x: f(p, x[None]))(x),
    "gradient of every example": lambda f, p, x: jax.vmap(lambda x: jax.grad(f)(p, x[None]))(x),
    "gradient of a vmap": lambda f, p, x: jax.grad(lambda p: jnp.sum(jax.vmap(lambda x: f(p, x[None]))(x)))(p),
    "vmap over weights": lambda f, p, x: jax.vmap(lambda a: jax.grad(f, (0, 1))(scaled(p, a), x))(jnp.arange(1.0, 4)),
    "vmap of a vmap": lambda f, p, x: jax.vmap(
        lambda a: jax.vmap(lambda x: jax.grad(f)(scaled(p, a), x[None]))(x), out_axes=1
    )(jnp.arange(1.0, 4)),
    "scan": lambda f, p, x: jax.lax.scan(lambda p, _: (scaled(jax.grad(f)(p, x), 0.1), f(p, x)), p, None, 3),
    "while": lambda f, p, x: jax.lax.fori_loop(0, 3, lambda _, p: scaled(jax.grad(f)(p, x), 0.1), p),
}


def scaled(tree, by):
    return jax.tree.map(lambda a: by * a, tree)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name):
    cell, params, x = lstm("float32")
    one = "example" in name or "vmap of a vmap" in name or name == "gradient of a vmap"
    options = dict(return_sequences=True, time_major=False) if one else ALL
    both(lambda backend, p, x: TRANSFORMS[name](loss(backend, cell, options), p, x), params, x)


@pytest.mark.parametrize("reverse", [False, True])
def test_truncation(reverse):
    """The gradient stops where it stops with "scan", with resets at the same steps, and in every member of a vmap."""
    cell, params, x = lstm("float32")
    options = dict(ALL, reverse=reverse, truncate_every=2)

    def gradients(backend, params, x, t):
        return jax.grad(lambda p, x: loss(backend, cell, dict(options, t=t))(p, x), (0, 1))(params, x)

    def f(backend, params, x):
        return gradients(backend, params, x, 1), jax.vmap(lambda t: gradients(backend, params, x, t))(jnp.arange(3))

    both(f, params, x)
    whole = jax.grad(loss("native", cell, dict(ALL, reverse=reverse)))(params, x)
    with pytest.raises(AssertionError):  # the gradient is another one
        near(gradients("native", params, x, 1)[0], whole, 1e-3)


def test_vmap_folds_examples_into_the_batch():
    """A vmap over examples is one call with a larger batch, and so is its gradient; time-major, too."""
    cell, params, x = lstm("float32")
    for time_major in (False, True):

        def f(params, x, backend="native", time_major=time_major):
            run = functools.partial(jlstm.unroll, cell, params, time_major=time_major, backend=backend)
            return jnp.sum(jnp.sin(jax.vmap(lambda x: run(x)[1])(jnp.stack([x, 2 * x, -x]))))

        shapes = {e.primitive.name: e.invars[0].aval.shape for e in jax.make_jaxpr(jax.grad(f))(params, x).eqns}
        rows = (1, T, 3 * B, D) if time_major else (1, 3 * B, T, D)
        sequence = jnp.swapaxes(x, 0, 1) if time_major else x
        shapes = call_shapes(jax.make_jaxpr(jax.grad(f))(params, sequence))
        assert shapes == {"jlstm_lstm_forward": rows, "jlstm_lstm_backward": rows}
        near(jax.grad(f)(params, sequence), jax.grad(functools.partial(f, backend="scan"))(params, sequence), 1e-5)


def call_shapes(jaxpr):
    """The shape of x in each call of the library."""
    found = {}
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith("jlstm_lstm_"):
            found[eqn.primitive.name] = eqn.invars[0].aval.shape
        for sub in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
        ):
            if hasattr(sub, "jaxpr") or hasattr(sub, "eqns"):
                found |= call_shapes(getattr(sub, "jaxpr", sub))
    return found


def four_devices():
    return jax.make_mesh((4,), ("batch",), (AxisType.Auto,), devices=jax.devices()[:4])


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(check_vma):
    """The batch over four devices, the gradient summed over them."""
    cell, params, x = lstm("float32")
    mesh = four_devices()
    rows, whole = PartitionSpec("batch"), PartitionSpec()

    def f(backend, params, x, lengths):
        def local(params, x, lengths):
            grads = jax.grad(lambda p: total(*jlstm.unroll(cell, p, x, lengths=lengths, backend=backend)))(params)
            return grads if check_vma else jax.lax.psum(grads, "batch")

        return jax.shard_map(local, mesh=mesh, in_specs=(whole, rows, rows), out_specs=whole, check_vma=check_vma)(
            params, x, lengths
        )

    both(f, params, x, jnp.asarray(RAGGED["lengths"], jnp.int32))


def test_arrays_on_a_mesh():
    """XLA shards its own loop over the batch, without gathering it; the library would have to be given all of it."""
    cell, params, x = lstm("float32")
    mesh = four_devices()
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    f = jax.jit(jax.value_and_grad(loss(None, cell, dict(return_sequences=True)), (0, 1)))
    compiled = f.lower(params, sharded).compile()
    assert "all-gather" not in compiled.as_text()
    near(compiled(params, sharded), f(params, x), 1e-5)
    with pytest.raises(NotImplementedError, match="'native' runs arrays of one device, or inside shard_map"):
        jlstm.unroll(cell, params, sharded, backend="native")


# ---- other platforms


def test_an_exported_program_does_not_need_the_library():
    cell, params, x = lstm("float32")
    f = jax.jit(jax.grad(loss(None, cell)))
    assert "@jlstm_lstm_" in f.lower(params, x).as_text()
    exported = jax.export.export(f, platforms=("cpu", "cuda", "tpu"))(params, x)
    assert "@jlstm_lstm_" not in exported.mlir_module()
    near(jax.export.deserialize(exported.serialize()).call(params, x), f(params, x), 1e-5)


# ---- numbers


def test_nan_and_infinity_go_where_they_go_with_scan():
    """In x, in a state, in a weight; values and gradients. H is no multiple of a vector.

    In a weight without masks: there "scan" multiplies the slopes of invalid steps, NaN, by 0.
    """
    cell = jlstm.LSTM(H, cell_clip=0.3)
    params, x = jax.tree.map(jnp.asarray, problem(cell))
    state = cell.initial_state(params, (B,))

    def gradients(backend, options):
        return jax.jit(jax.value_and_grad(loss(backend, cell, options), (0, 1, 2)))

    def runs(options):
        return [gradients(backend, options) for backend in ("native", "scan")]

    masked, plain = runs(ALL), runs(dict(return_sequences=True))
    for number in (np.nan, np.inf, -np.inf, 1e38):
        w_hh = params.w_hh.at[0, 1, 2].set(number)
        for run, *args in [
            (masked, params, x.at[1, 1, 0].set(number), state),
            (masked, params, x, state._replace(c=state.c.at[2, 1].set(number))),
            (plain, params, x.at[1, 3, 0].set(number), state),
            (plain, params._replace(w_hh=w_hh), x, state),
        ]:
            equal(*(f(*args) for f in run), 1e-4)


SIZES = [(1, 9, 3, 33), (3, 5, 70, 7), (13, 4, 2, 48), (4, 0, 3, 5)]
PROGRAM = """
import sys, json, numpy as np, jax, jax.numpy as jnp, jlstm, hashlib
from jlstm.kernels.native import load
digest = hashlib.sha256()
numbers = []
for B, T, D, H in json.loads(sys.argv[1]):
    cell, rng = jlstm.LSTM(H, cell_clip=0.7), np.random.default_rng(B + H)
    params = cell.init(jax.random.key(0), D)
    x = rng.normal(size=(B, T, D)).astype("float32")
    given = dict(mask=rng.random((B, T)) < 0.8, resets=rng.random((B, T)) < 0.2, return_sequences=True)
    def f(params, x):
        state, y = jlstm.unroll(cell, params, x, backend="native", **given)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(state.c)), y
    grads, y = jax.grad(f, (0, 1), has_aux=True)(params, x)
    for leaf in jax.tree.leaves((grads, y)):
        digest.update(np.asarray(leaf).tobytes())
        numbers.append(float(np.sum(np.abs(leaf))))
print(json.dumps([load()[0], digest.hexdigest(), numbers]))
"""


def in_process(**environment):
    flags = f"{os.environ.get('XLA_FLAGS', '')} {environment.pop('flags', '')}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)} | environment
    run = [sys.executable, "-c", PROGRAM, json.dumps(SIZES)]
    return json.loads(subprocess.run(run, env=environment, capture_output=True, check=True, text=True).stdout)


def test_instruction_sets_and_threads():
    """Any of them gives the same numbers to rounding; any number of threads the same bits."""
    best, digest, numbers = in_process()
    assert best == load()[0]
    assert in_process(NPROC="7", flags="--xla_force_host_platform_device_count=5")[1] == digest
    for target in {"portable", "avx2"} - {best}:
        name, _, others = in_process(JLSTM_NATIVE_TARGET=target)
        assert name == target
        equal(others, numbers, 1e-5)
