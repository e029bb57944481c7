"""What calls should not be given, for `test_errors.py`: (what the arguments become, the class, the message).

The code in the tables is evaluated here, over the names of this file.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jlstm
from jlstm import LSTM, Bidirectional, Dropout, Embed, Stack

B, T, D, H = 2, 7, 3, 4
KEY = jax.random.key(0)
CELL, BI = LSTM(H), Bidirectional(LSTM(H))
STACK, WORDS = Stack((CELL, Dropout(0.5))), Stack((Embed(5, D), CELL))
PARAMS, P_BI, P_STACK, P_WORDS = CELL.init(KEY, D), BI.init(KEY, D), STACK.init(KEY, D), WORDS.init(KEY)
STATE = CELL.initial_state(PARAMS, (B,))
X, IDS, MASK, LENGTHS = (
    np.ones((B, T, D), "float32"),
    np.zeros((B, T), int),
    np.ones((B, T), bool),
    np.full(B, T, "int32"),
)


@jlstm.record
class Own(jlstm.Cell):
    """A user's cell, without a fault; `size` may be what no field should be."""

    size: Any = H

    def init(self, key, input_size):
        return {"w": jnp.ones((input_size, H)), "u": jnp.ones((H, H))}

    def output_size(self, input_size):
        return H

    def initial_state(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, H))

    def project(self, params, x):
        return x @ params["w"]

    def recur(self, params, state):
        return state @ params["u"]

    def update(self, params, state, z):
        return jnp.tanh(z), jnp.tanh(z)


@dataclasses.dataclass(frozen=True)
class Unregistered(jlstm.Cell):
    """A cell that is no record."""

    init, output_size, initial_state = Own.init, Own.output_size, Own.initial_state
    project, recur, update = Own.project, Own.recur, Own.update


class Duck:
    """Quacks like a cell, and derives from none."""

    init, output_size, initial_state = Own.init, Own.output_size, Own.initial_state
    project, recur, update = Own.project, Own.recur, Own.update


FLOAT = "a floating dtype of at least 16 bits"
INPUTS, TIME_FIRST = "inputs is [*B, T, D] = (2, 7, 3).", "inputs is [T, *B, D] = (7, 2, 3)."
OF_INIT_3 = "Its parameters come from net.init(key, 3)."
OF_INIT = f"{INPUTS} {OF_INIT_3}"
OWN_PARAMS = "LSTMParams(w_ih=(3, 4, 4), w_hh=(4, 4, 4), b=(4, 4), h0=None, c0=None)"
OWN_STATE = "LSTMState(h=(2, 4), c=(2, 4))"
DERIVE = "A net derives from jlstm.Cell or jlstm.Layer."
TYPE_KEY = "Type jax.random.key(0)."

