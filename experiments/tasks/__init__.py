"""The tasks of runs. A task is data, a loss and a measure; the training loop uses only the members of `Task`."""

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
        """The name and unit of `loss` for axes: `cross entropy [nats]`. `measure [unit]` if both are the same."""
        ...

    @property
    def measure(self) -> str:
        """The name of the result of `evaluate`, for axes and tables: `mean squared error`."""
        ...

    @property
    def unit(self) -> str:
        """The unit of `measure`."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """True if a greater `measure` is better."""
        ...

    @property
    def log_scale(self) -> bool:
        """True if `measure` is plotted on a logarithmic axis."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """A description of the data, for run.json."""
        ...

    @property
    def data(self) -> PyTree:
        """The arrays that `loss` reads. They are on the device and are passed to every call."""
        ...

    @property
    def held_out(self) -> PyTree:
        """The arrays that `evaluate` reads during training, which choose the best net."""
        ...

    @property
    def test(self) -> PyTree | None:
        """The arrays that `evaluate` reads once, at the end, for the result; None if `held_out` is the test data."""
        ...

    @property
    def sequences(self) -> bool:
        """True if the net answers at every step."""
        ...

    def batch_shape(self) -> jax.ShapeDtypeStruct:
        """Return the shape of a batch of the net's input."""
        ...

    def init(self, key: Array) -> PyTree:
        """Return initial parameters of the net."""
        ...

    def carry(self, params: PyTree) -> PyTree:
        """Return the initial value of what goes from batch to batch besides the parameters."""
        ...

    def loss(self, params: PyTree, carry: PyTree, data: PyTree, step: Array, key: Array) -> tuple[Array, PyTree]:
        """Return the loss of training step `step` and the next carry. `key` is this step's own and makes the batch."""
        ...

    def evaluate(self, params: PyTree, data: PyTree) -> Array:
        """Return the measure, a scalar, on `held_out` or `test`."""
        ...

    def baselines(self) -> dict[str, float]:
        """Return the scores of other methods on the data of the result, in the unit of `measure`."""
        ...

    def findings(self, params: PyTree, key: Array) -> Findings:
        """Return further results of a trained net, once, at the end."""
        ...

    def example(self) -> Example:
        """Return one sequence, on which the net's gates are drawn."""
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
    """Return the task that [task] names, and read its data. Raises UsageError if the data cannot be read."""
    return TASKS[type(config.task)](config, config.task)
