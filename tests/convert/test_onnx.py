"""ONNX files: whole nets run by onnxruntime, nodes as other programs write them, and nets and nodes that are refused.

The gradients of `ClipGates` have no live oracle here: the ONNX project's evaluator leaves clip out. The contract holds
them against central differences.
"""

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
from onnx_models import RAGGED, B, D, H, T, arrays, node, session
from small import bitwise, equal

import jlstm
from jlstm import LSTM, Bidirectional, CoupledLSTM, Dense, DropConnect, PeepholeLSTM, Residual, Stack, convert


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    frameworks.need("onnx", "onnxruntime")
    with frameworks.settings():
        yield


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


# ---- nets that are written

ODD = LSTM(H, activation="elu", gate_activation="hard_sigmoid", use_bias=False)
WHOLE = Stack(
    (
        jlstm.Embed(7, D),
        Bidirectional(ODD, LSTM(H, activation="softsign"), merge="mul"),
        jlstm.Dropout(0.5),
        Stack((Residual(Bidirectional(LSTM(2, activation="relu", gate_activation="softplus"))), Dense(5))),
        Residual(LSTM(5, learn_initial_state=True)),
        Dense(3, activation="gelu", use_bias=False),
        Residual(Dense(3, activation="softplus")),
    )
)


@pytest.mark.parametrize("return_sequences", [True, False])
def test_a_whole_net(return_sequences: bool) -> None:
    """Ids with anything in the padding."""
    ids = np.where(np.arange(T) < RAGGED[:, None], np.random.default_rng(0).integers(0, 7, size=(B, T)), 99)
    onnx_models.check_written(WHOLE, frameworks.params(WHOLE), ids, return_sequences=return_sequences)


def clip(cell: Any, limit: float = 0.3) -> jlstm.ClipGates:
    return jlstm.ClipGates(cell, limit)


SOFT = LSTM(H, activation="softsign", gate_activation="hard_sigmoid", use_bias=False, learn_initial_state=True)
TWO_WAYS = Stack((Bidirectional(clip(CoupledLSTM(H), 1.5)), clip(LSTM(2), 0.1), LSTM(H)))
NOISY = Stack((DropConnect(PeepholeLSTM(H), 0.5), Bidirectional(jlstm.VariationalDropout(LSTM(H), 0.1, 0.2))))
AROUND = Stack((clip(LSTM(H)), Residual(jlstm.VariationalDropout(clip(LSTM(H)), 0.5)), Dense(2)))
# name -> a net, and the net that comes back, without noise; None where another one does
CLIPPED: dict[str, tuple[Any, Any]] = {
    "one": (clip(LSTM(H)), clip(LSTM(H))),
    "two kinds": (Stack((Bidirectional(clip(LSTM(H)), clip(SOFT)), clip(CoupledLSTM(5), 0.1), LSTM(2))), None),
    "coupled": (TWO_WAYS, TWO_WAYS),
    "the least of all limits": (clip(DropConnect(clip(LSTM(H), 0.2), 0.5), 0.9), clip(LSTM(H), 0.2)),
    "noise alone": (NOISY, Stack((PeepholeLSTM(H), Bidirectional(LSTM(H))))),
    "layers around": (AROUND, None),
}


@pytest.mark.parametrize("name", CLIPPED)
def test_clipped_nets_are_run_by_onnxruntime_and_come_back(name: str) -> None:
    """The weights are so large that most of z is clipped."""
    net, want = CLIPPED[name]
    params = jax.tree.map(lambda a: 3 * a, frameworks.params(net))
    onnx_models.check_written(net, params, normal(B, T, D))
    if want is not None:
        back, its = convert.from_onnx(onnx_models.write(net, params))
        assert back == want
        bitwise(its, params)


def test_ids_out_of_range_give_nan() -> None:
    net, ids = Stack((jlstm.Embed(7, D), Dense(2))), np.array([[0, 6, 7, -1, 99]])
    params, lengths = frameworks.params(net), np.array([4], np.int32)
    _, y = jlstm.unroll(net, params, ids, lengths=lengths, return_sequences=True)
    got = session(onnx_models.write(net, params))(inputs=ids, lengths=lengths)
    np.testing.assert_array_equal(np.isnan(y[0, :, 0]), [False, False, True, True, False])
    equal(got["outputs"], y, 1e-5)


