"""`python -m jlstm.convert`: every kind of file, told by its contents."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import frameworks
import jax
import numpy as np
import pytest
import safetensors.numpy
from small import bitwise

import jlstm
from jlstm import LSTM, Bidirectional, convert
from jlstm.convert.__main__ import main

NET = LSTM(frameworks.H)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parameters in ours.safetensors, in the directory that the test runs in."""
    monkeypatch.chdir(tmp_path)
    params = jax.tree.map(jax.numpy.asarray, frameworks.params(NET))
    jlstm.save("ours.safetensors", NET, params)
    return params


def run(*arguments: str) -> None:
    assert main(list(arguments)) == 0


SAFE = [f"net.safetensors --to {framework}" for framework in ("torch", "flax", "equinox", "haiku")]


@pytest.mark.parametrize("out", ["net.onnx", "net.pt", "net.safetensors", *SAFE])
def test_there_and_back(saved: Any, out: str) -> None:
    there, *options = out.split()
    frameworks.need({"net.onnx": "onnx", "net.pt": "torch"}.get(there, "jlstm"))
    run("ours.safetensors", there, *options)
    run(there, "back.safetensors", *(["--prefix", "lstm"] if "haiku" in options else []))
    net, params = jlstm.load("back.safetensors")
    assert net == NET
    if "haiku" in options:
        np.testing.assert_allclose(params.b, saved.b, atol=1e-7)
        params, saved = params._replace(b=None), saved._replace(b=None)
    bitwise(params, saved)


def test_torch_checkpoints(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Nested, of bfloat16, of the old format; and one with code in it is refused."""
    frameworks.need("torch")
    import torch

    lstm = torch.nn.LSTM(3, 4, bidirectional=True).bfloat16()
    for old in (False, True):
        model = {"epoch": 3, "model": {f"encoder.{key}": a for key, a in lstm.state_dict().items()}}
        torch.save(model, "in.pt", _use_new_zipfile_serialization=not old)
        run("in.pt", "out.safetensors", "--prefix", "model.encoder")
        net, params = jlstm.load("out.safetensors")
        assert net == Bidirectional(LSTM(4, param_dtype="bfloat16"))
        bitwise(params, convert.from_torch(lstm.state_dict())[1])
    run("out.safetensors", "again.pt")
    again = torch.load("again.pt", weights_only=True)
    assert all(torch.equal(again[key], a) for key, a in lstm.state_dict().items() if "weight" in key)
    torch.save(lstm, "code.pt")
    assert main(["code.pt", "--describe"]) == 2
    assert "weights_only=True" in one_line(capsys)


def test_arrays_of_keras_with_options(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = {"kernel": np.ones((3, 16), "float32"), "recurrent_kernel": np.ones((4, 16), "float32")}
    ways = "forward", "backward"
    np.savez("in.npz", **{f"m/two/{way}_lstm/lstm_cell/{key}": a for way in ways for key, a in arrays.items()})
    options = ["--option", "merge_mode=None", "--option", "activation=relu", "--prefix", "m/two", "--describe"]
    run("in.npz", *options)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == str(Bidirectional(LSTM(4, use_bias=False, activation="relu"), merge="none"))
    assert shown[1:3] == ["params.forward.w_ih  float32  [3, 4, 4]", "params.forward.w_hh  float32  [4, 4, 4]"]
    assert len(shown) == 5


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def test_a_wrong_call_is_one_line(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.pt").write_text("not a checkpoint")
    safetensors.numpy.save_file({"a.weight": np.ones(3, "float32")}, "other.safetensors")
    weights = {f"encoder.{key}": a for key, a in convert.to_torch(NET, saved).items()}
    safetensors.numpy.save_file(weights, "torch.safetensors")
    cases = {
        "missing.pt out.safetensors": "No such file",
        "text.pt out.safetensors": "text.pt: expected a file of jlstm.save, a torch checkpoint",
        "other.safetensors out.safetensors": r"names of torch, .*got \['a.weight'\]",
        "torch.safetensors out.safetensors": "from_torch: prefix: expected one of 'encoder', got ''",
        "torch.safetensors --describe --option merge=sum": r"merge: expected one of \['prefix', 'dropout'\]",
        "ours.safetensors --describe --prefix a": "prefix: expected one of .* for jlstm",
        "ours.safetensors out.npz": r"OUT: expected a name for jlstm that ends in .safetensors, got 'out.npz'",
    }
    for arguments, message in cases.items():
        assert main(arguments.split()) == 2
        assert re.search(message, text := one_line(capsys)), text
    with pytest.raises(SystemExit):
        main(["ours.safetensors"])
    assert "OUT or --describe is required" in capsys.readouterr().err
    assert not Path("out.safetensors").exists()


def test_a_file_that_is_no_onnx_model(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    frameworks.need("onnx")
    Path("text.onnx").write_text("not a model")
    assert main(["text.onnx", "--describe"]) == 2
    assert "text.onnx: expected an ONNX model, got another file" in one_line(capsys)


def test_as_a_command(saved: Any) -> None:
    command = [sys.executable, "-m", "jlstm.convert", "ours.safetensors", "--describe"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(frameworks.ROOT)})
    assert done.stdout.splitlines()[0] == str(NET)
