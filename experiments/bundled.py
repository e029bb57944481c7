"""Data sets that other packages contain; nothing is downloaded. A package is imported when its data is requested."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from experiments.config import UsageError


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's handwritten digits: images `[1797, 8, 8]`, ink 0 .. 16, and labels `[1797]`, 0 .. 9."""
    bunch = module("sklearn.datasets", "digits").load_digits()
    return bunch.images.astype(np.float32), bunch.target.astype(np.int32)


def sunspots(last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return statsmodels' yearly sunspot numbers: years 1700 .. `last` and numbers, both float64 `[N]`."""
    table = module("statsmodels.datasets", "sunspots").sunspots.load_pandas().data
    years, numbers = (table[name].to_numpy(np.float64) for name in ("YEAR", "SUNACTIVITY"))
    return years[years <= last], numbers[years <= last]


def module(name: str, task: str) -> Any:
    """Import the module `name`. Raises UsageError with the install command if its package is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise UsageError(
            f'{task}: expected the package {missing.name}, which is not installed. Type pip install -e ".[experiments]"'
        ) from None
