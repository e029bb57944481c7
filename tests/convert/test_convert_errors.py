"""A wrong mapping is one line that names the key, what was expected and what came; prefixes; what has no place."""

import subprocess
import sys
from typing import Any

import frameworks
import jax
import numpy as np
import pytest
from frameworks import PEERS, H
from messages import check, raised
from small import bitwise

import jlstm
from jlstm import LSTM, Bidirectional, Stack, convert
from jlstm.convert.weights import flatten


def ones(*shape: int, dtype: Any = "float32") -> np.ndarray:
    return np.ones(shape, dtype)


def by_path(folder: str, ways: list[str], weights: list[Any]) -> dict[str, Any]:
    """The weights of a Keras layer by the paths that they have in a model."""
    keys = [f"{folder}/{way}lstm_cell/{key}" for way in ways for key in ("kernel", "recurrent_kernel", "bias")]
    return dict(zip(keys, weights, strict=True))


TORCH = {"weight_ih_l0": ones(16, 3), "weight_hh_l0": ones(16, 4), "bias_ih_l0": ones(16), "bias_hh_l0": ones(16)}
TWO_WAYS = TORCH | {key + "_reverse": value for key, value in TORCH.items()}
GRU = {"weight_ih_l0": ones(12, 3), "weight_hh_l0": ones(12, 4), "bias_ih_l0": ones(12), "bias_hh_l0": ones(12)}
PROJECTED = TORCH | {"weight_hh_l0": ones(16, 2), "weight_hr_l0": ones(2, 4)}
LINEN = {f"i{g}": {"kernel": ones(3, 4)} for g in "ifgo"}
LINEN |= {f"h{g}": {"kernel": ones(4, 4), "bias": ones(4)} for g in "ifgo"}
HAIKU = {"lstm/linear": {"w": ones(7, 16), "b": ones(16)}}
KERAS = [ones(3, 16), ones(4, 16), ones(16)]
PATHS = by_path("m/two", ["forward_lstm/", "backward_lstm/"], KERAS * 2)
BACKWARD, ONE_WAY = "m/two/backward_lstm/lstm_cell", {key: a for key, a in PATHS.items() if "forward" in key}
IN_TWO, BEFORE = {"prefix": "m/two"}, {"reset_after": False}
PLAIN = LSTM(H)
EQUINOX = {"weight_ih": ones(16, 3), "weight_hh": ones(16, 4), "bias": ones(16)}


def without(tree: dict, *keys: str) -> dict:
    return {key: value for key, value in tree.items() if key not in keys}


