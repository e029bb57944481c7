"""ONNX files: whole nets run by onnxruntime, nodes as other programs write them, and what is refused."""

import dataclasses
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frameworks
import jax
import numpy as np
import onnx_models
import pytest
from onnx_models import D, H, arrays, node
from small import bitwise

import jlstm
from jlstm import LSTM, Bidirectional, Dense, Dropout, Embed, Residual, Stack, convert

B, T = 4, 6
LENGTHS = np.array([0, 3, 6, 100], np.int32)
close = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    frameworks.need("onnx", "onnxruntime")
    with frameworks.settings():
        yield


def session(net: Any, params: Any, tmp_path: Path, **options: Any) -> Any:
    convert.to_onnx(net, params, tmp_path / "net.onnx", **options)
    import onnx

    return onnx_models.session(onnx.load(tmp_path / "net.onnx"))


ODD = LSTM(H, activation="elu", gate_activation="hard_sigmoid", use_bias=False)
WHOLE = Stack(
    (
        Embed(7, D),
        Bidirectional(ODD, LSTM(H, activation="softsign"), merge="mul"),
        Dropout(0.5),
        Stack((Residual(Bidirectional(LSTM(2, activation="relu", gate_activation="softplus"))), Dense(5))),
        Residual(LSTM(5, learn_initial_state=True)),
        Dense(3, activation="gelu", use_bias=False),
        Residual(Dense(3, activation="softplus")),
    )
)


@pytest.mark.parametrize("return_sequences", [True, False])
def test_a_whole_net(return_sequences: bool, tmp_path: Path) -> None:
    """Ragged ids with anything in the padding, from a state of ours; what the state is without one, see below."""
    params, rng = frameworks.params(WHOLE), np.random.default_rng(0)
    run = session(WHOLE, params, tmp_path, return_sequences=return_sequences)
    ids = np.where(np.arange(T) < LENGTHS[:, None], rng.integers(0, 7, size=(B, T)), 99)
    like = jax.eval_shape(lambda p: WHOLE.initial_state(p, (B,)), params)
    start = frameworks.random(like, 1)
    got = run(inputs=ids, lengths=LENGTHS, **convert.state_to_onnx(start))
    state, y = jlstm.unroll(WHOLE, params, ids, state=start, lengths=LENGTHS, return_sequences=return_sequences)
    np.testing.assert_allclose(got["outputs"], y, **close)
    end = convert.state_from_onnx(got, WHOLE)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), end, state)


def test_ids_out_of_range_give_nan(tmp_path: Path) -> None:
    net, ids = Stack((Embed(7, D), Dense(2))), np.array([[0, 6, 7, -1, 99]])
    params = frameworks.params(net)
    _, y = jlstm.unroll(net, params, ids, lengths=np.array([4]), return_sequences=True)
    got = session(net, params, tmp_path, return_sequences=True)(inputs=ids, lengths=np.array([4], np.int32))
    np.testing.assert_array_equal(np.isnan(y[0, :, 0]), [False, False, True, True, False])
    np.testing.assert_allclose(got["outputs"], y, **close)


def test_one_step_at_a_time(tmp_path: Path) -> None:
    net = Stack((LSTM(H), Residual(LSTM(H, learn_initial_state=True)), Dense(2)))
    params, x = frameworks.params(net), np.random.default_rng(1).normal(size=(B, T, D)).astype("float32")
    run = session(net, params, tmp_path)
    feeds, outputs = {}, []
    for t in range(T):
        got = run(inputs=x[:, t : t + 1], **feeds)
        outputs.append(got.pop("outputs"))
        feeds = {name.replace("final", "initial"): a for name, a in got.items()}
    state, y = jlstm.unroll(net, params, x, return_sequences=True)
    np.testing.assert_allclose(np.stack(outputs, 1), y, **close)
    end = convert.state_from_onnx(feeds, net)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), end, state)


def test_nets_of_lstms_come_back(tmp_path: Path) -> None:
    learned = LSTM(H, learn_initial_state=True, activation="elu", gate_activation="hard_sigmoid")
    for net, options in (
        (Stack((Bidirectional(ODD, learned), learned)), {}),
        (Stack((jlstm.PeepholeLSTM(H), Bidirectional(jlstm.CoupledLSTM(H, learn_initial_state=True)))), {}),
        (Stack((Bidirectional(LSTM(H), merge="mean"), Bidirectional(learned, merge="mean"))), {"merge": "mean"}),
    ):
        params = frameworks.params(net)
        convert.to_onnx(net, params, tmp_path / "net.onnx")
        back, its = convert.from_onnx(str(tmp_path / "net.onnx"), **options)
        if net.layers[0] == Bidirectional(ODD, learned):  # a node has a bias, and an initial state, for both or none
            assert back.layers[0].forward == dataclasses.replace(ODD, use_bias=True, learn_initial_state=True)
            its, params, back, net = its[1], params[1], back.layers[1], net.layers[1]
        assert back == net
        bitwise(its, params)


