"""A net and its parameters in one safetensors file: arrays as tensors, the rest as JSON in the metadata, key "jlstm".

    {"format": 1, "version": "0.1.0", "types": ["MyCell"], "net": ..., "params": ...}

    both    null · [..] a tuple · {"type": "LSTM", "fields": {..}} a dataclass or NamedTuple
    net     true, 3, 0.5, "tanh" · {"dtype": "float32"}
    params  "array" · {"list": [..]} · {"dict": {..}}

A tensor's name is its path through the parameters, as `0.w_ih`. `types` names the classes that are not jlstm's. No
pickle, and nothing that a file names is imported: a class comes from jlstm's table or from the caller of `load`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jax.core import Tracer

from jlstm import cells, checks, initializers, layers
from jlstm.types import Params

Path: TypeAlias = tuple[str, ...]
Classes: TypeAlias = dict[str, type]
Tensors: TypeAlias = dict[str, np.ndarray]

FORMAT = 1
_NAMES = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64"
_CODES = "BOOL U8 U16 U32 U64 I8 I16 I32 I64 F16 BF16 F32 F64"
_DTYPES = {name: jnp.dtype(name) for name in _NAMES.split()}
_DTYPE_OF_CODE = dict(zip(_CODES.split(), _DTYPES.values(), strict=True))


def _fields(cls: Any) -> tuple[str, ...] | None:
    """The names to make a dataclass or a NamedTuple from; None for anything else."""
    if isinstance(cls, type) and dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls) if field.init)
    return getattr(cls, "_fields", None) if isinstance(cls, type) and issubclass(cls, tuple) else None


_PUBLIC = [value for package in (cells, initializers, layers) for value in vars(package).values()]
_CLASSES = {cls.__name__: cls for cls in _PUBLIC if _fields(cls) is not None}


def save(path: str | os.PathLike[str], net: Any, params: Params) -> None:
    """Write `net` and `params` to one safetensors file at `path`, which any safetensors reader can open.

    net: a Cell or a Layer, a frozen dataclass whose fields are plain values, dtypes, tuples and such records; a class
    of your own too. params: NamedTuples, tuples, lists and dicts of arrays (jax's or NumPy's; bool, integers, float16,
    bfloat16, float32, float64); sharded arrays are gathered. The file appears whole or not at all, and replaces one
    that was there. Equal nets and params make equal bytes.

    Raises ValueError or TypeError, which name the field, for what cannot be written: a function that is in no table of
    jlstm's, another dtype, a tracer.

    >>> import jlstm, tempfile
    >>> cell = jlstm.LSTM(5)
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> jlstm.save(path, cell, cell.init(jax.random.key(0), 3))
    >>> loaded, params = jlstm.load(path)
    >>> loaded == cell, params.w_ih.shape
    (True, (3, 4, 5))
    """
    checks.net("save", net)
    classes: Classes = {}
    tensors: Tensors = {}
    trees = {"net": _describe(net, ("net",), classes), "params": _describe(params, ("params",), classes, tensors)}
    own = sorted(name for name, cls in classes.items() if _CLASSES.get(name) is not cls)
    text = json.dumps({"format": FORMAT, "version": _version(), "types": own, **trees})
    try:
        if _build(json.loads(text)["net"], ("net",), classes) != net:
            raise _wrong("net", "a record that equals one made from its fields", _show(net))
    except ValueError as error:
        raise ValueError(f"save: {error}") from error.__cause__
    _write(os.path.realpath(path), safetensors.numpy.save(tensors, metadata={"jlstm": text}))


def load(path: str | os.PathLike[str], *, types: Sequence[type] = ()) -> tuple[Any, Params]:
    """`(net, params)` as `save` wrote them: an equal net, and bitwise equal parameters as jax arrays.

    types: the classes of your own (cells, layers, initialisers, NamedTuples of parameters) that the file may name.
    Nothing in the file is executed: only these classes and jlstm's are made, from plain values.

    Raises FileNotFoundError, or ValueError in one line with the path, for a file that is cut short, damaged, not from
    `save`, or from a newer format; for a class that is not known; for 64-bit arrays without `jax_enable_x64`.
    """
    if not isinstance(types, tuple | list) or any(_fields(cls) is None for cls in types):
        raise checks.problem("load", "types", "a tuple of dataclasses and NamedTuples", _show(types), kind=TypeError)
    try:
        with open(path, "rb") as file:
            tensors, about = _parse(file.read())
        handed, own = {cls.__name__: cls for cls in types}, about["types"]
        if missing := [name for name in own if name not in handed]:
            names = ", ".join(own) + "," * (len(own) == 1)
            hint = f"Type load(path, types=({names})) with your own classes."
            raise _wrong("types", "classes that jlstm knows", ", ".join(missing), hint)
        classes = _CLASSES | {name: handed[name] for name in own}
        net = _build(about["net"], ("net",), classes)
        if not checks.is_net(net):
            raise _wrong("net", "a Cell or a Layer", _show(net))
        params = _build(about["params"], ("params",), classes, tensors)
        if tensors:
            raise _wrong("params", "no tensor besides its own", _show(sorted(tensors)))
    except IsADirectoryError:
        raise checks.problem("load", str(path), "a file", "a directory") from None
    except RecursionError:
        raise checks.problem("load", str(path), "a description", "one that is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"load: {path}: {error}") from error.__cause__
    return net, params


# ---- values and their JSON


def _describe(value: Any, path: Path, classes: Classes, tensors: Tensors | None = None) -> Any:
    """The JSON of a net (`tensors` is None) or of parameters; the classes and arrays met are added to the two dicts."""

    def each(items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        return {key: _describe(item, (*path, str(key)), classes, tensors) for key, item in items}

    where, cls = ".".join(path), type(value)
    if value is None:
        return None
    if cls is tuple:
        return list(each(enumerate(value)).values())
    if (names := _fields(cls)) is not None:
        if classes.setdefault(cls.__name__, cls) is not cls:
            raise checks.problem("save", where, "one class of each name", f"two of name {cls.__name__}")
        return {"type": cls.__name__, "fields": each((name, getattr(value, name)) for name in names)}
    if tensors is None:
        return _describe_plain(value, where)
    if cls is list:
        return {"list": list(each(enumerate(value)).values())}
    if cls is dict and all(type(key) is str for key in value):
        return {"dict": each(value.items())}
    name = ".".join(path[1:]) or "params"
    if name in tensors or name == "__metadata__":
        raise checks.problem("save", where, "a path of its own", f"a second {name!r}")
    tensors[name] = _to_numpy(value, where)
    return "array"


def _describe_plain(value: Any, where: str) -> Any:
    if type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.dtype) and value in _DTYPES.values():
        return {"dtype": value.name}
    hint = "A function has no name to save it by: make it a frozen dataclass with __call__." if callable(value) else ""
    expected = "a plain value (None, bool, int, float, str, np.dtype), a tuple or a dataclass"
    raise checks.problem("save", where, expected, _show(value), hint)


def _to_numpy(leaf: Any, where: str) -> np.ndarray:
    if isinstance(leaf, Tracer):
        hint = "Call save outside jit, grad, vmap and scan."
        raise checks.problem("save", where, "an array with values", "a tracer", hint, kind=TypeError)
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        expected = "an array, None, a tuple, a list, a dict with names, a NamedTuple or a dataclass"
        raise checks.problem("save", where, expected, _show(leaf), kind=TypeError)
    if leaf.dtype not in _DTYPES.values():
        raise checks.problem("save", where, "one of " + ", ".join(_DTYPES), leaf.dtype, kind=TypeError)
    # safetensors reads the buffer as it lies.
    return np.asarray(leaf, order="C")


def _build(node: Any, path: Path, classes: Classes, tensors: Tensors | None = None) -> Any:
    """What `_describe` described; arrays are taken out of `tensors`."""

    def each(items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        return {key: _build(item, (*path, str(key)), classes, tensors) for key, item in items}

    where = ".".join(path)
    match node:
        case None:
            return None
        case list():
            return tuple(each(enumerate(node)).values())
        case {"type": str(name), "fields": dict(fields), **rest} if not rest:
            if name not in classes:
                raise _wrong(where, "a class that jlstm knows", _show(name))
            fields = each(fields.items())
            try:
                return classes[name](**fields)
            except Exception as error:  # whatever the class's own checks raise
                raise ValueError(_one_line(f"{where}: {error}")) from error
        case bool() | int() | float() | str() if tensors is None:
            return node
        case {"dtype": str(name), **rest} if tensors is None and not rest and name in _DTYPES:
            return _DTYPES[name]
        case "array" if tensors is not None:
            return _to_jax(tensors.pop(".".join(path[1:]) or "params", None), where)
        case {"list": list(items), **rest} if tensors is not None and not rest:
            return list(each(enumerate(items)).values())
        case {"dict": dict(items), **rest} if tensors is not None and not rest:
            return each(items.items())
    raise _wrong(where, "a value of a net" if tensors is None else "a tree of arrays", _show(node))


def _to_jax(array: np.ndarray | None, where: str) -> jax.Array:
    if array is None:
        raise _wrong(where, "a tensor of this name", "none")
    result = jnp.array(array)
    if result.dtype != array.dtype:
        hint = 'Type jax.config.update("jax_enable_x64", True) first.'
        raise _wrong(where, "at most 32 bits without jax_enable_x64", array.dtype, hint)
    return result


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
        raise ValueError(f"expected a whole safetensors file. {_one_line(str(error))}.") from None
    # safetensors has checked the header: its length, that it is JSON, and that the tensors fill the rest of the file.
    end = 8 + int.from_bytes(content[:8], "little")
    text = _json(content[8:end].decode()).get("__metadata__", {}).get("jlstm")
    if text is None:
        raise ValueError("expected a file that jlstm.save wrote, got a safetensors file of another origin.")
    match about := _json(text):
        case {"format": int(number), "version": version} if number > FORMAT:
            raise _wrong("format", f"at most {FORMAT}", number, f"jlstm {_show(version)} wrote it: upgrade jlstm.")
        case {"format": 1, "version": str(), "types": list(own), "net": _, "params": _, **rest} if not rest:
            if not all(isinstance(name, str) and name.isidentifier() for name in own):
                raise _wrong("types", "a list of class names", _show(own))
        case _:
            raise _wrong("description", "format 1 with version, types, net and params", _show(about))
    return {name: _from_bytes(name, info) for name, info in found}, about


def _from_bytes(name: str, info: dict[str, Any]) -> np.ndarray:
    try:
        return np.frombuffer(info["data"], _DTYPE_OF_CODE[info["dtype"]]).reshape(info["shape"])
    except (KeyError, ValueError, OverflowError):  # another dtype of safetensors, or an empty array of 2**64 rows
        got = f"{info['dtype']} of shape {info['shape']}"
        raise _wrong(name, "an array of " + ", ".join(_DTYPE_OF_CODE), got) from None


def _json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"expected every key once, got {_show(sorted(key for key, _ in pairs))}.")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON as description. {_one_line(str(error))}.") from None


def _version() -> str:
    try:
        return importlib.metadata.version("jlstm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _wrong(where: str, expected: str, got: Any, hint: str = "") -> ValueError:
    """A message that `load` puts its own name and the path in front of."""
    return ValueError(f"{_one_line(where)}: expected {expected}, got {got}." + (f" {hint}" if hint else ""))


def _show(value: Any) -> str:
    return _one_line(repr(value))


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:157] + "..."
