"""Wrappers of cells, one by one: what they draw and how often, their limits, and other frameworks' numbers."""

from __future__ import annotations

import dataclasses

import cases
import frameworks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import scans
from grouped import Grouped, Read, ReadState, problem
from small import check_share, equal

import jlstm
from jlstm import LSTM, DropConnect, VariationalDropout, Zoneout

D, H, T = 3, 4, 7
KEY = jax.random.key(3)


# ---- zoneout


def test_zoneout_keeps_at_its_rates():
    """Units that keep their value, by group: 20 % of h, 60 % of memory; anew for every unit, example and step."""
    net = Zoneout(Grouped(), 0.2, 0.6)
    params, _ = problem(net)
    draw = jax.vmap(lambda t: net.noise(KEY, params, (50,), t).step[0])
    for mask, rate, size in zip(draw(jnp.arange(40)), (0.2, 0.6), (2, H), strict=True):
        assert mask.shape == (40, 50, size)  # one for c, n and m
        check_share(mask, rate, 0, 1, 2)  # nothing is drawn once for all
        flat = np.reshape(mask, (40, -1)) - rate
        assert np.abs(np.mean(flat[1:] * flat[:-1])) < 0.02  # one step tells nothing of the next


def test_zoneout_of_another_output():
    """y comes from what the cell made, h is kept: with a rate near 1 nothing is left of the new h but y."""
    net = Zoneout(Read(), 1 - 1e-6)
    params, x = problem(net)
    plain = jlstm.step(Read(), params, ReadState(jnp.ones((2, H))), x[:, 0])
    for key in (None, KEY):
        state, y = jlstm.step(net, params, ReadState(jnp.ones((2, H))), x[:, 0], key=key)
        equal(state.h, np.ones((2, H)), 1e-5)
        equal(y, plain[1], 1e-6)
    with pytest.raises(ValueError, match=r"^Zoneout: c_rate: expected 0, since Read has no memory beside h .*got 0\.1"):
        Zoneout(Read(), 0.1, 0.1)


@pytest.mark.parametrize("net", [Zoneout(LSTM(H), 0.3, 0.5), Zoneout(Grouped(), 0.3)], ids=["LSTM", "Grouped"])
def test_zoneout_without_a_key_is_the_mean_over_keys(net):
    params, x = problem(net)
    state = jax.tree.map(jnp.asarray, cases.random_state(np.random.default_rng(1), net, params, (2,)))

    @jax.jit
    def step(key):
        after, y = jlstm.step(net, params, state, x[:, 0], key=key)
        return [*jax.tree.leaves(after), y]

    drawn = jax.jit(jax.vmap(step))(jax.random.split(KEY, 5000))
    for mean, samples in zip(step(None), drawn, strict=True):
        assert np.all(np.abs(np.mean(samples, 0) - mean) < 1e-5 + 5 * np.std(samples, 0) / np.sqrt(len(samples)))


# ---- dropped weights


def test_drop_connect_draws_once():
    """30 % of the weights, scaled; other weights at other positions; the same for all steps, examples and positions."""
    net = DropConnect(Grouped(), 0.3)
    params, _ = problem(net)
    params = jax.tree.map(lambda a: jnp.ones((50, *a.shape[1:])), params)
    kept = net.noise(KEY, params, (2,), 0).sequence[0]
    assert {name: mask.shape for name, mask in kept.items()} == {"u": (50, 4, H), "p": (50, 2)}
    equal(kept, net.noise(KEY, params, (), 5).sequence[0])
    check_share(kept["u"], 0.7)
    other = net.noise(jax.random.key(4), params, (2,), 0).sequence[0]
    check_share(kept["u"] == other["u"], 0.58)


def test_drop_connect_is_a_cell_of_other_weights(x64):
    """Without a key nothing is dropped; rows of a batch, which begin alike, stay alike."""
    net, cell = DropConnect(LSTM(H), 0.5), LSTM(H)
    params, x = jax.tree.map(lambda a: a.astype("float64"), problem(net))
    x = jnp.broadcast_to(x[:1], x.shape)
    equal(jlstm.unroll(net, params, x), jlstm.unroll(cell, params, x))
    state, y = jlstm.unroll(net, params, x, key=KEY)
    kept = net.noise(KEY, params, (), 0).sequence[0]["w_hh"]
    equal((state, y), jlstm.unroll(cell, params._replace(w_hh=params.w_hh * kept * 2), x))
    equal(y[0], y[1])


@pytest.mark.usefixtures("hoisted_by_default")
@pytest.mark.parametrize("net", [DropConnect(LSTM(H), 0.5), DropConnect(Zoneout(LSTM(H), 0.1), 0.5)])
def test_the_loops_are_the_cells_own(net):
    """Of the gradient of dropped weights: no mask on a weight in it, nothing of its size kept for every step."""

    def loops(net):
        params, x = problem(net)
        f = jax.grad(lambda p: jnp.sum(jlstm.unroll(net, p, x, return_sequences=True, key=KEY)[1]))
        loops = scans(jax.make_jaxpr(f)(params).jaxpr)
        return [[v.aval.str_short() for v in (*e.invars, *e.outvars) if v.aval.shape[-3:] != (T, 2, H)] for e in loops]

    assert loops(net) == loops(LSTM(H))


