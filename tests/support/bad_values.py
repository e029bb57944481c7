"""Bad values in records and functions, for `test_errors.py`: rows as in `bad_calls.py`, but the code is the whole."""

from typing import Any

import jax
import jax.numpy as jnp
from bad_calls import ARRAY, BOOL, CELL, KEYS, NET, SIZE, rows

from jlstm import Bidirectional
from jlstm.cells import ACTIVATIONS
from jlstm.initializers import Chrono

ACTIVATION = "one of " + ", ".join(map(repr, ACTIVATIONS))
FLOAT, NUMBER, COUNT = "a floating dtype of at least 16 bits", "a number", "an int of at least 0"
INITIALIZER, SHAPE = "a function (key, shape, dtype) -> array", "a tuple of ints such as (32,)"
MERGE, WEIGHTS = "one of 'concat', 'sum', 'mul', 'mean', 'none'", "float32[4, 4, 4]"


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, x: Any) -> Any: ...
    def __repr__(self) -> str:
        return "Unhashable()"


PAIR = Bidirectional(CELL, merge="none")
# Initialisers that make another shape, another dtype, an initialiser, and biases alone.
NARROW, HALF = lambda k, s, d: jnp.zeros(s[:2], d), lambda k, s, d: jnp.zeros(s, "bfloat16")
FACTORY, CHRONO = jax.nn.initializers.orthogonal, Chrono(9)

