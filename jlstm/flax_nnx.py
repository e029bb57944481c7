"""jlstm's nets as a flax `nnx.Module`. The only file that imports flax; `import jlstm` does not import it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jlstm import checks
from jlstm.api import unroll as _unroll
from jlstm.types import Array, ArrayLike, Cell, Layer, Params, Shape, State


class RNN(nnx.Module):
    """Any cell or layer as an `nnx.Module`.

    `RNN(jlstm.LSTM(H), D, rngs=rngs)` replaces `nnx.RNN(nnx.OptimizedLSTMCell(D, H, rngs=rngs))`.

    - `net`: a `jlstm.Cell` or a `jlstm.Layer`.
    - `input_size`: D; None for a net that begins with `Embed`.
    - The other arguments are those of `nnx.RNN`.

    The module's `params` are the net's, every array in an `nnx.Param`. It differs from `nnx.RNN`:

    - The carry is the net's state: `LSTMState(h, c)`, where flax has `(c, h)`. `convert.state_from_flax` converts it.
    - At steps beyond `seq_lengths` the output is 0, and a row of length 0 keeps its carry.
    - `rngs` of a call are for noise (dropout), which exists only where they are given. The initial carry needs none.
    - The module holds no generator, so it goes through jit, grad and vmap, flax's and jax's own after a split.

    >>> import jlstm
    >>> rnn = RNN(jlstm.LSTM(5), 3, rngs=nnx.Rngs(0))
    >>> rnn(jnp.ones((2, 7, 3))).shape
    (2, 7, 5)
    """

    def __init__(
        self,
        net: Cell | Layer,
        input_size: int | None = None,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        unroll: int = 1,
        rngs: nnx.Rngs,
    ) -> None:
        self.net = checks.net("RNN", "net", net)
        params = net.init(rngs.params(), input_size)  # type: ignore[arg-type]
        self.params = nnx.data(jax.tree.map(nnx.Param, params))
        self.time_major, self.return_carry = time_major, return_carry
        self.reverse, self.keep_order, self.unroll = reverse, keep_order, unroll

    def arrays(self) -> Params:
        """Return the parameters as `net.init` does, for `jlstm.unroll`, `jlstm.step` and `jlstm.save`."""
        return jax.tree.map(lambda p: p[...], self.params, is_leaf=lambda p: isinstance(p, nnx.Variable))

    def initial_state(self, batch_shape: Shape = ()) -> State:
        """Return the carry that a sequence begins with where none is given, `[*B, H]` a leaf."""
        return self.net.initial_state(self.arrays(), batch_shape)

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: State | None = None,
        seq_lengths: ArrayLike | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """Return the outputs `[*B, T, H]`, or `(carry, outputs)` with `return_carry`.

        - `inputs`: `[*B, T, D]`, or `[T, *B, D]` with `time_major`.
        - `initial_carry`: the state to begin with; None is `initial_state`.
        - `seq_lengths`: integers `[*B]`.
        - `reverse`: take the last valid step first. Outputs come in this order; with `keep_order` in the inputs'.
        - `rngs`: noise takes its key from the stream `dropout`.
        - The other arguments replace those of the construction.

        Raises ValueError or TypeError, as `jlstm.unroll`.
        """
        time_major = self.time_major if time_major is None else time_major
        reverse = self.reverse if reverse is None else reverse
        keep_order = self.keep_order if keep_order is None else keep_order
        carry, outputs = _unroll(
            self.net,
            self.arrays(),
            inputs,
            state=initial_carry,
            return_sequences=True,
            lengths=seq_lengths,
            reverse=reverse,
            time_major=time_major,
            key=rngs.dropout() if isinstance(rngs, nnx.Rngs) else None if rngs is None else rngs(),
            scan_unroll=self.unroll,
        )
        if reverse and not keep_order:
            axis = 0 if time_major else inputs.ndim - 1 - self.net.feature_axes
            outputs = jax.tree.map(lambda y: _processed_order(y, seq_lengths, axis), outputs)
        return (carry, outputs) if (self.return_carry if return_carry is None else return_carry) else outputs


def _processed_order(y: Array, lengths: ArrayLike | None, axis: int) -> Array:
    """y `[*B, T, H]`, time at `axis`, with the valid steps of each row flipped and the padding left behind them."""
    y = jnp.flip(y, axis)
    if lengths is None or y.shape[axis] == 0:
        return y
    y, T = jnp.moveaxis(y, axis, -1), y.shape[axis]
    padding = T - jnp.clip(jnp.asarray(lengths), 0, T)
    t = jnp.expand_dims(jnp.arange(T), range(padding.ndim))
    index = jnp.expand_dims((t + padding[..., None]) % T, range(padding.ndim, y.ndim - 1))
    return jnp.moveaxis(jnp.take_along_axis(y, index, axis=-1), -1, axis)
