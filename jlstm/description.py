"""A net and its parameters as plain JSON, and back: what `save` writes and `jax.export` keeps.

    both    null · [..] a tuple · {"type": "LSTM", "fields": {..}} a dataclass or NamedTuple
    net     true, 3, 0.5, "tanh" · {"dtype": "float32"}, in older files also for the dtypes of jlstm's own
    params  "array" · {"list": [..]} · {"dict": {..}}

Nothing that a description names is imported: a class comes from `CLASSES`, jlstm's own, or from the caller.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jlstm import cells, checks, initializers, layers
from jlstm.checks import one_line, show

Path: TypeAlias = tuple[str, ...]
Classes: TypeAlias = dict[str, type]
Tensors: TypeAlias = dict[str, np.ndarray]

_NAMES = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64"
DTYPES = {name: jnp.dtype(name) for name in _NAMES.split()}


def field_names(cls: Any) -> tuple[str, ...] | None:
    """The names to make a dataclass or a NamedTuple from; None for anything else."""
    if isinstance(cls, type) and dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls) if field.init)
    return getattr(cls, "_fields", None) if isinstance(cls, type) and issubclass(cls, tuple) else None


_PUBLIC = [value for package in (cells, initializers, layers) for value in vars(package).values()]
CLASSES = {cls.__name__: cls for cls in _PUBLIC if field_names(cls) is not None and cls is not cells.Check}

# ---- names in older files, and their present form


def _clip_state(cell: Any, limit: float, what: str = "state") -> Any:
    if what == "gates":
        return cells.ClipGates(cell, limit)
    if not hasattr(cell, "cell_clip"):
        raise checks.problem("ClipState", "cell", "a cell with a cell_clip, an LSTM", show(cell))
    return dataclasses.replace(cell, cell_clip=min(limit, cell.cell_clip or limit))


_KINDS = ("Peephole", "Coupled", "Projected", "LayerNorm", "Min", "Original")
FORMER: dict[str, Callable[..., Any]] = {"ClipState": _clip_state} | {f"{k}LSTMState": cells.LSTMState for k in _KINDS}


def describe(value: Any, path: Path, classes: Classes, tensors: Tensors | None = None) -> Any:
    """The JSON of a net (`tensors` is None) or of parameters; the classes and arrays met are added to the two dicts."""

    def each(items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        return {key: describe(item, (*path, str(key)), classes, tensors) for key, item in items}

    where, cls = ".".join(path), type(value)
    if value is None:
        return None
    if cls is tuple:
        return list(each(enumerate(value)).values())
    if (names := field_names(cls)) is not None:
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
    if isinstance(value, np.dtype) and value in DTYPES.values():
        return {"dtype": value.name}
    hint = "A function has no name to save it by: make it a frozen dataclass with __call__." if callable(value) else ""
    expected = "a plain value (None, bool, int, float, str, np.dtype), a tuple or a dataclass"
    raise checks.problem("save", where, expected, show(value), hint)


def _to_numpy(leaf: Any, where: str) -> np.ndarray:
    if isinstance(leaf, Tracer):
        hint = "Call save outside jit, grad, vmap and scan."
        raise checks.problem("save", where, "an array with values", "a tracer", hint, kind=TypeError)
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        expected = "an array, None, a tuple, a list, a dict with names, a NamedTuple or a dataclass"
        raise checks.problem("save", where, expected, show(leaf), kind=TypeError)
    if leaf.dtype not in DTYPES.values():
        raise checks.problem("save", where, "one of " + ", ".join(DTYPES), leaf.dtype, kind=TypeError)
    # safetensors reads the buffer as it lies.
    return np.asarray(leaf, order="C")


def build(node: Any, path: Path, classes: Classes, tensors: Tensors | None = None) -> Any:
    """The inverse of `describe`; arrays are taken out of `tensors`."""

    def each(items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        return {key: build(item, (*path, str(key)), classes, tensors) for key, item in items}

    where = ".".join(path)
    match node:
        case None:
            return None
        case list():
            return tuple(each(enumerate(node)).values())
        case {"type": str(name), "fields": dict(fields), **rest} if not rest:
            make = classes.get(name) or FORMER.get(name)
            if make is None:
                raise wrong(where, "a class that jlstm knows", show(name))
            fields = each(fields.items())
            try:
                return make(**fields)
            except Exception as error:  # whatever the class's own checks raise
                raise ValueError(one_line(f"{where}: {error}")) from error
        case bool() | int() | float() | str() if tensors is None:
            return node
        case {"dtype": str(name), **rest} if tensors is None and not rest and name in DTYPES:
            return DTYPES[name]
        case "array" if tensors is not None:
            return to_jax(tensors.pop(".".join(path[1:]) or "params", None), where)
        case {"list": list(items), **rest} if tensors is not None and not rest:
            return list(each(enumerate(items)).values())
        case {"dict": dict(items), **rest} if tensors is not None and not rest:
            return each(items.items())
    raise wrong(where, "a value of a net" if tensors is None else "a tree of arrays", show(node))


def to_jax(array: np.ndarray | None, where: str) -> jax.Array:
    """The array as jax's, in its own dtype."""
    if array is None:
        raise wrong(where, "a tensor of this name", "none")
    result = jnp.array(array)
    if result.dtype != array.dtype:
        hint = 'Type jax.config.update("jax_enable_x64", True) first.'
        raise wrong(where, "at most 32 bits without jax_enable_x64", array.dtype, hint)
    return result


def wrong(where: str, expected: str, got: Any, hint: str = "") -> ValueError:
    """A message that `load` puts its own name and the path in front of."""
    return ValueError(f"{one_line(where)}: expected {expected}, got {got}." + (f" {hint}" if hint else ""))


# ---- jax.export: its files name a tree's classes, and know only those that were registered


def _register_for_export() -> None:
    def to_bytes(net: Any) -> bytes:
        return json.dumps(describe(net, ("net",), {})).encode()

    def from_bytes(text: bytes) -> Any:
        return build(json.loads(text), ("net",), CLASSES)

    for name, cls in CLASSES.items():
        if issubclass(cls, tuple):
            jax.export.register_namedtuple_serialization(cls, serialized_name=f"jlstm.{name}")
        else:  # a static record: no children, and itself the auxiliary data
            jax.export.register_pytree_node_serialization(
                cls,
                serialized_name=f"jlstm.{name}",
                serialize_auxdata=to_bytes,
                deserialize_auxdata=from_bytes,
                from_children=lambda aux_data, children: aux_data,
            )


_register_for_export()