VALUES = [
    *rows("LSTM({})", TypeError, "LSTM: hidden_size", SIZE, ["4.0", "'4'", "True"]),
    *rows("LSTM({})", ValueError, "LSTM: hidden_size", SIZE, ["0", "-4"]),
    ("jax.jit(LSTM)(4)", TypeError, "LSTM: hidden_size", SIZE, "an array int32[]"),
    *rows("LSTM(H, forget_bias={})", TypeError, "LSTM: forget_bias", NUMBER, ["'1'", "True"]),
    ("LSTM(H, forget_bias=np.nan)", ValueError, "LSTM: forget_bias", "a finite number", "nan"),
    ("LSTM(H, forget_bias=10**400)", ValueError, "LSTM: forget_bias", "a finite number", "1" + 156 * "0"),
    ("LSTM(H, forget_bias=initializers.Chrono)", TypeError, "LSTM: forget_bias", INITIALIZER, "the class Chrono"),
    ("LSTM(H, use_bias=1)", TypeError, "LSTM: use_bias", BOOL, "1"),
    ("LSTM(H, activation='Tanh')", ValueError, "LSTM: activation", ACTIVATION, "'Tanh'"),
    ("LSTM(H, gate_activation=None)", TypeError, "LSTM: gate_activation", ACTIVATION, "None"),
    ("LSTM(H, activation=X)", TypeError, "LSTM: activation", ACTIVATION, "an array float32[2, 7, 3]"),
    ("LSTM(H, activation=dict)", TypeError, "LSTM: activation", "function array -> array", "the class dict"),
    ("LSTM(H, activation=Unhashable())", TypeError, "LSTM: activation", "a hashable value", "Unhashable()"),
    ("Dense(H, activation='softmax')", ValueError, "Dense: activation", ACTIVATION, "'softmax'"),
    ("LSTM(H, w_ih_init='glorot')", TypeError, "LSTM: w_ih_init", INITIALIZER, "'glorot'"),
    ("LSTM(H, param_dtype=int)", TypeError, "LSTM: param_dtype", FLOAT, "int64"),
    *rows("LSTM(H, param_dtype={})", TypeError, "LSTM: param_dtype", FLOAT, ["None", "'float31'"]),
    *rows("LSTM(H, compute_dtype='{}')", TypeError, "LSTM: compute_dtype", FLOAT, ["float8_e4m3fn", "complex64"]),
    # init
    ("CELL.init(KEY, 0)", ValueError, "LSTM.init: input_size", SIZE, "0"),
    ("CELL.init(KEY, X.shape)", TypeError, "LSTM.init: input_size", SIZE, "(2, 7, 3)"),
    ("CELL.init(3, KEY)", TypeError, "LSTM.init: input_size", SIZE, "an array key<fry>[]"),
    ("CELL.init(0, 3)", TypeError, "LSTM.init: key", KEYS, "int"),
    ("CELL.init(jax.random.split(KEY), 3)", ValueError, "LSTM.init: key", "one PRNG key", "an array key<fry>[2]"),
    ("Dense(2).init(0, 3)", TypeError, "Dense.init: key", KEYS, "int"),
    ("Embed(2, 3).init(None)", TypeError, "Embed.init: key", KEYS, "NoneType"),
    ("STACK.init(X, 3)", TypeError, "Stack.init: key", KEYS, "an array float32[2, 7, 3]"),
    ("BI.init(0, 3)", TypeError, "Bidirectional.init: key", KEYS, "int"),
    ("STACK.init(KEY)", TypeError, "LSTM.init: input_size", SIZE, "None"),
    ("WORDS.init(KEY, 3)", ValueError, "Embed.init: input_size", "None, for it takes integer ids", "3"),
    ("LSTM(H, w_hh_init=NARROW).init(KEY, 3)", ValueError, "LSTM.init: w_hh_init", WEIGHTS, "an array float32[4, 4]"),
    ("LSTM(H, w_hh_init=HALF).init(KEY, 3)", TypeError, "LSTM.init: w_hh_init", WEIGHTS, "an array bfloat16[4, 4, 4]"),
    ("Dense(2, w_init=FACTORY).init(KEY, 3)", TypeError, "Dense.init: w_init", "float32[3, 2]", "<function orthogonal"),
    ("LSTM(H, w_hh_init=CHRONO).init(KEY, 3)", ValueError, "Chrono: shape", "[4, H]", "(4, 4, 4)"),
    ("Dense(2, param_dtype='float64').init(KEY, 3)", ValueError, "Dense: param_dtype", "at most 32 bits", "float64"),
    ("initializers.Chrono(1)", ValueError, "Chrono: max_time", "a finite number >= 2.0", "1"),
    ("initializers.Normal(-1)", ValueError, "Normal: stddev", "a finite number >= 0.0", "-1"),
    ("initializers.Uniform(None)", TypeError, "Uniform: limit", NUMBER, "None"),
    # initial_state
    ("CELL.initial_state(PARAMS, 32)", TypeError, "LSTM.initial_state: batch_shape", SHAPE, "32"),
    ("STACK.initial_state(P_STACK, 32)", TypeError, "LSTM.initial_state: batch_shape", SHAPE, "32"),
    ("Dense(2).initial_state((), 32)", TypeError, "Dense.initial_state: batch_shape", SHAPE, "32"),
    ("CELL.initial_state(PARAMS, (2.0,))", TypeError, "LSTM.initial_state: batch_shape", COUNT, "2.0"),
    ("CELL.initial_state(PARAMS, (-1,))", ValueError, "LSTM.initial_state: batch_shape", COUNT, "-1"),
    ("CELL.initial_state((2,), PARAMS)", TypeError, "LSTM.initial_state: params", "those of LSTM", "tuple"),
    ("LSTM(5).initial_state(PARAMS)", ValueError, "LSTM.initial_state: params.w_ih", "(3, 4, 5)", "(3, 4, 4)"),
    ("BI.initial_state(PARAMS)", TypeError, "Bidirectional.initial_state: params", "BidirectionalParams", "LSTMParams"),
    ("STACK.initial_state((PARAMS,))", ValueError, "Stack.initial_state: params", "tuple of 2", "tuple of 1"),
    ("STACK.initial_state(None)", TypeError, "Stack.initial_state: params", "tuple", "NoneType"),
    # layers
    ("Stack(())", ValueError, "Stack: layers", "a tuple of cells and layers, at least one", "none"),
    ("Stack(None)", TypeError, "Stack: layers", "a tuple of cells and layers", "None"),
    ("Stack((CELL, LSTM))", TypeError, "Stack: layers[1]", NET, "the class LSTM"),
    ("Stack((CELL, jnp.tanh))", TypeError, "Stack: layers[1]", NET, "PjitFunction"),
    ("Stack((Duck(),))", TypeError, "Stack: layers[0]", NET, "Duck"),
    ("Stack((CELL, Embed(3, 4)))", ValueError, "Stack: layers[1]", "a layer that takes floats", "Embed"),
    ("Residual(CELL).init(KEY, 3)", ValueError, "Residual: layer", "output size 3 = D", "4"),
    ("Residual(Embed(3, 4))", ValueError, "Residual: layer", "takes floats [*B, T, D]", "Embed(vocabulary=3"),
    ("Residual((CELL,))", TypeError, "Residual: layer", NET, "tuple"),
    ("Bidirectional(LSTM)", TypeError, "Bidirectional: forward", NET, "the class LSTM"),
    ("Bidirectional(CELL, 'sum')", TypeError, "Bidirectional: backward", NET, "str"),
    ("Bidirectional(CELL, Embed(3, 4))", ValueError, "Bidirectional: backward", "forward's kind", "Embed(vocabulary=3"),
    ("Bidirectional(CELL, merge='ave')", ValueError, "Bidirectional: merge", MERGE, "'ave'"),
    ("Bidirectional(CELL, merge=None)", TypeError, "Bidirectional: merge", MERGE, "None"),
    ("Bidirectional(CELL, LSTM(5), merge='sum').init(KEY, 3)", ValueError, "Bidirectional: merge", "equal", "4 and 5"),
    ("Stack((PAIR, CELL)).init(KEY, 3)", ValueError, "Bidirectional: merge", "one output", "'none'"),
    *rows("Dropout({})", ValueError, "Dropout: rate", "a rate in [0, 1)", ["1.0", "-0.1"]),
    ("Dropout(np.nan)", ValueError, "Dropout: rate", "a rate in [0, 1)", "nan"),
    *rows("Dropout({})", TypeError, "Dropout: rate", NUMBER, ["'0.5'", "True"]),
    ("Dropout(jnp.array(0.5))", TypeError, "Dropout: rate", NUMBER, "an array float32[]"),
    ("Embed(0, 3)", ValueError, "Embed: vocabulary", SIZE, "0"),
    # views
    ("flatten_time(X[0, 0])", ValueError, "flatten_time: x", "[*B, T, H], at least 2 axes", "(3,)"),
    *rows("flatten_time({})", TypeError, "flatten_time: x", ARRAY, {"(X, X)": "tuple", "None": "NoneType"}),
    ("unflatten_time(X[0], (2, 7))", ValueError, "unflatten_time: y", "[N, K] with N = 14", "(7, 3)"),
    ("unflatten_time(X, (2, 7))", ValueError, "unflatten_time: y", "[N, K] with N = 14", "(2, 7, 3)"),
    ("unflatten_time(X[0], 7)", TypeError, "unflatten_time: leading", SHAPE, "7"),
    ("unflatten_time(X[0], (-1,))", ValueError, "unflatten_time: leading", COUNT, "-1"),
    ("unflatten_time([[1.0]], (1,))", TypeError, "unflatten_time: y", ARRAY, "list"),
    ("sequence_mask(X[0, 0], 3)", TypeError, "sequence_mask: lengths", "integers", "float32"),
    ("sequence_mask(MASK[0], 3)", TypeError, "sequence_mask: lengths", "integers", "bool"),
    ("sequence_mask([1, 2], 3)", TypeError, "sequence_mask: lengths", ARRAY, "list"),
    ("sequence_mask(LENGTHS, 3.0)", TypeError, "sequence_mask: T", COUNT, "3.0"),
    ("sequence_mask(LENGTHS, -1)", ValueError, "sequence_mask: T", COUNT, "-1"),
    ("jax.jit(sequence_mask)(LENGTHS, 7)", TypeError, "sequence_mask: T", COUNT, "an array int32[]"),
]
