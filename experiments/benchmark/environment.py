"""The environment of a measurement: versions, device, processor, load."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jlstm
from experiments import device


def cpu() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, jlstm and those of `distributions` that are installed, by name."""
    found = {"python": platform.python_version(), "jlstm": jlstm.__version__}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment(distributions: Iterable[str]) -> dict[str, Any]:
    """Return the environment as plain values for JSON. load_average: of the minute before the run, on Unix."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": device.describe(),
        "cpu": cpu(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions(["jax", "jaxlib", "numpy", *distributions]),
    }
