"""Forecast a column of the user's CSV file (`data.path`) from the last rows of some columns.

The rows are in the order of time. The end of the file is the test set, the rows before it are held out, and the rest is
the training set. The columns are standardised by the training set alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import csv_file
from experiments.config import UsageError
from experiments.schema import Config
from experiments.task_schema import CSV
from experiments.tasks.findings import Findings
from experiments.tasks.forecast import ForecastTask, Series, Span

Array = jax.Array


class CSVTask(ForecastTask):
    """An `experiments.tasks.Task`. Errors are in the units of the target."""

    measure = "root mean squared error"

    def __init__(self, config: Config, task: CSV) -> None:
        path, names = config.data.path, task.inputs or [task.target]
        wanted = [("task.target", task.target), *(("task.inputs", name) for name in task.inputs)]
        columns = csv_file.read(path, wanted, task.delimiter)
        target = columns[task.target]
        parts = _parts(path, len(target), task)
        varied = target[parts[0].start : parts[0].stop]
        if np.ptp(varied) == 0:
            raise UsageError(
                f'{path}: column "{task.target}": expected numbers that vary in the {len(varied)} training rows, '
                f"got {varied[0]:g} in all. Type another task.target."
            )
        inputs = np.stack([columns[name] for name in names], axis=1)
        series = Series(np.arange(1.0, len(target) + 1), inputs, target, task.length, task.horizon, *parts)
        super().__init__(config, series, names, task.difference, task.noise)
        self.target_name = task.target
        self.unit = f"units of {task.target}"
        self.facts: dict[str, Any] = {
            "source": path,
            "sha256": hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest(),
            "rows": len(target),
            "training_rows": parts[0].stop,
            "held_out_rows": parts[1].stop - parts[1].start,
            "test_rows": parts[2].stop - parts[2].start,
        }

    def score(self, mean_squared_error: Any) -> Any:
        return mean_squared_error**0.5

    def findings(self, params: Any, key: Array) -> Findings:
        parts = {"training": self.series.train, "held out": self.series.held_out, "test": self.series.test}
        forecast = self.forecast(params, quantity=self.target_name, time="row", spans=parts)
        variance = float(np.var(self.series.target[self.series.answers(self.series.test)]))
        error = float(jax.jit(self.evaluate)(params, self.test)) ** 2
        numbers = {"ARV test": error / variance} if variance else {}
        return Findings(numbers=numbers, forecast=forecast)


def _parts(path: str, rows: int, task: CSV) -> tuple[Span, Span, Span]:
    """Return the training, held-out and test rows. Raises UsageError if there are too few."""
    test, held_out = (max(1, round(share * rows)) for share in (task.test, task.held_out))
    stop, need = rows - test - held_out, task.length + task.horizon + 1  # two windows, since one has no variance
    if stop < need:
        raise UsageError(
            f"{path}: expected {need} training rows or more (task.length + task.horizon + 1), got {max(stop, 0)} "
            f"of {rows} ({held_out} held out, {test} to test). Type a smaller task.length, task.held_out or task.test."
        )
    return Span(0, stop), Span(stop, stop + held_out), Span(stop + held_out, rows)
