"""Every error that a caller's shapes, dtypes and values can raise: one line: who, what was expected, what came."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlstm.types import Shape

Check = Callable[[str, str, Any], Any]


def problem(where: str, name: str, expected: str, got: Any, hint: str = "", kind: type = ValueError) -> Exception:
    """The one form of all messages: `where: name: expected ..., got .... hint`."""
    return kind(f"{where}: {name}: expected {expected}, got {got}." + (f" {hint}" if hint else ""))


# ---- single values: fields of records and static options


def size(where: str, name: str, value: Any, *, at_least: int = 1) -> int:
    """An integer of at least `at_least`, as an `int`."""
    expected = "a positive int" if at_least == 1 else f"an int of at least {at_least}"
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise problem(where, name, expected, repr(value), kind=TypeError) from None
    if number < at_least:
        raise problem(where, name, expected, number)
    return number


def size_or_none(where: str, name: str, value: Any) -> int | None:
    return None if value is None else size(where, name, value)


def boolean(where: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise problem(where, name, "True or False", repr(value), kind=TypeError)
    return bool(value)


def number(where: str, name: str, value: Any, *, at_least: float | None = None) -> float:
    """A finite real number, as a `float`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise problem(where, name, "a number", repr(value), kind=TypeError)
    if not np.isfinite(value) or (at_least is not None and value < at_least):
        raise problem(where, name, "a finite number" + (f" >= {at_least}" if at_least is not None else ""), value)
    return float(value)


def rate(where: str, name: str, value: Any) -> float:
    """A probability below 1, as a `float`."""
    value = number(where, name, value)
    if not 0.0 <= value < 1.0:
        raise problem(where, name, "a rate in [0, 1)", value)
    return value


def function(where: str, name: str, value: Any) -> Callable[..., Any]:
    if not callable(value) or isinstance(value, type):
        hint = f"Type {value.__name__}(...)." if isinstance(value, type) else ""
        raise problem(where, name, "a function (key, shape, dtype) -> array", repr(value), hint, kind=TypeError)
    return value


def number_or_callable(where: str, name: str, value: Any) -> Any:
    return function(where, name, value) if callable(value) else number(where, name, value)


def choice(where: str, name: str, value: Any, names: tuple[str, ...]) -> str:
    if value not in names:
        raise problem(where, name, "one of " + ", ".join(map(repr, names)), repr(value))
    return value


def choice_or_callable(names: tuple[str, ...], normalise: Callable[[Any], Any]) -> Check:
    """A check for one of `names` or a function; `normalise` turns a known function into its name."""

    def check(where: str, name: str, value: Any) -> Any:
        value = normalise(value)
        return value if callable(value) else choice(where, name, value, names)

    return check


def float_dtype(where: str, name: str, value: Any) -> np.dtype:
    """A floating dtype, as an `np.dtype`: `jnp.float32` and `np.dtype("float32")` are equal but hash differently."""
    try:
        dtype = jnp.dtype(value)
    except TypeError:
        raise problem(where, name, "a floating dtype", repr(value), kind=TypeError) from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise problem(where, name, "a floating dtype", dtype, kind=TypeError)
    return dtype


def float_dtype_or_none(where: str, name: str, value: Any) -> np.dtype | None:
    return None if value is None else float_dtype(where, name, value)


def fields(record: Any, **checks: Check) -> None:
    """Put every named field of a frozen record through its check, and keep what the check returns."""
    for name, check in checks.items():
        object.__setattr__(record, name, check(type(record).__name__, name, getattr(record, name)))


def batch_shape(where: str, value: Any, *, name: str = "batch_shape") -> Shape:
    """A tuple of ints: all axes before H."""
    if not isinstance(value, tuple | list):
        raise problem(where, name, "a tuple of ints such as (32,)", repr(value), kind=TypeError)
    return tuple(size(where, name, axis, at_least=0) for axis in value)


# ---- what can be told before tracing


def is_cell(net: Any) -> bool:
    return all(hasattr(net, name) for name in ("project", "recur", "update"))


def is_net(net: Any) -> bool:
    return not isinstance(net, type) and (is_cell(net) or all(hasattr(net, name) for name in ("init", "unroll")))


def net(where: str, value: Any, name: str = "net") -> Any:
    """A cell or a layer that is static: hashable by value, without arrays."""
    if not is_net(value):
        hint = f"Type {value.__name__}(...)." if isinstance(value, type) else ""
        raise problem(where, name, "a Cell or a Layer", _kind(value), hint, kind=TypeError)
    if jax.tree.leaves(value):
        hint = f"Type @jax.tree_util.register_static above class {type(value).__name__}."
        raise problem(where, name, "a static record", f"{_kind(value)}, which is not registered", hint, kind=TypeError)
    return value


def arrays(where: str, values: dict[str, Any]) -> None:
    """All leaves are arrays (or numbers, for t): lists would become trees of scalars."""
    for name, value in values.items():
        for leaf in jax.tree.leaves(value):
            if name in ("inputs", "lengths", "mask", "resets") and leaf is not value:
                raise problem(where, _public(where, name), "an array", _kind(value), kind=TypeError)
            if not isinstance(leaf, jax.Array | np.ndarray | np.generic) and not (name == "t" and type(leaf) is int):
                raise problem(where, _public(where, name), "arrays", _kind(leaf), kind=TypeError)


