"""Bad input: one line that names function, argument, what was expected and what came, before anything is computed."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import bad_calls
import bad_values
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_calls import CELL, DERIVE, FLOAT, KEY, OF_INIT_3, OWN_PARAMS, OWN_STATE, PARAMS, STATE, TYPE_KEY, D, H, Own, X

import jlstm

NAMES = {**vars(jlstm), **vars(bad_calls), **vars(bad_values)}
GOOD = dict(net=CELL, params=PARAMS, inputs=X)
GOOD_STEP = dict(net=CELL, params=PARAMS, state=STATE, x=X[:, 0])


def raised(kind: type[Exception], call: Callable[[], Any]) -> str:
    """The one line of the error, of exactly this class."""
    with pytest.raises(kind) as error:
        call()
    assert type(error.value) is kind
    assert len(str(error.value).splitlines()) == 1
    return str(error.value).replace("a traced", "an array")


def ways(function: Callable[..., Any], given: dict[str, Any]) -> list[Callable[[], Any]]:
    """The call as it stands, and with all its arrays traced, under the caller's `eval_shape` and `jit`."""
    leaves, tree = jax.tree.flatten(given)
    known = [isinstance(v, jax.Array) or (type(v) is np.ndarray and v.dtype.kind in "biufc") for v in leaves]

    def traced(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        filled = [next(rest) if k else v for v, k in zip(leaves, known, strict=True)]
        return function(**jax.tree.unflatten(tree, filled))

    arrays = [leaf for leaf, k in zip(leaves, known, strict=True) if k]
    return [lambda: function(**given), lambda: jax.eval_shape(traced, arrays), lambda: jax.jit(traced)(arrays)]


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No net is even traced. A bidirectional one refuses `step` itself."""
    module = sys.modules["jlstm.api"]
    run_net = module.run_net

    def only_refuses(net: Any, *args: Any) -> Any:
        assert args[-1].one_step and net != CELL
        return run_net(net, *args)

    monkeypatch.setattr(module, "run_net", only_refuses)


@pytest.mark.parametrize("code, kind, message", bad_calls.UNROLL, ids=[row[0] for row in bad_calls.UNROLL])
def test_unroll_and_trace(code: str, kind: type[Exception], message: str, nothing_runs: None) -> None:
    changes = eval(f"dict({code})", NAMES)
    for function in (jlstm.unroll, jlstm.trace):
        if set(changes) <= set(inspect.signature(function).parameters):
            whole = message[1:] if message.startswith("=") else f"{function.__name__}: {message}"
            assert [raised(kind, way) for way in ways(function, GOOD | changes)] == [whole] * 3


OF_X = "x is [*B, D] = (2, 3)."
STEP = [
    ("x=X[0, 0, 0]", ValueError, "x: expected [*B, D], at least 1 axes, got ()."),
    ("x=X", ValueError, "state.h: expected (2, 7, 4), got (2, 4). x is [*B, D] = (2, 7, 3)."),
    (
        "x=X[:, 0, :2]",
        ValueError,
        "params.w_ih: expected (2, 4, 4), got (3, 4, 4). x is [*B, D] = (2, 2). "
        "Its parameters come from net.init(key, 2).",
    ),
    ("x=X[:, 0].astype(int)", TypeError, f"x: expected [*B, D] of {FLOAT}, got int32."),
    ("x=X[:, 0].tolist()", TypeError, "x: expected an array, got list."),
    ("x=STATE, state=X[:, 0]", TypeError, "x: expected an array, got LSTMState."),
    ("state=STATE._replace(h=STATE.h[:1])", ValueError, f"state.h: expected (2, 4), got (1, 4). {OF_X}"),
    ("state=(STATE, X[:, 0])", ValueError, f"state: expected {OWN_STATE}, got ({OWN_STATE}, (2, 3)). {OF_X}"),
    ("reset=MASK", ValueError, f"reset: expected [*B] = (2,), got (2, 7). {OF_X}"),
    ("reset=True", TypeError, "reset: expected an array, got bool."),
    ("reset=LENGTHS", TypeError, "reset: expected [*B] of bool, got int32. Type reset.astype(bool)."),
    ("mask=MASK[:, :1]", ValueError, f"mask: expected [*B] = (2,), got (2, 1). {OF_X}"),
    ("mask=LENGTHS", TypeError, "mask: expected [*B] of bool, got int32. Type mask.astype(bool)."),
    ("net=LSTM", TypeError, "net: expected a Cell or a Layer, got the class LSTM. Type LSTM(...)."),
    ("net=Duck()", TypeError, f"net: expected a Cell or a Layer, got Duck. {DERIVE}"),
    ("params=P_STACK", ValueError, f"params: expected {OWN_PARAMS}, got ({OWN_PARAMS}, ()). {OF_X} {OF_INIT_3}"),
    ("key=0", TypeError, f"key: expected a PRNG key, got int. {TYPE_KEY}"),
    ("t=0.5", TypeError, "t: expected an int or a scalar array, got float."),
    ("backend='fast'", ValueError, "backend: expected one of 'scan', 'hoisted', 'associative', got 'fast'."),
    (
        "net=BI, params=P_BI, state=None",
        NotImplementedError,
        "net: a Bidirectional net needs the end of the sequence for its first output; type unroll.",
    ),
    (
        "net=Stack((CELL, BI)), params=(PARAMS, BI.init(KEY, H)), state=None",
        NotImplementedError,
        "net: a Bidirectional net needs the end of the sequence for its first output; type unroll.",
    ),
]


@pytest.mark.parametrize("code, kind, message", STEP, ids=[row[0] for row in STEP])
def test_step(code: str, kind: type[Exception], message: str, nothing_runs: None) -> None:
    changes = eval(f"dict({code})", NAMES)
    assert [raised(kind, way) for way in ways(jlstm.step, GOOD_STEP | changes)] == [f"step: {message}"] * 3


def test_the_tables_begin_with_sound_calls() -> None:
    for function, given in ((jlstm.unroll, GOOD), (jlstm.trace, GOOD), (jlstm.step, GOOD_STEP)):
        ways(function, given)[1]()
        ways(function, given | dict(net=Own(), params=Own().init(KEY, D), state=None))[1]()


def test_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JLSTM_BACKEND", "fast")
    for function, given in ((jlstm.unroll, GOOD), (jlstm.step, GOOD_STEP)):
        want = f"{function.__name__}: JLSTM_BACKEND: expected one of 'scan', 'hoisted', 'associative', got 'fast'."
        assert raised(ValueError, lambda function=function, given=given: function(**given)) == want
    jlstm.unroll(**GOOD, backend="scan")  # an argument goes first


# ---- a cell of one's own: what it gives is input, too

ADDED, NEXT = "It is added to what project gives.", "It is the next step's."
LEADS, CARRIED = "expected arrays [*B, ...] with *B = (2,)", "update's state: expected"
WIDTH = "expected [*B, ..., K] with *B = (2,) and K = output_size ="
OWN: list[tuple[str, Any, type[Exception], str]] = [
    ("initial_state", lambda self, p, b=(): jnp.zeros(H), ValueError, f"initial_state: {LEADS}, got (4,)."),
    ("project", lambda self, p, x: jnp.sum(x), ValueError, f"project: {LEADS}, got ()."),
    ("recur", lambda self, p, s: s[..., :1], ValueError, f"recur: expected (2, 4), got (2, 1). {ADDED}"),
    ("recur", lambda self, p, s: (s,), ValueError, f"recur: expected (2, 4), got ((2, 4),). {ADDED}"),
    ("update", lambda self, p, s, z: z, ValueError, "update: expected a tuple (state, y), got (2, 4)."),
    ("update", lambda self, p, s, z: None, ValueError, "update: expected a tuple (state, y), got None."),
    ("update", lambda self, p, s, z: (z[:1], z), ValueError, f"{CARRIED} (2, 4), got (1, 4). {NEXT}"),
    ("update", lambda self, p, s, z: ((z,), z), ValueError, f"{CARRIED} (2, 4), got ((2, 4),). {NEXT}"),
    ("update", lambda self, p, s, z: (z > 0, z), TypeError, f"{CARRIED} float32, got bool. {NEXT}"),
    ("update", lambda self, p, s, z: (z, z[..., 1:]), ValueError, f"update's y: {WIDTH} 4, got (2, 3)."),
    ("output_size", lambda self, D: 5, ValueError, f"update's y: {WIDTH} 5, got (2, 4)."),
    ("noise", lambda s, k, p, b, t: t, TypeError, "noise: expected a jlstm.cells.Noise or None, got an array int32[]."),
]


@pytest.mark.parametrize("method, function, kind, message", OWN, ids=[row[3] for row in OWN])
def test_own_cells(method: str, function: Any, kind: type[Exception], message: str) -> None:
    mine = jlstm.record(type("Mine", (Own,), {method: function}))()
    given = dict(net=jlstm.Stack((mine,)), params=(mine.init(KEY, D),), inputs=X, key=KEY)
    for more in ({}, dict(resets=bad_calls.MASK, reverse=True)):
        assert [raised(kind, way) for way in ways(jlstm.unroll, given | more)] == [f"unroll: Mine.{message}"] * 3


# ---- records and functions


@pytest.mark.parametrize("code, kind, message", bad_values.VALUES, ids=[row[0] for row in bad_values.VALUES])
def test_values(code: str, kind: type[Exception], message: str) -> None:
    got = raised(kind, lambda: eval(code, NAMES))
    assert got == message if message.endswith(".") else got.startswith(message)
