"""Yearly sunspot numbers, one year ahead, by the protocol of Weigend, Huberman & Rumelhart (1990).

The training span is 1700-1920, the test spans are 1921-1955 and 1956-1979. The input is the 12 years before. The
measure is the average relative variance (ARV): the mean squared error divided by 1535, the variance that all papers on
this series use. The last years of the training span are held out to choose the best net.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from experiments import bundled
from experiments.schema import Config
from experiments.task_schema import Sunspots
from experiments.tasks.findings import Findings
from experiments.tasks.forecast import ForecastTask, Series, Span

Array = jax.Array

LAST_TRAINING_YEAR, LAST_YEAR = 1920, 1979
TESTS = (1921, 1955), (1956, 1979)
VARIANCE = 1535.0


class SunspotsTask(ForecastTask):
    """An `experiments.tasks.Task`. The result is the ARV of both test spans together; `findings` has each."""

    measure = "average relative variance"
    unit = "mean squared error / 1535"

    def __init__(self, config: Config, task: Sunspots) -> None:
        self.years, numbers = bundled.sunspots(LAST_YEAR)
        stop = int(np.searchsorted(self.years, LAST_TRAINING_YEAR, side="right"))
        start = stop - task.held_out
        parts = Span(0, start), Span(start, stop), Span(stop, len(numbers))
        series = Series(self.years, numbers[:, None], numbers, task.length, 1, *parts)
        super().__init__(config, series, ["sunspot number"], task.difference, task.noise, task.root)
        self.tests = {f"{a}-{b}": self.span(a, b) for a, b in TESTS}
        self.before = Span(0, stop)
        scores = {"1700-1920": self.before, **self.tests}
        self.facts: dict[str, Any] = {
            "source": "statsmodels' yearly sunspot numbers",
            "linear": {
                name: self.score(series.mean_squared_error(series.linear(self.before, span), span))
                for name, span in scores.items()
            },
        }

    def span(self, first: int, last: int) -> Span:
        """Return the rows of the years `first` to `last`, both included."""
        return Span(*(int(row) for row in np.searchsorted(self.years, (first, last + 1))))

    def score(self, mean_squared_error: Any) -> Any:
        return mean_squared_error / VARIANCE

    def findings(self, params: Any, key: Array) -> Findings:
        spans = {"training": self.series.train, "held out": self.series.held_out}
        tests = {f"test {name}": span for name, span in self.tests.items()}
        evaluate = jax.jit(self.evaluate)
        numbers = {f"ARV {name}": float(evaluate(params, self.windows(span))) for name, span in self.tests.items()}
        forecast = self.forecast(params, quantity="sunspot number", time="year", spans={**spans, **tests})
        return Findings(numbers=numbers, forecast=forecast)
