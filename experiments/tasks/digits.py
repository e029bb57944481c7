"""Handwritten digits read as a sequence: scikit-learn's 1797 images of 8 x 8 pixels, classified after the last step.

The five stratified folds are the same for every run. Fold k is the test set of `task.fold = k`; a tenth of the other
four is held out to choose the best net, and the rest is the training set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jlstm
from experiments import bundled
from experiments.model import build
from experiments.schema import Config
from experiments.task_schema import Digits
from experiments.tasks.findings import Example, Findings

Array = jax.Array

FOLDS = 5
CLASSES = 10
HELD_OUT = 0.1  # of the four folds that are not the test set
SPLIT_SEED = 1998  # one split for all runs, so that their results can be compared


class Split(NamedTuple):
    """Indices of images, each ascending. Every image is in exactly one part."""

    train: np.ndarray
    held_out: np.ndarray
    test: np.ndarray


def split(labels: np.ndarray, fold: int) -> Split:
    """Return the split of `task.fold = fold`. Every class has its share in all three parts."""
    selection = bundled.module("sklearn.model_selection", "digits")
    folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=SPLIT_SEED).split(labels, labels)
    rest, test = list(folds)[fold]
    train, held_out = selection.train_test_split(
        rest, test_size=HELD_OUT, stratify=labels[rest], random_state=SPLIT_SEED
    )
    return Split(np.sort(train), np.sort(held_out), test)


def sequences(images: np.ndarray, order: str) -> np.ndarray:
    """Return images `[N, 8, 8]` with ink 0 .. 16 as sequences with 0 .. 1: rows `[N, 8, 8]` or pixels `[N, 64, 1]`."""
    scaled = images / np.float32(16)
    return scaled if order == "rows" else scaled.reshape(len(images), -1, 1)


class DigitsTask:
    """An `experiments.tasks.Task`. All images are on the device."""

    loss_name = "cross entropy [nats]"
    measure = "accuracy"
    unit = "%"
    higher_is_better = True
    log_scale = False
    sequences = False

    def __init__(self, config: Config, task: Digits) -> None:
        self.task, self.batch_size, self.noisy = task, config.train.batch_size, config.model.noisy
        images, labels = bundled.digits()
        x = sequences(images, task.order)
        parts = split(labels, task.fold)
        self.data, self.held_out, self.test = ((jnp.asarray(x[part]), jnp.asarray(labels[part])) for part in parts)
        self.length, self.features = x.shape[1:]
        self.net = build(config.model, outputs=CLASSES, memory=self.length)
        self.facts: dict[str, Any] = {
            "source": "scikit-learn's bundled digits",
            "images": len(labels),
            "fold": f"{task.fold} of 0 .. {FOLDS - 1}",
            "split_seed": SPLIT_SEED,
            **{f"{name}_images": len(part) for name, part in parts._asdict().items()},
        }

    def batch_shape(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.batch_size, self.length, self.features), jnp.float32)

    def init(self, key: Array) -> Any:
        return self.net.init(key, self.features)

    def carry(self, params: Any) -> None:
        return None

    def loss(self, params: Any, carry: None, data: Any, step: Array, key: Array) -> tuple[Array, None]:
        x, labels = data
        k_batch, k_net = jax.random.split(key)
        chosen = jax.random.randint(k_batch, (self.batch_size,), 0, len(labels))
        _, logits = jlstm.unroll(self.net, params, x[chosen], key=k_net if self.noisy else None)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen])), None

    def evaluate(self, params: Any, data: Any) -> Array:
        x, labels = data
        _, logits = jlstm.unroll(self.net, params, x)
        return 100 * jnp.mean(jnp.argmax(logits, axis=-1) == labels)

    def baselines(self) -> dict[str, float]:
        (x, labels), (test, truth) = (map(np.asarray, part) for part in (self.data, self.test))
        neighbours = bundled.module("sklearn.neighbors", "digits").KNeighborsClassifier(1)
        neighbours.fit(x.reshape(len(x), -1), labels)
        nearest = neighbours.predict(test.reshape(len(test), -1))
        return {
            "always the most frequent digit": 100 * float(np.mean(truth == np.bincount(labels).argmax())),
            "the nearest training image's digit": 100 * float(np.mean(truth == nearest)),
        }

    def findings(self, params: Any, key: Array) -> Findings:
        return Findings()

    def example(self) -> Example:
        x = np.asarray(self.held_out[0][0])
        name = "ink of the pixel" if self.task.order == "pixels" else "ink of the row, mean of 8 pixels"
        return Example(x, {name: x.mean(axis=-1)})