# who reads, weights, options; what the message names, what was expected and what came
WRONG: list[tuple[str, Any, dict, str, str, str]] = [
    # a missing key
    ("torch", without(TORCH, "weight_hh_l0"), {}, "weight_hh_l0", "[4H, H]", "none"),
    ("torch", without(TORCH, "bias_hh_l0"), {}, "bias_hh_l0", "[4H] = (16,)", "none"),
    ("torch", TORCH | {"weight_ih_l2": ones(16, 4)}, {}, "weight_hh_l1", "(16, 4)", "none"),
    ("flax", without(LINEN, "if"), {}, "if/kernel", "[D, H] = (3, 4)", "none"),
    ("haiku", {"lstm/linear": {"w": ones(7, 16)}}, {}, "lstm/linear/b", "[4H]", "none"),
    ("equinox", without(EQUINOX, "weight_ih"), {}, "weight_ih", "[4H, D]", "none"),
    ("keras", without(PATHS, f"{BACKWARD}/bias"), IN_TWO, f"{BACKWARD}/bias", "[4H] = (16,)", "none"),
    # a wrong shape
    ("torch", TORCH | {"weight_hh_l0": ones(20, 4)}, {}, "weight_hh_l0", "(16, 4)", "(20, 4)"),
    ("torch", TORCH | {"weight_hh_l0": ones(12, 4)}, {}, "weight_ih_l0", "[3H, D] = (12, any)", "(16, 3)"),
    ("torch", GRU | {"bias_hh_l0": ones(16)}, {}, "bias_hh_l0", "[3H] = (12,)", "(16,)"),
    ("torch", TORCH | {"weight_hr_l0": ones(2, 4)}, {}, "weight_hh_l0", "[4H, P] = (16, 2)", "(16, 4)"),
    ("torch", PROJECTED | {"weight_hr_l0": ones(2, 3)}, {}, "weight_ih_l0", "[4H, D] = (12, any)", "(16, 3)"),
    ("torch", TORCH | {"weight_ih_l0": ones(3, 16)}, {}, "weight_ih_l0", "(16, any)", "(3, 16)"),
    ("torch", TORCH | {"bias_hh_l0": ones(4)}, {}, "bias_hh_l0", "(16,)", "(4,)"),
    ("torch", TORCH | {k.replace("l0", "l1"): a for k, a in TORCH.items()}, {}, "weight_ih_l1", "(16, 4)", "(16, 3)"),
    ("keras", [ones(3, 20), ones(4, 20), ones(20)], {}, "1", "[H, 4H] = (4, 16)", "(4, 20)"),
    ("keras", [ones(3, 12), ones(4, 12), ones(12)], {}, "2", "[2, 3H] of reset_after=True = (2, 12)", "(12,)"),
    ("keras", [ones(3, 12), ones(4, 12), ones(2, 12)], BEFORE, "2", "[3H] of reset_after=False = (12,)", "(2, 12)"),
    ("keras", [*KERAS, ones(5, 16), ones(4, 16), ones(16)], {}, "3", "(3, 16)", "(5, 16)"),
    ("flax", LINEN | {"hg": {"kernel": ones(4, 5), "bias": ones(4)}}, {}, "hg/kernel", "(4, 4)", "(4, 5)"),
    ("haiku", {"lstm/linear": {"w": ones(4, 16), "b": ones(16)}}, {}, "lstm/linear/w", "[D + H, 4H]", "(4, 16)"),
    ("haiku", {"lstm/linear": {"w": ones(7, 15), "b": ones(15)}}, {}, "lstm/linear/b", "[4H]", "(15,)"),
    ("equinox", EQUINOX | {"bias": ones(12)}, {}, "bias", "(16,)", "(12,)"),
    # half a pair
    ("torch", without(TWO_WAYS, "weight_ih_l0_reverse"), {}, "weight_ih_l0_reverse", "(16, 3)", "none"),
    ("keras", KERAS * 3, {}, "weights", "twice that", "[(3, 16), (4, 16), (16,), (3, 16)"),
    ("keras", ONE_WAY, IN_TWO, "m/two/", "and a backward_", "['forward_lstm"),
    # no key fits: the prefixes that were found
    ("torch", {f"a.b.{key}": a for key, a in TORCH.items()}, {"prefix": "a"}, "prefix", "'a.b'", "'a'"),
    ("torch", {"x": ones(2)}, {}, "weights", "weight", "['x']"),
    ("flax", {"params": {"cell": LINEN}}, {}, "prefix", "'params/cell'", "''"),
    ("haiku", {"net/~/lstm/linear": HAIKU["lstm/linear"]}, {}, "prefix", "'net/~/lstm'", "'lstm'"),
    ("keras", PATHS, {}, "prefix", "'m/two'", "''"),
    ("equinox", {"cells": [EQUINOX, EQUINOX]}, {}, "prefix", "'cells.0', 'cells.1'", "''"),
    # other things
    ("keras", KERAS, {"prefix": "a"}, "prefix", "''", "'a'"),
    ("keras", KERAS, {"activation": "gelu"}, "activation", "'tanh'", "'gelu'"),
    ("keras", KERAS, {"merge_mode": "mean"}, "merge_mode", "'ave'", "'mean'"),
    ("torch", TORCH, {"dropout": 1.0}, "dropout", "[0, 1)", "1.0"),
    ("torch", TORCH | {"weight_ih_l0": ones(16, 3, dtype="float64")}, {}, "weights", "jax_enable_x64", "float64"),
]

