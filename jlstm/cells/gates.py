"""The pieces of a cell: checks of its arguments, products with gate-stacked weights, elementwise equations.

A gate-stacked weight `[D, G, H]` is contracted and split along its gate axis. It is never reshaped to `[D, G*H]`: a
reshape would gather the whole weight where H is sharded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jlstm import call_checks, checks, initializers
from jlstm.records import activation_function, number_or
from jlstm.types import Array, Cell, Initializer, Key, Shape, is_over_time

ForgetBias = Annotated[float | Initializer, number_or(initializers.ForgetBias)]
"""The forget gate's initial bias, or an initialiser of the whole bias `[4, H]`."""


class LSTMState(NamedTuple):
    """The state of the LSTM family between two steps."""

    h: Array  # [*B, H], the compute dtype
    c: Array  # [*B, H], at least float32


class LSTMGates(NamedTuple):
    """The pre-activations of the LSTM family, `[*B, H]` each, in the order of `jlstm.GATES`."""

    i: Array
    f: Array
    g: Array
    o: Array


# ---- parameters and states; `cell` is the record of the cell that calls


def split(cell: Any, key: Key, input_size: int, parts: int) -> tuple[Any, ...]:
    """Check the arguments of `init`, and split its key: `(k_1, .., k_parts, D)`. `cell` is the cell that calls."""
    D = checks.size(f"{type(cell).__name__}.init", "input_size", input_size)
    return (*jax.random.split(checked(cell, key), parts), D)


def checked(net: Any, key: Key) -> Key:
    """The key of `init`, once it and the dtypes of the net are checked."""
    checks.key(f"{type(net).__name__}.init", key)
    checks.enabled(type(net).__name__, net)
    return key


def draw(cell: Any, name: str, key: Key, shape: Shape) -> Array:
    """Draw a parameter of this shape from the initialiser in the cell's field `name`, and check it."""
    drawn = getattr(cell, name)(key, shape, jnp.dtype(cell.param_dtype))
    return checks.drawn(f"{type(cell).__name__}.init", name, drawn, shape, cell.param_dtype)


def learned(cell: Any, **sizes: int) -> dict[str, Array | None]:
    """Return the learned initial state by field, which starts at 0; None for each if the cell does not learn it."""
    zeros = {name: jnp.zeros(size, cell.param_dtype) for name, size in sizes.items()}
    return zeros if cell.learn_initial_state else dict.fromkeys(sizes)


def start(cell: Cell, params: Any, batch_shape: Shape, **sizes: int) -> list[Array]:
    """Return the initial state: `[*B, size]` for each field, learned (`h0` for h) or zeros. Check params and shape.

    h has the compute dtype; the other fields are at least float32.
    """
    name = type(cell).__name__
    where = f"{name}.initial_state"
    if not hasattr(params, "w_ih"):
        hint = "Parameters come from net.init."
        raise checks.problem(where, "params", f"those of {name}", checks.kind_of(params), hint, kind=TypeError)
    call_checks.fit(where, cell, params, params.w_ih.shape[0])
    batch_shape = checks.batch_shape(where, batch_shape)
    compute, wide = compute_dtypes(cell, *params)

    def start_of(field: str, size: int) -> Array:
        value, dtype = getattr(params, f"{field}0", None), compute if field == "h" else wide
        value = jnp.zeros(size, dtype) if value is None else jnp.array(value, dtype, copy=True)  # not the parameter
        return jnp.broadcast_to(value, (*batch_shape, size))

    return [start_of(field, size) for field, size in sizes.items()]


def compute_dtypes(cell: Any, *arrays: Array | None) -> tuple[np.dtype, np.dtype]:
    """Return `(compute, wide)`: the dtype of matmul operands, h and outputs, and that of z, c and accumulation."""
    compute = cell.compute_dtype or jnp.result_type(*[a for a in arrays if a is not None])
    return jnp.dtype(compute), jnp.promote_types(compute, jnp.float32)


# ---- elementwise equations


