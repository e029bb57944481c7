"""Keras, flax (nnx and linen) and torch, called as `jlstm.unroll` is: the live oracles of `test_peers.py`.

A peer is a function of a `Case`: it gives a function of the arrays, whose parameters, inputs, state and results have
our layout and our order in time. Every weight and bias is random, so that no gate can be swapped unseen. Where a peer
means something else than we do, or nothing, the loss has no weight: `Case.weights` says where and why.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from frameworks import settings

import jlstm
from jlstm import LSTMParams, LSTMState

T, D, H = 5, 3, 4
LENGTHS = np.array([3, T, 0, 1])
HOLES = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
BORDER = 2  # where the second episode begins, in all rows


class Case(NamedTuple):
    """A peer and what is called: way is "forward", "reverse" or a bidirectional net's merge, hidden a name or None."""

    peer: str
    way: str
    hidden: str | None
    state: bool
    return_sequences: bool
    resets: bool = False
    batch: tuple[int, ...] = (4,)

    @property
    def two_way(self) -> bool:
        return self.way not in ("forward", "reverse")

    @property
    def lengths(self) -> np.ndarray | None:
        """torch packs no sequence of length 0."""
        return None if self.hidden != "lengths" else np.maximum(LENGTHS, 1) if self.peer == "torch" else LENGTHS

    @property
    def valid(self) -> np.ndarray:
        if self.hidden is None:
            return np.ones((*self.batch, T), bool)
        return HOLES if self.hidden == "mask" else np.arange(T) < self.lengths[:, None]

    def weights(self, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        """Of all in (state, y), in a loss: random, and 0 where the peer's result is not ours.

        Without return_sequences, Keras gives a row that has no valid step the h that it was given, and we give 0.
        flax goes on through padding: outputs there are what the cell makes of it, and the carry of an empty row is
        the one after T steps. We give 0, and the carry of its beginning.
        """
        filled = self.valid.any(-1)[..., None]
        flax = self.peer in ("nnx", "linen")
        y = rng.normal(size=(*self.batch, T, 2 * H if self.way == "concat" else H))
        y = np.where(self.valid[..., None] | (not flax), y, 0) if self.return_sequences else y[..., 0, :] * filled
        states = [LSTMState(*np.where(filled | (not flax), rng.normal(size=(2, *self.batch, H)), 0)) for _ in "fb"]
        return jax.tree.map(np.float32, (self.pair(states), y))

    def label(self) -> str:
        on = [name for name in ("state", "return_sequences", "resets") if getattr(self, name)]
        return "-".join([self.peer, self.way, *([self.hidden] if self.hidden else []), *on, f"{len(self.batch)}B"])

    def pair(self, both: Any) -> Any:
        """Of things one a direction: a plain pair, or the one thing where there is one direction."""
        return tuple(both) if self.two_way else both[0]

    def each(self, pair: Any) -> tuple[Any, ...]:
        return pair if self.two_way else (pair,)


class Arrays(NamedTuple):
    """The arguments of the gradients."""

    params: Any
    x: Any
    state: Any


Run = Callable[[Arrays], tuple[Any, Any]]  # (final state, y)


def arrays(case: Case) -> tuple[Arrays, Any]:
    cell, rng = jlstm.LSTM(H), np.random.default_rng(0)
    params = [cases.random_params(rng, cell, "float32") for _ in "fb"]
    states = [cases.random_state(rng, cell, params[0], case.batch) for _ in "fb"]
    x = cases.random_inputs(rng, cell, (*case.batch, T), "float32")
    return Arrays(case.pair(params), x, case.pair(states) if case.state else None), case.weights(rng)


def ours(case: Case, backend: str) -> Run:
    cell = jlstm.LSTM(H)
    net = jlstm.Bidirectional(cell, merge=case.way) if case.two_way else cell  # type: ignore[arg-type]
    resets = np.broadcast_to(np.arange(T) == BORDER, (*case.batch, T)) if case.resets else None
    options = dict(return_sequences=case.return_sequences, reverse=case.way == "reverse", backend=backend)
    options |= dict(lengths=case.lengths, mask=HOLES if case.hidden == "mask" else None, resets=resets)

    def run(a: Arrays) -> tuple[Any, Any]:
        params, state = a.params, a.state
        if case.two_way:
            like = net.init(jax.random.key(0), D)
            params, state = type(like)(*params), state and type(net.initial_state(like))(*state)
        state, y = jlstm.unroll(net, params, a.x, state=state, **options)
        return tuple(state) if case.two_way else state, y

    return run


# ---- the peers


def keras(case: Case) -> Run:
    """Masks of any pattern. `go_backwards` leaves the outputs in the order of processing."""
    layers = pytest.importorskip("keras", exc_type=ImportError).layers
    options = dict(return_state=True, return_sequences=case.return_sequences, go_backwards=case.way == "reverse")
    # Else hidden steps repeat the output before; what `Bidirectional` chooses is this.
    net = layers.LSTM(H, zero_output_for_mask=case.return_sequences, **options)
    if case.two_way:
        net = layers.Bidirectional(net, merge_mode={"mean": "ave"}.get(case.way, case.way))
    with settings():
        net.build((*case.batch, T, D))
    rest = [variable.value for variable in net.non_trainable_variables]

    def run(a: Arrays, steps: slice = slice(0, T)) -> tuple[Any, Any]:
        weights = [w for p in case.each(a.params) for w in (p.w_ih.reshape(D, -1), p.w_hh.reshape(H, -1), p.b.ravel())]
        state = None if a.state is None else [leaf for s in case.each(a.state) for leaf in s]
        mask = None if case.hidden is None else case.valid[:, steps]
        with settings():
            (y, *end), _ = net.stateless_call(weights, rest, a.x[:, steps], mask=mask, initial_state=state)
        if case.way == "reverse" and case.return_sequences:
            y = y[:, ::-1]
        return case.pair([LSTMState(*end[n : n + 2]) for n in range(0, len(end), 2)]), y

    def run_episodes(a: Arrays) -> tuple[Any, Any]:
        """Two sequences, each on its own; what was handed in belongs to the one that a direction begins with."""
        ones, zeros = case.each(a.state), jax.tree.map(jnp.zeros_like, case.each(a.state))
        backward = (False, True) if case.two_way else (case.way == "reverse",)
        starts = zip(ones, zeros, backward, strict=True)
        before, after = zip(*[(zero, one) if back else (one, zero) for one, zero, back in starts], strict=True)
        end, y = run(a._replace(state=case.pair(before)), slice(0, BORDER))
        end_after, y_after = run(a._replace(state=case.pair(after)), slice(BORDER, T))
        ends = zip(case.each(end), case.each(end_after), backward, strict=True)
        return case.pair([a if back else b for a, b, back in ends]), jnp.concatenate([y, y_after], 1)

    return run_episodes if case.resets else run


def of_flax(case: Case, call: Callable[..., Any]) -> Run:
    """Lengths alone. A carry is (c, h); outputs are always sequences, the last one is the carry's h."""
    options: dict[str, Any] = dict(seq_lengths=case.lengths, return_carry=True)
    options |= {} if case.two_way else dict(reverse=case.way == "reverse", keep_order=True)

    def run(a: Arrays) -> tuple[Any, Any]:
        carry = case.pair([(s.c, s.h) for s in case.each(a.state)]) if case.state else None
        end, y = call(a, initial_carry=carry, **options)
        states = [LSTMState(h, c) for c, h in case.each(end)]
        return case.pair(states), y if case.return_sequences else jnp.concatenate([s.h for s in states], -1)

    return run


def nnx(case: Case) -> Run:
    nnx = pytest.importorskip("flax.nnx", exc_type=ImportError)

    def rnn(params: LSTMParams) -> Any:
        cell = nnx.OptimizedLSTMCell(D, H, rngs=nnx.Rngs(0))
        cell.dense_i.kernel = nnx.Param(params.w_ih.reshape(D, -1))
        cell.dense_h.kernel = nnx.Param(params.w_hh.reshape(H, -1))
        cell.dense_h.bias = nnx.Param(params.b.ravel())
        return nnx.RNN(cell)

    def call(a: Arrays, **options: Any) -> Any:
        net = nnx.Bidirectional(*map(rnn, a.params)) if case.two_way else rnn(a.params)
        return net(a.x, **options)

    return of_flax(case, call)


def linen(case: Case) -> Run:
    nn = pytest.importorskip("flax.linen", exc_type=ImportError)

    def cell(p: LSTMParams) -> Any:
        by_gate = {"i" + gate: {"kernel": p.w_ih[:, n]} for n, gate in enumerate(jlstm.GATES)}
        by_gate |= {"h" + gate: {"kernel": p.w_hh[:, n], "bias": p.b[n]} for n, gate in enumerate(jlstm.GATES)}
        return {"cell": by_gate}

    def call(a: Arrays, **options: Any) -> Any:
        net, params = nn.RNN(nn.OptimizedLSTMCell(H)), [cell(p) for p in case.each(a.params)]
        if not case.two_way:
            return net.apply({"params": params[0]}, a.x, **options)
        both = dict(zip(("forward_rnn", "backward_rnn"), params, strict=True))
        return nn.Bidirectional(net, net.copy()).apply({"params": both}, a.x, **options)

    return of_flax(case, call)


def torch(case: Case, a: Arrays, weights: Any) -> tuple[Any, Any]:
    """(gradients, (state, y)), by its own differentiation. Two biases, which add; no reverse, no holes."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    net = torch.nn.LSTM(D, H, batch_first=True, bidirectional=case.two_way)
    of_direction = [[getattr(net, name) for name in names] for names in net._all_weights]
    for variables, p in zip(of_direction, case.each(a.params), strict=True):
        other = p.w_hh[0].ravel()  # any numbers
        values = p.w_ih.reshape(D, -1).T, p.w_hh.reshape(H, -1).T, p.b.ravel() - other, other
        for variable, value in zip(variables, values, strict=True):
            variable.data = torch.tensor(value)

    def variable(value: np.ndarray) -> Any:
        return torch.tensor(value, requires_grad=True)

    x, lengths = variable(a.x), case.lengths
    start = None if a.state is None else [variable(np.stack(leaf)) for leaf in zip(*case.each(a.state), strict=True)]
    if lengths is None:
        y, end = net(x, start)
    else:
        pack, pad = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
        y, end = net(pack(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False), start)
        y = pad(y, batch_first=True, total_length=T)[0]
    y = y if case.return_sequences else torch.cat(tuple(end[0]), -1)

    def states(both: Any) -> Any:
        return case.pair([LSTMState(*leaves) for leaves in zip(*both, strict=True)])

    result = states(end), y
    terms = zip(jax.tree.leaves(result), jax.tree.leaves(weights), strict=True)
    sum((r * torch.tensor(w)).sum() for r, w in terms).backward()
    grads = [[variable.grad.numpy() for variable in variables] for variables in of_direction]
    params = [LSTMParams(w.T.reshape(D, 4, H), u.T.reshape(H, 4, H), b.reshape(4, H)) for w, u, _, b in grads]
    d_state = None if start is None else states([leaf.grad.numpy() for leaf in start])
    return Arrays(case.pair(params), x.grad.numpy(), d_state), jax.tree.map(lambda r: r.detach().numpy(), result)
