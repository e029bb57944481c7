"""The device that a run uses, and a warning if a GPU is not used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import jax


def describe() -> str:
    """Return the backend, the kind of device and the number of devices: `cpu, 2 cores` or `gpu, NVIDIA H100 x1`."""
    devices = jax.devices()
    platform = devices[0].platform
    if platform == "cpu":
        return f"cpu, {os.cpu_count()} cores"
    return f"{platform}, {devices[0].device_kind} x{len(devices)}"


def nvidia_visible() -> bool:
    """Return True if this machine has an NVIDIA GPU, detected without CUDA."""
    signs = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))
    return any(sign.exists() for sign in signs) or shutil.which("nvidia-smi") is not None


def warning() -> str | None:
    """Return a warning if there is a GPU but jax runs on the CPU, else None."""
    if jax.default_backend() != "cpu" or not nvidia_visible():
        return None
    chosen = os.environ.get("JAX_PLATFORMS", "")
    if chosen:
        return f"an NVIDIA GPU is visible, but JAX_PLATFORMS={chosen} keeps jax on the CPU. Type unset JAX_PLATFORMS"
    return 'an NVIDIA GPU is visible, but this jax runs on the CPU. Type pip install -e ".[experiments,cuda13]"'
