"""The backends agree, on cells that strain the protocol, and with activations of any kind."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sketches
from small import RAGGED, B, D, T, dot, equal, inputs, total, value

import jlstm

# Most sketches are real cells by now, with rows of their own.
SKETCHES = [sketches.LSTMP(), sketches.OldGRU(), sketches.Noisy(), sketches.MinLSTM()]
SLOW = [pytest.param(net, marks=pytest.mark.slow) for net in (*SKETCHES, *cases.CELLS.values())]
OPTIONS = [
    dict(return_sequences=True),
    pytest.param(dict(reverse=True, checkpoint_every=3), marks=pytest.mark.slow),
    pytest.param(dict(truncate_every=2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("net", [sketches.ConvRNN(), *SLOW], ids=lambda net: type(net).__name__)
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
