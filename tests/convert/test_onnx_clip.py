"""ONNX's `clip` and what else goes around a cell: both ways, run by onnxruntime, and what is refused.

Gradients have no live oracle here: the ONNX project's evaluator leaves clip out. Those of `ClipGates` stand in the
contract, against central differences.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frameworks
import jax
import numpy as np
import onnx_models
import pytest
from small import bitwise

import jlstm
from jlstm import (
    LSTM,
    Bidirectional,
    ClipGates,
    Dense,
    DropConnect,
    Residual,
    Stack,
    VariationalDropout,
    Zoneout,
    convert,
)

B, T, D, H = 4, 6, 3, 4
LENGTHS = np.array([0, 3, 6, 100], np.int32)
close = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    frameworks.need("onnx", "onnxruntime")
    with frameworks.settings():
        yield


def clip(cell: Any, limit: float = 0.3) -> ClipGates:
    return ClipGates(cell, limit)


ODD = LSTM(H, activation="softsign", gate_activation="hard_sigmoid", use_bias=False, learn_initial_state=True)
_STACK = Stack((Bidirectional(clip(jlstm.CoupledLSTM(H), 1.5)), clip(LSTM(2), 0.1), LSTM(H)))
# name -> a net, and what comes back of it, without what does nothing without a key
NETS: dict[str, tuple[Any, Any]] = {
    "one": (clip(LSTM(H)), clip(LSTM(H))),
    "stack of two ways": (
        Stack((Bidirectional(clip(LSTM(H)), clip(ODD)), clip(jlstm.CoupledLSTM(5), 0.1), LSTM(2))),
        None,  # a node has a bias, and an initial state, for both directions or for none
    ),
    "coupled": (_STACK, _STACK),
    "the least of all limits": (clip(DropConnect(clip(LSTM(H), 0.2), 0.5), 0.9), clip(LSTM(H), 0.2)),
    "noise alone": (
        Stack((DropConnect(jlstm.PeepholeLSTM(H), 0.5), Bidirectional(VariationalDropout(LSTM(H), 0.1, 0.2)))),
        Stack((jlstm.PeepholeLSTM(H), Bidirectional(LSTM(H)))),
    ),
    "layers around": (Stack((clip(LSTM(H)), Residual(VariationalDropout(clip(LSTM(H)), 0.5)), Dense(2))), None),
}


@pytest.mark.parametrize("name", NETS)
def test_written_nets_are_run_by_onnxruntime_and_come_back(name: str, tmp_path: Path) -> None:
    """Ragged, from a state of ours; weights so large that most of z is clipped."""
    net, want = NETS[name]
    params = jax.tree.map(lambda a: 3 * a, frameworks.params(net))
    x = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
    start = frameworks.random(jax.eval_shape(lambda p: net.initial_state(p, (B,)), params), 1)
    convert.to_onnx(net, params, tmp_path / "net.onnx", return_sequences=True)
    import onnx

    run = onnx_models.session(onnx.load(tmp_path / "net.onnx"))
    got = run(inputs=x, lengths=LENGTHS, **convert.state_to_onnx(start))
    state, y = jlstm.unroll(net, params, x, state=start, lengths=LENGTHS, return_sequences=True)
    np.testing.assert_allclose(got["outputs"], y, **close)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), convert.state_from_onnx(got, net), state)
    if want is not None:
        back, its = convert.from_onnx(tmp_path / "net.onnx")
        assert back == want
        bitwise(its, params)


def refused(kind: type, message: str, net: Any, tmp_path: Path) -> None:
    with pytest.raises(kind, match=f"^to_onnx: {message}") as error:
        convert.to_onnx(net, frameworks.params(net), tmp_path / "net.onnx")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Zoneout(LSTM(H), 0.1), "net: expected no Zoneout, for the operator has nothing like its mean .*, got Zoneout"),
        (Stack((LSTM(H), DropConnect(Zoneout(LSTM(H), 0.1), 0.5))), "net.1: expected no Zoneout, .*, got Zoneout"),
        (LSTM(H, cell_clip=0.5), "net: expected no cell_clip, for the operator does not clip c, got LSTM"),
        (Bidirectional(LSTM(H), LSTM(H, cell_clip=0.5)), "net.1: expected no cell_clip, for .*, got LSTM"),
        (clip(DropConnect(jlstm.PeepholeLSTM(H), 0.5)), "net: expected no clip around a PeepholeLSTM, for .* p c, too"),
    ],
)
def test_what_the_operator_does_otherwise(net: Any, message: str, tmp_path: Path) -> None:
    refused(NotImplementedError, message, net, tmp_path)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Bidirectional(clip(LSTM(H)), clip(LSTM(H), 0.4)), "net: expected .* of two of one kind, size and clip"),
        (Bidirectional(clip(LSTM(H)), LSTM(H)), "net: expected .* of two of one kind, size and clip"),
        (clip(jlstm.GRU(H)), "net: expected LSTM, .*, got ClipGates"),
    ],
)
def test_what_the_operator_cannot_say(net: Any, message: str, tmp_path: Path) -> None:
    refused(ValueError, message, net, tmp_path)


def test_a_clip_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"^from_onnx: encoder/lstm\.clip: expected a number > 0, got 0\.0\.$"):
        convert.from_onnx(onnx_models.node(onnx_models.arrays(), clip=0.0))
