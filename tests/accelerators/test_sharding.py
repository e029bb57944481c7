"""Sharded arrays: `shard_map` with its defaults, Auto and Explicit meshes over batch and hidden axes.

Four virtual devices (see conftest). Where the gates are an axis of their own, sharding H cuts no gate in two, and no
device ever needs the whole of a weight.
"""

import dataclasses
import re

import jax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from small import RAGGED, D, equal, problem, total

import jlstm

H = 8
CELL = jlstm.LSTM(H, learn_initial_state=True)
NET = jlstm.Stack((jlstm.Bidirectional(CELL), CELL, jlstm.Dense(2)))
LINEAR = jlstm.MinLSTM(H, learn_initial_state=True)
GATED = [
    jlstm.PeepholeLSTM(H, p_init=jlstm.initializers.Normal(0.3)),
    jlstm.CoupledLSTM(H),
    jlstm.ProjectedLSTM(H, 4, learn_initial_state=True),
    jlstm.GRU(H, learn_initial_state=True),
    jlstm.GRU(H, reset_after=False),
]
PAPERS = [jlstm.LayerNormLSTM(H), jlstm.SLSTM(H, heads=2), jlstm.MinLSTM(H), jlstm.OriginalLSTM(H, block_size=2)]
NOISY = jlstm.Zoneout(jlstm.DropConnect(jlstm.VariationalDropout(CELL, 0.2, 0.3), 0.4), 0.2, 0.3)
WRAPPED = [jlstm.Stack((NOISY, jlstm.Dropout(0.3))), jlstm.Zoneout(jlstm.SLSTM(H), 0.2, 0.3)]
STATIC = [{"return_sequences": True}, {"reverse": True}, {"checkpoint_every": 4}]

# (net, options of unroll, backend); the full product is slow to compile
ROWS = [(net, static, backend) for net in (CELL, NET) for static in STATIC for backend in ("scan", "hoisted")]
ROWS += [(LINEAR, static, "associative") for static in STATIC] + [(cell, STATIC[2], "hoisted") for cell in GATED]
MESH = [(CELL, STATIC[0], "scan"), (CELL, STATIC[2], "hoisted")]
MESH += [(net, STATIC[0], "hoisted") for net in (*GATED, *PAPERS, *WRAPPED)]


def slow(rows):
    return [pytest.param(*row, marks=pytest.mark.slow) for row in rows]


def ids(value):
    return "-".join(value) if isinstance(value, dict) else value if isinstance(value, str) else type(value).__name__


def loss(net, backend, **static):
    return lambda params, x, options: total(*jlstm.unroll(net, params, x, backend=backend, **static, **options))


def close(got, want):
    equal(got, want, 2e-6, rtol=2e-5)


@pytest.mark.parametrize("net, static, backend", slow(ROWS), ids=ids)
def test_shard_map(net, static, backend):
    """Batch over devices, parameters on all: value and gradients, with `state=None`, are those of one device."""
    args = *problem(net), RAGGED
    value = loss(net, backend, **static)
    mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Auto,))

    def mapped(f):
        return jax.shard_map(f, mesh=mesh, in_specs=(P(), P("b"), P("b")), out_specs=P())

    summed = mapped(lambda *args: jax.lax.psum(value(*args), "b"))
    want = jax.jit(jax.value_and_grad(value, (0, 1)))(*args)
    close(jax.jit(jax.value_and_grad(summed, (0, 1)))(*args), want)
    # Inside: the gradient of parameters that vary over nothing is the sum over devices.
    close(jax.jit(mapped(jax.grad(value)))(*args), want[1][0])


def by_hidden(leaf):
    """H is the last axis of every parameter of a cell."""
    return P(*(None,) * (leaf.ndim - 1), "h")


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("net, static, backend", [(CELL, STATIC[0], "hoisted"), *slow(MESH)], ids=ids)
def test_mesh(kind, net, static, backend):
    """Batch and hidden axes over a 2 x 2 mesh: the same numbers, noise included, and no weight is gathered."""
    if isinstance(net, jlstm.SLSTM) and kind == "Explicit":
        net = dataclasses.replace(net, heads=1)  # more than one head do not go over such an axis
    params, x = problem(net)
    value = jax.jit(jax.value_and_grad(loss(net, backend, key=jax.random.key(2), **static), (0, 1)))
    want = value(params, x, RAGGED)
    mesh = jax.make_mesh((2, 2), ("b", "h"), axis_types=(getattr(AxisType, kind),) * 2)

    def put(tree, spec):
        return jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec(a))), tree)

    sharded = put(params, by_hidden), *put((x, RAGGED), lambda _: P("b"))
    with jax.set_mesh(mesh):
        compiled = value.lower(*sharded).compile()
        close(jax.device_get(compiled(*sharded)), want)
    # Over "h", h itself is gathered, `[B, H]` a step: never an array with a gate axis and all of H.
    gathered = re.findall(r"f32\[([\d,]*)\]\S* all-gather", compiled.as_text())
    weights = {",".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(params) if leaf.ndim > 2}
    weights |= {f"{D},{4 * H}", f"{H},{4 * H}", f"{4 * H},{H}", f"{4},{H},{H}"}
    assert not weights & set(gathered), gathered
