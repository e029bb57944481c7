"""The engine: noise, masks, resets, remat around one cell. It knows the `Cell` protocol and the kernels, no cell.

Time leads here: a net maps `[T, *B, D]` to `[T, *B, K]`, and a `Run` says what a call says beside params, inputs and
state. `jlstm.unroll` checks its arguments and makes the `Run`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp

from jlstm import call_checks
from jlstm.kernels import BACKENDS, choose
from jlstm.kernels.scan import Carry, Fixed, Options, Steps, add, body, one, select
from jlstm.types import TIME, Array, Cell, Key, Layer, Noise, Params, Shape, State, Y, noise_of


class Trace(NamedTuple):
    """A record of every step, `[*B, T, ...]`, or time-major as the call was."""

    states: State  # before each step, after a reset
    z: Any  # the argument of `update`, by gate name
    outputs: Any  # y


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Options):
    """One call, as layers see it while it is traced: its options, and the arrays that all parts of a net share.

    A layer of your own hands it on to `jlstm.run_net`, with `replace` where a part of it sees the call otherwise.

    - `batch_shape`: `*B`.
    - `t`: int32 `[T]`, the position of every step.
    - `valid`: bool `[T, *B]`, from lengths and mask. None: all steps are valid.
    - `reset`: bool `[T, *B]`. None: no resets.
    - `key`: the key of this part of the net. None: no noise.
    - `at_last`: the inputs have no time axis any more; they are the last valid step's.
    - `return_sequences`, `reverse`, `one_step`, ...: the options of the call. With `return_sequences=False` the outputs
      are the last valid step's, `[*B, K]`.
    """

    batch_shape: Shape
    t: Array
    valid: Array | None
    reset: Array | None
    key: Key | None
    at_last: bool = False

    def replace(self, **changes: Any) -> Run:
        """Return the run with other values in these fields."""
        return dataclasses.replace(self, **changes)

    @property
    def options(self) -> Options:
        """Return the static part alone."""
        return Options(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Options)})

    def at(self, index: int) -> Run:
        """Return the run of the part `index` of a net, which has noise of its own."""
        return self.replace(key=None if self.key is None else jax.random.fold_in(self.key, index))

    def is_last(self) -> Array:
        """Return bool `[T, *B]`: True at the last valid step in the order of processing, nowhere in an empty row."""
        index = jax.lax.broadcasted_iota(jnp.int32, (self.t.shape[0], *self.batch_shape), 0)
        order = -index if self.reverse else index
        valid = jnp.ones(index.shape, bool) if self.valid is None else self.valid
        nowhere = jnp.asarray(-self.t.shape[0], order.dtype)
        order = jnp.where(valid, order, nowhere)
        return valid & (order == jnp.max(order, axis=0, keepdims=True, initial=nowhere))

    def pick(self, sequence: Array) -> Array:
        """Return the last valid step, `[*B, ...]`, of `[T, *B, ...]`; zeros for an empty row."""
        if self.valid is None and self.t.shape[0] != 0:
            return sequence[0 if self.reverse else -1]
        kept = select(self.is_last(), sequence, jnp.zeros_like(sequence))
        return jnp.sum(kept, axis=0).astype(sequence.dtype)  # a sum of one: no gather, which sharding would mind

    def blank_invalid(self, y: Array) -> Array:
        """Return y with 0 at invalid steps, or, with `at_last`, in rows that have no valid step."""
        valid = self.valid
        if self.at_last:
            valid = None if valid is None and self.t.shape[0] != 0 else jnp.any(self.is_last(), axis=0)
        return select(valid, y, jnp.zeros_like(y))


def run_net(net: Cell | Layer, params: Params, x: Array, state: State, run: Run) -> tuple[State, Any, Any]:
    """Run any net over x `[T, *B, D]`: `(final_state, outputs, traces)`; traces is None, except under `trace`."""
    if isinstance(net, Cell):
        return run_cell(net, params, x, state, run)
    return net.unroll(params, x, state, run)


def run_cell(cell: Cell, params: Params, x: Array, state: State, run: Run) -> tuple[State, Y, Trace | None]:
    """Run a cell over x `[T, *B, D]`, 0 at invalid steps; outputs `[T, *B, H]`, or the last valid step's `[*B, H]`."""
    given, (origin, state) = state, _initial_states(cell, params, x, run.batch_shape, state)
    kernel, options = BACKENDS[choose(run, cell, params, state, x)], run.options

    def prepare(xs: Steps) -> tuple[Any, Steps]:
        noise = _draw(cell, params, run, xs.t)

        def project(x: Array, step: Any) -> Any:
            return cell.project(params, x, *noise_of(cell, Noise(noise.sequence, step)))

        if run.one_step:
            z = jax.tree.map(lambda a: a[None], project(*one((xs.x, noise.step))))
        else:
            z = jax.vmap(project, axis_name=TIME)(xs.x, noise.step)
        return noise.sequence, xs._replace(z=z, noise=noise.step)

    def one_step(state: State, xs: Steps) -> tuple[State, Y]:
        first = one(xs)
        noise, steps = prepare(jax.tree.map(lambda a: a[None], first))
        step = one(steps)
        return call_checks.cell_step(run.name, cell, params, first.x, state, step.z, Noise(noise, step.noise))

    valid = run.valid
    if valid is None and run.checkpoint_every is not None and jax.export.is_symbolic_dim(x.shape[0]):
        valid = jnp.ones((x.shape[0], *run.batch_shape), bool)  # what fills the last chunk is not
    xs = Steps(x, valid, run.reset, _cuts(run), run.t)
    like, blank = _zeros(one_step, state, xs)
    origin, carry = add(origin, like), Carry(add(state, like), None if run.return_sequences else blank)

    def sequence(carry: Carry, xs: Steps) -> tuple[Carry, Any]:
        noise, steps = prepare(xs)
        fixed = Fixed(origin, blank, noise)
        if run.one_step:  # no loop
            carry, emitted = body(cell, options, params, fixed, carry, one(steps))
            return carry, jax.tree.map(lambda a: a[None], emitted)
        return kernel(cell, options, params, fixed, carry, steps)

    if run.checkpoint_every is None:
        carry, (y, before) = sequence(carry, xs)
    else:
        carry, (y, before) = _in_chunks(sequence, carry, xs, run.checkpoint_every, run.reverse)
    trace = None if before is None else Trace(before.state, before.z, y)
    state = jax.tree.map(lambda a, b: a.astype(b.dtype), carry.state, given) if run.one_step else carry.state
    return state, y if run.return_sequences else carry.last, trace