def test_one_step_at_a_time() -> None:
    net = Stack((LSTM(H), Residual(LSTM(H, learn_initial_state=True)), Dense(2)))
    params, x = frameworks.params(net), normal(B, T, D)
    run = session(onnx_models.write(net, params, return_sequences=False))
    feeds, outputs = {}, []
    for t in range(T):
        got = run(inputs=x[:, t : t + 1], **feeds)
        outputs.append(got.pop("outputs"))
        feeds = {name.replace("final", "initial"): a for name, a in got.items()}
    want = jlstm.unroll(net, params, x, return_sequences=True)
    equal((convert.state_from_onnx(feeds, net), np.stack(outputs, 1)), want, 1e-5)


def test_nets_of_lstms_come_back(tmp_path: Path) -> None:
    learned = LSTM(H, learn_initial_state=True, activation="elu", gate_activation="hard_sigmoid")
    path = tmp_path / "net.onnx"
    for net, there, options in (
        (Stack((Bidirectional(ODD, learned), learned)), path, {}),
        (Stack((PeepholeLSTM(H), Bidirectional(CoupledLSTM(H, learn_initial_state=True)))), str(path), {}),
        (Stack((Bidirectional(LSTM(H), merge="mean"), Bidirectional(learned, merge="mean"))), path, {"merge": "mean"}),
    ):
        params = frameworks.params(net)
        convert.to_onnx(net, params, path)
        back, its = convert.from_onnx(there, **options)
        if net.layers[0] == Bidirectional(ODD, learned):  # a node has a bias, and an initial state, for both or none
            assert back.layers[0].forward == dataclasses.replace(ODD, use_bias=True, learn_initial_state=True)
            its, params, back, net = its[1], params[1], back.layers[1], net.layers[1]
        assert back == net
        bitwise(its, params)


# ---- nodes as others write them


def test_a_reversed_node() -> None:
    model, x, lengths = node(arrays(), direction="reverse", lengths=True), normal(T, B, D), RAGGED.clip(1, T)
    got = session(model)(X=x, sequence_lens=lengths)
    with pytest.raises(ValueError, match=r"from_onnx: encoder/lstm.direction: .*'forward', got 'reverse'\. .*True"):
        convert.from_onnx(model)
    net, params = convert.from_onnx(model, reverse=True)
    want = jlstm.unroll(net, params, x, reverse=True, lengths=lengths, time_major=True, return_sequences=True)
    equal((convert.state_from_onnx((got["Y_h"], got["Y_c"])), got["Y"][:, 0]), want, 1e-5)


def test_the_batch_first_layout() -> None:
    """By the ONNX project's own evaluator: onnxruntime has no layout 1. A constant state for every row is h0 and c0."""
    rng = np.random.default_rng(5)
    rows = {name: rng.normal(size=(1, 2, H)).astype("float32") for name in ("initial_h", "initial_c")}
    state = {name: np.repeat(a, B, axis=0) for name, a in rows.items()}
    model = node(arrays(2, bias=False) | state, direction="bidirectional", layout=1)
    x = rng.normal(size=(B, T, D))
    got = onnx_models.float64_evaluator(model)(X=x)
    net, params = convert.from_onnx(model)
    assert net == Bidirectional(LSTM(H, use_bias=False, learn_initial_state=True))
    theirs = convert.state_from_onnx((got["Y_h"].astype("float32"), got["Y_c"].astype("float32")), net, layout=1)
    want = jlstm.unroll(net, params, x.astype("float32"), return_sequences=True)
    equal((theirs, got["Y"].reshape(B, T, 2 * H)), want, 1e-5)


def test_peepholes_of_zeros_are_none() -> None:
    net, _ = convert.from_onnx(node(arrays() | {"P": np.zeros((1, 3 * H), "float32")}))
    assert net == LSTM(H)


