"""What a run learns. A task is data, a loss and a measure; the training loop knows no more of it than `Task` says."""

from __future__ import annotations

from typing import Any, Protocol

import jax

import jlstm
from experiments import task_schema as schema
from experiments.schema import Config
from experiments.tasks import (
    adding,
    char_lm,
    copy_memory,
    csv_forecast,
    digits,
    formal_languages,
    reber,
    sunspots,
    temporal_order,
)
from experiments.tasks.findings import Example, Findings

Array = jax.Array
PyTree = Any


class Task(Protocol):
    """One task, made from a config by `make`.

    `init`, `carry`, `loss` and `evaluate` are pure functions of arrays: a sweep maps them over its members.
    """

    @property
    def net(self) -> jlstm.Layer:
        """The net, its head included."""
        ...

    @property
    def loss_name(self) -> str:
        """What `loss` is, with its unit, for axes: `cross entropy [nats]`. Equal to `measure [unit]` where it is it."""
        ...

    @property
    def measure(self) -> str:
        """What `evaluate` counts, for axes and tables: `mean squared error`."""
        ...

    @property
    def unit(self) -> str:
        """The unit of `measure`."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether a greater `measure` is the better one."""
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
    def held_out(self) -> PyTree:
        """The arrays that `evaluate` reads while training, to choose by."""
        ...

    @property
    def test(self) -> PyTree | None:
        """The arrays that `evaluate` reads once, in the end, for the result; None: `held_out` is the test."""
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
        """The loss of training step `step` and the next carry. `key` is this step's: batches are made from it."""
        ...

    def evaluate(self, params: PyTree, data: PyTree) -> Array:
        """The measure, a scalar, on `held_out` or `test`."""
        ...

    def baselines(self) -> dict[str, float]:
        """What others reach on the data of the result, in the unit of `measure`."""
        ...

    def findings(self, params: PyTree, key: Array) -> Findings:
        """What else a trained net shows, once, in the end."""
        ...

    def example(self) -> Example:
        """One sequence to look at, through the net's gates."""
        ...


TASKS: dict[type[schema.Table], Any] = {
    schema.Adding: adding.AddingTask,
    schema.CharLM: char_lm.CharLMTask,
    schema.CopyMemory: copy_memory.CopyMemoryTask,
    schema.TemporalOrder: temporal_order.TemporalOrderTask,
    schema.Reber: reber.ReberTask,
    schema.FormalLanguage: formal_languages.FormalLanguageTask,
    schema.Digits: digits.DigitsTask,
    schema.Sunspots: sunspots.SunspotsTask,
    schema.CSV: csv_forecast.CSVTask,
}


def make(config: Config) -> Task:
    """The task that [task] names. Reads its data; UsageError where that cannot be read."""
    return TASKS[type(config.task)](config, config.task)
