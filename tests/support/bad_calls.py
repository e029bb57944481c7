"""Bad calls of `unroll`, `trace` and `step`, for `test_errors.py`: `messages.check` says how a row is read.

A row: the arguments that change, the class of the error, the argument that it names, what was expected and what came.
The code in the tables is evaluated here, over the names of this file.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import sketches

import jlstm
from jlstm import LSTM, Bidirectional, Dropout, Embed, Stack

B, T, D, H = 2, 7, 3, 4
KEY = jax.random.key(0)
CELL, BI = LSTM(H), Bidirectional(LSTM(H))
STACK, WORDS = Stack((CELL, Dropout(0.5))), Stack((Embed(5, D), CELL))
PARAMS, P_BI, P_STACK, P_WORDS = CELL.init(KEY, D), BI.init(KEY, D), STACK.init(KEY, D), WORDS.init(KEY)
STATE = CELL.initial_state(PARAMS, (B,))
X, IDS = np.ones((B, T, D), "float32"), np.zeros((B, T), int)
MASK, LENGTHS = np.ones((B, T), bool), np.full(B, T, "int32")


@jlstm.record
class Own(sketches.Sketch):
    """A user's cell, without a fault; `size` may be what no field should be."""

    size: Any = H


@dataclasses.dataclass(frozen=True)
class Unregistered(sketches.Sketch):
    """A cell that is no record."""


class Duck:
    """Quacks like a cell, and derives from none."""

    init, output_size, initial_state = Own.init, Own.output_size, Own.initial_state
    project, recur, update = Own.project, Own.recur, Own.update


def rows(form: str, kind: type[Exception], argument: str, expected: str, given: Any) -> list[Any]:
    """Rows that differ in one value: the code for {} in the form, and what came, in a list the same as the code."""
    pairs = given if isinstance(given, dict) else {code: code for code in given}
    return [(form.format(code), kind, argument, expected, got) for code, got in pairs.items()]


