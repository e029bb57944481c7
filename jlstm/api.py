"""The public calls: `unroll`, `step`, `trace`. They check their arguments and hand a `Run` to the engine."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlstm import call_checks, checks
from jlstm.engine import Run, run_net
from jlstm.kernels import BACKENDS
from jlstm.kernels.scan import Options, select
from jlstm.types import Array, ArrayLike, Backend, Cell, Key, Layer, Params, State, Y


def sequence_mask(lengths: ArrayLike, T: int) -> Array:
    """Return bool `[*B, T]`, True where t < length; `lengths` are integers `[*B]` of any integer dtype.

    Raises TypeError for lengths that are no integers, TypeError or ValueError for a T that is no size.

    >>> sequence_mask(jnp.array([0, 2]), 3).astype(int).tolist()
    [[0, 0, 0], [1, 1, 0]]
    """
    checks.array("sequence_mask", "lengths", lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise checks.problem("sequence_mask", "lengths", "integers", lengths.dtype, kind=TypeError)
    lengths = jnp.asarray(_as_int32(lengths))
    shape = (*lengths.shape, checks.axis_size("sequence_mask", "T", T))
    t = jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
    return t < jnp.expand_dims(lengths, -1)


def _as_int32(lengths: Any) -> Any:
    """Return lengths as int32, cut to its range. NumPy cuts NumPy's arrays: `jnp` would wrap them first."""
    module: Any = np if isinstance(lengths, np.ndarray | np.generic) else jnp
    if lengths.dtype.kind not in "iu" or lengths.dtype.itemsize < 4:
        return lengths
    return module.clip(lengths, 0, 2**31 - 1).astype(np.int32)


@jax.jit
def _call(net: Any, arrays: dict[str, Any], options: Options) -> tuple[State, Any, Any]:
    """Every public call: `(final_state, outputs, traces)`. One module-level jit: an equal call never traces again."""
    call_checks.call(net, arrays, options)
    arrays = jax.tree.map(jnp.asarray, arrays)  # NumPy's own are left only under `jax.disable_jit`
    params, inputs, state = arrays["params"], arrays["inputs"], arrays["state"]
    axis = 0 if options.time_major or options.one_step else inputs.ndim - 1 - net.feature_axes

    def time_first(a: Any) -> Any:
        return a if a is None else a[None] if options.one_step else jnp.moveaxis(a, axis, 0)

    x, valid, reset = map(time_first, (inputs, arrays["mask"], arrays["resets"]))
    T, batch_shape = x.shape[0], x.shape[1 : x.ndim - net.feature_axes]
    if arrays["lengths"] is not None:
        within = jnp.moveaxis(sequence_mask(arrays["lengths"], T), -1, 0)
        valid = within if valid is None else valid & within
        reset = None if reset is None else reset & within
    t = jnp.asarray(arrays["t"]) + jnp.arange(T)
    run = Run(**vars(options), batch_shape=batch_shape, t=t, valid=valid, reset=reset, key=arrays["key"])
    # The content of padding must reach no product, or its NaN would come back as 0 * NaN in a gradient.
    x = select(valid, x, jnp.zeros_like(x))
    state = net.initial_state(params, batch_shape) if state is None else state
    state, outputs, traces = run_net(net, params, x, state, run)
    if options.return_sequences:
        outputs, traces = jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), (outputs, traces))
    return state, outputs, traces


def _start(net: Any, arrays: dict[str, Any], **options: Any) -> tuple[State, Any, Any]:
    """Check everything that needs no tracing, then make the jitted call."""
    name = options["name"]
    checks.hashable(name, "net", checks.net(name, "net", net))
    call_checks.arrays(name, arrays)
    if arrays["lengths"] is not None:
        arrays["lengths"] = _as_int32(arrays["lengths"])
    default = os.environ.get("JLSTM_BACKEND") or None
    return _call(net, arrays, Options(**call_checks.options(name, options, tuple(BACKENDS), default)))


