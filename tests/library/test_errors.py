"""Bad input: one line that names function, argument, what was expected and what came, before anything is computed."""

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

import bad_calls
import bad_values
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_calls import CELL, KEY, PARAMS, STATE, D, H, Own, X
from messages import check, raised

import jlstm

NAMES = {**vars(jlstm), **vars(bad_calls), **vars(bad_values)}
GOOD = dict(net=CELL, params=PARAMS, inputs=X)
GOOD_STEP = dict(net=CELL, params=PARAMS, state=STATE, x=X[:, 0])
HINTS = {  # where a message says the left, it goes on with the right
    r"PRNG key": "Type jax.random.key(0).",
    r"got the class (\w+)": r"Type \1(...).",
    r"a Cell or a Layer, got (?!the class)": "A net derives from jlstm.Cell or jlstm.Layer.",
    r"(\w+): expected \[.*\] of bool": r"Type \1.astype(bool).",
    r"^(unroll|trace): (lengths|mask|resets|state|params)[^:]*: expected (?!an array|arrays|.* of bool)": "inputs is [",
    r"^step: (reset|mask|state|params)[^:]*: expected (?!an array|.* of bool)": "x is [*B, D] = (2, ",
    r"params[^:]*: expected (?!arrays)": "arameters come from net.init",
    r"\[\*B, T\] = \(2, 7\), got \(7, 2\)": "For time-major arrays, type time_major=True and give inputs so too.",
    r"(\w+): expected \[T, \*B\]": r"With time_major=True it is time-major too: type jnp.moveaxis(\1, -1, 0).",
    r"got (\w+), which is no record": r"Type @jlstm.record above class \1.",
    r"a hashable value": "Its fields are plain values and tuples; lists and arrays are not.",
    r"without jax_enable_x64": 'Type jax.config.update("jax_enable_x64", True) first.',
    r"_init: expected float32": "It is called as (key, shape, dtype).",
    r"Mine.recur:": "It is added to what project gives.",
    r"Mine.update's state:": "It is the next step's.",
}


def says(message: str, where: str, expected: str, got: str) -> None:
    """Check the sentence that names the error, and the hint that follows."""
    check(message, where, expected, got)
    for pattern, hint in HINTS.items():
        if found := re.search(pattern, message):
            assert found.expand(hint) in message[found.end() :], (hint, message)


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


