"""Validation of values: each error is one line that names the argument, what was expected and what came."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jlstm.types import Cell, Layer, Shape

Check = Callable[[str, str, Any], Any]


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
    expected = "a positive int" if at_least == 1 else f"an int of at least {at_least}"
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise problem(where, name, expected, show(value), kind=TypeError) from None
    if number < at_least:
        raise problem(where, name, expected, number)
    return number


def size_or_none(where: str, name: str, value: Any) -> int | None:
    return None if value is None else size(where, name, value)


def boolean(where: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise problem(where, name, "True or False", show(value), kind=TypeError)
    return bool(value)


def number(where: str, name: str, value: Any, *, at_least: float | None = None) -> float:
    """A finite real number, as a `float`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise problem(where, name, "a number", show(value), kind=TypeError)
    try:
        result = float(value)
    except OverflowError:
        result = float("inf")
    if not np.isfinite(result) or (at_least is not None and result < at_least):
        expected = "a finite number" + (f" >= {at_least}" if at_least is not None else "")
        raise problem(where, name, expected, show(value))
    return result


def positive(where: str, name: str, value: Any) -> float:
    """A finite number above 0, as a `float`."""
    if (value := number(where, name, value)) <= 0.0:
        raise problem(where, name, "a number above 0", value)
    return value


def rate(where: str, name: str, value: Any) -> float:
    """A probability below 1, as a `float`."""
    if not 0.0 <= (value := number(where, name, value)) < 1.0:
        raise problem(where, name, "a rate in [0, 1)", value)
    return value


def function(
    where: str, name: str, value: Any, expected: str = "a function (key, shape, dtype) -> array"
) -> Callable[..., Any]:
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
    try:
        dtype = None if value is None else jnp.dtype(value)
    except TypeError:
        dtype = None
    if dtype is None or not is_float(dtype):
        raise problem(where, name, FLOAT, show(value) if dtype is None else dtype, kind=TypeError)
    return dtype


FLOAT = "a floating dtype of at least 16 bits"


def is_float(dtype: Any) -> bool:
    """Narrower floats than these have no arithmetic of their own in JAX, and promote to nothing."""
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize > 1


def batch_shape(where: str, value: Any, *, name: str = "batch_shape") -> Shape:
    """A tuple of ints: all axes before H."""
    if not isinstance(value, tuple | list):
        raise problem(where, name, "a tuple of ints such as (32,)", show(value), kind=TypeError)
    return tuple(size(where, name, axis, at_least=0) for axis in value)


# ---- arrays


def is_array(value: Any) -> bool:
    """Of numbers, bools or keys. What a masked array hides would be taken for valid."""
    if isinstance(value, jax.Array):
        return True
    if not isinstance(value, np.ndarray | np.generic) or isinstance(value, np.ma.MaskedArray):
        return False
    return value.dtype.kind in "biufc" or jnp.issubdtype(value.dtype, np.number)


def kind_of(value: Any) -> str:
    """The type, for what is no array; what it holds could be long."""
    shown = isinstance(value, jax.Array | type) or type(value) is np.ndarray
    return show(value) if shown else type(value).__name__


def array(where: str, name: str, value: Any) -> jax.Array:
    if not is_array(value):
        raise problem(where, name, "an array", kind_of(value), kind=TypeError)
    return jnp.asarray(value)


def integers(where: str, name: str, value: Any) -> jax.Array:
    """An array of an integer dtype."""
    value = array(where, name, value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise problem(where, name, "integers", value.dtype, kind=TypeError)
    return value


def key(where: str, value: Any) -> None:
    """One PRNG key: `jax.random.key(0)`, or the raw `jax.random.PRNGKey(0)`."""
    hint = "Type jax.random.key(0)."
    if not is_array(value):
        raise problem(where, "key", "a PRNG key", kind_of(value), hint, kind=TypeError)
    typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not typed and value.dtype != jnp.uint32:
        raise problem(where, "key", "a PRNG key", show(value), hint, kind=TypeError)
    if value.shape != (() if typed else jax.eval_shape(jax.random.PRNGKey, 0).shape):
        raise problem(where, "key", "one PRNG key", show(value), hint)


def drawn(where: str, name: str, value: Any, shape: Shape, dtype: Any) -> jax.Array:
    """Check the result of an initialiser."""
    expected, hint = f"{jnp.dtype(dtype)}[{', '.join(map(str, shape))}]", "It is called as (key, shape, dtype)."
    if not is_array(value) or value.dtype != dtype:
        raise problem(where, name, expected, show(value), hint, kind=TypeError)
    if value.shape != shape:
        raise problem(where, name, expected, show(value), hint)
    return value


def enabled(where: str, record: Any) -> None:
    """Check that the dtypes which a record names exist: JAX would take another one."""
    for name in ("param_dtype", "compute_dtype"):
        if getattr(record, name) == "float64" and jnp.result_type(float) != np.float64:
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