ARRAY, BOOL, SIZE, POSITION = "an array", "True or False", "a positive int", "an int or a scalar array"
NET, KEYS, BACKENDS = "a Cell or a Layer", "a PRNG key", "one of 'scan', 'hoisted', 'associative'"
FLOATS = "[*B, T, D] of a floating dtype of at least 16 bits"
OWN_PARAMS = "LSTMParams(w_ih=(3, 4, 4), w_hh=(4, 4, 4), b=(4, 4), h0=None, c0=None)"
OWN_STATE = "LSTMState(h=(2, 4), c=(2, 4))"
COUNTS = "checkpoint_every", "truncate_every", "scan_unroll"
MASKS = [  # and resets
    *rows("mask=MASK{}", TypeError, "mask", "[*B, T] of bool", {".astype(int)": "int32", " * 1.0": "float32"}),
    *rows("mask={}", TypeError, "mask", ARRAY, {"MASK.tolist()": "list", "True": "bool"}),
    *rows("mask=MASK[{}]", ValueError, "mask", "[*B, T] = (2, 7)", {":, :1": "(2, 1)", "..., None": "(2, 7, 1)"}),
    ("mask=MASK.T", ValueError, "mask", "[*B, T] = (2, 7)", "(7, 2)"),
    ("inputs=X.swapaxes(0, 1), time_major=True, mask=MASK", ValueError, "mask", "[T, *B] = (7, 2)", "(2, 7)"),
]
# `trace` says the same as `unroll` of the arguments that it has. An argument with a colon is the record's that says it.
UNROLL = [
    # inputs
    *rows("inputs={}", ValueError, "inputs", "[*B, T, D], at least 2 axes", {"X[0, 0]": "(3,)", "np.float32(1)": "()"}),
    ("inputs=X[..., :2]", ValueError, "params.w_ih", "(2, 4, 4)", "(3, 4, 4)"),
    *rows("inputs=X.astype({})", TypeError, "inputs", FLOATS, {"int": "int32", "bool": "bool", "complex": "complex64"}),
    ("inputs=X.astype(jnp.float8_e4m3fn)", TypeError, "inputs", FLOATS, "float8_e4m3fn"),
    ("inputs=jax.random.split(KEY, X.shape)", TypeError, "inputs", FLOATS, "key<fry>"),
    *rows("inputs={}", TypeError, "inputs", ARRAY, {"X.tolist()": "list", "(X, X)": "tuple", "None": "NoneType"}),
    *rows("inputs={}", TypeError, "inputs", ARRAY, {"1.0": "float", "'text'": "str"}),
    ("inputs=X.astype(object)", TypeError, "inputs", ARRAY, "an array object[2, 7, 3]"),
    ("inputs=X.astype(str)", TypeError, "inputs", ARRAY, "an array <U32[2, 7, 3]"),
    ("inputs=np.ma.masked_array(X)", TypeError, "inputs", ARRAY, "MaskedArray"),
    ("inputs=jax.eval_shape(lambda: X)", TypeError, "inputs", ARRAY, "ShapeDtypeStruct"),
    ("params=X, inputs=PARAMS", TypeError, "inputs", ARRAY, "LSTMParams"),
    ("net=WORDS, params=P_WORDS", TypeError, "inputs", "[*B, T] of integer ids", "float32"),
    ("net=WORDS, params=P_WORDS, inputs=MASK", TypeError, "inputs", "[*B, T] of integer ids", "bool"),
    ("net=WORDS, params=P_WORDS, inputs=IDS[0, 0]", ValueError, "inputs", "[*B, T], at least 1 axes", "()"),
    # lengths, mask, resets
    *rows("lengths={}", ValueError, "lengths", "[*B] = (2,)", {"np.ones(3, int)": "(3,)", "np.int32(7)": "()"}),
    ("lengths=LENGTHS[:, None]", ValueError, "lengths", "[*B] = (2,)", "(2, 1)"),
    *rows("lengths=LENGTHS{}", TypeError, "lengths", "[*B] of integers", {".astype(float)": "float32", " > 0": "bool"}),
    *rows("lengths={}", TypeError, "lengths", ARRAY, {"[7, 7]": "list", "7": "int"}),
    *MASKS,
    *[(code.replace("mask=", "resets="), kind, "resets", *rest) for code, kind, _, *rest in MASKS],
    # state
    *rows("state=CELL.initial_state(PARAMS, {})", ValueError, "state.h", "(2, 4)", {"(3,)": "(3, 4)", "()": "(4,)"}),
    ("state=STATE._replace(c=STATE.c[:, :1])", ValueError, "state.c", "(2, 4)", "(2, 1)"),
    *rows("state=STATE._replace(c=STATE.c {})", TypeError, "state.c", "float32", {"> 0": "bool", "+ 1j": "complex64"}),
    ("state=tuple(STATE)", ValueError, "state", OWN_STATE, "((2, 4), (2, 4))"),
    ("state=LSTMState(None, STATE.c)", ValueError, "state", OWN_STATE, "LSTMState(h=None, c=(2, 4))"),
    *rows("state={}", ValueError, "state", OWN_STATE, {"STATE.h": "(2, 4)", "()": "()"}),
    *rows("state={}", TypeError, "state", "arrays", {"[0.0, 0.0]": "float", "'zeros'": "str"}),
    # params
    *rows("params={}", ValueError, "params", OWN_PARAMS, {"None": "None", "P_STACK": f"({OWN_PARAMS}, ())"}),
    ("params=tuple(PARAMS)", ValueError, "params", OWN_PARAMS, "((3, 4, 4), (4, 4, 4), (4, 4), None, None)"),
    ("net=STACK", ValueError, "params", f"({OWN_PARAMS}, ())", OWN_PARAMS),
    ("net=LSTM(5)", ValueError, "params.w_ih", "(3, 4, 5)", "(3, 4, 4)"),
    ("net=LSTM(H, use_bias=False)", ValueError, "params", OWN_PARAMS.replace("b=(4, 4)", "b=None"), OWN_PARAMS),
    ("params=PARAMS._replace(b=PARAMS.b[:, :1])", ValueError, "params.b", "(4, 4)", "(4, 1)"),
    ("params=PARAMS._replace(b=IDS[:1])", ValueError, "params.b", "(4, 4)", "(1, 7)"),
    ("params=PARAMS._replace(b=np.ones((4, 4), int))", TypeError, "params.b", "float32", "int32"),
    ("params=jax.tree.map(lambda a: a[None], PARAMS)", ValueError, "params.w_ih", "(3, 4, 4)", "(1, 3, 4, 4)"),
    *rows("params={}", TypeError, "params", "arrays", {"PARAMS._replace(b=1.0)": "float", "CELL.init": "method"}),
    # net
    *rows("net={}", TypeError, "net", NET, {"LSTM": "the class LSTM", "None": "NoneType", "[CELL, CELL]": "list"}),
    *rows("net={}", TypeError, "net", NET, {"jlstm.cells.lstm": "module", "Duck()": "Duck"}),
    ("net=PARAMS, params=CELL", TypeError, "net", NET, "LSTMParams"),
    ("net=Unregistered()", TypeError, "net", "a static record", "Unregistered, which is no record"),
    ("net=Own([4])", TypeError, "net", "a hashable value", "Own(size=[4]): unhashable type: 'list'"),
    ("net=Bidirectional(CELL, LSTM(1), merge='mul')", ValueError, "Bidirectional: merge", "equal output", "4 and 1"),
    ("net=Residual(CELL)", ValueError, "Residual: layer", "output size 3 = D", "4"),
    ("net=LSTM(H, compute_dtype='float64')", ValueError, "LSTM: compute_dtype", "at most 32 bits", "float64"),
    # options
    *rows("backend={}", ValueError, "backend", BACKENDS, ["'fast'", "''"]),
    *rows("backend={}", TypeError, "backend", BACKENDS, {"False": "False", "np.array(['a', 'b'])": "an array <U1[2]"}),
    *rows("return_sequences={}", TypeError, "return_sequences", BOOL, ["1", "None"]),
    ("reverse=jnp.array(True)", TypeError, "reverse", BOOL, "an array bool[]"),
    ("time_major='yes'", TypeError, "time_major", BOOL, "'yes'"),
    *[row for name in COUNTS for row in rows(name + "={}", ValueError, name, SIZE, ["0", "-1"])],
    *[row for name in COUNTS for row in rows(name + "={}", TypeError, name, SIZE, ["True", "2.0", "'2'"])],
    *[(f"{name}=LENGTHS", TypeError, name, SIZE, "an array int32[2]") for name in COUNTS],
    ("scan_unroll=None", TypeError, "scan_unroll", SIZE, "None"),
    # key and t
    *rows("key={}", TypeError, "key", KEYS, {"0": "int", "(KEY,)": "tuple", "np.zeros(2)": "an array float32[2]"}),
    ("key=np.zeros(4, 'uint32')", ValueError, "key", "one PRNG key", "an array uint32[4]"),
    ("key=jax.random.split(KEY)", ValueError, "key", "one PRNG key", "an array key<fry>[2]"),
    *rows("t={}", TypeError, "t", POSITION, {"1.0": "float", "True": "bool", "None": "NoneType", "[0]": "list"}),
    *rows("t={}", TypeError, "t", "a scalar of integers", {"np.float32(1)": "float32", "jnp.array(True)": "bool"}),
    ("t=np.arange(2)", ValueError, "t", "a scalar = ()", "(2,)"),
    ("t=2**31", ValueError, "t", "an int of 32 bits", "2147483648"),
]