h = ones(3, 4)
OF_LSTM, OF_GRU, PAIR = jlstm.LSTMState(h, h), jlstm.cells.GRUState(h), (ones(2, 3, 4), ones(2, 3, 4))
CALLS: list[tuple[str, tuple[Any, ...], type[Exception], str, str, str]] = [  # and other calls
    ("from_torch", (TORCH | {"bias_hh_l0": ones(16, dtype="int32")},), TypeError, "bias_hh_l0", "floating", "int32"),
    ("from_torch", (TORCH | {"bias_hh_l0": 3.0},), TypeError, "bias_hh_l0", "an array with values", "3.0"),
    ("from_torch", (TORCH | {"bias_hh_l0": "x"},), TypeError, "bias_hh_l0", "an array with values", "'x'"),
    ("to_torch", (LSTM(4), frameworks.params(LSTM(5))), ValueError, "params.w_ih", "(3, 4, 4)", "(3, 4, 5)"),
    ("to_keras", (LSTM(4), ()), ValueError, "net", "and its parameters", "parameters tuple"),
    ("state_from_torch", (PAIR, PLAIN), ValueError, "state", "states for LSTM", "1 more"),
    ("state_from_torch", (PAIR, Stack((Bidirectional(PLAIN), PLAIN))), ValueError, "state", "for each cell", "fewer"),
    ("state_from_keras", (PAIR[:1],), ValueError, "state", "[h, c]", "1 arrays"),
    ("state_to_torch", ([ones(2, 3)],), TypeError, "state", "LSTMState", "[array("),
    ("state_from_torch", (ones(1, 3, 4), PLAIN), ValueError, "state", "(h, c) for LSTM", "1 arrays"),
    ("state_from_keras", ([h] * 3, jlstm.GRU(H)), ValueError, "state", "[h] or [h, h]", "3 arrays"),
    ("state_to_torch", ((OF_GRU, OF_LSTM),), ValueError, "state", "one kind of cell", "['GRUState', 'LSTMState']"),
]
ALL = [(f"from_{who}", (weights,), options, ValueError, *said) for who, weights, options, *said in WRONG]
ALL += [(function, args, {}, kind, *said) for function, args, kind, *said in CALLS]


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row[0]}-{row[4]}")
def test_what_does_not_fit(row: Any) -> None:
    function, args, options, kind, name, expected, got = row
    check(raised(kind, lambda: getattr(convert, function)(*args, **options)), f"{function}: {name}", expected, got)


def test_what_is_no_array_yet() -> None:
    params = frameworks.params(PLAIN)
    message = raised(TypeError, lambda: jax.eval_shape(lambda p: convert.to_torch(PLAIN, p), params))
    check(message, "to_torch: params.w_ih", "an array with values", "a tracer")


@pytest.mark.parametrize("name", [name for name in PEERS if not name.startswith(("onnx", "nnx-L", "keras-LSTM-o"))])
def test_keys_beside_the_prefix_are_left_alone(name: str) -> None:
    """A whole model's weights: the module's, beside others of every kind."""
    peer = PEERS[name]
    params = frameworks.params(peer.net)
    weights = peer.write(peer.net, params)
    others = {"other": ones(2), "count": 3, "name": "x", "encoderlstm": "not below", "nothing": None}
    if name.startswith("keras"):
        ways = ["forward_lstm/", "backward_lstm/"] if isinstance(peer.net, Bidirectional) else [""]
        whole, prefix = by_path("encoder/lstm", ways, weights), "encoder/lstm"
    elif name.startswith(("torch", "equinox")):
        whole, prefix = {f"encoder.lstm.{key}": a for key, a in flatten(weights, ".")}, "encoder.lstm"
    elif name.startswith("haiku"):
        whole, prefix = {"encoder/lstm/linear": weights["lstm/linear"]}, "encoder/lstm"
    else:
        whole, prefix = {"encoder": {"lstm": weights, "dense": {"kernel": ones(2)}}}, "encoder/lstm"
    for form in (prefix, prefix + prefix[7]):  # with its separator behind it too
        net, back = peer.read(whole | others, prefix=form)
        assert net == peer.net
        bitwise(back.w_ih, params.w_ih) if "haiku" in name else bitwise(back, params)


