"""Wrappers of wrappers: noise, derivatives, files; and what cannot be wrapped."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import everything
from grouped import Grouped, GroupedParams, problem
from small import bitwise, check_share, equal, value

import jlstm
from jlstm import LSTM, ClipGates, DropConnect, VariationalDropout, Zoneout
from jlstm.api import _call
from jlstm.cells.wrapper import Wrapper

D, H = 3, 4
KEY = jax.random.key(3)


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
            check_share(a == b, 0.5)


@pytest.mark.slow
def test_derivatives_of_both_orders(x64):
    """Forward over reverse, under a vmap over keys, as on the ordinary scan."""
    net = everything(Grouped())
    params = cases.random_params(np.random.default_rng(0), net)
    x = cases.random_inputs(np.random.default_rng(1), net, (2, 4))
    ones = jax.tree.map(np.ones_like, params)

    def product(backend, key):
        f = value(net, backend, key=key)
        return jax.jvp(jax.grad(lambda params: f(params, x, None)), (params,), (ones,))

    @jax.jit
    def products(keys):
        return [jax.vmap(functools.partial(product, backend))(keys) for backend in cases.BACKENDS]

    want, got = products(jax.random.split(KEY, 3))
    equal(got, want, 1e-10)
    assert np.max(np.abs(got[0].u[0] - got[0].u[1])) > 1e-3


def test_a_record_of_records(tmp_path):
    """In layers, equal by value, printed, written and read; an equal one is not compiled again."""

    def make() -> Any:
        two = jlstm.Bidirectional(everything(LSTM(2)), DropConnect(Grouped(), 0.5))
        return jlstm.Stack((everything(LSTM(H)), jlstm.Residual(Zoneout(LSTM(H), 0.1)), two))

    net = make()
    assert make() == net and hash(make()) == hash(net) and repr(make()) == repr(net)
    assert Zoneout(LSTM(H), 0.1) != Zoneout(LSTM(H), 0.2) != DropConnect(LSTM(H), 0.2) != Zoneout(LSTM(D), 0.2)
    shown = "Zoneout(cell=DropConnect(cell=Grouped(), rate=0.4), h_rate=0.1, c_rate=0.0)"
    assert repr(Zoneout(DropConnect(Grouped(), 0.4), 0.1)) == shown
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


WRONG = [
    (lambda: Zoneout(cases.Elman(), 0.1), "expected a cell that names its state_groups, got Elman"),
    (lambda: DropConnect(cases.Elman(), 0.1), "a cell that names its recurrent_params, got Elman"),
    (lambda: DropConnect(LSTM(H), -0.1), "rate: expected a rate in [0, 1), got -0.1."),
    (lambda: VariationalDropout(cases.Elman(), 0.1, 0.1), "that names its state_groups, got Elman, which"),
    (lambda: VariationalDropout(NoH(), 0, 0.1), "expected a cell with an h, got NoH, whose state_groups"),
    (lambda: VariationalDropout(LSTM(H), float("nan")), "input_rate: expected a rate in [0, 1), got nan."),
    (lambda: Zoneout(NoH(), 0.1), "h_rate: expected 0, since NoH has no h in its state_groups, got 0.1."),
    (lambda: ClipGates(LSTM(H), 0), "limit: expected a number above 0, got 0."),
    (lambda: Zoneout(LSTM(H), 1.0), "h_rate: expected a rate in [0, 1), got 1.0."),
    (
        lambda: Zoneout(Misnamed(), 0.1, 0.1).initial_state(problem(Grouped())[0]),
        "Misnamed.state_groups: expected names among 'h', 'c', 'n', 'm', got 'k'.",
    ),
    (
        lambda: Zoneout(Misnamed(), 0.1, 0.1).init(KEY, D),
        "Misnamed.recurrent_params: expected names among 'w', 'u', 'p', got 'q'.",
    ),
]
WRONG_TYPES = [
    (lambda: Zoneout(LSTM, 0.1), "expected a Cell or a Layer, got the class LSTM. Type LSTM(...)."),
    (lambda: Zoneout(jlstm.Dense(2), 0.1), "expected a Cell, got Dense."),
    (lambda: Zoneout(LSTM(H), 0.1, "0.5"), "c_rate: expected a number, got '0.5'."),
]
WRONG_ROWS = [(ValueError, *row) for row in WRONG] + [(TypeError, *row) for row in WRONG_TYPES]


@pytest.mark.parametrize("kind, wrap, message", WRONG_ROWS, ids=[message for _, _, message in WRONG_ROWS])
def test_wrong_wrappers(kind, wrap, message):
    with pytest.raises(kind, match=r"^(Zoneout|DropConnect|VariationalDropout|ClipGates)(\.in|: )") as error:
        wrap()
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("cell", [Grouped(), jlstm.SLSTM(H), jlstm.MinLSTM(H)], ids=lambda cell: type(cell).__name__)
def test_fields_of_one_group_have_no_mean(cell):
    """Zoneout of c, n and m keeps them together; a call without a key is an error, also inside other wrappers."""
    net = DropConnect(Zoneout(cell, 0.0, 0.3), 0.1) if cell.recurrent_params else Zoneout(cell, 0.3)
    params, x = problem(net)
    jlstm.unroll(net, params, x, key=KEY)
    name = type(cell).__name__
    with pytest.raises(ValueError, match=rf"^Zoneout: key: expected one, since .* of {name} have no mean, got None\."):
        jlstm.unroll(net, params, x)
