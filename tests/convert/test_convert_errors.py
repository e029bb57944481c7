"""A wrong mapping is one line that names the key, what was expected and what came; prefixes; what has no place."""

import subprocess
import sys
from typing import Any

import frameworks
import jax
import numpy as np
import pytest
from frameworks import PEERS, H
from small import bitwise

import jlstm
from jlstm import LSTM, Bidirectional, Stack, convert
from jlstm.convert.weights import flatten


def ones(*shape: int, dtype: Any = "float32") -> np.ndarray:
    return np.ones(shape, dtype)


TORCH = {"weight_ih_l0": ones(16, 3), "weight_hh_l0": ones(16, 4), "bias_ih_l0": ones(16), "bias_hh_l0": ones(16)}
TWO_WAYS = TORCH | {key + "_reverse": value for key, value in TORCH.items()}
GRU = {"weight_ih_l0": ones(12, 3), "weight_hh_l0": ones(12, 4), "bias_ih_l0": ones(12), "bias_hh_l0": ones(12)}
PROJECTED = TORCH | {"weight_hh_l0": ones(16, 2), "weight_hr_l0": ones(2, 4)}
LINEN = {f"i{g}": {"kernel": ones(3, 4)} for g in "ifgo"} | {
    f"h{g}": {"kernel": ones(4, 4), "bias": ones(4)} for g in "ifgo"
}
HAIKU = {"lstm/linear": {"w": ones(7, 16), "b": ones(16)}}
KERAS = [ones(3, 16), ones(4, 16), ones(16)]
PATHS = {f"m/two/{way}_lstm/lstm_cell/{key}": a for way in ("forward", "backward")
         for key, a in zip(("kernel", "recurrent_kernel", "bias"), KERAS, strict=True)}  # fmt: skip
IN_TWO, BEFORE = {"prefix": "m/two"}, {"reset_after": False}
EQUINOX = {"weight_ih": ones(16, 3), "weight_hh": ones(16, 4), "bias": ones(16)}


def without(tree: dict, *keys: str) -> dict:
    return {key: value for key, value in tree.items() if key not in keys}


# who, weights, options, the words of the message in their order
WRONG: list[tuple[str, Any, dict, tuple[str, ...]]] = [
    # a missing key
    ("torch", without(TORCH, "weight_hh_l0"), {}, ("weight_hh_l0", "[4H, H]", "none")),
    ("torch", without(TORCH, "bias_hh_l0"), {}, ("bias_hh_l0", "[4H] = (16,)", "none")),
    ("torch", TORCH | {"weight_ih_l2": ones(16, 4)}, {}, ("weight_hh_l1", "none")),
    ("flax", without(LINEN, "if"), {}, ("if/kernel", "[D, H] = (3, 4)", "none")),
    ("haiku", {"lstm/linear": {"w": ones(7, 16)}}, {}, ("lstm/linear/b", "[4H]", "none")),
    ("equinox", without(EQUINOX, "weight_ih"), {}, ("weight_ih", "[4H, D]", "none")),
    ("keras", without(PATHS, "m/two/backward_lstm/lstm_cell/bias"), IN_TWO, ("backward_lstm/lstm_cell/bias", "none")),
    # a wrong shape
    ("torch", TORCH | {"weight_hh_l0": ones(20, 4)}, {}, ("weight_hh_l0", "(16, 4)", "(20, 4)")),
    ("torch", TORCH | {"weight_hh_l0": ones(12, 4)}, {}, ("weight_ih_l0", "[3H, D] = (12, any)", "(16, 3)")),
    ("torch", GRU | {"bias_hh_l0": ones(16)}, {}, ("bias_hh_l0", "[3H] = (12,)", "(16,)")),
    ("torch", TORCH | {"weight_hr_l0": ones(2, 4)}, {}, ("weight_hh_l0", "[4H, P] = (16, 2)", "(16, 4)")),
    ("torch", PROJECTED | {"weight_hr_l0": ones(2, 3)}, {}, ("weight_ih_l0", "[4H, D] = (12, any)", "(16, 3)")),
    ("torch", TORCH | {"weight_ih_l0": ones(3, 16)}, {}, ("weight_ih_l0", "(16, any)", "(3, 16)")),
    ("torch", TORCH | {"bias_hh_l0": ones(4)}, {}, ("bias_hh_l0", "(16,)", "(4,)")),
    ("torch", TORCH | {k.replace("l0", "l1"): a for k, a in TORCH.items()}, {}, ("weight_ih_l1", "(16, 4)", "(16, 3)")),
    ("keras", [ones(3, 20), ones(4, 20), ones(20)], {}, ("1", "[H, 4H] = (4, 16)", "(4, 20)")),
    ("keras", [ones(3, 12), ones(4, 12), ones(12)], {}, ("2", "[2, 3H] of reset_after=True = (2, 12)", "(12,)")),
    ("keras", [ones(3, 12), ones(4, 12), ones(2, 12)], BEFORE, ("2", "[3H] of reset_after=False = (12,)", "(2, 12)")),
    ("keras", [*KERAS, ones(5, 16), ones(4, 16), ones(16)], {}, ("3", "(3, 16)", "(5, 16)")),
    ("flax", LINEN | {"hg": {"kernel": ones(4, 5), "bias": ones(4)}}, {}, ("hg/kernel", "(4, 4)", "(4, 5)")),
    ("haiku", {"lstm/linear": {"w": ones(4, 16), "b": ones(16)}}, {}, ("lstm/linear/w", "[D + H, 4H]", "(4, 16)")),
    ("haiku", {"lstm/linear": {"w": ones(7, 15), "b": ones(15)}}, {}, ("lstm/linear/b", "[4H]", "(15,)")),
    ("equinox", EQUINOX | {"bias": ones(12)}, {}, ("bias", "(16,)", "(12,)")),
    # half a pair
    ("torch", without(TWO_WAYS, "weight_ih_l0_reverse"), {}, ("weight_ih_l0_reverse", "(16, 3)", "none")),
    ("keras", KERAS * 3, {}, ("weights", "twice that", "(3, 16)")),
    ("keras", {k: a for k, a in PATHS.items() if "forward" in k}, IN_TWO, ("m/two", "and a backward_", "forward_lstm")),
    # no key fits: the prefixes that were found
    ("torch", {f"a.b.{key}": a for key, a in TORCH.items()}, {"prefix": "a"}, ("prefix", "'a.b'", "'a'")),
    ("torch", {"x": ones(2)}, {}, ("weights", "weight", "['x']")),
    ("flax", {"params": {"cell": LINEN}}, {}, ("prefix", "'params/cell'", "''")),
    ("haiku", {"net/~/lstm/linear": HAIKU["lstm/linear"]}, {}, ("prefix", "'net/~/lstm'", "'lstm'")),
    ("keras", PATHS, {}, ("prefix", "'m/two'", "''")),
    ("equinox", {"cells": [EQUINOX, EQUINOX]}, {}, ("prefix", "'cells.0'", "'cells.1'", "''")),
    # other things
    ("keras", KERAS, {"prefix": "a"}, ("prefix", "''", "'a'")),
    ("keras", KERAS, {"activation": "gelu"}, ("activation", "'tanh'", "'gelu'")),
    ("keras", KERAS, {"merge_mode": "mean"}, ("merge_mode", "'ave'", "'mean'")),
    ("torch", TORCH, {"dropout": 1.0}, ("dropout", "[0, 1)", "1.0")),
    ("torch", TORCH | {"weight_ih_l0": ones(16, 3, dtype="float64")}, {}, ("float64", "jax_enable_x64")),
]  # fmt: skip