# ---- dropped inputs and states


def test_variational_dropout_draws_once():
    """Identity weights show what the gates see: x and h by one mask each, for all gates and steps, an example's own."""
    B, rates = 400, (0.2, 0.5)
    net = VariationalDropout(LSTM(D), *rates)
    eye, none = jnp.broadcast_to(jnp.eye(D)[:, None], (D, 4, D)), jnp.zeros((D, 4, D))
    for n, weights in enumerate([(eye, none), (none, eye)]):
        params = jlstm.LSTMParams(*weights, jnp.full((4, D), 0.7 * n))
        _, seen = jlstm.trace(net, params, jnp.ones((B, T, D)), state=jlstm.LSTMState(*jnp.ones((2, B, D))), key=KEY)
        source = seen.states.h if n else jnp.ones((B, T, D))
        masks = np.stack([(z - 0.7 * n) / source * (1 - rates[n]) for z in seen.z])
        equal(masks, np.broadcast_to(masks[:1, :, :1], masks.shape), 1e-5)
        mask = masks[0, :, 0].round()
        equal(masks[0, :, 0], mask, 1e-5)
        check_share(mask, 1 - rates[n], 0, 1)


def test_variational_dropout_is_keras_with_its_masks():
    """Keras's cell has a mask a gate: given ours for all of them, it computes the same."""
    frameworks.need("keras")
    import keras

    B, rates = 3, (0.3, 0.4)
    net = VariationalDropout(LSTM(H), *rates)
    params, x = problem(net, (B,))
    (k_x, kept), _ = net.noise(KEY, params, (B,), 0).sequence
    masks = jax.random.bernoulli(k_x, 1 - rates[0], (B, D)) / (1 - rates[0]), kept / (1 - rates[1])
    with frameworks.settings():
        cell = keras.layers.LSTMCell(H, dropout=rates[0], recurrent_dropout=rates[1])
        cell.build((B, D))
        cell.set_weights(jlstm.convert.to_keras(LSTM(H), params))
        cell._dropout_mask, cell._recurrent_dropout_mask = ([mask] * 4 for mask in masks)
        state, outputs = [jnp.zeros((B, H))] * 2, []
        for t in range(3):
            y, state = cell(x[:, t], state, training=True)
            outputs.append(y)
    end, y = jlstm.unroll(net, params, x[:, :3], return_sequences=True, key=KEY)
    equal(y, jnp.stack(outputs, 1), 1e-5)
    equal(list(end), list(state), 1e-5)


# ---- clips


FAMILY = [cell(H) for cell in (LSTM, jlstm.PeepholeLSTM, jlstm.CoupledLSTM, jlstm.LayerNormLSTM)]
FAMILY += [jlstm.ProjectedLSTM(H, 2), jlstm.OriginalLSTM(H, block_size=2)]


@pytest.mark.parametrize("cell", FAMILY, ids=lambda cell: type(cell).__name__)
def test_h_is_made_of_the_clipped_cell(cell):
    """The cell without a clip, whose gates hold the clipped c, gives the same state and output."""
    limit, rng = 0.3, np.random.default_rng(1)
    params = cases.random_params(rng, cell, "float32")
    state = jax.tree.map(jnp.asarray, cases.random_state(rng, cell, params, (50,)))
    z = cases.random_tree(rng, jax.eval_shape(cell.project, params, jax.ShapeDtypeStruct((50, 3), "float32")))
    got = dataclasses.replace(cell, cell_clip=limit).update(params, state, z)
    c = cell.update(params, state, z)[0].c
    assert np.any(np.abs(c) > limit) and np.any(np.abs(c) < limit)
    hold = {"i": jnp.full_like(z.i, -1e4)} | ({"f": jnp.full_like(z.i, 1e4)} if "f" in z._fields else {})
    equal(got, cell.update(params, state._replace(c=jnp.clip(c, -limit, limit)), z._replace(**hold)), 1e-6)


def test_a_clipped_memory():
    """c is never beyond the limit; a limit that nothing reaches changes nothing, in gradients too."""
    params, x = problem(LSTM(H))
    for cell in (DropConnect(LSTM(H, cell_clip=0.1), 0.5), Zoneout(LSTM(H, cell_clip=0.1), 0.2, 0.2)):
        _, seen = jlstm.trace(cell, params, 3 * x, key=KEY)
        assert np.max(np.abs(seen.states.c)) == np.float32(0.1)
    clips = [clip for limit in (1e3, 1e-3) for clip in (LSTM(H, cell_clip=limit), jlstm.ClipGates(LSTM(H), limit))]

    @jax.jit
    def gradients(params):
        return [jax.grad(lambda p, net=net: jnp.sum(jlstm.unroll(net, p, x)[1]))(params) for net in (*clips, LSTM(H))]

    *wide, tight, tight_gates, plain = gradients(params)
    equal(wide, [plain] * 2, 1e-6)
    for gradient, gates in ((tight, "ifg"), (tight_gates, "ifgo")):
        assert all(not np.any(gradient.w_hh[:, jlstm.GATES.index(gate)]) for gate in gates)
