"""One sequence in several ways: whole, in chunks, step by step, its last step, its episodes, and looked at."""

import functools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grouped import Grouped
from small import B, T, equal, total

import jlstm


def arrays(net, batch=(B,)):
    """params, x, state, masks: random, float64."""
    rng = np.random.default_rng(0)
    params, x = cases.random_params(rng, net), cases.random_inputs(rng, net, (*batch, T))
    return params, x, cases.random_state(rng, net, params, batch), cases.random_options(rng, batch, T)


def acting(masks):
    """The steps that are taken, and the steps where a reset acts."""
    within = np.arange(T) < masks["lengths"][:, None]
    return masks["mask"] & within, masks["resets"] & within


HEAD = jlstm.Stack((cases.Noisy(cases.H), jlstm.Dropout(0.4), jlstm.Dense(2)))
WRAPPED = cases.everything(Grouped())
STACK, EMBED = cases.ROWS["stack"], cases.ROWS["embed"]
NETS = dict(head=(HEAD, False), back=(HEAD, True), wrapped=(WRAPPED, False), stack=(STACK, False), embed=(EMBED, True))


@pytest.mark.parametrize("net, reverse", NETS.values(), ids=NETS)
def test_chunks_steps_and_the_last_step(x64, net, reverse):
    """With everything on, these are one unroll: chunks that hand on the state and the position, `step` in a scan of
    one's own, and the last step alone, with its parts rematerialised. One key is one noise, and a reset draws no other.
    Rows of a batch end at different steps.
    """
    params, x, state, masks = arrays(net)
    key, t, border = jax.random.key(1), 5, 3
    valid, resets = acting(masks)

    def chunk(params, x, state, masks, start, stop):
        part = {option: masks[option][:, start:stop] for option in ("mask", "resets")}
        part["lengths"] = jnp.clip(masks["lengths"] - start, 0, stop - start)
        options = dict(key=key, t=t + start, reverse=reverse, return_sequences=True)
        return jlstm.unroll(net, params, x[:, start:stop], state=state, **options, **part)

    def stepwise(params, x, state):
        def take(state, now):
            t, x, mask, reset = now
            return jlstm.step(net, params, state, x, mask=mask, reset=reset, key=key, t=t)

        over_time = [jnp.moveaxis(a, 1, 0) for a in (x, valid, resets)]
        state, y = jax.lax.scan(take, state, (t + jnp.arange(T), *over_time))
        return state, jnp.moveaxis(y, 0, 1)

    @jax.jit
    def run(params, x, state, masks):
        whole = chunk(params, x, state, masks, 0, T)
        middle, y = chunk(params, x, state, masks, *((border, T) if reverse else (0, border)))
        end, y_then = chunk(params, x, middle, masks, *((0, border) if reverse else (border, T)))
        chunks = end, jnp.concatenate([y_then, y] if reverse else [y, y_then], 1)
        options = dict(state=state, key=key, t=t, reverse=reverse, checkpoint_every=3)
        last = jlstm.unroll(net, params, x, **options, **masks)
        return whole, chunks, last, None if reverse else stepwise(params, x, state)

    whole, chunks, last, steps = run(params, x, state, masks)
    equal(chunks, whole)
    if steps is not None:
        equal(steps, whole)
    picked = np.zeros(last[1].shape)
    for n in range(T)[:: -1 if reverse else 1]:
        picked = np.where(valid[:, n, None], whole[1][:, n], picked)
    equal(last, (whole[0], picked))


def end_of(net, first, last, reverse):
    """The final state of a sequence whose first and last episodes end in `first` and `last`."""
    match net:
        case jlstm.Stack():
            return tuple(end_of(*parts, reverse) for parts in zip(net.layers, first, last, strict=True))
        case jlstm.Bidirectional():
            forward, backward = net.directions
            return type(first)(
                end_of(forward, first.forward, last.forward, reverse),
                end_of(backward, first.backward, last.backward, not reverse),
            )
    return first if reverse else last


EPISODES = [("lstm-learned", True), ("stack", True), ("bi-sum", False), ("bi-concat", True)]


@pytest.mark.parametrize("name, reverse", EPISODES)
def test_episodes_are_separate_runs(x64, name, reverse):
    """Resets at 2, where the step is hidden, and at 5; the one at 6 stands at the length, and does nothing."""
    net = cases.ROWS[name]
    params, x, _, _ = arrays(net, ())
    mask, resets = np.ones(T, bool), np.isin(np.arange(T), (2, 5, 6))
    mask[2] = False
    weights = np.random.default_rng(1).normal(size=(T, 2 * cases.H))

    def run(params, x, **options):
        return jlstm.unroll(net, params, x, reverse=reverse, return_sequences=True, **options)

    def whole(params, x):
        return run(params, x, lengths=np.array(6), mask=mask, resets=resets)

    def separate(params, x):
        runs = [run(params, x[a:b], mask=mask[a:b]) for a, b in ((0, 2), (2, 5), (5, 6))]
        y = jnp.concatenate([*[y for _, y in runs], jnp.zeros_like(runs[0][1][:1])])
        return end_of(net, runs[0][0], runs[-1][0], reverse), y

    def gradients(f):
        def loss(params, x):
            end, y = f(params, x)
            return total(end, y * weights[:, : y.shape[-1]]), (end, y)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)

    equal(*jax.jit(lambda *args: [gradients(f)(*args) for f in (whole, separate)])(params, x))


