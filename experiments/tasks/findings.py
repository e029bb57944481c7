"""The results that a task returns for files and pictures, in plain NumPy without jax."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class ByLength(NamedTuple):
    """The measure at each of `lengths` `[L]`; the net was trained on lengths up to `trained_to`."""

    lengths: np.ndarray
    values: np.ndarray
    trained_to: int


class Forecast(NamedTuple):
    """A series and the net's forecast of it from `ahead` steps before: `times`, `truth`, `predicted`, all `[N]`.

    spans: the named parts of the series for the legend, with first and last time: {"training": (1712, 1920)}.
    """

    times: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    spans: dict[str, tuple[float, float]]
    quantity: str  # with its unit, for the axis: "sunspot number"
    time: str  # for the axis: "year"
    ahead: int = 1


class Findings(NamedTuple):
    """The findings of a task; those it lacks are empty. `numbers` go into run.json and the table."""

    numbers: Mapping[str, float] = MappingProxyType({})
    by_length: ByLength | None = None
    forecast: Forecast | None = None
    text: str | None = None


class Example(NamedTuple):
    """One sequence: `inputs` as the net takes them, without a batch axis, and how to draw it.

    rows: the curves above the gates, name -> values `[T]`.   symbols: the names of the T steps, if they are symbols.
    """

    inputs: Any
    rows: dict[str, np.ndarray]
    symbols: tuple[str, ...] = ()
