"""Sharded arrays: `shard_map` with its defaults, Auto and Explicit meshes over batch and hidden axes.

Four virtual devices (see conftest). Where the gates are an axis of their own, sharding H cuts no gate in two, and no
device ever needs the whole of a weight.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jlstm

B, T, D, H = 4, 6, 3, 8
CELL = jlstm.LSTM(H, learn_initial_state=True)
NET = jlstm.Stack((jlstm.Bidirectional(CELL), CELL, jlstm.Dense(2)))


def data(net=CELL):
    params = net.init(jax.random.key(0), D)
    x = jax.random.normal(jax.random.key(1), (B, T, D))
    rng = np.random.default_rng(0)
    options = dict(
        lengths=jnp.asarray([6, 0, 3, 5]),
        mask=jnp.asarray(rng.random((B, T)) < 0.8),
        resets=jnp.asarray(rng.random((B, T)) < 0.3),
    )
    return params, x, options


def loss(net, backend=None, **static):
    def value(params, x, options):
        state, y = jlstm.unroll(net, params, x, backend=backend, **static, **options)
        return jnp.sum(jnp.sin(y)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state))

    return value


def close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), got, want)


LINEAR = jlstm.MinLSTM(H, learn_initial_state=True)
GATED = [
    jlstm.PeepholeLSTM(H, p_init=jlstm.initializers.Normal(0.3)),
    jlstm.CoupledLSTM(H),
    jlstm.ProjectedLSTM(H, 4, learn_initial_state=True),
    jlstm.GRU(H, learn_initial_state=True),
    jlstm.GRU(H, reset_after=False),
]
STATIC = [{"return_sequences": True}, {"reverse": True}, {"checkpoint_every": 4}]
ROWS = [  # (net, options of unroll, backend); the full product is slow to compile
    pytest.param(net, static, backend, id=f"{name}-{static}-{backend}", marks=pytest.mark.slow)
    for name, net in (("cell", CELL), ("stack", NET))
    for static in STATIC
    for backend in ("scan", "hoisted")
]
SLOW = pytest.mark.slow
ROWS += [pytest.param(LINEAR, static, "associative", id=f"linear-{static}", marks=SLOW) for static in STATIC]
ROWS += [pytest.param(cell, STATIC[2], "hoisted", id=f"gated-{n}", marks=SLOW) for n, cell in enumerate(GATED)]
NOISY = jlstm.Zoneout(jlstm.DropConnect(jlstm.VariationalDropout(CELL, 0.2, 0.3), 0.4), 0.2, 0.3)
NETS = [*GATED, jlstm.Stack((NOISY, jlstm.Dropout(0.3))), jlstm.Zoneout(jlstm.SLSTM(H), 0.2, 0.3)]
MESH = [(CELL, STATIC[0], "hoisted")]
MESH += [pytest.param(CELL, *how, marks=SLOW) for how in ((STATIC[0], "scan"), (STATIC[2], "hoisted"))]
MESH += [pytest.param(net, STATIC[0], "hoisted", marks=SLOW) for net in NETS]


@pytest.mark.parametrize("net, static, backend", ROWS)
def test_shard_map(net, static, backend):
    """Batch over devices, parameters on all: value and gradients, with `state=None`, are those of one device."""
    params, x, options = data(net)
    value = loss(net, backend, **static)
    mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Auto,))

    def summed(params, x, options):
        return jax.shard_map(
            lambda *args: jax.lax.psum(value(*args), "b"), mesh=mesh, in_specs=(P(), P("b"), P("b")), out_specs=P()
        )(params, x, options)

    close(
        jax.jit(jax.value_and_grad(summed, (0, 1)))(params, x, options),
        jax.value_and_grad(value, (0, 1))(params, x, options),
    )

    # Inside: the gradient of parameters that vary over nothing is the sum over devices.
    mapped = jax.shard_map(jax.grad(value), mesh=mesh, in_specs=(P(), P("b"), P("b")), out_specs=P())
    close(jax.jit(mapped)(params, x, options), jax.grad(value)(params, x, options))


def by_hidden(leaf):
    """H is the last axis of every parameter of a cell."""
    return P(*(None,) * (leaf.ndim - 1), "h")


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("net, static, backend", MESH, ids=lambda a: a if isinstance(a, str) else type(a).__name__)
def test_mesh(kind, net, static, backend):
    """Batch and hidden axes over a 2 x 2 mesh: the same numbers, noise included, and no weight is gathered."""
    params, x, options = data(net)
    value = jax.value_and_grad(loss(net, backend, key=jax.random.key(2), **static), (0, 1))
    want = value(params, x, options)
    mesh = jax.make_mesh((2, 2), ("b", "h"), axis_types=(getattr(AxisType, kind),) * 2)

    def put(tree, spec):
        return jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec(a))), tree)

    sharded = put(params, by_hidden), put(x, lambda _: P("b")), put(options, lambda _: P("b"))
    with jax.set_mesh(mesh):
        compiled = jax.jit(value).lower(*sharded).compile()
        got = compiled(*sharded)
    close(jax.device_get(got), want)
    # What is gathered over "h" is h itself, `[B, H]` a step: never an array with a gate axis and all of H.
    gathered = re.findall(r"f32\[([\d,]*)\]\S* all-gather", compiled.as_text())
    weights = {",".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(params) if leaf.ndim == 3}
    weights |= {f"{D},{4 * H}", f"{H},{4 * H}", f"{4 * H},{H}", f"{4},{H},{H}"}
    assert not weights & set(gathered), gathered
