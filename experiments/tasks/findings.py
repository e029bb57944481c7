"""What a task hands out to be written down and drawn: plain NumPy, no jax."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class ByLength(NamedTuple):
    """The measure at each of `lengths` `[L]`; the net was trained on those up to `trained_to`."""

    lengths: np.ndarray
    values: np.ndarray
    trained_to: int


class Forecast(NamedTuple):
    """A series and what the net said of it `ahead` steps before: `times`, `truth`, `predicted`, all `[N]`.

    spans names parts of it for the legend, each with its first and last time: {"training": (1712, 1920)}.
    """

    times: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    spans: dict[str, tuple[float, float]]
    quantity: str  # with its unit, for the axis: "sunspot number"
    time: str  # for the axis: "year"
    ahead: int = 1


class Findings(NamedTuple):
    """Each empty where the task has none. `numbers` go into run.json and the table."""

    numbers: Mapping[str, float] = MappingProxyType({})
    by_length: ByLength | None = None
    forecast: Forecast | None = None
    text: str | None = None


class Example(NamedTuple):
    """One sequence: `inputs`, as the net takes them, without a batch axis; and how to draw it.

    rows: what is drawn above the gates, name -> values `[T]`; symbols: names of the T steps, where they are symbols.
    """

    inputs: Any
    rows: dict[str, np.ndarray]
    symbols: tuple[str, ...] = ()
