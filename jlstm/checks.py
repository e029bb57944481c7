"""Validation of values: each error is one line that names the argument, what was expected and what came."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jlstm.types import Cell, Layer, Shape

Check = Callable[[str, str, Any], Any]
INITIALIZER = "a function (key, shape, dtype) -> array"
FLOAT = "a floating dtype of at least 16 bits"
MAX = sys.float_info.max


def problem(where: str, name: str, expected: str, got: Any, hint: str = "", kind: type = ValueError) -> Exception:
    """The one form of all messages: `where: name: expected ..., got .... hint`."""
    return kind(f"{where}: {name}: expected {expected}, got {got}." + (f" {hint}" if hint else ""))


def show(value: Any) -> str:
    """A value on one line; of an array its dtype and shape, and whether it is traced."""
    if isinstance(value, jax.Array | np.ndarray):
        traced = isinstance(value, Tracer)
        return f"{'a traced' if traced else 'an array'} {value.dtype}[{', '.join(map(str, value.shape))}]"
    return f"the class {value.__name__}" if isinstance(value, type) else one_line(repr(value))


def one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:157] + "..."


# ---- single values: fields of records and static options


def size(where: str, name: str, value: Any, *, at_least: int = 1) -> int:
    """An integer of at least `at_least`, as an `int`."""
    number = None
    with contextlib.suppress(TypeError):  # of what is no integer, and of a tracer
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    if number is None or number < at_least:
        expected = "a positive int" if at_least == 1 else f"an int of at least {at_least}"
        raise problem(where, name, expected, show(value), kind=TypeError if number is None else ValueError)
    return number


def optional(check: Check) -> Check:
    """The check of `X | None`, made of the check of X."""
    return lambda where, name, value: None if value is None else check(where, name, value)


def boolean(where: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise problem(where, name, "True or False", show(value), kind=TypeError)
    return bool(value)


def number(
    where: str, name: str, value: Any, *, at_least: float = -MAX, below: float = math.inf, expected: str = ""
) -> float:
    """A finite real number, as a `float`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise problem(where, name, "a number", show(value), kind=TypeError)
    result = math.inf
    with contextlib.suppress(OverflowError):
        result = float(value)
    if not at_least <= result < below:
        bound = f" >= {at_least}" if at_least > -MAX else ""
        raise problem(where, name, expected or f"a finite number{bound}", show(value))
    return result


positive = functools.partial(number, at_least=math.ulp(0.0), expected="a number above 0")
rate = functools.partial(number, at_least=0.0, below=1.0, expected="a rate in [0, 1)")


def function(where: str, name: str, value: Any, expected: str = INITIALIZER) -> Callable[..., Any]:
    if not callable(value) or isinstance(value, type):
        hint = f"Type {value.__name__}(...)." if isinstance(value, type) else ""
        raise problem(where, name, expected, show(value), hint, kind=TypeError)
    return hashable(where, name, value)


def hashable(where: str, name: str, value: Any) -> Any:
    """Check that a value can be hashed: nets are compared by value, to know what is compiled already."""
    hint = "Its fields are plain values and tuples; lists and arrays are not."
    try:
        hash(value)
    except TypeError as error:
        raise problem(where, name, "a hashable value", f"{show(value)}: {error}", hint, kind=TypeError) from None
    return value


