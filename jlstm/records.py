"""Records: frozen dataclasses of plain values, static for jit, whose fields are checked by their types."""

from __future__ import annotations

import builtins
import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.types import Array, Cell, Initializer, Layer

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Check:
    """The check of a field's type, `Annotated[int, Check(f)]`: `f(where, name, value)` returns the value to keep."""

    function: checks.Check


@typing.dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a class a record: a frozen dataclass that jit takes as static.

    A record is compared and hashed by value, is readable when printed, and can be saved; it holds no arrays. A field's
    type carries its check: `hidden_size: Size` refuses -3, and so does a `Literal` of names. In `Size | None` the check
    applies to values other than None. A plain type, or one that exists for type checkers alone, has no check. The
    checks run before `__post_init__`.

    A class that derives from a record needs the decorator too.

    >>> import jlstm
    >>> from jlstm.cells import Size
    >>> @jlstm.record
    ... class Pool:
    ...     width: Size = 2
    >>> Pool(3), Pool(3) == Pool(3)
    (Pool(width=3), True)
    """
    frame = sys._getframe(1)
    scope = {**vars(sys.modules.get(cls.__module__, builtins)), **frame.f_globals, **frame.f_locals}
    found = {name: _check(_resolve(hint, scope)) for name, hint in inspect.get_annotations(cls).items()}
    inherited = {name: check for base in reversed(cls.__mro__) for name, check in vars(base).get(_CHECKS, {}).items()}
    setattr(cls, _CHECKS, inherited | {name: check for name, check in found.items() if name != "_"})
    cls.__post_init__ = _checked(cls, vars(cls).get("__post_init__"))  # type: ignore[attr-defined]
    return jax.tree_util.register_static(dataclasses.dataclass(frozen=True)(cls))


_CHECKS = "__field_checks__"


def _checked(cls: type, own: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """The `__post_init__` of a record: the checks of all fields, then the class's own, or the one that it inherits."""

    def post_init(self: Any) -> None:
        name = type(self).__name__
        if _CHECKS not in vars(type(self)):
            raise TypeError(f"{name}: expected a record, like {cls.__name__}. Type @jlstm.record above class {name}.")
        for field, check in vars(type(self))[_CHECKS].items():
            if check is not None:
                object.__setattr__(self, field, check(name, field, getattr(self, field)))
        inherited = getattr(super(cls, self), "__post_init__", None)
        if own is not None:
            own(self)
        elif inherited is not None:
            inherited()

    return post_init


def _resolve(hint: Any, scope: Mapping[str, Any]) -> Any:
    """The type behind an annotation; None where a name in it resolves nowhere."""
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, dict(scope))
    except Exception:  # whatever an annotation for type checkers alone may raise
        return None


def _check(hint: Any) -> checks.Check | None:
    """The check that a field's type carries."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return next((extra.function for extra in hint.__metadata__ if isinstance(extra, Check)), None)
    if origin is Literal and all(isinstance(name, str) for name in arguments):
        return functools.partial(checks.choice, names=arguments)
    if origin in (typing.Union, types.UnionType) and type(None) in arguments:
        found = [check for check in map(_check, arguments) if check is not None]
        return checks.optional(found[0]) if len(found) == 1 else None
    return None


# ---- the types of fields; `X | None` also takes None

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "linear": lambda x: x,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_tanh": jax.nn.hard_tanh,
    "softsign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
"""The functions of the activations that have a name; all are elementwise."""

# Functions that users hand in for a name of the table, beside the table's own.
_NAMES = {jax.lax.tanh: "tanh", jax.lax.logistic: "sigmoid", jax.nn.tanh: "tanh", jax.nn.swish: "silu"}
_NAMES |= {function: name for name, function in ACTIVATIONS.items()}


def activation_function(activation: Activation) -> Callable[[Array], Array]:
    """Return the function behind a name in `ACTIVATIONS`; return a function as it is."""
    return activation if callable(activation) else ACTIVATIONS[activation]


def _activation(where: str, name: str, value: Any) -> Any:
    """A name in `ACTIVATIONS`, also for a function that the table knows; any other function as it is."""
    if not callable(value):
        return checks.choice(where, name, value, tuple(ACTIVATIONS))
    function = checks.function(where, name, value, "a name or a function array -> array")
    return _NAMES.get(function, function)


def _dtype(where: str, name: str, value: Any) -> str:
    """A dtype's name: unlike `np.dtype`, it equals no other spelling and never None."""
    return str(checks.float_dtype(where, name, value))


def number_or(of_number: Callable[[float], Initializer]) -> Check:
    """Make the check of an initialiser's field, where a number stands for `of_number(number)`."""

    def check(where: str, name: str, value: Any) -> Any:
        return checks.function(where, name, value) if callable(value) else of_number(checks.number(where, name, value))

    return Check(check)


Size = Annotated[int, Check(checks.size)]
"""A positive int."""
Flag = Annotated[bool, Check(checks.boolean)]
"""True or False."""
Number = Annotated[float, Check(checks.number)]
"""A finite number."""
Positive = Annotated[float, Check(checks.positive)]
"""A finite number above 0."""
Rate = Annotated[float, Check(checks.rate)]
"""A probability, in [0, 1)."""
Init = Annotated[Initializer, Check(checks.function)]
"""A function `(key, shape, dtype) -> array`; the library's own are the records in `jlstm.initializers`."""
Activation = Annotated[str | Callable[[Array], Array], Check(_activation)]
"""A name in `ACTIVATIONS`, or a function `array -> array`."""
DType = Annotated[str, Check(_dtype)]
"""The name of a floating dtype; `np.dtype("float32")` and `jnp.float32` become names."""
Net = Annotated[Cell | Layer, Check(checks.net)]
"""A cell or a layer."""