def refused(kind: type[Exception], function: Callable[..., Any], given: dict[str, Any]) -> str:
    """The message of a call, the same in all ways."""
    (message,) = {raised(kind, way).replace("a traced", "an array") for way in ways(function, given)}
    return message


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No net is even traced. A bidirectional one refuses `step` itself."""
    module = sys.modules["jlstm.api"]
    run_net = module.run_net

    def only_refuses(net: Any, *args: Any) -> Any:
        assert args[-1].one_step and net != CELL
        return run_net(net, *args)

    monkeypatch.setattr(module, "run_net", only_refuses)


def each(table: list[tuple[Any, ...]]) -> Any:
    return pytest.mark.parametrize("code, kind, argument, expected, got", table, ids=[row[0] for row in table])


@each(bad_calls.UNROLL)
def test_unroll_and_trace(code: str, kind: Any, argument: str, expected: str, got: str, nothing_runs: None) -> None:
    changes = eval(f"dict({code})", NAMES)
    for function in (jlstm.unroll, jlstm.trace):
        if set(changes) <= set(inspect.signature(function).parameters):
            where = argument if ":" in argument else f"{function.__name__}: {argument}"
            says(refused(kind, function, GOOD | changes), where, expected, got)


@each(bad_calls.STEP)
def test_step(code: str, kind: Any, argument: str, expected: str, got: str, nothing_runs: None) -> None:
    says(refused(kind, jlstm.step, GOOD_STEP | eval(f"dict({code})", NAMES)), f"step: {argument}", expected, got)


INPUTS = "inputs is [*B, T, D] = (2, 7, 3)."
TWO_WAYS = "net: a Bidirectional net needs the end of the sequence for its first output; type unroll."
UNFIT = f"params.w_ih: expected (3, 4, 5), got (3, 4, 4). {INPUTS} Its parameters come from net.init(key, 3)."
SENTENCES = [  # whole messages, as examples
    (jlstm.unroll, "lengths=np.ones(3, int)", ValueError, f"lengths: expected [*B] = (2,), got (3,). {INPUTS}"),
    (jlstm.unroll, "net=LSTM(5)", ValueError, UNFIT),
    (jlstm.step, "mask=LENGTHS", TypeError, "mask: expected [*B] of bool, got int32. Type mask.astype(bool)."),
    (jlstm.step, "net=BI, params=P_BI, state=None", NotImplementedError, TWO_WAYS),
    (jlstm.step, "net=Stack((CELL, BI)), params=(PARAMS, BI.init(KEY, H)), state=None", NotImplementedError, TWO_WAYS),
]


@pytest.mark.parametrize("function, code, kind, sentence", SENTENCES, ids=[row[1] for row in SENTENCES])
def test_whole_sentences(function: Any, code: str, kind: Any, sentence: str, nothing_runs: None) -> None:
    given = (GOOD if function is jlstm.unroll else GOOD_STEP) | eval(f"dict({code})", NAMES)
    assert refused(kind, function, given) == f"{function.__name__}: {sentence}"


@each(bad_values.VALUES)
def test_values(code: str, kind: Any, argument: str, expected: str, got: str) -> None:
    says(raised(kind, lambda: eval(code, NAMES)).replace("a traced", "an array"), argument, expected, got)


def test_the_tables_begin_with_sound_calls() -> None:
    for function, given in ((jlstm.unroll, GOOD), (jlstm.trace, GOOD), (jlstm.step, GOOD_STEP)):
        ways(function, given)[1]()
        ways(function, given | dict(net=Own(), params=Own().init(KEY, D), state=None))[1]()


def test_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JLSTM_BACKEND", "fast")
    for function, given in ((jlstm.unroll, GOOD), (jlstm.step, GOOD_STEP)):
        message = raised(ValueError, lambda function=function, given=given: function(**given))
        check(message, f"{function.__name__}: JLSTM_BACKEND", bad_calls.BACKENDS, "'fast'")
    jlstm.unroll(**GOOD, backend="scan")  # an argument goes first


# ---- a cell of one's own: what it gives is input, too

WIDTH = "[*B, ..., K] with *B = (2,) and K = output_size ="
OWN: list[tuple[str, Any, type[Exception], str, str, str]] = [
    ("initial_state", lambda self, p, b=(): jnp.zeros(H), ValueError, "initial_state", "*B = (2,)", "(4,)"),
    ("project", lambda self, p, x: jnp.sum(x), ValueError, "project", "arrays [*B, ...] with *B = (2,)", "()"),
    ("recur", lambda self, p, s: s[..., :1], ValueError, "recur", "(2, 4)", "(2, 1)"),
    ("recur", lambda self, p, s: (s,), ValueError, "recur", "(2, 4)", "((2, 4),)"),
    ("update", lambda self, p, s, z: z, ValueError, "update", "a tuple (state, y)", "(2, 4)"),
    ("update", lambda self, p, s, z: None, ValueError, "update", "a tuple (state, y)", "None"),
    ("update", lambda self, p, s, z: (z[:1], z), ValueError, "update's state", "(2, 4)", "(1, 4)"),
    ("update", lambda self, p, s, z: ((z,), z), ValueError, "update's state", "(2, 4)", "((2, 4),)"),
    ("update", lambda self, p, s, z: (z > 0, z), TypeError, "update's state", "float32", "bool"),
    ("update", lambda self, p, s, z: (z, z[..., 1:]), ValueError, "update's y", f"{WIDTH} 4", "(2, 3)"),
    ("output_size", lambda self, D: 5, ValueError, "update's y", f"{WIDTH} 5", "(2, 4)"),
    ("noise", lambda s, k, p, b, t: t, TypeError, "noise", "a jlstm.cells.Noise or None", "an array int32[]"),
]


@pytest.mark.parametrize("method, function, kind, what, expected, got", OWN)
def test_own_cells(method: str, function: Any, kind: Any, what: str, expected: str, got: str) -> None:
    mine = jlstm.record(type("Mine", (Own,), {method: function}))()
    given = dict(net=jlstm.Stack((mine,)), params=(mine.init(KEY, D),), inputs=X, key=KEY)
    for more in ({}, dict(resets=bad_calls.MASK, reverse=True)):
        says(refused(kind, jlstm.unroll, given | more), f"unroll: Mine.{what}", expected, got)
