"""What records and functions should not be given, for `test_errors.py`: (the code, the class, the message).

A message without its last full stop is the beginning of what is said.
"""

from typing import Any

from bad_calls import DERIVE, FLOAT, TYPE_KEY

from jlstm.cells import ACTIVATIONS

NUMBER, NET, GIVEN = "expected a number", "expected a Cell or a Layer", "Parameters come from net.init."
ACTIVATION = "expected one of " + ", ".join(map(repr, ACTIVATIONS))
INITIALIZER = "expected a function (key, shape, dtype) -> array"
MERGE = "expected one of 'concat', 'sum', 'mul', 'mean', 'none'"
FACTORY = "jax.nn.initializers.orthogonal"
BATCH_SHAPE = "batch_shape: expected a tuple of ints such as (32,)"
CALLED = "It is called as (key, shape, dtype)."
BIAS = "[4, H], that of a bias with the gates i, f, g, o"
NO_X64 = "expected at most 32 bits without jax_enable_x64, got float64."


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, x: Any) -> Any: ...
    def __repr__(self) -> str:
        return "Unhashable()"


VALUES = [
    ("LSTM(4.0)", TypeError, "LSTM: hidden_size: expected a positive int, got 4.0."),
    ("LSTM('4')", TypeError, "LSTM: hidden_size: expected a positive int, got '4'."),
    ("LSTM(True)", TypeError, "LSTM: hidden_size: expected a positive int, got True."),
    ("LSTM(0)", ValueError, "LSTM: hidden_size: expected a positive int, got 0."),
    ("LSTM(-4)", ValueError, "LSTM: hidden_size: expected a positive int, got -4."),
    ("jax.jit(LSTM)(4)", TypeError, "LSTM: hidden_size: expected a positive int, got an array int32[]."),
    ("LSTM(H, forget_bias='1')", TypeError, f"LSTM: forget_bias: {NUMBER}, got '1'."),
    ("LSTM(H, forget_bias=True)", TypeError, f"LSTM: forget_bias: {NUMBER}, got True."),
    ("LSTM(H, forget_bias=np.nan)", ValueError, "LSTM: forget_bias: expected a finite number, got nan."),
    ("LSTM(H, forget_bias=10**400)", ValueError, "LSTM: forget_bias: expected a finite number, got 1000"),
    (
        "LSTM(H, forget_bias=initializers.Chrono)",
        TypeError,
        f"LSTM: forget_bias: {INITIALIZER}, got the class Chrono. Type Chrono(...).",
    ),
    ("LSTM(H, use_bias=1)", TypeError, "LSTM: use_bias: expected True or False, got 1."),
    ("LSTM(H, activation='Tanh')", ValueError, f"LSTM: activation: {ACTIVATION}, got 'Tanh'."),
    ("LSTM(H, gate_activation=None)", TypeError, f"LSTM: gate_activation: {ACTIVATION}, got None."),
    ("LSTM(H, activation=X)", TypeError, f"LSTM: activation: {ACTIVATION}, got an array float32[2, 7, 3]."),
    (
        "LSTM(H, activation=dict)",
        TypeError,
        "LSTM: activation: expected a name or a function array -> array, got the class dict. Type dict(...).",
    ),
    (
        "LSTM(H, activation=Unhashable())",
        TypeError,
        "LSTM: activation: expected a hashable value, got Unhashable(): unhashable type: 'Unhashable'. "
        "Its fields are plain values and tuples; lists and arrays are not.",
    ),
    ("Dense(H, activation='softmax')", ValueError, f"Dense: activation: {ACTIVATION}, got 'softmax'."),
    ("LSTM(H, w_ih_init='glorot')", TypeError, f"LSTM: w_ih_init: {INITIALIZER}, got 'glorot'."),
    ("LSTM(H, param_dtype=int)", TypeError, f"LSTM: param_dtype: expected {FLOAT}, got int64."),
    ("LSTM(H, param_dtype=None)", TypeError, f"LSTM: param_dtype: expected {FLOAT}, got None."),
    ("LSTM(H, param_dtype='float31')", TypeError, f"LSTM: param_dtype: expected {FLOAT}, got 'float31'."),
    ("LSTM(H, compute_dtype='float8_e4m3fn')", TypeError, f"LSTM: compute_dtype: expected {FLOAT}, got float8_e4m3fn."),
    ("LSTM(H, compute_dtype='complex64')", TypeError, f"LSTM: compute_dtype: expected {FLOAT}, got complex64."),
    # init
    ("CELL.init(KEY, 0)", ValueError, "LSTM.init: input_size: expected a positive int, got 0."),
    ("CELL.init(KEY, X.shape)", TypeError, "LSTM.init: input_size: expected a positive int, got (2, 7, 3)."),
    ("CELL.init(3, KEY)", TypeError, "LSTM.init: input_size: expected a positive int, got an array key<fry>[]."),
    ("CELL.init(0, 3)", TypeError, f"LSTM.init: key: expected a PRNG key, got int. {TYPE_KEY}"),
    (
        "CELL.init(jax.random.split(KEY), 3)",
        ValueError,
        f"LSTM.init: key: expected one PRNG key, got an array key<fry>[2]. {TYPE_KEY}",
    ),
    ("Dense(2).init(0, 3)", TypeError, f"Dense.init: key: expected a PRNG key, got int. {TYPE_KEY}"),
    ("Embed(2, 3).init(None)", TypeError, f"Embed.init: key: expected a PRNG key, got NoneType. {TYPE_KEY}"),
    ("STACK.init(X, 3)", TypeError, f"Stack.init: key: expected a PRNG key, got an array float32[2, 7, 3]. {TYPE_KEY}"),
    ("BI.init(0, 3)", TypeError, f"Bidirectional.init: key: expected a PRNG key, got int. {TYPE_KEY}"),
    ("STACK.init(KEY)", TypeError, "LSTM.init: input_size: expected a positive int, got None."),
    ("WORDS.init(KEY, 3)", ValueError, "Embed.init: input_size: expected None, for it takes integer ids, got 3."),
    (
        "LSTM(H, w_hh_init=lambda k, s, d: jnp.zeros(s[:2], d)).init(KEY, 3)",
        ValueError,
        f"LSTM.init: w_hh_init: expected float32[4, 4, 4], got an array float32[4, 4]. {CALLED}",
    ),
    (
        "LSTM(H, w_hh_init=lambda k, s, d: jnp.zeros(s, 'bfloat16')).init(KEY, 3)",
        TypeError,
        f"LSTM.init: w_hh_init: expected float32[4, 4, 4], got an array bfloat16[4, 4, 4]. {CALLED}",
    ),
    (
        f"Dense(2, w_init={FACTORY}).init(KEY, 3)",
        TypeError,
        "Dense.init: w_init: expected float32[3, 2], got <function orthogonal",
    ),
    (
        "LSTM(H, w_hh_init=initializers.Chrono(9)).init(KEY, 3)",
        ValueError,
        f"Chrono: shape: expected {BIAS}, got (4, 4, 4).",
    ),
    (
        "Dense(2, param_dtype='float64').init(KEY, 3)",
        ValueError,
        "Dense: param_dtype: expected at most 32 bits without jax_enable_x64, got float64. Type "
        'jax.config.update("jax_enable_x64", True) first.',
    ),
    ("initializers.Chrono(1)", ValueError, "Chrono: max_time: expected a finite number >= 2.0, got 1."),
    ("initializers.Normal(-1)", ValueError, "Normal: stddev: expected a finite number >= 0.0, got -1."),
    ("initializers.Uniform(None)", TypeError, f"Uniform: limit: {NUMBER}, got None."),
    # initial_state
    ("CELL.initial_state(PARAMS, 32)", TypeError, f"LSTM.initial_state: {BATCH_SHAPE}, got 32."),
    ("STACK.initial_state(P_STACK, 32)", TypeError, f"LSTM.initial_state: {BATCH_SHAPE}, got 32."),
    ("Dense(2).initial_state((), 32)", TypeError, f"Dense.initial_state: {BATCH_SHAPE}, got 32."),
    (
        "CELL.initial_state(PARAMS, (2.0,))",
        TypeError,
        "LSTM.initial_state: batch_shape: expected an int of at least 0, got 2.0.",
    ),
    (
        "CELL.initial_state(PARAMS, (-1,))",
        ValueError,
        "LSTM.initial_state: batch_shape: expected an int of at least 0, got -1.",
    ),
    (
        "CELL.initial_state((2,), PARAMS)",
        TypeError,
        f"LSTM.initial_state: params: expected those of LSTM, got tuple. {GIVEN}",
    ),
    (
        "LSTM(5).initial_state(PARAMS)",
        ValueError,
        "LSTM.initial_state: params.w_ih: expected (3, 4, 5), got (3, 4, 4). "
        "Its parameters come from net.init(key, 3).",
    ),
    (
        "BI.initial_state(PARAMS)",
        TypeError,
        f"Bidirectional.initial_state: params: expected BidirectionalParams, got LSTMParams. {GIVEN}",
    ),
    (
        "STACK.initial_state((PARAMS,))",
        ValueError,
        f"Stack.initial_state: params: expected tuple of 2, one a layer, got tuple of 1. {GIVEN}",
    ),
    ("STACK.initial_state(None)", TypeError, f"Stack.initial_state: params: expected tuple, got NoneType. {GIVEN}"),
    # layers
    ("Stack(())", ValueError, "Stack: layers: expected a tuple of cells and layers, at least one, got none."),
    ("Stack(None)", TypeError, "Stack: layers: expected a tuple of cells and layers, got None."),
    ("Stack((CELL, LSTM))", TypeError, f"Stack: layers[1]: {NET}, got the class LSTM. Type LSTM(...)."),
    ("Stack((CELL, jnp.tanh))", TypeError, f"Stack: layers[1]: {NET}, got PjitFunction. {DERIVE}"),
    ("Stack((Duck(),))", TypeError, f"Stack: layers[0]: {NET}, got Duck. {DERIVE}"),
    (
        "Stack((CELL, Embed(3, 4)))",
        ValueError,
        "Stack: layers[1]: expected a layer that takes floats, got Embed, which takes ids.",
    ),
    ("Residual(CELL).init(KEY, 3)", ValueError, "Residual: layer: expected output size 3 = D, got 4."),
    (
        "Residual(Embed(3, 4))",
        ValueError,
        "Residual: layer: expected a net that takes floats [*B, T, D], got Embed(vocabulary=3",
    ),
    ("Residual((CELL,))", TypeError, f"Residual: layer: {NET}, got tuple. {DERIVE}"),
    ("Bidirectional(LSTM)", TypeError, f"Bidirectional: forward: {NET}, got the class LSTM. Type LSTM(...)."),
    ("Bidirectional(CELL, 'sum')", TypeError, f"Bidirectional: backward: {NET}, got str. {DERIVE}"),
    (
        "Bidirectional(CELL, Embed(3, 4))",
        ValueError,
        "Bidirectional: backward: expected a net for forward's kind of input, got Embed(vocabulary=3",
    ),
    ("Bidirectional(CELL, merge='ave')", ValueError, f"Bidirectional: merge: {MERGE}, got 'ave'."),
    ("Bidirectional(CELL, merge=None)", TypeError, f"Bidirectional: merge: {MERGE}, got None."),
    (
        "Bidirectional(CELL, LSTM(5), merge='sum').init(KEY, 3)",
        ValueError,
        "Bidirectional: merge: expected 'concat' or equal output sizes, got 4 and 5.",
    ),
    (
        "Stack((Bidirectional(CELL, merge='none'), CELL)).init(KEY, 3)",
        ValueError,
        "Bidirectional: merge: expected one that gives one output, for what follows, got 'none'.",
    ),
    *[
        (f"Dropout({rate})", ValueError, f"Dropout: rate: expected a rate in [0, 1), got {rate}.")
        for rate in (1.0, -0.1)
    ],
    ("Dropout(np.nan)", ValueError, "Dropout: rate: expected a rate in [0, 1), got nan."),
    ("Dropout('0.5')", TypeError, f"Dropout: rate: {NUMBER}, got '0.5'."),
    ("Dropout(True)", TypeError, f"Dropout: rate: {NUMBER}, got True."),
    ("Dropout(jnp.array(0.5))", TypeError, f"Dropout: rate: {NUMBER}, got an array float32[]."),
    ("Embed(0, 3)", ValueError, "Embed: vocabulary: expected a positive int, got 0."),
    # views
    ("flatten_time(X[0, 0])", ValueError, "flatten_time: x: expected [*B, T, H], at least 2 axes, got (3,)."),
    ("flatten_time((X, X))", TypeError, "flatten_time: x: expected an array, got tuple."),
    ("flatten_time(None)", TypeError, "flatten_time: x: expected an array, got NoneType."),
    ("unflatten_time(X[0], (2, 7))", ValueError, "unflatten_time: y: expected [N, K] with N = 14, got (7, 3)."),
    ("unflatten_time(X, (2, 7))", ValueError, "unflatten_time: y: expected [N, K] with N = 14, got (2, 7, 3)."),
    ("unflatten_time(X[0], 7)", TypeError, "unflatten_time: leading: expected a tuple of ints such as (32,), got 7."),
    ("unflatten_time(X[0], (-1,))", ValueError, "unflatten_time: leading: expected an int of at least 0, got -1."),
    ("unflatten_time([[1.0]], (1,))", TypeError, "unflatten_time: y: expected an array, got list."),
    ("sequence_mask(X[0, 0], 3)", TypeError, "sequence_mask: lengths: expected integers, got float32."),
    ("sequence_mask(MASK[0], 3)", TypeError, "sequence_mask: lengths: expected integers, got bool."),
    ("sequence_mask([1, 2], 3)", TypeError, "sequence_mask: lengths: expected an array, got list."),
    ("sequence_mask(LENGTHS, 3.0)", TypeError, "sequence_mask: T: expected an int of at least 0, got 3.0."),
    ("sequence_mask(LENGTHS, -1)", ValueError, "sequence_mask: T: expected an int of at least 0, got -1."),
    (
        "jax.jit(sequence_mask)(LENGTHS, 7)",
        TypeError,
        "sequence_mask: T: expected an int of at least 0, got an array int32[].",
    ),
]
