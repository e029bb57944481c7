"""The embedded Reber grammar (Hochreiter & Schmidhuber 1997, section 5.1; Cleeremans et al. 1989).

A string is B, then T or P, then a string of Reber's grammar, then the same T or P, then E. The net reads symbol by
symbol and predicts at every step which symbols may come next. For the last symbol but one it must remember the second.
If two symbols may come next, each has probability 1/2.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jlstm
from experiments.config import UsageError
from experiments.model import build
from experiments.schema import Config
from experiments.task_schema import Reber
from experiments.tasks.findings import Example, Findings
from experiments.tasks.symbols import HELD_OUT_SEED, TEST_SEED, example, map_examples

Array = jax.Array

SYMBOLS = "BTPSXVE"
TRAINING_SEED = 1989
# Reber's grammar: for each state, the symbols that may come and the states they lead to. 7 is the end.
REBER = ("B1", "T2 P3", "S2 X4", "T3 V5", "X3 S6", "P4 V6", "E7")


def _embed() -> dict[str, dict[str, str]]:
    """Return the automaton of the embedded grammar: state -> symbol -> state."""
    states = {"start": {"B": "choice"}, "choice": {"T": "T0", "P": "P0"}, "last": {"E": "end"}, "end": {}}
    for outer in "TP":
        for number, arrows in enumerate(REBER):
            states[f"{outer}{number}"] = {arrow[0]: f"{outer}{arrow[1]}" for arrow in arrows.split()}
        states[f"{outer}7"] = {outer: "last"}
    return states


AUTOMATON = _embed()
_NUMBER = {state: number for number, state in enumerate(AUTOMATON)}
# The two arrows of each state, equal if it has only one; "end" leads to itself.
_ARROWS = [(list(arrows.items()) or [("E", state)]) for state, arrows in AUTOMATON.items()]
SYMBOL = np.array([[SYMBOLS.index(arrows[i % len(arrows)][0]) for i in (0, 1)] for arrows in _ARROWS])
NEXT = np.array([[_NUMBER[arrows[i % len(arrows)][1]] for i in (0, 1)] for arrows in _ARROWS])
LEGAL = np.array([[symbol in arrows for symbol in SYMBOLS] for arrows in AUTOMATON.values()])


class Strings(NamedTuple):
    """tokens `[N, longest]`, of which `lengths` `[N]` count; legal `[N, longest, 7]`: what may come after each."""

    tokens: Array
    lengths: Array
    legal: Array


def strings(key: Array, n: int, longest: int) -> Strings:
    """Draw independent strings of the grammar, conditioned on at most `longest` symbols."""
    # done[k, s]: the probability to reach the end from s within k symbols. Weighting arrows by it is equivalent to
    # drawing again until the string is short enough.
    done = [(np.arange(len(NEXT)) == _NUMBER["end"]).astype(np.float32)]
    for _ in range(longest):
        done.append(done[-1][NEXT].mean(axis=1))
    weights = jnp.asarray(np.array(done[:longest])[::-1][:, NEXT])  # [longest, states, 2], for the symbols left then
    symbol, then = jnp.asarray(SYMBOL), jnp.asarray(NEXT)

    def write(state: Array, step: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array, Array]]:
        weight, uniform = step
        second = (uniform * weight[state].sum(axis=-1) >= weight[state, 0]).astype(int)
        here = state == _NUMBER["end"]
        return then[state, second], (symbol[state, second], then[state, second], ~here)

    first = jnp.full(n, _NUMBER["start"])
    _, (tokens, states, used) = jax.lax.scan(write, first, (weights, jax.random.uniform(key, (longest, n))))
    return Strings(tokens.T, jnp.sum(used, axis=0), jnp.asarray(LEGAL)[states.T])


class ReberTask:
    """An `experiments.tasks.Task`. As in the paper, strings are drawn at random from a fixed training set.

    A string is right if at every step the symbols that may come next are more active than all others.
    """

    loss_name = "cross entropy [nats / step]"
    measure = "strings predicted right"
    unit = "%"
    higher_is_better = True
    log_scale = False
    sequences = True

    def __init__(self, config: Config, task: Reber) -> None:
        if config.model.bidirectional:
            raise UsageError(
                "model.bidirectional: expected false for reber, got true: a net that reads backwards sees the symbol "
                "that it predicts. Type model.bidirectional=false."
            )
        self.task, self.batch_size, self.noisy = task, config.train.batch_size, config.model.noisy
        self.net = build(config.model, outputs=len(SYMBOLS), memory=task.longest)
        self.facts: dict[str, Any] = {
            "training_sequences": config.train.batch_size * config.train.steps,
            "training_set": task.training,
            "held_out_sequences": task.held_out,
            "test_sequences": task.test,
            "training_seed": TRAINING_SEED,
            "held_out_seed": HELD_OUT_SEED,
            "test_seed": TEST_SEED,
        }

    def batch_shape(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.batch_size, self.task.longest - 1, len(SYMBOLS)), jnp.float32)

    def init(self, key: Array) -> Any:
        return self.net.init(key, len(SYMBOLS))

    def carry(self, params: Any) -> None:
        return None

    def _logits(self, params: Any, batch: Strings, key: Array | None = None) -> tuple[Array, Array]:
        """Return logits `[*B, longest - 1, 7]` of every step except the last symbol's, and a mask of valid steps."""
        x = jax.nn.one_hot(batch.tokens[..., :-1], len(SYMBOLS))
        lengths = batch.lengths - 1
        y = jlstm.unroll(self.net, params, x, lengths=lengths, return_sequences=True, key=key)[1]
        return y, jlstm.sequence_mask(lengths, x.shape[-2])

    def loss(self, params: Any, carry: None, data: Strings, step: Array, key: Array) -> tuple[Array, None]:
        k_batch, k_net = jax.random.split(key)
        rows = jax.random.randint(k_batch, (self.batch_size,), 0, len(data.tokens))
        batch = jax.tree.map(lambda leaf: leaf[rows], data)
        logits, there = self._logits(params, batch, k_net if self.noisy else None)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.tokens[:, 1:])
        return jnp.sum(nats * there) / jnp.sum(there), None

    def _fixed(self, seed: int, n: int) -> Strings:
        return jax.jit(strings, static_argnums=(1, 2))(jax.random.key(seed), n, self.task.longest)

    @cached_property
    def data(self) -> Strings:
        return self._fixed(TRAINING_SEED, self.task.training)

    @cached_property
    def held_out(self) -> Strings:
        return self._fixed(HELD_OUT_SEED, self.task.held_out)

    @cached_property
    def test(self) -> Strings:
        return self._fixed(TEST_SEED, self.task.test)

    def evaluate(self, params: Any, data: Strings) -> Array:
        def right(one: Strings) -> Array:
            logits, there = self._logits(params, one)
            legal = one.legal[:-1]
            weakest = jnp.min(jnp.where(legal, logits, jnp.inf), axis=-1)
            strongest = jnp.max(jnp.where(legal, -jnp.inf, logits), axis=-1)
            return jnp.all((weakest > strongest) | ~there)

        return 100 * jnp.mean(map_examples(right, data))

    def baselines(self) -> dict[str, float]:
        share = float(jnp.mean(self.test.tokens[:, 1] == SYMBOLS.index("T")))
        return {"the second symbol forgotten": 100 * max(share, 1 - share)}

    def findings(self, params: Any, key: Array) -> Findings:
        return Findings({"training strings right [%]": float(jax.jit(self.evaluate)(params, self.data))})

    def example(self) -> Example:
        row = int(jnp.argmax(self.held_out.lengths))
        return example(np.asarray(self.held_out.tokens[row, : int(self.held_out.lengths[row])]), SYMBOLS)
