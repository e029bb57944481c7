"""The copy memory problem (Arjovsky, Shah & Bengio 2016, section 4.1).

The input is ten symbols out of eight, T - 1 blanks, one delimiter and ten blanks. The target is T + 10 blanks and then
the ten symbols in order. Without memory, the best answer is blanks and then a guess: 10 ln 8 / (T + 20) nats a step.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jlstm
from experiments.model import build
from experiments.schema import Config
from experiments.task_schema import CopyMemory
from experiments.tasks.findings import Example, Findings
from experiments.tasks.symbols import HELD_OUT_SEED, TEST_SEED, example, map_examples

Array = jax.Array

SYMBOLS, COUNT = 8, 10
BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1
NAMES = (*(str(i) for i in range(1, SYMBOLS + 1)), "blank", "delimiter")


def batch(key: Array, batch_size: int, length: int) -> tuple[Array, Array]:
    """Draw inputs and targets `[B, T + 20]`, ids. `length` is T, from the last symbol to the delimiter."""
    symbols = jax.random.randint(key, (batch_size, COUNT), 0, SYMBOLS)
    inputs = jnp.full((batch_size, length + 2 * COUNT), BLANK).at[:, :COUNT].set(symbols)
    targets = jnp.full_like(inputs, BLANK).at[:, -COUNT:].set(symbols)
    return inputs.at[:, length + COUNT - 1].set(DELIMITER), targets


class CopyMemoryTask:
    """An `experiments.tasks.Task`. Batches are made on the device, inside the training step."""

    loss_name = "cross entropy [nats / step]"
    measure = "cross entropy"
    unit = "nats / step"
    higher_is_better = False
    log_scale = True
    sequences = True
    data = None

    def __init__(self, config: Config, task: CopyMemory) -> None:
        self.task, self.batch_size, self.noisy = task, config.train.batch_size, config.model.noisy
        self.steps = task.length + 2 * COUNT
        self.net = build(config.model, outputs=SYMBOLS + 1, memory=self.steps)
        self.facts: dict[str, Any] = {
            "held_out_sequences": task.held_out,
            "test_sequences": task.test,
            "held_out_seed": HELD_OUT_SEED,
            "test_seed": TEST_SEED,
        }

    def batch_shape(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.batch_size, self.steps, len(NAMES)), jnp.float32)

    def init(self, key: Array) -> Any:
        return self.net.init(key, len(NAMES))

    def carry(self, params: Any) -> None:
        return None

    def _logits(self, params: Any, inputs: Array, key: Array | None = None) -> Array:
        x = jax.nn.one_hot(inputs, len(NAMES))
        return jlstm.unroll(self.net, params, x, return_sequences=True, key=key)[1]

    def loss(self, params: Any, carry: None, data: None, step: Array, key: Array) -> tuple[Array, None]:
        k_batch, k_net = jax.random.split(key)
        inputs, targets = batch(k_batch, self.batch_size, self.task.length)
        logits = self._logits(params, inputs, k_net if self.noisy else None)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets)), None

    def _fixed(self, seed: int, n: int) -> tuple[Array, Array]:
        return jax.jit(batch, static_argnums=(1, 2))(jax.random.key(seed), n, self.task.length)

    @cached_property
    def held_out(self) -> tuple[Array, Array]:
        return self._fixed(HELD_OUT_SEED, self.task.held_out)

    @cached_property
    def test(self) -> tuple[Array, Array]:
        return self._fixed(TEST_SEED, self.task.test)

    def evaluate(self, params: Any, data: tuple[Array, Array]) -> Array:
        def nats(one: tuple[Array, Array]) -> Array:
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(self._logits(params, one[0]), one[1]))

        return jnp.mean(map_examples(nats, data))

    def recalled(self, params: Any, data: tuple[Array, Array]) -> Array:
        """Return the percentage of the symbols to copy that are the net's most likely answer."""

        def share(one: tuple[Array, Array]) -> Array:
            inputs, targets = one
            return jnp.mean(jnp.argmax(self._logits(params, inputs)[-COUNT:], axis=-1) == targets[-COUNT:])

        return 100 * jnp.mean(map_examples(share, data))

    def baselines(self) -> dict[str, float]:
        return {"without memory": COUNT * math.log(SYMBOLS) / self.steps}

    def findings(self, params: Any, key: Array) -> Findings:
        return Findings({"symbols recalled [%]": float(jax.jit(self.recalled)(params, self.test))})

    def example(self) -> Example:
        return example(np.asarray(self.held_out[0][0]), NAMES)