def _zeros(f: Callable[..., Any], *args: Any) -> Any:
    """Zeros like f's results.

    A scan wants its carry to come out as it went in: in dtype, in sharding, in the mesh axes it varies over. Zeros made
    from the results themselves have all three, and f is dead code then; mostly plain zeros have them as well.
    """
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    plain = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    if [jax.typeof(a) for a in jax.tree.leaves(plain)] == jaxpr.out_avals:
        return plain
    return jax.tree.map(jnp.zeros_like, f(*args))


def _draw(cell: Cell, params: Params, run: Run, t: Array | None) -> Noise:
    """The noise of the steps at positions t `[T]`; its per-step part leads with T."""
    key = run.key
    if key is None or t is None or not noise_of(cell, Noise()):
        return Noise()

    def draw(t: Array) -> Noise:
        return call_checks.noise(run.name, cell, cell.noise(key, params, run.batch_shape, t))

    return jax.lax.stop_gradient(jax.vmap(draw, out_axes=Noise(None, 0))(t))


def _initial_states(cell: Cell, params: Params, x: Array, batch_shape: Shape, state: State) -> tuple[State, State]:
    """(the state an episode begins from, the given state) in the dtypes of `initial_state` for params as wide as x."""
    wide = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.result_type(p, x)), params)
    like = jax.eval_shape(lambda p: cell.initial_state(p, batch_shape), wide)
    origin = cell.initial_state(params, batch_shape)
    return jax.tree.map(lambda a, b: a.astype(b.dtype), (origin, origin if state is None else state), (like, like))


def _cuts(run: Run) -> Array | None:
    """Bool `[T]`: where truncation stops the gradient, at multiples of k in time, never before the first step taken."""
    k = run.truncate_every
    if k is None:
        return None
    T = run.t.shape[0]
    if run.reverse:
        return ((run.t + 1) % k == 0) & (jnp.arange(T) < T - 1)
    return (run.t % k == 0) & (jnp.arange(T) > 0)


def _in_chunks(f: Callable[[Carry, Any], Any], carry: Carry, xs: Steps, k: int, reverse: bool) -> tuple[Carry, Any]:
    """f over chunks of k steps, each recomputed in the backward pass; the last chunk in time may be short.

    Invalid steps fill the last chunk of a symbolic T.
    """
    T = xs.x.shape[0]
    chunks, symbolic = T // k, jax.export.is_symbolic_dim(T)
    if symbolic:
        chunks = -(-T // k)
        xs = jax.tree.map(lambda a: jnp.pad(a, [(0, chunks * k - T)] + [(0, 0)] * (a.ndim - 1)), xs)
    whole = chunks * k

    def of_one(a: Array) -> list[int]:
        # The scan goes without axes of size 1: for one sequence XLA's CPU would copy all of x. On a mesh, where such
        # an axis may be sharded, they stay.
        return [i for i in range(1, a.ndim) if a.shape[i] == 1 and jax.typeof(a).sharding.mesh.empty]

    def chunk(carry: Carry, part: Any) -> tuple[Carry, Any]:
        return f(carry, jax.tree.map(lambda p, a: jnp.expand_dims(p, of_one(a)), part, xs))

    def head(carry: Carry) -> tuple[Carry, Any]:
        parts = jax.tree.map(lambda a: jnp.squeeze(a, of_one(a))[:whole], xs)
        parts = jax.tree.map(lambda a: a.reshape(chunks, k, *a.shape[1:]), parts)
        # Inside a scan nothing can be shared between the two computations of a chunk, so that no barrier is needed.
        carry, out = jax.lax.scan(jax.checkpoint(chunk, prevent_cse=False), carry, parts, reverse=reverse)
        return carry, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), out)

    def rest(carry: Carry) -> tuple[Carry, Any]:
        return jax.checkpoint(f)(carry, jax.tree.map(lambda a: a[whole:], xs))

    if symbolic or whole == T:
        carry, out = head(carry)
        return carry, jax.tree.map(lambda a: a[:T], out) if symbolic else out
    if reverse:
        carry, last = rest(carry)
        carry, first = head(carry)
    else:
        carry, first = head(carry)
        carry, last = rest(carry)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)
