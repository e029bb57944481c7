"""Wrappers of wrappers: one noise a key, derivatives, programs, files; and what cannot be wrapped."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import dots_in_loops
from grouped import Grouped, GroupedParams, problem
from small import bitwise, equal

import jlstm
from jlstm import LSTM, ClipGates, DropConnect, VariationalDropout, Zoneout
from jlstm.api import _call
from jlstm.cells.wrapper import Wrapper

D, H, T = 3, 4, 7
KEY = jax.random.key(3)


def everything(cell: Any) -> Any:
    """Every wrapper. Without a key a group of several fields has no mean, so its rate is 0."""
    c_rate = 0.3 if all(len(group) == 1 for group in cell.state_groups) else 0.0
    return Zoneout(DropConnect(VariationalDropout(ClipGates(cell, 1.0), 0.2, 0.3), 0.4), 0.2, c_rate)


def test_one_key_is_one_noise():
    """A whole unroll, one with chunks recomputed, two chunks and T steps: with resets, which draw nothing anew."""
    net = everything(Grouped())
    params, x = problem(net)
    options = dict(key=KEY, return_sequences=True)
    resets = jax.random.bernoulli(KEY, 0.3, (2, T))

    def step(state, now):
        t, x, reset = now
        return jlstm.step(net, params, state, x, reset=reset, key=KEY, t=t)

    @jax.jit
    def runs():
        middle, y = jlstm.unroll(net, params, x[:, :3], resets=resets[:, :3], t=4, **options)
        end, y_then = jlstm.unroll(net, params, x[:, 3:], resets=resets[:, 3:], t=7, state=middle, **options)
        over_time = 4 + jnp.arange(T), jnp.swapaxes(x, 0, 1), resets.T
        stepped, y_stepped = jax.lax.scan(step, net.initial_state(params, (2,)), over_time)
        return [
            *(jlstm.unroll(net, params, x, resets=resets, t=4, checkpoint_every=k, **options) for k in (None, 3)),
            (end, jnp.concatenate([y, y_then], 1)),
            (stepped, jnp.swapaxes(y_stepped, 0, 1)),
        ]

    whole, *same = runs()
    for other in same:
        equal(other, whole, 1e-5)


def test_every_level_draws_its_own():
    """The same wrapper twice: two masks that agree no more often than chance has it. An old key is one as well."""
    net = LSTM(20)
    for wrap in (VariationalDropout, Zoneout, DropConnect):
        rates = (0.5,) if wrap is DropConnect else (0, 0.5) if wrap is VariationalDropout else (0.5, 0.5)
        net = wrap(wrap(net, *rates), *rates)
    params, _ = problem(net)
    draw = jax.jit(lambda key: net.noise(key, params, (80,), 3))
    noise, drawn = draw(KEY), []
    bitwise(draw(jax.random.PRNGKey(3)), noise)
    while isinstance(net, Wrapper):
        own, (noise, *_), net = net.own(noise), net.inner(noise) or (None,), net.cell
        drawn.append(jax.tree.leaves(own))
    for outer, inner in zip(drawn[::2], drawn[1::2], strict=True):
        for a, b in zip(outer, inner, strict=True):
            assert abs(np.mean(a == b) - 0.5) < 5 * np.sqrt(0.25 / a.size)


@pytest.mark.slow
def test_derivatives_of_both_orders(x64):
    """Forward over reverse, under a vmap over keys: what the ordinary scan gives."""
    net = everything(Grouped())
    params = cases.random_params(np.random.default_rng(0), net)
    x = cases.random_inputs(np.random.default_rng(1), net, (2, 4))
    ones, keys = jax.tree.map(np.ones_like, params), jax.random.split(KEY, 3)

    @functools.partial(jax.jit, static_argnums=0)
    def products(backend):
        def f(params, key):
            return jnp.sum(jnp.sin(jlstm.unroll(net, params, x, key=key, backend=backend)[1]))

        return jax.vmap(lambda key: jax.jvp(jax.grad(lambda p: f(p, key)), (params,), (ones,)))(keys)

    got, want = products("hoisted"), products("scan")
    equal(got, want, 1e-10)
    assert np.max(np.abs(got[0].u[0] - got[0].u[1])) > 1e-3


def dots_of_the_gradient(net):
    params, x = problem(net)
    f = jax.grad(lambda p: jnp.sum(jlstm.unroll(net, p, x, return_sequences=True, key=KEY)[1]))
    return dots_in_loops(jax.jit(f).lower(params).as_text())


def test_no_weight_gradient_in_the_loop(request):
    """One dot a recurrent weight forward, one backward; Grouped has two of them, and one is read inside `update`."""
    assert dots_of_the_gradient(everything(LSTM(H))) == 2
    request.getfixturevalue("nothing_carried")  # that weight is so small that it would be carried
    assert dots_of_the_gradient(everything(Grouped())) == 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtypes_are_the_cells(dtype):
    net = everything(LSTM(H, compute_dtype=dtype, cell_clip=0.5))
    params, x = problem(net)
    for key in (None, KEY):
        end, y = jax.eval_shape(lambda key=key: jlstm.unroll(net, params, x, key=key))
        assert (y.dtype, end.h.dtype, end.c.dtype) == (dtype, dtype, "float32")


def test_a_record_of_records(tmp_path):
    """In layers, equal by value, printed, written and read; an equal one is not compiled again."""

    def make() -> Any:
        two = jlstm.Bidirectional(everything(LSTM(2)), DropConnect(Grouped(), 0.5))
        return jlstm.Stack((everything(LSTM(H)), jlstm.Residual(Zoneout(LSTM(H), 0.1)), two))

    net = make()
    assert make() == net and hash(make()) == hash(net) and repr(make()) == repr(net)
    assert Zoneout(LSTM(H), 0.1) != Zoneout(LSTM(H), 0.2) != DropConnect(LSTM(H), 0.2) != Zoneout(LSTM(D), 0.2)
    assert repr(Zoneout(DropConnect(Grouped(), 0.4), 0.1)) == (
        "Zoneout(cell=DropConnect(cell=Grouped(), rate=0.4), h_rate=0.1, c_rate=0.0)"
    )
    params, x = problem(net, T=2)
    jlstm.save(tmp_path / "net", net, params)
    again, loaded = jlstm.load(tmp_path / "net", types=[Grouped, GroupedParams])
    assert again == net and jax.tree.structure(loaded) == jax.tree.structure(params)
    want = jlstm.unroll(net, params, x, lengths=np.array([1, 2]), key=KEY)
    compiled = _call._cache_size()
    bitwise(jlstm.unroll(again, loaded, x, lengths=np.array([1, 2]), key=KEY), want)
    assert _call._cache_size() == compiled
    assert jax.tree.map(jnp.shape, want[0][0]) == jlstm.LSTMState((2, H), (2, H)) and want[1].shape == (2, 4)


# ---- what can be wrapped


@jlstm.record
class Misnamed(Grouped):
    state_groups: ClassVar = (("h",), ("c", "k"))
    recurrent_params: ClassVar = ("u", "q")


@jlstm.record
class NoH(Grouped):
    state_groups: ClassVar = (("c", "n", "m"),)


@pytest.mark.parametrize(
    "wrap, kind, message",
    [
        (lambda: Zoneout(cases.Elman(), 0.1), ValueError, "expected a cell that names its state_groups, got Elman"),
        (lambda: DropConnect(cases.Elman(), 0.1), ValueError, "a cell that names its recurrent_params, got Elman"),
        (lambda: DropConnect(LSTM(H), -0.1), ValueError, "rate: expected a rate in [0, 1), got -0.1."),
        (
            lambda: VariationalDropout(cases.Elman(), 0.1, 0.1),
            ValueError,
            "that names its state_groups, got Elman, which",
        ),
        (
            lambda: VariationalDropout(NoH(), 0, 0.1),
            ValueError,
            "expected a cell with an h, got NoH, whose state_groups",
        ),
        (
            lambda: VariationalDropout(LSTM(H), float("nan")),
            ValueError,
            "input_rate: expected a rate in [0, 1), got nan.",
        ),
        (
            lambda: Zoneout(NoH(), 0.1),
            ValueError,
            "h_rate: expected 0, since NoH has no h in its state_groups, got 0.1.",
        ),
        (lambda: ClipGates(LSTM(H), 0), ValueError, "limit: expected a number above 0, got 0."),
        (lambda: Zoneout(LSTM, 0.1), TypeError, "expected a Cell or a Layer, got the class LSTM. Type LSTM(...)."),
        (lambda: Zoneout(jlstm.Dense(2), 0.1), TypeError, "expected a Cell, got Dense."),
        (lambda: Zoneout(LSTM(H), 1.0), ValueError, "h_rate: expected a rate in [0, 1), got 1.0."),
        (lambda: Zoneout(LSTM(H), 0.1, "0.5"), TypeError, "c_rate: expected a number, got '0.5'."),
        (
            lambda: Zoneout(Misnamed(), 0.1, 0.1).initial_state(problem(Grouped())[0]),
            ValueError,
            "Misnamed.state_groups: expected names among 'h', 'c', 'n', 'm', got 'k'.",
        ),
        (
            lambda: Zoneout(Misnamed(), 0.1, 0.1).init(KEY, D),
            ValueError,
            "Misnamed.recurrent_params: expected names among 'w', 'u', 'p', got 'q'.",
        ),
    ],
)
def test_wrong_wrappers(wrap, kind, message):
    with pytest.raises(kind) as error:
        wrap()
    assert (
        message in str(error.value)
        and "\n" not in str(error.value)
        and str(error.value).startswith(
            ("Zoneout: ", "DropConnect: ", "VariationalDropout: ", "ClipGates: ", "Zoneout.in")
        )
    )


@pytest.mark.parametrize("cell", [Grouped(), jlstm.SLSTM(H), jlstm.MinLSTM(H)], ids=lambda cell: type(cell).__name__)
def test_fields_of_one_group_have_no_mean(cell):
    """Zoneout of c, n and m keeps them together; a call without a key is an error, also inside other wrappers."""
    net = DropConnect(Zoneout(cell, 0.0, 0.3), 0.1) if cell.recurrent_params else Zoneout(cell, 0.3)
    params, x = problem(net)
    jlstm.unroll(net, params, x, key=KEY)
    name = type(cell).__name__
    with pytest.raises(ValueError, match=rf"^Zoneout: key: expected one, since .* of {name} have no mean, got None\."):
        jlstm.unroll(net, params, x)