def test_an_unused_gate() -> None:
    """input_forget: NaN in f's rows changes nothing, here and there."""
    given, x = arrays(), normal(T, B, D)
    for name, first in (("W", 2 * H), ("R", 2 * H), ("B", 2 * H), ("B", 6 * H)):
        given[name][:, first : first + H] = np.nan
    model = node(given, input_forget=1)
    net, params = convert.from_onnx(model)
    assert net == CoupledLSTM(H)
    _, y = jlstm.unroll(net, params, x, time_major=True, return_sequences=True)
    equal(session(model)(X=x)["Y"][:, 0], y, 1e-5)


@pytest.mark.slow  # torch's exporter
def test_a_model_that_torch_wrote(tmp_path: Path) -> None:
    """Zeros as an initial state, by ConstantOfShape and Slice; Transpose and Reshape between two layers."""
    frameworks.need("torch")
    import torch

    lstm, path = torch.nn.LSTM(D, H, 2, bidirectional=True), str(tmp_path / "torch.onnx")
    options: dict[str, Any] = dict(dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "T", 1: "B"}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's, about this way of exporting
        torch.onnx.export(lstm, (torch.ones(T, 2, D),), path, **options)
    net, params = convert.from_onnx(path)
    want_net, want = convert.from_torch(lstm.state_dict())
    assert net == want_net
    bitwise(params, want)


# ---- nodes that are refused