# ---- nodes as others write them


def test_a_reversed_node() -> None:
    model, x = node(arrays(), direction="reverse", lengths=True), np.ones((T, B, D), "float32").cumsum(0) / T
    got = onnx_models.session(model)(X=x, sequence_lens=LENGTHS.clip(1, T))
    with pytest.raises(
        ValueError, match=r"from_onnx: encoder/lstm.direction: expected 'forward', got 'reverse'. .*True"
    ):
        convert.from_onnx(model)
    net, params = convert.from_onnx(model, reverse=True)
    options = dict(lengths=LENGTHS.clip(1, T), time_major=True, return_sequences=True)
    state, y = jlstm.unroll(net, params, x, reverse=True, **options)
    np.testing.assert_allclose(got["Y"][:, 0], y, **close)
    end = convert.state_from_onnx((got["Y_h"], got["Y_c"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), end, state)


def test_the_batch_first_layout() -> None:
    """By the ONNX project's own evaluator: onnxruntime has no layout 1. A constant state for every row is h0 and c0."""
    rng, state = np.random.default_rng(5), {}
    for name in ("initial_h", "initial_c"):
        state[name] = np.repeat(rng.normal(size=(1, 2, H)).astype("float32"), B, axis=0)
    model = node(arrays(2, bias=False) | state, direction="bidirectional", layout=1)
    x = rng.normal(size=(B, T, D))
    got = onnx_models.float64_evaluator(model)(X=x)
    net, params = convert.from_onnx(model)
    assert net == Bidirectional(LSTM(H, use_bias=False, learn_initial_state=True))
    end, y = jlstm.unroll(net, params, x.astype("float32"), return_sequences=True)
    np.testing.assert_allclose(got["Y"].reshape(B, T, 2 * H), y, **close)
    theirs = convert.state_from_onnx((got["Y_h"].astype("float32"), got["Y_c"].astype("float32")), net, layout=1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), theirs, end)


def test_peepholes_of_zeros_are_none() -> None:
    net, _ = convert.from_onnx(node(arrays() | {"P": np.zeros((1, 3 * H), "float32")}))
    assert net == LSTM(H)


def test_a_gate_that_nobody_reads() -> None:
    """input_forget: what stands in f's rows changes nothing, here and there."""
    given, x = arrays(), np.random.default_rng(0).normal(size=(T, B, D)).astype("float32")
    given = {name: a.copy() for name, a in given.items()}
    for a in (given["W"], given["R"]):
        a[:, 2 * H : 3 * H] = np.nan
    for half in (0, 4 * H):
        given["B"][:, half + 2 * H : half + 3 * H] = np.nan
    model = node(given, input_forget=1)
    net, params = convert.from_onnx(model)
    assert net == jlstm.CoupledLSTM(H)
    _, y = jlstm.unroll(net, params, x, time_major=True, return_sequences=True)
    np.testing.assert_allclose(onnx_models.session(model)(X=x)["Y"][:, 0], y, **close)


