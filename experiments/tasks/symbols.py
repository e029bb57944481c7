"""The common parts of tasks over symbols: one-hot inputs, and the classification of a sequence at its last step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jlstm
from experiments.model import build
from experiments.schema import Config
from experiments.tasks.findings import Example, Findings

Array = jax.Array

HELD_OUT_SEED, TEST_SEED = 1997, 2022  # one set of each for all runs, so that their results can be compared
EVALUATED_AT_ONCE = 256  # the gates of all test sequences at once would take gigabytes


class Labelled(NamedTuple):
    """Sequences of symbols and their classes: tokens `[N, T]`, of which `lengths` `[N]` count, and targets `[N]`."""

    tokens: Array
    lengths: Array
    targets: Array


def map_examples(f: Callable[..., Array], data: Any) -> Array:
    """Map `f` over every example of `data`, leaves `[N, ...]`, a bounded number at a time."""
    return jax.lax.map(f, data, batch_size=EVALUATED_AT_ONCE)


def example(tokens: np.ndarray, names: Sequence[str]) -> Example:
    """Return tokens `[T]` as the net takes them, with one row per symbol."""
    x = np.eye(len(names), dtype=np.float32)[tokens]
    return Example(x, {name: x[:, i] for i, name in enumerate(names)}, tuple(str(names[token]) for token in tokens))


class Classification:
    """An `experiments.tasks.Task` of sequences with one class each, which the net predicts at the last step.

    A subclass provides the data: `draw` for training, `held_out` and `test`.
    """

    loss_name = "cross entropy [nats]"
    measure: str
    unit = "%"
    higher_is_better = True
    log_scale = False
    sequences = False
    data = None
    held_out: Labelled
    test: Labelled

    def __init__(self, config: Config, names: Sequence[str], classes: int, length: int) -> None:
        """names: the symbols' names by id.   length: the T of a batch."""
        self.names, self.classes, self.length = tuple(names), classes, length
        self.batch_size, self.noisy = config.train.batch_size, config.model.noisy
        self.net = build(config.model, outputs=classes, memory=length)

    def draw(self, key: Array) -> Labelled:
        """Draw a training batch."""
        raise NotImplementedError

    def right(self, logits: Array, target: Array) -> Array:
        """Return True if `logits` `[K]` are right for `target`, a scalar."""
        return jnp.argmax(logits) == target

    def batch_shape(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.batch_size, self.length, len(self.names)), jnp.float32)

    def init(self, key: Array) -> Any:
        return self.net.init(key, len(self.names))

    def carry(self, params: Any) -> None:
        return None

    def _logits(self, params: Any, tokens: Array, lengths: Array, key: Array | None = None) -> Array:
        x = jax.nn.one_hot(tokens, len(self.names))
        return jlstm.unroll(self.net, params, x, lengths=lengths, key=key)[1]

    def loss(self, params: Any, carry: None, data: None, step: Array, key: Array) -> tuple[Array, None]:
        k_batch, k_net = jax.random.split(key)
        tokens, lengths, targets = self.draw(k_batch)
        logits = self._logits(params, tokens, lengths, k_net if self.noisy else None)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets)), None

    def rights(self, params: Any, data: Labelled) -> Array:
        """Return a mask of the sequences with a right answer, bool `[N]`."""
        return map_examples(lambda one: self.right(self._logits(params, one.tokens, one.lengths), one.targets), data)

    def evaluate(self, params: Any, data: Labelled) -> Array:
        return 100 * jnp.mean(self.rights(params, data))

    def baselines(self) -> dict[str, float]:
        return {"best constant answer": 100 * float(jnp.bincount(self.test.targets).max() / len(self.test.targets))}

    def findings(self, params: Any, key: Array) -> Findings:
        return Findings()

    @cached_property
    def _longest(self) -> int:
        return int(jnp.argmax(self.held_out.lengths))

    def example(self) -> Example:
        length = int(self.held_out.lengths[self._longest])
        return example(np.asarray(self.held_out.tokens[self._longest, :length]), self.names)
