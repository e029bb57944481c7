"""A stateful language model of bytes. Batch row b reads its own stream of text, window after window, and the state of
the net goes from each window to the next.

Every byte is predicted from those before it. The measure is bits per character on held-out text, each byte once. A byte
that never occurs in the training text is coded as `unknown`, and then as one of the other bytes in 8 bits at most.
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
from experiments import corpus, ngrams
from experiments.config import UsageError
from experiments.model import build
from experiments.schema import Config
from experiments.task_schema import CharLM
from experiments.tasks.findings import Example, Findings

Array = jax.Array

EVALUATION_STREAMS = 64


def streams(ids: np.ndarray, rows: int, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split text `[N]` into `rows` contiguous streams: inputs, targets and weights `[rows, ceil(N / rows)]`.

    inputs are the targets one byte late, with `start` first. The weights are 0 on the padding after the last byte.
    """
    width = -(-len(ids) // rows)
    fill = width * rows - len(ids)
    before = np.concatenate([[start], ids[:-1]])
    inputs, targets = (np.pad(a, (0, fill)).reshape(rows, width).astype(np.int32) for a in (before, ids))
    weights = np.pad(np.ones(len(ids), np.float32), (0, fill)).reshape(rows, width)
    return inputs, targets, weights


def windows(a: np.ndarray, length: int) -> np.ndarray:
    """Split `[rows, width]` into `[width / length rounded up, rows, length]`, padded with 0."""
    rows, width = a.shape
    count = -(-width // length)
    return np.pad(a, ((0, 0), (0, count * length - width))).reshape(rows, count, length).swapaxes(0, 1)


class CharLMTask:
    """An `experiments.tasks.Task`. The text is an array on the device."""

    loss_name = "bits per character [bit / byte]"
    measure = "bits per character"
    unit = "bit / byte"
    higher_is_better = False
    log_scale = False
    sequences = True
    test = None

    def __init__(self, config: Config, task: CharLM) -> None:
        self.task, self.batch_size, self.noisy = task, config.train.batch_size, config.model.noisy
        try:
            self.corpus = corpus.load(config.data.path)
        except (OSError, ValueError) as error:
            raise UsageError(str(error)) from None
        self.unknown = len(self.corpus.vocabulary)
        self.size = self.unknown + 1
        need = self.batch_size * task.length
        if len(self.corpus.train) < need:
            raise UsageError(
                f"data.path: expected at least train.batch_size * task.length = {need} bytes of training text, "
                f"got {len(self.corpus.train)}. Type for example train.batch_size=4 task.length=32."
            )
        embed = jlstm.Embed(self.size, task.embed_size)
        self.net = build(config.model, outputs=self.size, memory=task.length, embed=embed)
        self.facts: dict[str, Any] = {
            "source": self.corpus.source,
            "files": self.corpus.files,
            "bytes": self.corpus.n_bytes,
            "sha256": self.corpus.sha256,
            "vocabulary": self.unknown,
            "train_bytes": len(self.corpus.train),
            "held_out_bytes": len(self.corpus.held_out),
        }
        # Whole windows only: the text after the last one, less than one batch, is not used for training.
        used = len(self.corpus.train) // need * need
        inputs, targets, _ = streams(self.corpus.encode(self.corpus.train)[:used], self.batch_size, self.unknown)
        self.data = jnp.asarray(windows(inputs, task.length)), jnp.asarray(windows(targets, task.length))
        # The bits that say which byte outside the vocabulary an unknown byte is.
        self.unknown_bits = math.log2(max(1, 256 - self.unknown))

    def batch_shape(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.batch_size, self.task.length), jnp.int32)

    def init(self, key: Array) -> Any:
        return self.net.init(key)

    def carry(self, params: Any) -> Any:
        return self.net.initial_state(params, (self.batch_size,))

    def loss(self, params: Any, carry: Any, data: Any, step: Array, key: Array) -> tuple[Array, Any]:
        inputs, targets = data
        window = step % len(inputs)
        # After the last window comes the first, which starts from the initial state.
        state = jax.tree.map(lambda first, s: jnp.where(window == 0, first, s), self.carry(params), carry)
        nats, state = self._nats(params, state, inputs[window], targets[window], key if self.noisy else None)
        return jnp.mean(nats) / math.log(2), state

    def _nats(self, params: Any, state: Any, x: Array, target: Array, key: Array | None = None) -> tuple[Array, Any]:
        """Return the cost of every byte `[B * T]`, and the state after them."""
        state, y = jlstm.unroll(self.net, params, x, state=state, return_sequences=True, key=key)
        logits = jlstm.flatten_time(y)  # [B * T, V]
        return optax.softmax_cross_entropy_with_integer_labels(logits, target.reshape(-1)), state

    @cached_property
    def held_out(self) -> tuple[Array, Array, Array]:
        """The inputs, targets and weights of the held-out text, all `[windows, rows, T]`."""
        ids = self.corpus.encode(self.corpus.held_out)
        rows = min(EVALUATION_STREAMS, -(-len(ids) // self.task.length))
        x, target, weight = (jnp.asarray(windows(a, self.task.length)) for a in streams(ids, rows, self.unknown))
        return x, target, weight

    def evaluate(self, params: Any, data: tuple[Array, Array, Array]) -> Array:
        def window(state: Any, arrays: tuple[Array, Array, Array]) -> tuple[Any, Array]:
            x, target, weight = arrays
            nats, state = self._nats(params, state, x, target)
            bits = nats / math.log(2) + (target.reshape(-1) == self.unknown) * self.unknown_bits
            return state, jnp.sum(bits * weight.reshape(-1))

        first = self.net.initial_state(params, (data[0].shape[1],))
        return jnp.sum(jax.lax.scan(window, first, data)[1]) / jnp.sum(data[2])

    def baselines(self) -> dict[str, float]:
        return ngrams.baselines(self.corpus.train, self.corpus.held_out)

    def findings(self, params: Any, key: Array) -> Findings:
        return Findings(text=self._sample(params, key))

    def example(self) -> Example:
        ids = np.asarray(self.held_out[1][0, 0])
        return Example(ids, {}, tuple(self.corpus.decode([i]) for i in ids))

    def _sample(self, params: Any, key: Array) -> str:
        """Sample `sample_length` bytes from the net, from the initial state on, with one `jlstm.step` each."""

        def write(carry: tuple[Any, Array], key: Array) -> tuple[tuple[Any, Array], Array]:
            state, byte = carry
            state, logits = jlstm.step(self.net, params, state, byte)
            # `unknown` is not a byte that can be printed.
            byte = jax.random.categorical(key, logits[: self.unknown] / self.task.temperature).astype(jnp.int32)
            return (state, byte), byte

        first = self.net.initial_state(params), jnp.int32(self.unknown)
        _, ids = jax.jit(lambda keys: jax.lax.scan(write, first, keys))(jax.random.split(key, self.task.sample_length))
        return self.corpus.decode(np.asarray(ids))
