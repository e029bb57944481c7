"""Which device a run uses, and whether a better one lies idle."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import jax


def describe() -> str:
    """The backend, the kind of device and how many there are: `cpu, 2 cores` or `gpu, NVIDIA H100 x1`."""
    devices = jax.devices()
    platform = devices[0].platform
    if platform == "cpu":
        return f"cpu, {os.cpu_count()} cores"
    return f"{platform}, {devices[0].device_kind} x{len(devices)}"


def nvidia_visible() -> bool:
    """Whether this machine shows an NVIDIA GPU, seen without CUDA."""
    signs = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))
    return any(sign.exists() for sign in signs) or shutil.which("nvidia-smi") is not None


def warning() -> str | None:
    """The line to show when a GPU is there and jax runs on the CPU."""
    if jax.default_backend() != "cpu" or not nvidia_visible():
        return None
    chosen = os.environ.get("JAX_PLATFORMS", "")
    if chosen:
        return f"an NVIDIA GPU is visible, but JAX_PLATFORMS={chosen} keeps jax on the CPU. Type unset JAX_PLATFORMS"
    return 'an NVIDIA GPU is visible, but this jax runs on the CPU. Type pip install -e ".[experiments,cuda13]"'