@pytest.mark.slow  # torch's exporter
def test_a_model_that_torch_wrote(tmp_path: Path) -> None:
    """Zeros as an initial state, by ConstantOfShape and Slice; Transpose and Reshape between two layers."""
    frameworks.need("torch")
    import torch

    lstm = torch.nn.LSTM(D, H, 2, bidirectional=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's, about this way of exporting
        axes = {"x": {0: "T", 1: "B"}}
        torch.onnx.export(
            lstm,
            (torch.ones(T, 2, D),),
            str(tmp_path / "torch.onnx"),
            dynamo=False,
            input_names=["x"],
            dynamic_axes=axes,
        )
    net, params = convert.from_onnx(tmp_path / "torch.onnx")
    want_net, want = convert.from_torch(lstm.state_dict())
    assert net == want_net
    bitwise(params, want)


# ---- what is refused

P = {"P": np.ones((1, 3 * H), "float32")}
LACKS = [
    (arrays() | P, {"input_forget": 1}, "encoder/lstm.P: expected none or 0 with input_forget, for jlstm has no"),
    (arrays() | P, {"clip": 3.0}, "encoder/lstm.P: expected none or 0 with clip, for jlstm has no"),
    (arrays(), {"activations": ["Sigmoid", "Tanh", "Relu"]}, "activations: expected one for candidate and cell"),
    (arrays(), {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, r"activations: .*got HardSigmoid {'alpha': 0.2"),
    (arrays(), {"activations": ["Sigmoid", "ScaledTanh", "Tanh"]}, "activations: .*got ScaledTanh"),
]


@pytest.mark.parametrize("arrays, attributes, message", LACKS, ids=range(len(LACKS)))
def test_what_our_lstm_lacks(arrays: Any, attributes: Any, message: str) -> None:
    with pytest.raises(NotImplementedError, match=f"^from_onnx: .*{message}"):
        convert.from_onnx(node(arrays, **attributes))


def test_a_wrong_node() -> None:
    from onnx import helper

    bad = arrays() | {"R": np.ones((1, 4 * H, H + 1), "float32")}
    half = arrays(1)
    rows = {
        "initial_h": np.arange(2 * H, dtype="float32").reshape(1, 2, H),
        "initial_c": np.zeros((1, 2, H), "float32"),
    }
    relu = helper.make_node("Relu", ["W0"], ["W"])
    lens = arrays() | {"sequence_lens": np.array([3], np.int32)}
    computed = {"W0" if name == "W" else name: a for name, a in arrays().items()}
    for model, options, message in (
        (node(bad), {}, r"encoder/lstm.R: expected \[directions, 4H, H\] = \(1, any, 4\), got \(1, 16, 5\)"),
        (node(arrays() | {"P": P["P"][:, 1:]}), {}, r"lstm.P: expected \[directions, 3H\] = \(1, 12\), got \(1, 11\)"),
        (node(half, direction="bidirectional"), {}, r"encoder/lstm.R: .* = \(2, any, 4\), got \(1, 16, 4\)"),
        (node(arrays() | rows), {}, r"initial_h: expected the same constant \[H\] = \(4,\) for every row"),
        (node(arrays()), {"prefix": "decoder"}, r"prefix: expected the beginning of one of \['encoder/lstm'\]"),
        (node(arrays()), {"reverse": True}, "direction: expected 'reverse', got 'forward'"),
        (node(arrays()), {"merge": "ave"}, "merge: expected one of 'concat'"),
        (node(lens), {}, "sequence_lens: expected an input, got a constant"),
        (node(arrays(), activations=["Sigmoid"]), {}, r"activations: expected 3 names"),
    ):
        with pytest.raises(ValueError, match=f"^from_onnx: .*{message}"):
            convert.from_onnx(model, **options)
    model = node(computed | {"W": computed["W0"]}, extra=[relu])
    del model.graph.initializer[[a.name for a in model.graph.initializer].index("W")]
    with pytest.raises(ValueError, match=r"encoder/lstm.W: expected a constant, got W, computed"):
        convert.from_onnx(model)


def test_something_between_two_layers(tmp_path: Path) -> None:
    for between, options, message in (
        (Dense(H), {}, "LSTM_.*.X: expected the output of LSTM_.*, got Where"),
        (Bidirectional(LSTM(H), merge="sum"), {}, r"got ReduceSum .* Type merge='sum'"),
    ):
        net = Stack((LSTM(H), between, LSTM(H)))
        convert.to_onnx(net, frameworks.params(net), tmp_path / "net.onnx")
        with pytest.raises(ValueError, match=message):
            convert.from_onnx(tmp_path / "net.onnx", **options)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    for net, message in (
        (LSTM(H, activation="gelu"), "activation: expected one of 'tanh'.*'gelu'"),
        (Stack((LSTM(H), Dense(2, activation="silu"))), "activation: expected one of .*'silu'"),
        (Bidirectional(LSTM(H), LSTM(2)), "net: expected LSTM, .*, Bidirectional of two of one kind, size and clip"),
        (Stack((LSTM(H), Bidirectional(LSTM(H), merge="none"))), "net.1: expected"),
        (Bidirectional(LSTM(H), jlstm.PeepholeLSTM(H)), "net: expected .* of one kind, size and clip"),
        (jlstm.GRU(H), "net: expected LSTM, PeepholeLSTM, CoupledLSTM"),
        (Bidirectional(Stack((LSTM(H),))), "net: expected"),
        (
            Stack((LSTM(H), LSTM(H, param_dtype="float16"))),
            r"params: expected arrays of one dtype, got \['float16', 'float32'\]",
        ),
    ):
        with pytest.raises(ValueError, match=f"^to_onnx: {message}"):
            convert.to_onnx(net, frameworks.params(net), tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"to_onnx: params\.w_hh: expected"):
        params = frameworks.params(LSTM(H))
        convert.to_onnx(LSTM(H), params._replace(w_hh=params.w_hh[:2]), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (
        lambda: convert.from_onnx("x.onnx"),
        lambda: convert.to_onnx(LSTM(H), frameworks.params(LSTM(H)), "x.onnx"),
    ):
        with pytest.raises(ImportError, match=r'onnx is not installed. Type pip install "jlstm\[onnx\]"\.'):
            call()