def options(
    where: str, values: dict[str, Any], backend: str, backends: tuple[str, ...], from_environment: bool
) -> dict:
    """The static options of a call, normalised."""
    name = "JLSTM_BACKEND" if from_environment else "backend"
    kinds = dict.fromkeys(("return_sequences", "reverse", "time_major"), boolean)
    kinds |= dict.fromkeys(("checkpoint_every", "truncate_every"), size_or_none) | {"scan_unroll": size}
    checked = {key: kinds[key](where, key, value) for key, value in values.items()}
    return checked | {"backend": choice(where, name, backend, backends)}


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _public(where: str, name: str) -> str:
    """The argument's name in the public function: `step` has one x, one reset."""
    return {"inputs": "x", "resets": "reset"}.get(name, name) if where == "step" else name


# ---- what shapes and dtypes tell, at trace time


def integers(where: str, name: str, value: Any) -> jax.Array:
    """An array of an integer dtype."""
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise problem(where, name, "integers", value.dtype, kind=TypeError)
    return value


def call(where: str, net: Any, params: Any, inputs: jax.Array, given: Any, time_major: bool) -> None:
    """Everything that `unroll`, `step` and `trace` are given fits together."""
    time = () if where == "step" else ("T",)
    axes = ("*B", *time) if not time_major else (*time, "*B")
    name, letters = _public(where, "inputs"), "[" + ", ".join((*axes, *"DEF"[: net.feature_axes])) + "]"
    dtype = jnp.integer if net.feature_axes == 0 else jnp.floating
    if not jnp.issubdtype(inputs.dtype, dtype):
        expected = "integer ids" if net.feature_axes == 0 else "a floating dtype"
        raise problem(where, name, f"{letters} of {expected}", inputs.dtype, kind=TypeError)
    leading = inputs.ndim - net.feature_axes
    if leading < len(time):
        raise problem(where, name, f"{letters}, at least {net.feature_axes + len(time)} axes", inputs.shape)
    T_axis = 0 if time_major else leading - 1
    steps = inputs.shape[:leading]
    batch = steps if where == "step" else steps[:T_axis] + steps[T_axis + 1 :]
    context = f"{name} is {letters} = {inputs.shape}."

    input_size = inputs.shape[-1] if net.feature_axes else None
    fit(where, net, params, input_size, context)
    if given.state is not None:
        wanted = jax.eval_shape(lambda p: net.initial_state(p, batch), params)
        _tree(where, "state", wanted, given.state, context)

    per_step = "[" + ", ".join(axes) + "]"
    _array(where, "lengths", given.lengths, jnp.integer, "[*B]", batch, context)
    for argument in ("mask", "resets"):
        value = getattr(given, argument)
        hint = context
        if value is not None and not time_major and value.shape == (*steps[-1:], *batch) != steps:
            hint += f" For time-major arrays, type time_major=True and give {name} so too."
        elif value is not None and time_major and value.shape == (*batch, *steps[:1]) != steps:
            hint += f" With time_major=True it is time-major too: type jnp.moveaxis({argument}, -1, 0)."
        _array(where, _public(where, argument), value, jnp.bool_, per_step, steps, hint)
    _array(where, "t", jnp.asarray(given.t), jnp.integer, "a scalar", (), "")
    if given.key is not None and not jnp.issubdtype(given.key.dtype, jax.dtypes.prng_key):
        _array(where, "key", given.key, jnp.uint32, "a PRNG key", (2,), "Type jax.random.key(0).")


def fit(where: str, net: Any, params: Any, input_size: int | None, context: str = "", name: str = "params") -> None:
    """`params` has the structure and the shapes of what `net.init(key, input_size)` gives."""
    wanted = jax.eval_shape(lambda key: net.init(key, input_size), jax.eval_shape(jax.random.key, 0))
    hint = f"Its parameters come from net.init(key, {input_size})."
    _tree(where, name, wanted, params, f"{context} {hint}" if context else hint)


def _array(where: str, name: str, value: Any, dtype: Any, letters: str, shape: Shape, hint: str) -> None:
    if value is None:
        return
    if not jnp.issubdtype(value.dtype, dtype):
        kind = {jnp.integer: "integers", jnp.bool_: "bool"}.get(dtype, "uint32")
        cast = f"Type {name}.astype(bool)." if dtype is jnp.bool_ else hint
        raise problem(where, name, f"{letters} of {kind}", value.dtype, cast, kind=TypeError)
    if value.shape != shape:
        raise problem(where, name, f"{letters} = {shape}", value.shape, hint)


def _tree(where: str, name: str, wanted: Any, got: Any, hint: str) -> None:
    """`got` has the structure and the shapes of `wanted`, and floating leaves where that has them."""
    want, want_def = jax.tree_util.tree_flatten_with_path(wanted)
    have, have_def = jax.tree_util.tree_flatten_with_path(got)
    if want_def != have_def:
        raise problem(where, name, _shapes(wanted), _shapes(got), hint)
    for (path, w), (_, h) in zip(want, have, strict=True):
        at = name + jax.tree_util.keystr(path)
        if w.shape != h.shape:
            raise problem(where, at, str(w.shape), h.shape, hint)
        if jnp.issubdtype(w.dtype, jnp.floating) != jnp.issubdtype(h.dtype, jnp.floating):
            raise problem(where, at, str(w.dtype), h.dtype, hint, kind=TypeError)


def _shapes(tree: Any) -> str:
    """The tree with its arrays replaced by their shapes, on one line."""

    class Shape(tuple):
        pass

    return " ".join(repr(jax.tree.map(lambda a: Shape(jnp.shape(a)), tree)).split())