def message(error: pytest.ExceptionInfo[Any], words: tuple[str, ...], where: str) -> None:
    text = str(error.value)
    assert "\n" not in text and text.startswith(where), text
    at = 0
    for word in words:
        assert word in text[at:], (word, text)
        at = text.index(word, at)


@pytest.mark.parametrize("who, weights, options, words", WRONG, ids=range(len(WRONG)))
def test_a_wrong_mapping(who: str, weights: Any, options: dict, words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as error:
        getattr(convert, f"from_{who}")(weights, **options)
    message(error, words, f"from_{who}: ")


def test_what_is_no_array() -> None:
    for value, words in ((ones(16, dtype="int32"), "int32"), (3.0, "3.0"), ("x", "'x'")):
        with pytest.raises(TypeError) as error:
            convert.from_torch(TORCH | {"bias_hh_l0": value})
        message(error, ("bias_hh_l0", words), "from_torch: ")
    net = LSTM(H)
    with pytest.raises(TypeError, match=r"to_torch: params.w_ih: expected an array with values, got a tracer"):
        jax.eval_shape(lambda p: convert.to_torch(net, p), frameworks.params(net))


@pytest.mark.parametrize("name", [name for name in PEERS if not name.startswith(("onnx", "nnx-L", "keras-LSTM-o"))])
def test_keys_beside_the_prefix_are_left_alone(name: str) -> None:
    """A whole model's weights: the module's, beside others of every kind."""
    peer = PEERS[name]
    params = frameworks.params(peer.net)
    weights = peer.write(peer.net, params)
    others = {"other": ones(2), "count": 3, "name": "x", "encoderlstm": "not below", "nothing": None}
    if name.startswith("keras"):
        ways = ["forward_lstm/", "backward_lstm/"] if isinstance(peer.net, Bidirectional) else [""]
        keys = [f"encoder/lstm/{way}lstm_cell/{key}" for way in ways for key in ("kernel", "recurrent_kernel", "bias")]
        whole, prefix = dict(zip(keys, weights, strict=True)), "encoder/lstm"
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


PLAIN = LSTM(H)
TO: list[tuple[str, Any, dict, tuple[str, ...]]] = [
    *[(who, LSTM(H, activation="relu"), {}, ("activation", "'tanh'", "'relu'"))
      for who in ("torch", "haiku", "equinox")],
    *[(who, LSTM(H, learn_initial_state=True), {}, ("learn_initial_state", "False", "True"))
      for who in ("torch", "keras", "flax", "haiku", "equinox")],
    *[(who, Stack((PLAIN, PLAIN)), {}, ("net", "an LSTM", "Stack")) for who in ("keras", "flax", "haiku", "equinox")],
    *[(who, Bidirectional(PLAIN), {}, ("net", "an LSTM", "Bidirectional")) for who in ("flax", "haiku", "equinox")],
    ("torch", Bidirectional(PLAIN, merge="sum"), {}, ("net", "concat", "sum")),
    ("torch", Stack((PLAIN, LSTM(5))), {}, ("net", "one cell and size", "LSTM of 4", "LSTM of 5")),
    ("torch", Stack((PLAIN, jlstm.GRU(H))), {}, ("net", "one cell and size", "LSTM of 4", "GRU of 4")),
    ("torch", jlstm.ProjectedLSTM(H, 4), {}, ("projected_size", "less than hidden_size = 4", "4")),
    ("torch", jlstm.ProjectedLSTM(H, 2), {"cell": True}, ("net", "one LSTM or GRU", "ProjectedLSTM of 4")),
    ("torch", jlstm.GRU(H, reset_after=False), {}, ("reset_after", "True", "False")),
    ("keras", jlstm.PeepholeLSTM(H), {}, ("net", "an LSTM or GRU", "PeepholeLSTM")),
    ("flax", jlstm.GRU(H), {}, ("net", "an LSTM, and", "GRU")),
    ("torch", Stack((PLAIN, jlstm.Dense(5))), {}, ("net", "an LSTM", "Dense")),
    ("torch", Stack((PLAIN, PLAIN)), {"cell": True}, ("net", "one LSTM", "LSTM of 4", "LSTM of 4")),
    ("torch", Stack((jlstm.Dropout(0.5),)), {}, ("net", "one cell and size", "[]")),
    *[(who, jlstm.DropConnect(PLAIN, 0.5), {}, ("net", "an LSTM", "DropConnect"))
      for who in ("torch", "keras", "flax", "haiku", "equinox")],
    ("keras", Bidirectional(jlstm.ClipGates(PLAIN, 1.0)), {}, ("net", "an LSTM or GRU", "ClipGates")),
    ("flax", PLAIN, {"kind": "jax"}, ("kind", "'linen'", "'jax'")),
]  # fmt: skip


@pytest.mark.parametrize("who, net, options, words", TO, ids=range(len(TO)))
def test_what_has_no_place_there(who: str, net: Any, options: dict, words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as error:
        getattr(convert, f"to_{who}")(net, frameworks.params(net), **options)
    message(error, words, f"to_{who}: ")


def test_parameters_of_another_net() -> None:
    with pytest.raises(ValueError, match=r"to_torch: params.w_ih: expected \(3, 4, 4\), got \(3, 4, 5\)"):
        convert.to_torch(LSTM(4), frameworks.params(LSTM(5)))
    with pytest.raises(ValueError, match=r"to_keras: net: .*parameters tuple"):
        convert.to_keras(LSTM(4), ())


def test_states_that_do_not_fit() -> None:
    pair = (ones(2, 3, 4), ones(2, 3, 4))
    with pytest.raises(ValueError, match=r"state_from_torch: state: .*1 more"):
        convert.state_from_torch(pair, PLAIN)
    with pytest.raises(ValueError, match=r"state_from_torch: state: .*fewer"):
        convert.state_from_torch(pair, Stack((Bidirectional(PLAIN), PLAIN)))
    with pytest.raises(ValueError, match=r"state_from_keras: state: expected \[h, c\]"):
        convert.state_from_keras(pair[:1])
    with pytest.raises(TypeError, match=r"state_to_torch: state: expected LSTMState"):
        convert.state_to_torch([ones(2, 3)])
    with pytest.raises(ValueError, match=r"state_from_torch: state: expected \(h, c\) for LSTM.*, got 1 arrays"):
        convert.state_from_torch(ones(1, 3, 4), PLAIN)
    with pytest.raises(ValueError, match=r"state_from_keras: state: expected \[h\] or \[h, h\], got 3 arrays"):
        convert.state_from_keras([ones(3, 4)] * 3, jlstm.GRU(H))
    with pytest.raises(ValueError, match=r"state_to_torch: state: expected states of one kind of cell, got "):
        convert.state_to_torch((jlstm.cells.GRUState(ones(3, 4)), jlstm.LSTMState(ones(3, 4), ones(3, 4))))
    h = ones(3, 4)
    bitwise(convert.state_from_torch(h), jlstm.cells.GRUState(h))  # a GRUCell's
    bitwise(convert.state_from_torch((h, h)), jlstm.LSTMState(h, h))  # an LSTMCell's


def test_no_framework_is_imported() -> None:
    names = ["torch", "keras", "flax", "haiku", "equinox", "onnx"]
    code = f"import sys, jlstm; jlstm.convert.from_torch; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=frameworks.ROOT)
    assert done.stdout.strip() == "[]"
