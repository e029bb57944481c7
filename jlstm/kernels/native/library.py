"""The shared library of the native kernel: find it, load it, and register its handlers with XLA."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

import jax

from jlstm import checks

LIBRARY = Path(__file__).with_name("libjlstm_native.so")
HANDLERS = ("jlstm_lstm_forward", "jlstm_lstm_backward")


@functools.cache
def load() -> tuple[str | None, str]:
    """Load the library once: (the instruction set, ""), or (None, why it cannot be used).

    Raises ValueError if `JLSTM_NATIVE_TARGET` names no instruction set of this processor.
    """
    if not LIBRARY.exists():
        return None, "was not built: install a C++ compiler, such as g++, and then jlstm again"
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        return None, f"does not load: {error}"
    library.jlstm_native_targets.restype = ctypes.c_char_p
    targets = tuple(library.jlstm_native_targets().decode().split())
    named = os.environ.get("JLSTM_NATIVE_TARGET") or targets[0]
    checks.choice("kernels", "JLSTM_NATIVE_TARGET", named, targets)
    for name in HANDLERS:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    return named, ""
