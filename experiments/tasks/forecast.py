"""The common parts of forecasting tasks. A window of a series is the input, the target `horizon` rows later the output.

The row of a window's target decides if it is training, held-out or test data. A test window may begin in the training
rows, since the past is known. Training, standardisation and fits never read a row of a later part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jlstm
from experiments.model import build
from experiments.schema import Config
from experiments.tasks.findings import Example, Forecast

Array = jax.Array


class Span(NamedTuple):
    """Rows `start` to `stop`, without `stop`."""

    start: int
    stop: int


class Series(NamedTuple):
    """One row per time step, in the units of the data. Training, held-out and test rows follow each other."""

    times: np.ndarray  # [N]
    inputs: np.ndarray  # [N, D], float64
    target: np.ndarray  # [N], float64
    length: int  # of a window
    horizon: int
    train: Span
    held_out: Span
    test: Span

    def ends(self, span: Span) -> np.ndarray:
        """Return `[n]`, one end for each target in `span` with a whole window: rows `end - length` to `end - 1`."""
        first = max(span.start, self.length + self.horizon - 1)
        return np.arange(first, span.stop) - self.horizon + 1

    def answers(self, span: Span) -> np.ndarray:
        """Return the rows of the targets `[n]`."""
        return self.ends(span) + self.horizon - 1

    def repeated(self, span: Span) -> np.ndarray:
        """Return the forecasts `[n]` that repeat the last known value of the target."""
        return self.target[self.ends(span) - 1]

    def linear(self, fit: Span, span: Span) -> np.ndarray:
        """Return the forecasts `[n]` of a linear map of the window and a constant, fitted to the targets of `fit`."""

        def windows(span: Span) -> np.ndarray:
            rows = self.ends(span)[:, None] + np.arange(-self.length, 0)
            flat = self.inputs[rows].reshape(len(rows), -1)
            return np.concatenate([flat, np.ones((len(rows), 1))], axis=1)

        weights, *_ = np.linalg.lstsq(windows(fit), self.target[self.answers(fit)], rcond=None)
        return windows(span) @ weights

    def mean_squared_error(self, forecasts: np.ndarray, span: Span) -> float:
        return float(np.mean((forecasts - self.target[self.answers(span)]) ** 2))


class Windows(NamedTuple):
    """Standardised rows `[N, D]` and targets `[N]` up to the last answer, and the `ends` `[n]` of the windows."""

    inputs: Array
    target: Array
    ends: Array


class ForecastTask:
    """The common part of an `experiments.tasks.Task` with a `Series`. A subclass adds `score` and `findings`.

    Inputs and target are standardised by mean and deviation of the training rows. With `root` their square roots are
    standardised instead, so that noise that grows with the numbers, as in counts, has a constant size. With
    `difference` the net predicts the difference of the target from its last known value. `noise`, in deviations, is
    added to training inputs.
    """

    higher_is_better = False
    log_scale = False
    sequences = False
    loss_name = "mean squared error [variances of the training targets]"

    def __init__(
        self,
        config: Config,
        series: Series,
        names: list[str],
        difference: bool,
        noise: float = 0.0,
        root: bool = False,
    ) -> None:
        self.series, self.names, self.difference, self.noise, self.root = series, names, difference, noise, root
        self.batch_size, self.noisy = config.train.batch_size, config.model.noisy
        self.net = build(config.model, outputs=1, memory=series.length)
        self.features = series.inputs.shape[1]
        past = slice(series.train.start, series.train.stop)
        inputs, target = (np.sqrt(a) if root else a for a in (series.inputs, series.target))
        deviations = inputs[past].std(axis=0)
        # A constant column has no information and becomes 0.
        scaled = (inputs - inputs[past].mean(axis=0)) / np.where(deviations > 0, deviations, 1.0)
        self.mean, self.deviation = float(target[past].mean()), float(target[past].std())
        self._arrays = scaled.astype(np.float32), ((target - self.mean) / self.deviation).astype(np.float32)
        self.data, self.held_out, self.test = map(self.windows, (series.train, series.held_out, series.test))

    def windows(self, span: Span) -> Windows:
        """Return the windows whose targets are in `span`, without any later row."""
        inputs, target = (jnp.asarray(a[: span.stop]) for a in self._arrays)
        return Windows(inputs, target, jnp.asarray(self.series.ends(span), jnp.int32))

    def batch_shape(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.batch_size, self.series.length, self.features), jnp.float32)

    def init(self, key: Array) -> Any:
        return self.net.init(key, self.features)

    def carry(self, params: Any) -> None:
        return None

    def loss(self, params: Any, carry: None, data: Windows, step: Array, key: Array) -> tuple[Array, None]:
        k_batch, k_noise, k_net = jax.random.split(key, 3)
        ends = data.ends[jax.random.randint(k_batch, (self.batch_size,), 0, len(data.ends))]
        x = self._inputs(data, ends)
        if self.noise:
            x += self.noise * jax.random.normal(k_noise, x.shape)
        forecasts = self._forecasts(params, data, ends, x, k_net if self.noisy else None)
        return jnp.mean((forecasts - data.target[ends + self.series.horizon - 1]) ** 2), None

    def _inputs(self, data: Windows, ends: Array) -> Array:
        return data.inputs[ends[:, None] + jnp.arange(-self.series.length, 0)[None, :]]

    def _forecasts(self, params: Any, data: Windows, ends: Array, x: Array, key: Array | None = None) -> Array:
        """Return the standardised forecasts `[n]` of windows x `[n, T, D]`."""
        _, y = jlstm.unroll(self.net, params, x, key=key)
        return y[:, 0] + (data.target[ends - 1] if self.difference else 0.0)

    def forecasts(self, params: Any, data: Windows) -> Array:
        """Return the standardised forecasts `[n]` of all windows."""

        def one(end: Array) -> Array:
            return self._forecasts(params, data, end[None], self._inputs(data, end[None]))[0]

        return jax.lax.map(one, data.ends, batch_size=1024)  # all windows of a long series need many times its memory

    def score(self, mean_squared_error: Any) -> Any:
        """Return the measure from an error in squared units of the target."""
        raise NotImplementedError

    def evaluate(self, params: Any, data: Windows) -> Array:
        forecasts, answers = self.forecasts(params, data), data.target[data.ends + self.series.horizon - 1]
        if self.root:
            return self.score(jnp.mean((self.own_units(forecasts) - self.own_units(answers)) ** 2))
        return self.score(self.deviation**2 * jnp.mean((forecasts - answers) ** 2))  # no difference of large numbers

    def own_units(self, standardised: Any) -> Any:
        """Return standardised values in the units of the target."""
        value = self.mean + self.deviation * standardised
        return value.clip(0) ** 2 if self.root else value

    def forecast(self, params: Any, *, quantity: str, time: str, spans: dict[str, Span]) -> Forecast:
        """Return the net's forecast of every row that has a whole window before it."""
        everything = Span(self.series.train.start, self.series.test.stop)
        answers = self.series.answers(everything)
        predicted = np.asarray(jax.jit(self.forecasts)(params, self.windows(everything)), np.float64)
        times = self.series.times
        named = {}
        for name, span in spans.items():
            rows = self.series.answers(span)
            named[name] = float(times[rows[0]]), float(times[rows[-1]])
        own = self.own_units(predicted)
        return Forecast(times[answers], self.series.target[answers], own, named, quantity, time, self.series.horizon)

    def baselines(self) -> dict[str, float]:
        """Return the baselines. The linear one is fitted on all rows before the test; it needs no held-out data."""
        test, before = self.series.test, Span(self.series.train.start, self.series.held_out.stop)
        forecasts = {"repeat the last value": self.series.repeated(test), "linear": self.series.linear(before, test)}
        return {name: float(self.score(self.series.mean_squared_error(each, test))) for name, each in forecasts.items()}

    def example(self) -> Example:
        """Return the last held-out window, drawn in its own units."""
        end = int(self.series.ends(self.series.held_out)[-1])
        rows = slice(end - self.series.length, end)
        return Example(self._arrays[0][rows], dict(zip(self.names, self.series.inputs[rows].T, strict=True)))