GIVEN, P = arrays(), {"P": np.ones((1, 3 * H), "float32")}
R = {"R": np.ones((1, 4 * H, H + 1), "float32")}
ROWS = {name: np.arange(2 * H, dtype="float32").reshape(1, 2, H) for name in ("initial_h", "initial_c")}
# the node's arrays and attributes; the options of from_onnx; the message
LACKS: list[Any] = [
    (GIVEN | P, {"input_forget": 1}, {}, "encoder/lstm.P: expected none or 0 with input_forget, since jlstm has no"),
    (GIVEN | P, {"clip": 3.0}, {}, "encoder/lstm.P: expected none or 0 with clip, since jlstm has no"),
    (GIVEN, {"activations": ["Sigmoid", "Tanh", "Relu"]}, {}, "activations: expected one for candidate and cell"),
    (GIVEN, {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, {}, r"activations: .*got HardSigmoid {'alpha': 0.2"),
    (GIVEN, {"activations": ["Sigmoid", "ScaledTanh", "Tanh"]}, {}, "activations: .*got ScaledTanh"),
]
WRONG: list[Any] = [
    (GIVEN | R, {}, {}, r"encoder/lstm.R: expected \[directions, 4H, H\] = \(1, any, 4\), got \(1, 16, 5\)"),
    (GIVEN | {"P": P["P"][:, 1:]}, {}, {}, r"lstm.P: expected \[directions, 3H\] = \(1, 12\), got \(1, 11\)"),
    (GIVEN, {"direction": "bidirectional"}, {}, r"encoder/lstm.R: .* = \(2, any, 4\), got \(1, 16, 4\)"),
    (GIVEN | ROWS, {}, {}, r"initial_h: expected the same constant \[H\] = \(4,\) for every row"),
    (GIVEN, {}, {"prefix": "decoder"}, r"prefix: expected the beginning of one of \['encoder/lstm'\]"),
    (GIVEN, {}, {"reverse": True}, "direction: expected 'reverse', got 'forward'"),
    (GIVEN, {}, {"merge": "ave"}, "merge: expected one of 'concat'"),
    (GIVEN | {"sequence_lens": np.array([3], np.int32)}, {}, {}, "sequence_lens: expected an input, got a constant"),
    (GIVEN, {"activations": ["Sigmoid"]}, {}, "activations: expected 3 names"),
    (GIVEN, {"clip": 0.0}, {}, r"encoder/lstm\.clip: expected a number > 0, got 0\.0\.$"),
]


@pytest.mark.parametrize(
    ("kind", "row"), [*((NotImplementedError, row) for row in LACKS), *((ValueError, row) for row in WRONG)]
)
def test_a_node_that_cannot_be_read(kind: type[Exception], row: Any) -> None:
    given, attributes, options, message = row
    with pytest.raises(kind, match=f"^from_onnx: .*{message}"):
        convert.from_onnx(node(given, **attributes), **options)


def test_a_computed_weight() -> None:
    from onnx import helper

    renamed = {"W0" if name == "W" else name: a for name, a in GIVEN.items()}
    model = node(renamed | {"W": GIVEN["W"]}, extra=[helper.make_node("Relu", ["W0"], ["W"])])
    del model.graph.initializer[[a.name for a in model.graph.initializer].index("W")]
    with pytest.raises(ValueError, match=r"encoder/lstm\.W: expected a constant, got W, computed"):
        convert.from_onnx(model)


def test_a_layer_between_two_nodes() -> None:
    for between, message in (
        (Dense(H), "LSTM_.*.X: expected the output of LSTM_.*, got Where"),
        (Bidirectional(LSTM(H), merge="sum"), "got ReduceSum .* Type merge='sum'"),
    ):
        net = Stack((LSTM(H), between, LSTM(H)))
        with pytest.raises(ValueError, match=message):
            convert.from_onnx(onnx_models.write(net, frameworks.params(net), return_sequences=False))


# ---- nets that are refused

ZONEOUT = jlstm.Zoneout(LSTM(H), 0.1)
ONE_KIND = "net: expected LSTM, .*, Bidirectional of two of one kind, size and clip"
REFUSED: list[tuple[type[Exception], Any, str]] = [
    (ValueError, LSTM(H, activation="gelu"), "activation: expected one of 'tanh'.*'gelu'"),
    (ValueError, Stack((LSTM(H), Dense(2, activation="silu"))), "activation: expected one of .*'silu'"),
    (ValueError, Bidirectional(LSTM(H), LSTM(2)), ONE_KIND),
    (ValueError, Bidirectional(LSTM(H), PeepholeLSTM(H)), ONE_KIND),
    (ValueError, Bidirectional(clip(LSTM(H)), clip(LSTM(H), 0.4)), ONE_KIND),
    (ValueError, Bidirectional(clip(LSTM(H)), LSTM(H)), ONE_KIND),
    (ValueError, Stack((LSTM(H), Bidirectional(LSTM(H), merge="none"))), "net.1: expected"),
    (ValueError, jlstm.GRU(H), "net: expected LSTM, PeepholeLSTM, CoupledLSTM"),
    (ValueError, clip(jlstm.GRU(H)), "net: expected LSTM, .*, got ClipGates"),
    (ValueError, Bidirectional(Stack((LSTM(H),))), "net: expected"),
    (ValueError, Stack((LSTM(H), LSTM(H, param_dtype="float16"))), r"params: .* got \['float16', 'float32'\]"),
    (NotImplementedError, ZONEOUT, "net: expected no Zoneout, since the operator .*, got Zoneout"),
    (NotImplementedError, Stack((LSTM(H), DropConnect(ZONEOUT, 0.5))), "net.1: expected no Zoneout, .*, got Zoneout"),
    (NotImplementedError, LSTM(H, cell_clip=0.5), "net: expected no cell_clip, .* does not clip c, got LSTM"),
    (NotImplementedError, Bidirectional(LSTM(H), LSTM(H, cell_clip=0.5)), "net.1: expected no cell_clip, .*, got LSTM"),
    (
        NotImplementedError,
        clip(DropConnect(PeepholeLSTM(H), 0.5)),
        "net: expected no clip around a PeepholeLSTM, .* p c",
    ),
]


@pytest.mark.parametrize(("kind", "net", "message"), REFUSED, ids=range(len(REFUSED)))
def test_a_net_that_cannot_be_written(kind: type[Exception], net: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=f"^to_onnx: {message}") as error:
        convert.to_onnx(net, frameworks.params(net), tmp_path / "net.onnx")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_params_of_another_shape(tmp_path: Path) -> None:
    params = frameworks.params(LSTM(H))
    with pytest.raises(ValueError, match=r"to_onnx: params\.w_hh: expected"):
        convert.to_onnx(LSTM(H), params._replace(w_hh=params.w_hh[:2]), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    params = frameworks.params(LSTM(H))
    for call in (lambda: convert.from_onnx("x.onnx"), lambda: convert.to_onnx(LSTM(H), params, "x.onnx")):
        with pytest.raises(ImportError, match=r'onnx is not installed. Type pip install "jlstm\[onnx\]"\.'):
            call()
