"""`load` on what is not a file of `save`'s: one clear line that names the path, and nothing executed."""

import json
import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from messages import raised

import jlstm

LSTM = {"type": "LSTM", "fields": {"hidden_size": 1}}
PARAMS = {"type": "LSTMParams", "fields": {"w_ih": "array", "w_hh": "array", "b": None}}
TENSORS = {"w_ih": np.ones((2, 4, 1), np.float32), "w_hh": np.ones((1, 4, 1), np.float32)}
GOOD = {"format": 1, "version": "0.1.0", "types": [], "net": LSTM, "params": PARAMS}


def container(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def described(about: Any, tensors: dict[str, np.ndarray] = TENSORS) -> bytes:
    """A sound safetensors file with any description."""
    text = about if isinstance(about, str) else json.dumps(about)
    return safetensors.numpy.save(tensors, metadata={"jlstm": text})


def but(**changes: Any) -> bytes:
    return described(GOOD | changes)


def tensor(code: str, shape: list[int], data: bytes) -> bytes:
    """A file whose parameters are one tensor with any dtype and shape."""
    info = {"dtype": code, "shape": shape, "data_offsets": [0, len(data)]}
    return container({"__metadata__": {"jlstm": json.dumps(GOOD | {"params": "array"})}, "params": info}, data)


def record(name: Any, **fields: Any) -> dict[str, Any]:
    return {"type": name, "fields": fields}


class Evil:
    """Unpickled, it would make the file `executed`."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (os.mkdir, ("executed",))


TWICE = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
DEEP = '{"format":1,"version":"","types":[],"params":null,"net":' + "[" * 100_000 + "]" * 100_000 + "}"

# name -> (the file, what the message says)
HOSTILE: dict[str, tuple[bytes, str]] = {
    # not safetensors
    "empty": (b"", "expected a whole safetensors file"),
    "short": (b"\x00\x01", "expected a whole safetensors file"),
    "text": (b"hello world, hello world", "expected a whole safetensors file"),
    "pickle": (pickle.dumps(Evil()), "expected a whole safetensors file"),
    "zip": (b"PK\x03\x04" * 40, "expected a whole safetensors file"),
    "huge header": (struct.pack("<Q", 2**63) + b"{}", "expected a whole safetensors file"),
    "header beyond the end": (struct.pack("<Q", 1000) + b"{}", "expected a whole safetensors file"),
    "header no JSON": (container(b"{" * 50), "expected a whole safetensors file"),
    "header a list": (container([]), "expected a whole safetensors file"),
    "header deep": (container(b"[" * 100_000), "expected a whole safetensors file"),
    "header not UTF-8": (container(b"\xff\xfe\xfd"), "expected a whole safetensors file"),
    "cut short": (but()[:-1], "expected a whole safetensors file"),
    "too long": (but() + b"\0", "expected a whole safetensors file"),
    "dtype unknown": (tensor("F99", [1], b"0000"), "expected a whole safetensors file"),
    "shape too large": (tensor("F32", [2**63, 4], b"0000"), "expected a whole safetensors file"),
    "shape of no file": (tensor("F32", [2], b"0000"), "expected a whole safetensors file"),
    # safetensors, but not what save writes
    "foreign": (safetensors.numpy.save(TENSORS), "expected a file that jlstm.save wrote"),
    "foreign metadata": (safetensors.numpy.save(TENSORS, {"format": "pt"}), "expected a file that jlstm.save wrote"),
    "tensor twice": (container(TWICE, b"0"), "expected every key once"),
    "dtype not ours": (tensor("F8_E5M2", [1], b"0"), "got F8_E5M2 of shape [1]"),
    "empty and huge": (tensor("F32", [2**64 - 1, 0], b""), "params: expected an array"),
    # the description
    "no JSON": (described("]["), "expected JSON"),
    "not an object": (described("3"), "description: expected format 1"),
    "nothing": (described("{}"), "description: expected format 1"),
    "key twice": (described('{"format": 1, "format": 1}'), "expected every key once"),
    "long int": (described('{"format": ' + "9" * 5000 + "}"), "limit"),
    "deep": (described(DEEP), "nested too deep"),
    "more keys": (but(more=1), "description: expected format 1"),
    "format missing": (but(format=None), "description: expected format 1"),
    "format older": (but(format=0), "description: expected format 1"),
    "format newer": (but(format=2, version="9.0"), "format: expected at most 1, got 2. jlstm '9.0' wrote it: upgrade"),
    "format newer, other keys": (described({"format": 7, "version": "\n"}), "upgrade jlstm"),
    "types no list": (but(types="os"), "description: expected format 1"),
    "types no names": (but(types=["os.system"]), "types: expected a list of class names"),
    "types not handed": (but(types=["MyCell"]), "load(path, types=(MyCell,))"),
    # the net
    "net of no type": (but(net=None), "net: expected a Cell or a Layer, got None"),
    "net an initialiser": (but(net=record("Normal")), "net: expected a Cell or a Layer, got Normal"),
    "net parameters": (but(net=record("DenseParams", w=1, b=1)), "net: expected a Cell or a Layer"),
    "net an array": (but(net=record("LSTM", hidden_size={"array": "w"})), "net.hidden_size: expected a value of a net"),
    "os.system": (but(net=record("os.system", command="mkdir executed")), "net: expected a class that jlstm knows"),
    "builtin": (but(net=record("eval", source="os.mkdir('executed')")), "net: expected a class that jlstm knows"),
    "module of jlstm": (but(net=record("unroll")), "net: expected a class that jlstm knows"),
    "type a number": (but(net=record(3)), "net: expected a value of a net"),
    "type and more": (but(net=LSTM | {"module": "os"}), "net: expected a value of a net"),
    "fields a list": (but(net={"type": "LSTM", "fields": [1]}), "net: expected a value of a net"),
    "field unknown": (but(net=record("LSTM", hidden_size=1, peephole=True)), "peephole"),
    "field missing": (but(net=record("LSTM")), "hidden_size"),
    "field self": (but(net=record("LSTM", hidden_size=1, self=1)), "net: "),
    "field wrong": (but(net=record("LSTM", hidden_size="x")), "hidden_size: expected a positive int"),
    "field inside": (but(net=record("Stack", layers=[LSTM, record("Dense", features=-1)])), "net.layers.1: Dense"),
    "dtype object": (but(net=record("LSTM", hidden_size=1, param_dtype={"dtype": "O"})), "net.param_dtype: expected"),
    "activation": (but(net=record("LSTM", hidden_size=1, activation="os.system")), "activation: expected one of"),
    "name of lines": (but(net=record("a\nb" * 999)), "net: expected a class that jlstm knows"),
    # the parameters
    "tensor missing": (described(GOOD, {"w_ih": TENSORS["w_ih"]}), "params.w_hh: expected a tensor of this name"),
    "tensor too many": (described(GOOD, TENSORS | {"x\ny": np.ones(1)}), "params: expected no tensor besides its own"),
    "tensor used twice": (but(params={"dict": {"a.b": "array", "a": {"dict": {"b": "array"}}}}), "expected a tensor"),
    "params a number": (but(params=3), "params: expected a tree of arrays"),
    "params a name": (but(params="w_ih"), "params: expected a tree of arrays"),
    "params unknown": (but(params={"set": []}), "params: expected a tree of arrays"),
    "params class": (but(params=record("os.system", command="mkdir executed")), "params: expected a class that jlstm"),
    "params fields": (but(params=record("LSTMParams", w_ih="array")), "params: "),
    "params path of lines": (but(params={"dict": {"a\n" * 999: 3}}), "params.a a a"),
}


def refused(path: Path, *words: str) -> None:
    """Check that `load` refuses a file in one line, which begins with its path and holds the words."""
    message = raised(ValueError, lambda: jlstm.load(path))
    assert message.startswith(f"load: {path}: ") and all(word in message for word in words), message


@pytest.fixture(autouse=True)
def nothing_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail if a hostile file ran code: that would leave the file `executed` in the working folder."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(name: str, tmp_path: Path) -> None:
    content, words = HOSTILE[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refused(path, words)


def test_the_table_begins_with_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(but())
    net, params = jlstm.load(path)
    assert net == jlstm.LSTM(1)
    np.testing.assert_array_equal(params.w_ih, TENSORS["w_ih"])


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        jlstm.load(tmp_path / "missing")
    refused(tmp_path, "expected a file, got a directory")


def test_64_bits_need_x64(tmp_path: Path) -> None:
    jlstm.save(tmp_path / "m", jlstm.LSTM(1), {"a": np.zeros(2)})
    refused(tmp_path / "m", "params.a: ", "float64", "jax_enable_x64")


def test_every_cut_and_many_flipped_bits(tmp_path: Path) -> None:
    """A file that ends anywhere is an error; one with a flipped bit is an error or, where that hit a number, loads."""
    path = tmp_path / "m"
    jlstm.save(path, jlstm.Stack((jlstm.LSTM(1),)), (TENSORS,))
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        refused(path)
    rng, loaded = np.random.default_rng(0), 0
    for position, bit in zip(rng.integers(0, len(content), 400), rng.integers(0, 8, 400), strict=True):
        flipped = bytearray(content)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            jlstm.load(path)
            loaded += 1
        except ValueError as error:
            assert str(error).startswith(f"load: {path}: ") and "\n" not in str(error)
    assert 0 < loaded < 400