# Behind "unroll: ", or all of it behind "="; `trace` says the same of the arguments that it has.
UNROLL = [
    # inputs
    ("inputs=X[0, 0]", ValueError, "inputs: expected [*B, T, D], at least 2 axes, got (3,)."),
    ("inputs=np.float32(1)", ValueError, "inputs: expected [*B, T, D], at least 2 axes, got ()."),
    (
        "inputs=X[..., :2]",
        ValueError,
        "params.w_ih: expected (2, 4, 4), got (3, 4, 4). inputs is [*B, T, D] = (2, 7, 2). "
        "Its parameters come from net.init(key, 2).",
    ),
    ("inputs=X.astype(int)", TypeError, f"inputs: expected [*B, T, D] of {FLOAT}, got int32."),
    ("inputs=X > 0", TypeError, f"inputs: expected [*B, T, D] of {FLOAT}, got bool."),
    ("inputs=X.astype(complex)", TypeError, f"inputs: expected [*B, T, D] of {FLOAT}, got complex64."),
    ("inputs=X.astype(jnp.float8_e4m3fn)", TypeError, f"inputs: expected [*B, T, D] of {FLOAT}, got float8_e4m3fn."),
    ("inputs=jax.random.split(KEY, X.shape)", TypeError, f"inputs: expected [*B, T, D] of {FLOAT}, got key<fry>."),
    ("inputs=X.tolist()", TypeError, "inputs: expected an array, got list."),
    ("inputs=(X, X)", TypeError, "inputs: expected an array, got tuple."),
    ("inputs=None", TypeError, "inputs: expected an array, got NoneType."),
    ("inputs=1.0", TypeError, "inputs: expected an array, got float."),
    ("inputs='text'", TypeError, "inputs: expected an array, got str."),
    ("inputs=X.astype(object)", TypeError, "inputs: expected an array, got an array object[2, 7, 3]."),
    ("inputs=X.astype(str)", TypeError, "inputs: expected an array, got an array <U32[2, 7, 3]."),
    ("inputs=np.ma.masked_array(X)", TypeError, "inputs: expected an array, got MaskedArray."),
    ("inputs=jax.eval_shape(lambda: X)", TypeError, "inputs: expected an array, got ShapeDtypeStruct."),
    ("params=X, inputs=PARAMS", TypeError, "inputs: expected an array, got LSTMParams."),
    ("net=WORDS, params=P_WORDS", TypeError, "inputs: expected [*B, T] of integer ids, got float32."),
    ("net=WORDS, params=P_WORDS, inputs=MASK", TypeError, "inputs: expected [*B, T] of integer ids, got bool."),
    ("net=WORDS, params=P_WORDS, inputs=IDS[0, 0]", ValueError, "inputs: expected [*B, T], at least 1 axes, got ()."),
    # lengths, mask, resets
    ("lengths=np.ones(3, int)", ValueError, f"lengths: expected [*B] = (2,), got (3,). {INPUTS}"),
    ("lengths=LENGTHS[:, None]", ValueError, f"lengths: expected [*B] = (2,), got (2, 1). {INPUTS}"),
    ("lengths=np.int32(7)", ValueError, f"lengths: expected [*B] = (2,), got (). {INPUTS}"),
    ("lengths=LENGTHS.astype(float)", TypeError, f"lengths: expected [*B] of integers, got float32. {INPUTS}"),
    ("lengths=LENGTHS > 0", TypeError, f"lengths: expected [*B] of integers, got bool. {INPUTS}"),
    ("lengths=[7, 7]", TypeError, "lengths: expected an array, got list."),
    ("lengths=7", TypeError, "lengths: expected an array, got int."),
    *[
        (code.replace("mask", name), kind, message.replace("mask", name))
        for name in ("mask", "resets")
        for code, kind, message in [
            ("mask=MASK.astype(int)", TypeError, "mask: expected [*B, T] of bool, got int32. Type mask.astype(bool)."),
            ("mask=MASK * 1.0", TypeError, "mask: expected [*B, T] of bool, got float32. Type mask.astype(bool)."),
            ("mask=MASK.tolist()", TypeError, "mask: expected an array, got list."),
            ("mask=True", TypeError, "mask: expected an array, got bool."),
            ("mask=MASK[:, :1]", ValueError, f"mask: expected [*B, T] = (2, 7), got (2, 1). {INPUTS}"),
            ("mask=MASK[..., None]", ValueError, f"mask: expected [*B, T] = (2, 7), got (2, 7, 1). {INPUTS}"),
            (
                "mask=MASK.T",
                ValueError,
                f"mask: expected [*B, T] = (2, 7), got (7, 2). {INPUTS} "
                "For time-major arrays, type time_major=True and give inputs so too.",
            ),
            (
                "inputs=X.swapaxes(0, 1), time_major=True, mask=MASK",
                ValueError,
                f"mask: expected [T, *B] = (7, 2), got (2, 7). {TIME_FIRST} "
                "With time_major=True it is time-major too: type jnp.moveaxis(mask, -1, 0).",
            ),
        ]
    ],
    # state
    ("state=CELL.initial_state(PARAMS, (3,))", ValueError, f"state.h: expected (2, 4), got (3, 4). {INPUTS}"),
    ("state=CELL.initial_state(PARAMS)", ValueError, f"state.h: expected (2, 4), got (4,). {INPUTS}"),
    ("state=STATE._replace(c=STATE.c[:, :1])", ValueError, f"state.c: expected (2, 4), got (2, 1). {INPUTS}"),
    ("state=STATE._replace(c=STATE.c > 0)", TypeError, f"state.c: expected float32, got bool. {INPUTS}"),
    ("state=STATE._replace(c=STATE.c + 1j)", TypeError, f"state.c: expected float32, got complex64. {INPUTS}"),
    ("state=tuple(STATE)", ValueError, f"state: expected {OWN_STATE}, got ((2, 4), (2, 4)). {INPUTS}"),
    ("state=STATE.h", ValueError, f"state: expected {OWN_STATE}, got (2, 4). {INPUTS}"),
    ("state=()", ValueError, f"state: expected {OWN_STATE}, got (). {INPUTS}"),
    (
        "state=LSTMState(None, STATE.c)",
        ValueError,
        f"state: expected {OWN_STATE}, got LSTMState(h=None, c=(2, 4)). {INPUTS}",
    ),
    ("state=[0.0, 0.0]", TypeError, "state: expected arrays, got float."),
    ("state='zeros'", TypeError, "state: expected arrays, got str."),
    # params
    ("params=None", ValueError, f"params: expected {OWN_PARAMS}, got None. {OF_INIT}"),
    (
        "params=tuple(PARAMS)",
        ValueError,
        f"params: expected {OWN_PARAMS}, got ((3, 4, 4), (4, 4, 4), (4, 4), None, None). {OF_INIT}",
    ),
    ("params=P_STACK", ValueError, f"params: expected {OWN_PARAMS}, got ({OWN_PARAMS}, ()). {OF_INIT}"),
    ("net=STACK", ValueError, f"params: expected ({OWN_PARAMS}, ()), got {OWN_PARAMS}. {OF_INIT}"),
    ("net=LSTM(5)", ValueError, f"params.w_ih: expected (3, 4, 5), got (3, 4, 4). {OF_INIT}"),
    (
        "net=LSTM(H, use_bias=False)",
        ValueError,
        f"params: expected {OWN_PARAMS.replace('b=(4, 4)', 'b=None')}, got {OWN_PARAMS}. {OF_INIT}",
    ),
    ("params=PARAMS._replace(b=PARAMS.b[:, :1])", ValueError, f"params.b: expected (4, 4), got (4, 1). {OF_INIT}"),
    ("params=PARAMS._replace(b=IDS[:1])", ValueError, f"params.b: expected (4, 4), got (1, 7). {OF_INIT}"),
    ("params=PARAMS._replace(b=np.ones((4, 4), int))", TypeError, f"params.b: expected float32, got int32. {OF_INIT}"),
    (
        "params=jax.tree.map(lambda a: a[None], PARAMS)",
        ValueError,
        f"params.w_ih: expected (3, 4, 4), got (1, 3, 4, 4). {OF_INIT}",
    ),
    ("params=PARAMS._replace(b=1.0)", TypeError, "params: expected arrays, got float."),
    ("params=CELL.init", TypeError, "params: expected arrays, got method."),
    # net
    ("net=LSTM", TypeError, "net: expected a Cell or a Layer, got the class LSTM. Type LSTM(...)."),
    ("net=None", TypeError, f"net: expected a Cell or a Layer, got NoneType. {DERIVE}"),
    ("net=[CELL, CELL]", TypeError, f"net: expected a Cell or a Layer, got list. {DERIVE}"),
    ("net=PARAMS, params=CELL", TypeError, f"net: expected a Cell or a Layer, got LSTMParams. {DERIVE}"),
    ("net=jlstm.cells.lstm", TypeError, f"net: expected a Cell or a Layer, got module. {DERIVE}"),
    ("net=Duck()", TypeError, f"net: expected a Cell or a Layer, got Duck. {DERIVE}"),
    (
        "net=Unregistered()",
        TypeError,
        "net: expected a static record, got Unregistered, which is no record. "
        "Type @jlstm.record above class Unregistered.",
    ),
    (
        "net=Own([4])",
        TypeError,
        "net: expected a hashable value, got Own(size=[4]): unhashable type: 'list'. "
        "Its fields are plain values and tuples; lists and arrays are not.",
    ),
    (
        "net=Bidirectional(CELL, LSTM(1), merge='mul')",
        ValueError,
        "=Bidirectional: merge: expected 'concat' or equal output sizes, got 4 and 1.",
    ),
    ("net=Residual(CELL)", ValueError, "=Residual: layer: expected output size 3 = D, got 4."),
    (
        "net=LSTM(H, compute_dtype='float64')",
        ValueError,
        "=LSTM: compute_dtype: expected at most 32 bits without jax_enable_x64, got float64. "
        'Type jax.config.update("jax_enable_x64", True) first.',
    ),
    # options
    ("backend='fast'", ValueError, "backend: expected one of 'scan', 'hoisted', 'associative', got 'fast'."),
    ("backend=''", ValueError, "backend: expected one of 'scan', 'hoisted', 'associative', got ''."),
    ("backend=False", TypeError, "backend: expected one of 'scan', 'hoisted', 'associative', got False."),
    (
        "backend=np.array(['a', 'b'])",
        TypeError,
        "backend: expected one of 'scan', 'hoisted', 'associative', got an array <U1[2].",
    ),
    ("return_sequences=1", TypeError, "return_sequences: expected True or False, got 1."),
    ("return_sequences=None", TypeError, "return_sequences: expected True or False, got None."),
    ("reverse=jnp.array(True)", TypeError, "reverse: expected True or False, got an array bool[]."),
    ("time_major='yes'", TypeError, "time_major: expected True or False, got 'yes'."),
    *[
        (f"{name}={value}", kind, f"{name}: expected a positive int, got {got}.")
        for name in ("checkpoint_every", "truncate_every", "scan_unroll")
        for value, got, kind in [
            ("0", "0", ValueError),
            ("-1", "-1", ValueError),
            ("True", "True", TypeError),
            ("2.0", "2.0", TypeError),
            ("'2'", "'2'", TypeError),
            ("LENGTHS", "an array int32[2]", TypeError),
        ]
    ],
    ("scan_unroll=None", TypeError, "scan_unroll: expected a positive int, got None."),
    # key and t
    ("key=0", TypeError, f"key: expected a PRNG key, got int. {TYPE_KEY}"),
    ("key=(KEY,)", TypeError, f"key: expected a PRNG key, got tuple. {TYPE_KEY}"),
    ("key=np.zeros(2)", TypeError, f"key: expected a PRNG key, got an array float32[2]. {TYPE_KEY}"),
    ("key=np.zeros(4, 'uint32')", ValueError, f"key: expected one PRNG key, got an array uint32[4]. {TYPE_KEY}"),
    ("key=jax.random.split(KEY)", ValueError, f"key: expected one PRNG key, got an array key<fry>[2]. {TYPE_KEY}"),
    ("t=1.0", TypeError, "t: expected an int or a scalar array, got float."),
    ("t=True", TypeError, "t: expected an int or a scalar array, got bool."),
    ("t=None", TypeError, "t: expected an int or a scalar array, got NoneType."),
    ("t=[0]", TypeError, "t: expected an int or a scalar array, got list."),
    ("t=np.float32(1)", TypeError, "t: expected a scalar of integers, got float32."),
    ("t=jnp.array(True)", TypeError, "t: expected a scalar of integers, got bool."),
    ("t=np.arange(2)", ValueError, "t: expected a scalar = (), got (2,)."),
    ("t=2**31", ValueError, "t: expected an int of 32 bits, got 2147483648."),
]