def test_dropout_stands_between_layers_of_torch() -> None:
    weights = {key.replace("l0", f"l{n}"): a for n in range(3) for key, a in TORCH.items()}
    weights |= {f"weight_ih_l{n}": ones(16, 4) for n in (1, 2)}
    net, params = convert.from_torch(weights, dropout=0.3)
    assert [type(layer).__name__ for layer in net.layers] == ["LSTM", "Dropout", "LSTM", "Dropout", "LSTM"]
    back = convert.to_torch(net, params)
    assert params[1] == () and back.keys() == weights.keys()
    assert np.all(back["bias_ih_l1"] == 2.0) and not np.any(back["bias_hh_l1"])  # two ones, that add
    state = net.initial_state(params, (2,))
    bitwise(convert.state_from_torch(convert.state_to_torch(state), net), state)


EVERY = "torch keras flax haiku equinox"
TO: list[tuple[str, Any, dict, str, str, str]] = [
    ("torch haiku equinox", LSTM(H, activation="relu"), {}, "activation", "'tanh'", "'relu'"),
    (EVERY, LSTM(H, learn_initial_state=True), {}, "learn_initial_state", "False", "True"),
    ("keras flax haiku equinox", Stack((PLAIN, PLAIN)), {}, "net", "an LSTM", "Stack"),
    ("flax haiku equinox", Bidirectional(PLAIN), {}, "net", "an LSTM", "a Bidirectional"),
    ("torch", Bidirectional(PLAIN, merge="sum"), {}, "net", "concat", "a Bidirectional with merge 'sum'"),
    ("torch", Stack((PLAIN, LSTM(5))), {}, "net", "one cell and size", "[['LSTM of 4'], ['LSTM of 5']]"),
    ("torch", Stack((PLAIN, jlstm.GRU(H))), {}, "net", "one cell and size", "[['LSTM of 4'], ['GRU of 4']]"),
    ("torch", jlstm.ProjectedLSTM(H, 4), {}, "projected_size", "less than hidden_size = 4", "4"),
    ("torch", jlstm.ProjectedLSTM(H, 2), {"cell": True}, "net", "one LSTM or GRU", "[['ProjectedLSTM of 4']]"),
    ("torch", jlstm.GRU(H, reset_after=False), {}, "reset_after", "True", "False"),
    ("keras", jlstm.PeepholeLSTM(H), {}, "net", "an LSTM or GRU", "PeepholeLSTM"),
    ("flax", jlstm.GRU(H), {}, "net", "an LSTM, and", "GRU"),
    ("torch", Stack((PLAIN, jlstm.Dense(5))), {}, "net", "an LSTM", "Dense"),
    ("torch", Stack((PLAIN, PLAIN)), {"cell": True}, "net", "one LSTM", "[['LSTM of 4'], ['LSTM of 4']]"),
    ("torch", Stack((jlstm.Dropout(0.5),)), {}, "net", "one cell and size", "[]"),
    (EVERY, jlstm.DropConnect(PLAIN, 0.5), {}, "net", "an LSTM", "DropConnect"),
    ("keras", Bidirectional(jlstm.ClipGates(PLAIN, 1.0)), {}, "net", "an LSTM or GRU", "ClipGates"),
    ("flax", PLAIN, {"kind": "jax"}, "kind", "'linen'", "'jax'"),
]
EACH = [(who, *row) for several, *row in TO for who in several.split()]


@pytest.mark.parametrize("who, net, options, name, expected, got", EACH, ids=range(len(EACH)))
def test_what_has_no_place_there(who: str, net: Any, options: dict, name: str, expected: str, got: str) -> None:
    message = raised(ValueError, lambda: getattr(convert, f"to_{who}")(net, frameworks.params(net), **options))
    check(message, f"to_{who}: {name}", expected, got)


def test_states_of_single_cells() -> None:
    bitwise(convert.state_from_torch(h), OF_GRU)
    bitwise(convert.state_from_torch((h, h)), OF_LSTM)


def test_no_framework_is_imported() -> None:
    names = ["torch", "keras", "flax", "haiku", "equinox", "onnx"]
    code = f"import sys, jlstm; jlstm.convert.from_torch; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=frameworks.ROOT)
    assert done.stdout.strip() == "[]"