def functions(cell: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Array], Callable[..., Array]]:
    """Return φ, σ, and the `elementwise` that is right for them.

    A custom activation may not be elementwise (a softmax over H mixes units). One slope an argument would then be a
    wrong gradient, so the equations keep JAX's ordinary derivative.
    """
    named = isinstance(cell.activation, str) and isinstance(cell.gate_activation, str)
    φ, σ = activation_function(cell.activation), activation_function(cell.gate_activation)
    return φ, σ, elementwise if named else lambda f, *args: f(*args)


def elementwise(f: Callable[..., Array], *args: Array) -> Array:
    """Compute `f(*args)` for an elementwise f. Reverse mode keeps one slope an argument, not f's intermediates.

    Pass all arrays to f as arguments: f must not close over any.

    >>> x = jnp.array([0.5, 2.0])
    >>> jax.grad(lambda x: elementwise(lambda a, b: a * b, x, x + 1.0).sum())(x).tolist()
    [2.0, 5.0]
    """

    @jax.custom_jvp
    def value(*args: Array) -> Array:
        return f(*args)

    @value.defjvp
    def rule(args: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
        terms = []
        for n, (a, δ) in enumerate(zip(args, tangents, strict=True)):
            _, slope = jax.jvp(lambda a, n=n: f(*args[:n], a, *args[n + 1 :]), (a,), (jnp.ones_like(a),))
            terms.append(slope * δ.astype(slope.dtype))
        return f(*args), sum(terms[1:], terms[0])

    return value(*args)


def clip(cell: Any, c: Array) -> Array:
    """Clip c to ±`cell_clip`; None clips nothing."""
    return c if cell.cell_clip is None else jnp.clip(c, -cell.cell_clip, cell.cell_clip)


def spread(v: Array, like: Array) -> Array:
    """Give v, `[H]` or `[G, H]`, the dtype and the number of axes of `like`, `[*B, H]` or `[*B, G, H]`."""
    return jnp.expand_dims(v.astype(like.dtype), range(like.ndim - v.ndim))


# ---- products


def ungate(w: Array, axis: int) -> list[Array]:
    """Split w into the G arrays of its gate axis, `axis`. Slices would have G padded adds as their transpose."""
    parts = jax.lax.split(w, (1,) * w.shape[axis], axis % w.ndim)
    return [jax.lax.squeeze(part, (axis,)) for part in parts]


def project(cell: Any, params: Any, x: Array, w: Array | None = None, absent: int | None = None) -> list[Array]:
    """Compute W x by gate: G arrays `[*B, H]` of at least float32.

    - `x`: `[*B, D]`.
    - `w`: `[D, G, H]`; None is `params.w_ih`.
    - `absent`: the place of one more gate, for which w has no weight; it is 0.

    For all steps at once it is one dot a gate: a loop reads them next, and one gate of a common array would cost it
    strided reads. For one step it is one dot: w would be copied into its gates for a few rows.
    """
    compute, _ = compute_dtypes(cell, x, *params)
    x, w, by_gate = x.astype(compute), (params.w_ih if w is None else w).astype(compute), is_over_time()
    if absent is not None:
        return _with_absent(absent, by_gate, x, w, None)
    return _product_by_gate(x, w) if by_gate else ungate(product(x, w), axis=-2)


def recur(h: Array, w: Array, b: Array | None, absent: int | None = None) -> list[Array]:
    """Compute U h + b by gate: G arrays `[*B, H]`.

    - `h`: `[*B, H]` in the compute dtype.
    - `w`: `[H, G, H]`.
    - `b`: `[G, H]`; None for no bias.
    - `absent`: as for `project`; b has a row for this gate too.

    One dot. The bias is added here, inside the loop, as a part of the elementwise work; added to W x it would cost a
    read and a write of `[T, *B, G, H]`.
    """
    if absent is not None:
        wide = jnp.promote_types(h.dtype, jnp.float32)
        return _with_absent(absent, False, h, w.astype(h.dtype), None if b is None else b.astype(wide))
    z = product(h, w.astype(h.dtype))
    return ungate(z if b is None else z + spread(b, z), axis=-2)


@jax.custom_jvp
def product(x: Array, w: Array) -> Array:
    """Compute x w, `[*B, G, H]` for x `[*B, D]` and w `[D, G, H]`, `[*B, P]` for w `[D, P]`; at least float32."""
    return _dot(x, w, axis=0)


@jax.custom_jvp
def _product_by_gate(x: Array, w: Array) -> list[Array]:
    """The same by gate."""
    return [_dot(x, w_g, axis=0) for w_g in ungate(w, axis=1)]


@functools.partial(product.defjvp, symbolic_zeros=True)
def _product_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z = product(*primals)
    return z, _product_tangent(primals, tangents, z.shape)


@functools.partial(_product_by_gate.defjvp, symbolic_zeros=True)
def _product_by_gate_jvp(primals: Any, tangents: Any) -> tuple[list[Array], list[Array]]:
    z = _product_by_gate(*primals)
    shape = (*z[0].shape[:-1], len(z), z[0].shape[-1])
    return z, ungate(_product_tangent(primals, tangents, shape), axis=-2)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _with_absent(absent: int, by_gate: bool, x: Array, w: Array, b: Array | None) -> list[Array]:
    """x w + b by gate, where w has no weight for the gate at `absent`."""
    z = _insert(_product_by_gate(x, w) if by_gate else ungate(product(x, w), axis=-2), absent)
    return z if b is None else [part + spread(row, part) for part, row in zip(z, ungate(b, axis=0), strict=True)]


@functools.partial(_with_absent.defjvp, symbolic_zeros=True)
def _with_absent_jvp(absent: int, by_gate: bool, primals: Any, tangents: Any) -> tuple[list[Array], list[Array]]:
    """The weight's and the bias's tangents reach all gates of z as one array: so does what comes back, uncopied."""
    z, (x, w, _), (dx, dw, db) = _with_absent(absent, by_gate, *primals), primals, tangents
    δz, at_once = [_nothing(part) for part in z], []
    if not isinstance(dx, SymbolicZero):
        δz = _insert(ungate(_product_tangent((x, w), (dx, SymbolicZero(w.aval)), ()), axis=-2), absent)
    if not isinstance(dw, SymbolicZero):
        before, after = jax.lax.split(dw, (absent, dw.shape[1] - absent), axis=1)
        at_once.append(_dot(x, jnp.concatenate([before, _nothing(dw[:, :1]), after], axis=1), axis=0))
    if not (db is None or isinstance(db, SymbolicZero)):
        at_once.append(jnp.expand_dims(db, range(x.ndim - 1)) + _nothing(jnp.stack(z, axis=-2)))
    return z, [a + b for a, b in zip(δz, ungate(sum(at_once[1:], at_once[0]), axis=-2), strict=True)] if at_once else δz


def _insert(parts: list[Array], at: int) -> list[Array]:
    return [*parts[:at], _nothing(parts[0]), *parts[at:]]


def _nothing(a: Array) -> Array:
    """Zeros of which `vmap` knows that they are batched where a is: rules for tangents must not give any others."""
    return jnp.where(False, a, jnp.zeros((), a.dtype))


def _product_tangent(primals: Any, tangents: Any, shape: Shape) -> Array:
    """Always one dot, so that the transposes are: x's gradient is one, and so is w's."""
    (x, w), (dx, dw), terms = primals, tangents, []
    if not isinstance(dx, SymbolicZero):
        # The transpose contracts (g, h), and wants them to lead: from w as it is, a loop would copy it at every step.
        terms.append(_dot(dx, jnp.moveaxis(w, 0, -1), axis=-1))
    if not isinstance(dw, SymbolicZero):
        terms.append(_dot(x, dw, axis=0))
    return sum(terms[1:], terms[0]) if terms else jnp.zeros(shape, jnp.promote_types(x.dtype, jnp.float32))


def _dot(x: Array, w: Array, axis: int) -> Array:
    """The last axis of x with `axis` of w, at least float32. (`einsum` says it better, and traces 2 ms longer.)"""
    contracted = ((x.ndim - 1,), (axis % w.ndim,))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jax.lax.dot_general(x, w, (contracted, ((), ())), preferred_element_type=wide)