def test_trace_shows_what_unroll_did(x64):
    """States before each step, after a reset; z by gate; outputs; in the layout of the call; and the layers' own."""
    cell = jlstm.LSTM(cases.H)
    net = jlstm.Stack((jlstm.Bidirectional(cell), jlstm.Dropout(0.4), jlstm.LSTM(2)))
    params, x, state, masks = arrays(cell)
    p_net = cases.random_params(np.random.default_rng(0), net)
    valid, resets = acting(masks)
    swap = functools.partial(jax.tree.map, lambda a: jnp.swapaxes(a, 0, 1))

    @jax.jit
    def run(params, p_net, x, state, masks):
        swapped = masks | {"mask": masks["mask"].T, "resets": masks["resets"].T}
        return (
            jlstm.unroll(cell, params, x, state=state, return_sequences=True, **masks),
            jlstm.trace(cell, params, x, state=state, **masks),
            jlstm.trace(cell, params, swap(x), state=state, time_major=True, **swapped),
            jlstm.unroll(net, p_net, x, key=jax.random.key(1), return_sequences=True),
            jlstm.trace(net, p_net, x, key=jax.random.key(1)),
        )

    (end, y), (seen_end, seen), time_major, of_net, of_layers = run(params, p_net, x, state, masks)
    equal((seen_end, seen.outputs), (end, y))
    equal(time_major, (end, swap(seen)))
    z = jax.tree.map(jnp.add, cell.project(params, jnp.asarray(x)), cell.recur(params, seen.states))
    equal(jax.tree.map(lambda a: a[valid], seen.z), jax.tree.map(lambda a: a[valid], z))
    after, y_then = cell.update(params, seen.states, seen.z)
    equal(np.where(valid[..., None], y_then, 0), y)
    for start, now, new in zip(state, seen.states, after, strict=True):
        kept = np.where(valid[..., None], new, now)  # every step begins where the one before ended, or anew
        before = np.concatenate([start[:, None], kept[:, :-1]], 1)
        equal(now, np.where(resets[..., None], 0, before))
    net_end, (two_ways, nothing, top) = of_layers
    assert nothing is None
    equal((net_end, top.outputs), of_net)
    assert two_ways[0].states.c.shape == two_ways[1].z.f.shape == (B, T, cases.H)


@pytest.mark.parametrize(
    "rows", [cases.LSTMS | cases.OTHERS, pytest.param(cases.CELLS, marks=pytest.mark.slow)], ids=["engine", "cells"]
)
def test_no_steps_and_no_rows(x64, rows):
    """T = 0 and batch 0 for every net, with everything on: the state is what came, y is 0, and gradients are 0."""
    everything = {name: arrays(net) for name, net in rows.items()}

    def run(net, arrays):
        params, x, state, masks = arrays
        cut = {option: masks[option][:, :0] for option in ("mask", "resets")} | {"lengths": masks["lengths"]}

        def loss(params):
            end, y = jlstm.unroll(net, params, x[:, :0], state=state, key=jax.random.key(0), **cut)
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(y)), (end, y)

        x_none, state_none, masks_none = jax.tree.map(lambda a: a[:0], (x, state, masks))
        empty = jlstm.unroll(net, params, x_none, state=state_none, **masks_none)
        ways = {"return_sequences": False}, {"return_sequences": True}, {"checkpoint_every": 2}
        bare = [jlstm.unroll(net, params, x[:, :0], **way)[1] for way in ways]
        return jax.grad(loss, has_aux=True)(params), empty, *bare

    results = jax.jit(lambda e: {name: run(rows[name], arrays) for name, arrays in e.items()})(everything)
    for name, ((gradients, (end, y)), (_, empty), last, sequence, chunks) in results.items():
        equal(end, everything[name][2])
        equal(chunks, last)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves((gradients, y, last))), name
        for leaf, none, steps in zip(*map(jax.tree.leaves, (y, empty, sequence)), strict=True):
            assert (leaf.shape[0], none.shape, steps.shape) == (B, (0, *leaf.shape[1:]), (B, 0, *leaf.shape[1:]))


def test_ids_out_of_range_are_nan_where_they_count():
    net = jlstm.Embed(3, 2)
    params = net.init(jax.random.key(0))
    _, y = jlstm.unroll(net, params, np.array([[-1, 0, 3, 9]]), lengths=np.array([3]), return_sequences=True)
    assert np.isnan(y).all(-1).tolist() == [[True, False, True, False]] and not np.any(y[0, 3])
