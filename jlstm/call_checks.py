"""The errors of calls: the arguments of `unroll`, `step` and `trace` fit together, and so do a cell's results."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlstm.checks import FLOAT, boolean, choice, is_array, is_float, key, kind_of, optional, problem, size
from jlstm.types import Cell, Noise, Shape, noise_of

# ---- before tracing


def arrays(where: str, values: dict[str, Any]) -> None:
    """All leaves are arrays: lists would become trees of scalars. t may be an int."""
    for name, value in values.items():
        if name in ("params", "state"):
            for leaf in jax.tree.leaves(value):
                if not is_array(leaf):
                    raise problem(where, name, "arrays", kind_of(leaf), kind=TypeError)
        elif name == "t":
            if type(value) is not int and not is_array(value):
                raise problem(where, "t", "an int or a scalar array", kind_of(value), kind=TypeError)
            if isinstance(value, int | np.integer) and not -(2**31) <= value < 2**31:
                raise problem(where, "t", "an int of 32 bits", value)
        elif not (is_array(value) or (value is None and name != "inputs")):
            expected, hint = ("a PRNG key", "Type jax.random.key(0).") if name == "key" else ("an array", "")
            raise problem(where, _public(where, name), expected, kind_of(value), hint, kind=TypeError)


def options(where: str, values: dict[str, Any], backends: tuple[str, ...], default: str | None) -> dict[str, Any]:
    """Check the static options of a call. default: the environment's backend, which stands for `backend=None`."""
    kinds = dict.fromkeys(("return_sequences", "reverse", "time_major"), boolean)
    kinds |= dict.fromkeys(("checkpoint_every", "truncate_every"), optional(size)) | {"scan_unroll": size}
    checked = {name: kinds[name](where, name, value) if name in kinds else value for name, value in values.items()}
    name, backend = ("JLSTM_BACKEND", default) if values["backend"] is None else ("backend", values["backend"])
    return checked | {"backend": None if backend is None else choice(where, name, backend, backends)}


def _public(where: str, name: str) -> str:
    """The argument's name in the public function: `step` has one x, one reset."""
    return {"inputs": "x", "resets": "reset"}.get(name, name) if where == "step" else name


# ---- at trace time, from shapes and dtypes


def call(net: Any, arrays: dict[str, Any], options: Any) -> None:
    """Check that the arguments of `unroll`, `step` and `trace` fit together."""
    where, time_major, inputs = options.name, options.time_major, arrays["inputs"]
    time = () if options.one_step else ("T",)
    axes = ("*B", *time) if not time_major else (*time, "*B")
    name, letters = _public(where, "inputs"), "[" + ", ".join((*axes, *"DEF"[: net.feature_axes])) + "]"
    ids = net.feature_axes == 0
    if not (jnp.issubdtype(inputs.dtype, jnp.integer) if ids else is_float(inputs.dtype)):
        expected = "integer ids" if ids else FLOAT
        raise problem(where, name, f"{letters} of {expected}", inputs.dtype, kind=TypeError)
    leading = inputs.ndim - net.feature_axes
    if leading < len(time):
        raise problem(where, name, f"{letters}, at least {net.feature_axes + len(time)} axes", inputs.shape)
    T_axis = 0 if time_major else leading - 1
    steps = inputs.shape[:leading]
    batch = steps if options.one_step else steps[:T_axis] + steps[T_axis + 1 :]
    context = f"{name} is {letters} = {inputs.shape}."

    fit(where, net, arrays["params"], inputs.shape[-1] if net.feature_axes else None, context)
    if arrays["state"] is not None:
        wanted = jax.eval_shape(lambda p: net.initial_state(p, batch), arrays["params"])
        _tree(where, "state", wanted, arrays["state"], context)

    per_step = "[" + ", ".join(axes) + "]"
    _array(where, "lengths", arrays["lengths"], jnp.integer, "[*B]", batch, context)
    for argument in ("mask", "resets"):
        value, hint = arrays[argument], context
        if value is not None and not time_major and value.shape == (*steps[-1:], *batch) != steps:
            hint += f" For time-major arrays, type time_major=True and give {name} so too."
        elif value is not None and time_major and value.shape == (*batch, *steps[:1]) != steps:
            hint += f" With time_major=True it is time-major too: type jnp.moveaxis({argument}, -1, 0)."
        _array(where, _public(where, argument), value, jnp.bool_, per_step, steps, hint)
    _array(where, "t", jnp.asarray(arrays["t"]), jnp.integer, "a scalar", (), "")
    if arrays["key"] is not None:
        key(where, arrays["key"])