def unroll(
    net: Cell | Layer,
    params: Params,
    inputs: ArrayLike,
    *,
    state: State | None = None,
    return_sequences: bool = False,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    time_major: bool = False,
    key: Key | None = None,
    t: ArrayLike | int = 0,
    checkpoint_every: int | None = None,
    truncate_every: int | None = None,
    scan_unroll: int = 1,
    backend: Backend | None = None,
) -> tuple[State, Y]:
    """Run a cell or a layer over a sequence: `(final_state, outputs)`, whatever the options.

    `outputs` is `[*B, H]`: the output of the last valid step, in the order of processing. With `return_sequences=True`
    it is `[*B, T, H]`, in input order also with `reverse`. The dtypes are those of `LSTM`'s `compute_dtype`.

    For one cell, the values and the gradients are those of this loop:

        for t in range(T):                                    # with reverse: reversed(range(T))
            state = where(resets[t], initial_state, state)    # with reverse: after the step
            new, y = update(params, state, project(params, x[t]) + recur(params, state))
            state = where(valid[t], new, state)               # valid: lengths and mask
            outputs[t] = where(valid[t], y, 0)

    - `net`: a `Cell` or a `Layer`; static.
    - `params`: the parameters, from `net.init`.
    - `inputs`: float `[*B, T, D]`, any number of batch axes; integers `[*B, T]` for a net that begins with `Embed`.
    - `state`: the state to begin with, in the structure of `net.initial_state(params, batch_shape)`, `[*B, ...]`. None
      is that initial state. The returned state, handed back, continues the sequence (with `reverse`: chunks from the
      last to the first).
    - `return_sequences`: return the outputs of all steps, not of the last valid step alone.
    - `lengths`: integers `[*B]`. Steps at and beyond the length are invalid. A length above T acts as T.
    - `mask`: bool `[*B, T]`, True where a step is valid, in any pattern. At an invalid step the state is carried and
      the output is 0. The content of the padding, NaN included, changes nothing, in values and in gradients.
    - `resets`: bool `[*B, T]`, True where a new episode begins, from `initial_state`. A reset also acts where `mask`
      hides t, but not at or beyond `lengths`. With `reverse` the state is reset after step t, so that step t-1 does not
      see the episode. The final state of a reversed scan with a reset at 0 is therefore the initial state.
    - `reverse`: take the steps from the last to the first.
    - `time_major`: inputs, mask, resets and outputs are `[T, *B, ...]`; lengths and states stay `[*B, ...]`.
    - `key`: a PRNG key. Without one there is no noise (dropout).
    - `t`: the position of the first step, for the noise and the truncation of a sequence in chunks.
    - `checkpoint_every`: the length k of chunks that the backward pass recomputes: memory O(T/k + k), the same numbers.
    - `truncate_every`: k, for truncated back-propagation through time: the gradient stops at multiples of k.
    - `scan_unroll`: the number of steps in one iteration of the loop, as in `lax.scan`.
    - `backend`: "scan" (ordinary differentiation), "hoisted" (no weight gradient in the loop), "native" (C++, `LSTM` in
      float32 on a CPU) or "associative" (no loop; `MinLSTM` alone). With None, the environment's `JLSTM_BACKEND` or
      else the library picks.

    Raises ValueError or TypeError for arguments that do not fit, before any work; NotImplementedError where a named
    backend cannot do a legal call.

    >>> import jlstm
    >>> cell = jlstm.LSTM(5)
    >>> params, x = cell.init(jax.random.key(0), 3), jnp.ones((2, 7, 3))
    >>> state, last = jlstm.unroll(cell, params, x)
    >>> state, sequence = jlstm.unroll(cell, params, x, return_sequences=True)
    >>> last.shape, sequence.shape
    ((2, 5), (2, 7, 5))
    """
    arrays = dict(params=params, inputs=inputs, state=state, lengths=lengths, mask=mask, resets=resets, key=key, t=t)
    layout = dict(return_sequences=return_sequences, reverse=reverse, time_major=time_major)
    loop = dict(checkpoint_every=checkpoint_every, truncate_every=truncate_every, scan_unroll=scan_unroll)
    final_state, outputs, _ = _start(net, arrays, name="unroll", backend=backend, **layout, **loop)
    return final_state, outputs


def step(
    net: Cell | Layer,
    params: Params,
    state: State | None,
    x: ArrayLike,
    *,
    reset: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    key: Key | None = None,
    t: ArrayLike | int = 0,
    backend: Backend | None = None,
) -> tuple[State, Y]:
    """Take one step: `(state, y)`, y `[*B, H]`.

    - `net`, `params`: as in `unroll`.
    - `state`: the state before the step; None is the initial state.
    - `x`: `[*B, D]`; integers `[*B]` for a net that begins with `Embed`.
    - `reset`, `mask`: bool `[*B]`, as in `unroll`.
    - `key`, `t`: the sequence's key and this step's position.
    - `backend`: as in `unroll`.

    The new state has the dtypes of the given state, so that `step` runs in your own `lax.scan`. y is not rounded.
    T steps, with t = 0 .. T-1, equal one `unroll` where these are the dtypes of its final state. Elsewhere, for example
    where x is wider than the parameters, each step rounds h or c.

    Raises ValueError or TypeError for arguments that do not fit; NotImplementedError for a bidirectional net, which
    needs the end of the sequence before its beginning.

    >>> import jlstm
    >>> cell = jlstm.LSTM(5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> state, y = jlstm.step(cell, params, cell.initial_state(params, (2,)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 5)
    """
    arrays = dict(params=params, inputs=x, state=state, lengths=None, mask=mask, resets=reset, key=key, t=t)
    state, y, _ = _start(net, arrays, name="step", one_step=True, backend=backend)
    return state, y


def trace(
    net: Cell | Layer,
    params: Params,
    inputs: ArrayLike,
    *,
    state: State | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    time_major: bool = False,
    key: Key | None = None,
    t: ArrayLike | int = 0,
) -> tuple[State, Any]:
    """Record every step: `(final_state, Trace)`. The arguments are `unroll`'s.

    A `Trace` has the fields `states` (before each step, after a reset), `z` (the pre-activations by gate name: the
    argument of `update`) and `outputs`, each `[*B, T, ...]`. A `Stack` gives a tuple of traces, one a layer, None for a
    layer without recurrence; `Bidirectional` gives a pair.

    >>> import jlstm
    >>> cell = jlstm.LSTM(5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> state, seen = jlstm.trace(cell, params, jnp.ones((2, 7, 3)))
    >>> seen.states.c.shape, jax.nn.sigmoid(seen.z.f).shape
    ((2, 7, 5), (2, 7, 5))
    """
    arrays = dict(params=params, inputs=inputs, state=state, lengths=lengths, mask=mask, resets=resets, key=key, t=t)
    options = dict(return_sequences=True, reverse=reverse, time_major=time_major, backend="scan")
    final_state, _, traces = _start(net, arrays, name="trace", record=True, **options)
    return final_state, traces
