"""A net and its parameters in one safetensors file: arrays as tensors, the rest as JSON in the metadata, key "jlstm".

    {"format": 1, "version": "0.1.0", "types": ["MyCell"], "net": ..., "params": ...}

net and params are `jlstm.description`s. A tensor's name is its path through the parameters, as `0.w_ih`. `types` names
the classes that are not jlstm's. No pickle, and nothing that a file names is imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jlstm import checks
from jlstm.description import CLASSES, DTYPES, Classes, Tensors, build, describe, field_names, one_line, show, wrong
from jlstm.types import Cell, Layer, Params
from jlstm.version import __version__

FORMAT = 1
_CODES = "BOOL U8 U16 U32 U64 I8 I16 I32 I64 F16 BF16 F32 F64"
_DTYPE_OF_CODE = dict(zip(_CODES.split(), DTYPES.values(), strict=True))


def save(path: str | os.PathLike[str], net: Any, params: Params) -> None:
    """Write a net and its parameters to one safetensors file, which any safetensors reader can open.

    - `path`: the file. It appears whole or not at all, and replaces a file that was there.
    - `net`: a `Cell` or a `Layer`, a frozen dataclass whose fields are plain values, dtypes, tuples and such records;
      also of a class of your own.
    - `params`: NamedTuples, tuples, lists and dicts of arrays (jax's or NumPy's; bool, integers, float16, bfloat16,
      float32, float64). Sharded arrays are gathered.

    Equal nets and params make equal bytes.

    Raises ValueError or TypeError, which name the field, for a value that cannot be written: a function that is in no
    table of jlstm's, another dtype, a tracer.

    >>> import jax, jlstm, tempfile
    >>> cell = jlstm.LSTM(5)
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> jlstm.save(path, cell, cell.init(jax.random.key(0), 3))
    >>> loaded, params = jlstm.load(path)
    >>> loaded == cell, params.w_ih.shape
    (True, (3, 4, 5))
    """
    checks.net("save", "net", net)
    classes: Classes = {}
    tensors: Tensors = {}
    trees = {"net": describe(net, ("net",), classes), "params": describe(params, ("params",), classes, tensors)}
    own = sorted(name for name, cls in classes.items() if CLASSES.get(name) is not cls)
    text = json.dumps({"format": FORMAT, "version": __version__, "types": own, **trees})
    try:
        if build(json.loads(text)["net"], ("net",), classes) != net:
            raise wrong("net", "a record that equals one made from its fields", show(net))
    except ValueError as error:
        raise ValueError(f"save: {error}") from error.__cause__
    _write(os.path.realpath(path), safetensors.numpy.save(tensors, metadata={"jlstm": text}))


def load(path: str | os.PathLike[str], *, types: Sequence[type] = ()) -> tuple[Any, Params]:
    """Read `(net, params)` as `save` wrote them: an equal net, and bitwise equal parameters as jax arrays.

    - `path`: the file.
    - `types`: the classes of your own (cells, layers, initialisers, NamedTuples of parameters) that the file may name.

    Nothing in the file is executed: only these classes and jlstm's are made, from plain values.

    Raises FileNotFoundError, or ValueError in one line with the path, for a file that is cut short, damaged, not from
    `save`, or from a newer format; for a class that is not known; for 64-bit arrays without `jax_enable_x64`.
    """
    if not isinstance(types, tuple | list) or any(field_names(cls) is None for cls in types):
        raise checks.problem("load", "types", "a tuple of dataclasses and NamedTuples", show(types), kind=TypeError)
    try:
        with open(path, "rb") as file:
            tensors, about = _parse(file.read())
        handed, own = {cls.__name__: cls for cls in types}, about["types"]
        if missing := [name for name in own if name not in handed]:
            names = ", ".join(own) + "," * (len(own) == 1)
            hint = f"Type load(path, types=({names})) with your own classes."
            raise wrong("types", "classes that jlstm knows", ", ".join(missing), hint)
        classes = CLASSES | {name: handed[name] for name in own}
        net = build(about["net"], ("net",), classes)
        if not isinstance(net, Cell | Layer):
            raise wrong("net", "a Cell or a Layer", show(net))
        params = build(about["params"], ("params",), classes, tensors)
        if tensors:
            raise wrong("params", "no tensor besides its own", show(sorted(tensors)))
    except IsADirectoryError:
        raise checks.problem("load", str(path), "a file", "a directory") from None
    except RecursionError:
        raise checks.problem("load", str(path), "a description", "one that is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"load: {path}: {error}") from error.__cause__
    return net, params


# ---- the file


def _write(path: str, content: bytes) -> None:
    """Whole or not at all: a file beside it, flushed to the disk, takes its name in one step."""
    beside = os.path.join(os.path.dirname(path), f".jlstm-{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def _parse(content: bytes) -> tuple[Tensors, dict[str, Any]]:
    """The tensors by name, and the description."""
    try:
        found = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"expected a whole safetensors file. {one_line(str(error))}.") from None
    # safetensors has checked the header: its length, that it is JSON, and that the tensors fill the rest of the file.
    end = 8 + int.from_bytes(content[:8], "little")
    text = _json(content[8:end].decode()).get("__metadata__", {}).get("jlstm")
    if text is None:
        raise ValueError("expected a file that jlstm.save wrote, got a safetensors file of another origin.")
    match about := _json(text):
        case {"format": int(number), "version": version} if number > FORMAT:
            raise wrong("format", f"at most {FORMAT}", number, f"jlstm {show(version)} wrote it: upgrade jlstm.")
        case {"format": 1, "version": str(), "types": list(own), "net": _, "params": _, **rest} if not rest:
            if not all(isinstance(name, str) and name.isidentifier() for name in own):
                raise wrong("types", "a list of class names", show(own))
        case _:
            raise wrong("description", "format 1 with version, types, net and params", show(about))
    return {name: _from_bytes(name, info) for name, info in found}, about


def _from_bytes(name: str, info: dict[str, Any]) -> np.ndarray:
    try:
        return np.frombuffer(info["data"], _DTYPE_OF_CODE[info["dtype"]]).reshape(info["shape"])
    except (KeyError, ValueError, OverflowError):  # another dtype of safetensors, or an empty array of 2**64 rows
        got = f"{info['dtype']} of shape {info['shape']}"
        raise wrong(name, "an array of " + ", ".join(_DTYPE_OF_CODE), got) from None


def _json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"expected every key once, got {show(sorted(key for key, _ in pairs))}.")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON as description. {one_line(str(error))}.") from None