def fit(where: str, net: Any, params: Any, input_size: int | None, context: str = "", name: str = "params") -> None:
    """`params` has the structure and the shapes of what `net.init(key, input_size)` gives."""
    hint = f"Its parameters come from net.init(key, {input_size})."
    _tree(where, name, _abstract_params(net, input_size), params, f"{context} {hint}".lstrip())


@functools.lru_cache(maxsize=1024)
def _abstract_params(net: Any, input_size: int | None) -> Any:
    """Shapes and dtypes; kept, since an initialiser takes longer to trace than a step."""
    return jax.eval_shape(lambda key: net.init(key, input_size), jax.eval_shape(jax.random.key, 0))


def _array(where: str, name: str, value: Any, dtype: Any, letters: str, shape: Shape, hint: str) -> None:
    if value is None:
        return
    if not jnp.issubdtype(value.dtype, dtype):
        kind, cast = ("bool", f"Type {name}.astype(bool).") if dtype is jnp.bool_ else ("integers", hint)
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
        if is_float(w.dtype) != is_float(h.dtype):
            raise problem(where, at, str(w.dtype), h.dtype, hint, kind=TypeError)


def _shapes(tree: Any) -> str:
    """The tree with its arrays replaced by their shapes, on one line."""
    return " ".join(repr(jax.tree.map(jnp.shape, tree)).split())


# ---- the results of a cell, which may be a user's


def noise(where: str, cell: Cell, value: Any) -> Noise:
    """Check the result of `cell.noise`."""
    if value is not None and not isinstance(value, Noise):
        name = f"{type(cell).__name__}.noise"
        raise problem(where, name, "a jlstm.cells.Noise or None", kind_of(value), kind=TypeError)
    return value or Noise()


def cell_step(where: str, cell: Cell, params: Any, x: Any, state: Any, z: Any, noise: Noise) -> tuple[Any, Any]:
    """Take one step, `(new state, y)`, and check its shapes: wrong ones would be broadcast, or fail inside a scan.

    x: `[*B, D]`; state: what the step begins from; z: `cell.project(params, x, noise)`.
    """
    name, batch = type(cell).__name__, x.shape[: x.ndim - cell.feature_axes]

    def leads(method: str, tree: Any) -> None:
        for leaf in jax.tree.leaves(tree):
            if leaf.shape[: len(batch)] != batch:
                raise problem(where, f"{name}.{method}", f"arrays [*B, ...] with *B = {batch}", _shapes(tree))

    leads("initial_state", state)
    leads("project", z)
    given = noise_of(cell, noise)
    recurred = cell.recur(params, state, *given)
    if recurred is not None:
        _tree(where, f"{name}.recur", z, recurred, "It is added to what project gives.")
        z = jax.tree.map(jnp.add, z, recurred)
    result = cell.update(params, state, z, *given)
    if type(result) is not tuple or len(result) != 2:
        raise problem(where, f"{name}.update", "a tuple (state, y)", _shapes(result))
    new, y = result
    _tree(where, f"{name}.update's state", state, new, "It is the next step's.")
    size = cell.output_size(x.shape[-1] if cell.feature_axes else None)  # type: ignore[arg-type]
    if not hasattr(y, "shape") or y.shape[: len(batch)] != batch or y.shape[-1:] != (size,):
        letters = f"[*B, ..., K] with *B = {batch} and K = output_size = {size}"
        raise problem(where, f"{name}.update's y", letters, _shapes(y))
    return new, y
