"""What a run learns. A task is data, a loss and a measure; the training loop knows no more of it than `Task` says."""

from __future__ import annotations

from typing import Any, Protocol

import jax

import jlstm
from experiments.schema import Adding, CharLM, Config
from experiments.tasks import adding, char_lm

Array = jax.Array
PyTree = Any


class Task(Protocol):
    """One task, made from a config by `make`."""

    @property
    def net(self) -> jlstm.Layer:
        """The net, its head included."""
        ...

    @property
    def measure(self) -> str:
        """What loss and evaluation count, for axes and tables: `mean squared error`."""
        ...

    @property
    def unit(self) -> str:
        """The unit of `measure`."""
        ...

    @property
    def log_scale(self) -> bool:
        """Whether `measure` is plotted on a logarithmic axis."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What the data is, for run.json."""
        ...

    @property
    def data(self) -> PyTree:
        """The arrays that `loss` reads; they live on the device and are handed to every call."""
        ...

    @property
    def sequences(self) -> bool:
        """Whether the net answers at every step."""
        ...

    def batch_shape(self) -> jax.ShapeDtypeStruct:
        """The net's input, one batch."""
        ...

    def init(self, key: Array) -> PyTree:
        """The net's parameters."""
        ...

    def carry(self, params: PyTree) -> PyTree:
        """What goes from batch to batch beside the parameters, before the first."""
        ...

    def loss(self, params: PyTree, carry: PyTree, data: PyTree, step: Array, key: Array) -> tuple[Array, PyTree]:
        """The loss of training step `step`, in the unit of `measure`, and the next carry. `key` is this step's."""
        ...

    def evaluate(self, params: PyTree) -> float:
        """The measure on held-out data, all of it."""
        ...

    def baselines(self) -> dict[str, float]:
        """What others reach on the same held-out data."""
        ...

    def sample(self, params: PyTree, key: Array) -> str | None:
        """Something that the trained net writes, if it writes."""
        ...


def make(config: Config) -> Task:
    """The task that [task] names. Reads its data; UsageError where that cannot be read."""
    if isinstance(config.task, Adding):
        return adding.AddingTask(config, config.task)
    assert isinstance(config.task, CharLM)
    return char_lm.CharLMTask(config, config.task)
