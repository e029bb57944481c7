"""The adding problem (Hochreiter & Schmidhuber 1997, section 5.4), in the form of Le, Jaitly & Hinton (2015).

A sequence has T random numbers, two of them marked; the target is the sum of the two. The constant answer 1 has a mean
squared error of 1/6, the variance of a sum of two uniform numbers. To do better, a net must remember a number over up
to T steps.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jlstm
from experiments.model import build
from experiments.schema import Config
from experiments.task_schema import Adding
from experiments.tasks.findings import Example, Findings

Array = jax.Array

TEST_SEED = 1997  # one test set for all runs, so that their results can be compared


def batch(key: Array, batch_size: int, length: int) -> tuple[Array, Array]:
    """Draw independent examples: x `[B, T, 2]`, numbers in [0, 1) and a mask with a one in each half; targets `[B]`."""
    k_numbers, k_places = jax.random.split(key)
    numbers = jax.random.uniform(k_numbers, (batch_size, length))
    half = length // 2
    places = jax.random.randint(k_places, (batch_size, 2), jnp.array([[0, half]]), jnp.array([[half, length]]))
    mask = jax.nn.one_hot(places, length).sum(axis=1)
    return jnp.stack([numbers, mask], axis=-1), jnp.sum(numbers * mask, axis=1)


class AddingTask:
    """An `experiments.tasks.Task`. Batches are made on the device, inside the training step."""

    loss_name = "mean squared error [squared units of the sum]"
    measure = "mean squared error"
    unit = "squared units of the sum"
    higher_is_better = False
    log_scale = True
    sequences = False
    data = None
    test = None

    def __init__(self, config: Config, task: Adding) -> None:
        self.task, self.batch_size, self.noisy = task, config.train.batch_size, config.model.noisy
        self.net = build(config.model, outputs=1, memory=task.length)
        self.facts: dict[str, Any] = {"held_out_sequences": task.held_out, "test_seed": TEST_SEED}

    def batch_shape(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.batch_size, self.task.length, 2), jnp.float32)

    def init(self, key: Array) -> Any:
        return self.net.init(key, 2)

    def carry(self, params: Any) -> None:
        return None

    def loss(self, params: Any, carry: None, data: None, step: Array, key: Array) -> tuple[Array, None]:
        k_batch, k_net = jax.random.split(key)
        x, target = batch(k_batch, self.batch_size, self.task.length)
        _, y = jlstm.unroll(self.net, params, x, key=k_net if self.noisy else None)
        return jnp.mean((y[:, 0] - target) ** 2), None  # y is [B, 1]: [B, 1] - [B] would be [B, B]

    @cached_property
    def held_out(self) -> tuple[Array, Array]:
        """The inputs `[held_out, T, 2]` and targets `[held_out]`."""
        return jax.jit(batch, static_argnums=(1, 2))(jax.random.key(TEST_SEED), self.task.held_out, self.task.length)

    def evaluate(self, params: Any, data: tuple[Array, Array]) -> Array:
        def squared_error(example: tuple[Array, Array]) -> Array:
            x, target = example
            return (jlstm.unroll(self.net, params, x)[1][0] - target) ** 2

        # In batches: the gates of all the test sequences at once would take a gigabyte.
        return jnp.mean(jax.lax.map(squared_error, data, batch_size=256))

    def baselines(self) -> dict[str, float]:
        return {"always 1": float(jnp.mean((1.0 - self.held_out[1]) ** 2))}

    def findings(self, params: Any, key: Array) -> Findings:
        return Findings()

    def example(self) -> Example:
        x = np.asarray(self.held_out[0][0])
        return Example(x, {"number": x[:, 0], "mark": x[:, 1]})