STEP = [
    ("x=X[0, 0, 0]", ValueError, "x", "[*B, D], at least 1 axes", "()"),
    ("x=X", ValueError, "state.h", "(2, 7, 4)", "(2, 4)"),
    ("x=X[:, 0, :2]", ValueError, "params.w_ih", "(2, 4, 4)", "(3, 4, 4)"),
    ("x=X[:, 0].astype(int)", TypeError, "x", FLOATS.replace(", T", ""), "int32"),
    *rows("x={}", TypeError, "x", ARRAY, {"X[:, 0].tolist()": "list", "STATE, state=X[:, 0]": "LSTMState"}),
    ("state=STATE._replace(h=STATE.h[:1])", ValueError, "state.h", "(2, 4)", "(1, 4)"),
    ("state=(STATE, X[:, 0])", ValueError, "state", OWN_STATE, f"({OWN_STATE}, (2, 3))"),
    ("reset=MASK", ValueError, "reset", "[*B] = (2,)", "(2, 7)"),
    ("reset=True", TypeError, "reset", ARRAY, "bool"),
    ("reset=LENGTHS", TypeError, "reset", "[*B] of bool", "int32"),
    ("mask=MASK[:, :1]", ValueError, "mask", "[*B] = (2,)", "(2, 1)"),
    ("mask=LENGTHS", TypeError, "mask", "[*B] of bool", "int32"),
    *rows("net={}", TypeError, "net", NET, {"LSTM": "the class LSTM", "Duck()": "Duck"}),
    ("params=P_STACK", ValueError, "params", OWN_PARAMS, f"({OWN_PARAMS}, ())"),
    ("key=0", TypeError, "key", KEYS, "int"),
    ("t=0.5", TypeError, "t", POSITION, "float"),
    ("backend='fast'", ValueError, "backend", BACKENDS, "'fast'"),
]
