"""The temporal order problem (Hochreiter & Schmidhuber 1997, experiments 6a and 6b).

A sequence of 100 to 110 symbols begins with E and ends with B. Between them are random a, b, c and d, and two (6a) or
three (6b) symbols that are X or Y, far from each other and from the end. The class is these X and Y in their order.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from experiments.schema import Config
from experiments.task_schema import TemporalOrder
from experiments.tasks.symbols import HELD_OUT_SEED, TEST_SEED, Classification, Labelled

Array = jax.Array

SYMBOLS = ("E", "B", "a", "b", "c", "d", "X", "Y")
START, TRIGGER, FIRST_DISTRACTOR, X = (SYMBOLS.index(name) for name in "EBaX")
SHORTEST, LONGEST = 100, 110
PLACES = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}  # of the relevant symbols; E is at 0
TOLERANCE = 0.3


def batch(key: Array, batch_size: int, relevant: int) -> Labelled:
    """Draw independent sequences. The class is the relevant symbols as a binary number, with X = 0 and Y = 1."""
    k_lengths, k_fill, k_places, k_bits = jax.random.split(key, 4)
    lengths = jax.random.randint(k_lengths, (batch_size,), SHORTEST, LONGEST + 1)
    tokens = jax.random.randint(k_fill, (batch_size, LONGEST), FIRST_DISTRACTOR, X)
    first, last = jnp.array(PLACES[relevant]).T[:, None, :]
    places = jax.random.randint(k_places, (batch_size, relevant), first, last + 1)
    bits = jax.random.randint(k_bits, (batch_size, relevant), 0, 2)
    rows = jnp.arange(batch_size)
    tokens = tokens.at[rows[:, None], places].set(X + bits)
    tokens = tokens.at[:, 0].set(START).at[rows, lengths - 1].set(TRIGGER)
    return Labelled(tokens, lengths, jnp.sum(bits << jnp.arange(relevant)[None, ::-1], axis=1))


class TemporalOrderTask(Classification):
    """An `experiments.tasks.Task`. As in the paper, a sequence is right if all outputs are within 0.3 of the target."""

    measure = "sequences classified right"

    def __init__(self, config: Config, task: TemporalOrder) -> None:
        self.task = task
        super().__init__(config, SYMBOLS, 2**task.relevant, LONGEST)
        self.facts: dict[str, Any] = {
            "training_sequences": config.train.batch_size * config.train.steps,
            "held_out_sequences": task.held_out,
            "test_sequences": task.test,
            "held_out_seed": HELD_OUT_SEED,
            "test_seed": TEST_SEED,
        }

    def draw(self, key: Array) -> Labelled:
        return batch(key, self.batch_size, self.task.relevant)

    def right(self, logits: Array, target: Array) -> Array:
        wanted = jax.nn.one_hot(target, self.classes)
        return jnp.all(jnp.abs(jax.nn.softmax(logits) - wanted) < TOLERANCE)

    def _fixed(self, seed: int, n: int) -> Labelled:
        return jax.jit(batch, static_argnums=(1, 2))(jax.random.key(seed), n, self.task.relevant)

    @cached_property
    def held_out(self) -> Labelled:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._fixed(HELD_OUT_SEED, self.task.held_out)

    @cached_property
    def test(self) -> Labelled:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._fixed(TEST_SEED, self.task.test)