def choice(where: str, name: str, value: Any, names: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in names:
        kind = ValueError if isinstance(value, str) else TypeError
        raise problem(where, name, "one of " + ", ".join(map(repr, names)), show(value), kind=kind)
    return value


def float_dtype(where: str, name: str, value: Any) -> np.dtype:
    """A floating dtype, as an `np.dtype`: `jnp.float32` and `np.dtype("float32")` are equal but hash differently."""
    dtype = None
    with contextlib.suppress(TypeError):
        dtype = None if value is None else jnp.dtype(value)
    if dtype is None or not is_float(dtype):
        raise problem(where, name, FLOAT, show(value) if dtype is None else dtype, kind=TypeError)
    return dtype


def is_float(dtype: Any) -> bool:
    """Narrower floats than these have no arithmetic of their own in JAX, and promote to nothing."""
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize > 1


def batch_shape(where: str, value: Any, *, name: str = "batch_shape") -> Shape:
    """A tuple of ints: all axes before H."""
    if not isinstance(value, tuple | list):
        raise problem(where, name, "a tuple of ints such as (32,)", show(value), kind=TypeError)
    return tuple(axis_size(where, name, axis) for axis in value)


def axis_size(where: str, name: str, value: Any) -> int:
    """The size of an axis, 0 included; a symbolic one of `jax.export` as it is."""
    return value if jax.export.is_symbolic_dim(value) else size(where, name, value, at_least=0)  # type: ignore[return-value]


# ---- arrays


def is_array(value: Any) -> bool:
    """Of numbers, bools or keys. What a masked array hides would be taken for valid."""
    if isinstance(value, jax.Array):
        return True
    if not isinstance(value, np.ndarray | np.generic) or isinstance(value, np.ma.MaskedArray):
        return False
    kind, size = value.dtype.kind, value.dtype.itemsize
    if not value.dtype.isnative or size > (16 if kind == "c" else 8):
        return False  # JAX reads swapped bytes as they lie if it has a program for the shapes, and has no long double
    return kind in "biufc" or jnp.issubdtype(value.dtype, np.number)


def kind_of(value: Any) -> str:
    """The type, for what is no array; what it holds could be long."""
    shown = isinstance(value, jax.Array | type) or type(value) is np.ndarray
    swapped = isinstance(value, np.ndarray | np.generic) and not value.dtype.isnative
    return (show(value) if shown else type(value).__name__) + " with swapped bytes" * swapped


def array(where: str, name: str, value: Any) -> jax.Array:
    if not is_array(value):
        raise problem(where, name, "an array", kind_of(value), kind=TypeError)
    return jnp.asarray(value)


def key(where: str, value: Any) -> None:
    """One PRNG key: `jax.random.key(0)`, or the raw `jax.random.PRNGKey(0)`."""
    hint, dtype = "Type jax.random.key(0).", value.dtype if is_array(value) else None
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and dtype != jnp.uint32:
        raise problem(where, "key", "a PRNG key", kind_of(value), hint, kind=TypeError)
    if value.shape != (() if typed else jax.eval_shape(jax.random.PRNGKey, 0).shape):
        raise problem(where, "key", "one PRNG key", show(value), hint)


def drawn(where: str, name: str, value: Any, shape: Shape, dtype: Any) -> jax.Array:
    """Check the result of an initialiser."""
    alike = is_array(value) and value.dtype == dtype
    if not alike or value.shape != shape:
        expected, kind = f"{jnp.dtype(dtype)}[{', '.join(map(str, shape))}]", ValueError if alike else TypeError
        raise problem(where, name, expected, show(value), "It is called as (key, shape, dtype).", kind)
    return value


def enabled(where: str, record: Any) -> None:
    """Check that the dtypes which a record names exist: JAX would take another one."""
    for name in ("param_dtype", "compute_dtype"):
        if getattr(record, name, None) == "float64" and jnp.result_type(float) != np.float64:
            hint = 'Type jax.config.update("jax_enable_x64", True) first.'
            raise problem(where, name, "at most 32 bits without jax_enable_x64", "float64", hint)


# ---- nets and their parameters


def net(where: str, name: str, value: Any) -> Any:
    """A cell or a layer that is static: a record without arrays."""
    if not isinstance(value, Cell | Layer):
        made = isinstance(value, type) and issubclass(value, Cell | Layer)
        hint = f"Type {value.__name__}(...)." if made else "A net derives from jlstm.Cell or jlstm.Layer."
        raise problem(where, name, "a Cell or a Layer", kind_of(value), hint, kind=TypeError)
    if jax.tree.leaves(value):
        came = f"{kind_of(value)}, which is no record"
        hint = f"Type @jlstm.record above class {type(value).__name__}."
        raise problem(where, name, "a static record", came, hint, kind=TypeError)
    return value


def instance(where: str, name: str, value: Any, kind: type, length: int | None = None) -> None:
    """Parameters of the kind that a net's own are; `length` is a stack's."""
    expected, hint = kind.__name__, "Parameters come from net.init."
    if not isinstance(value, kind):
        raise problem(where, name, expected, kind_of(value), hint, kind=TypeError)
    if length is not None and len(value) != length:
        came = f"{type(value).__name__} of {len(value)}"
        raise problem(where, name, f"{expected} of {length}, one a layer", came, hint)
