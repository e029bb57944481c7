"""The shared library of the native kernel: find it, load it, and register its handlers with XLA."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import jax

LIBRARY = Path(__file__).with_name("libjlstm_native.so")
HANDLERS = ("jlstm_lstm_forward", "jlstm_lstm_backward")


@functools.cache
def load() -> tuple[str | None, str]:
    """Load the library once: (the instruction set, ""), or (None, why it cannot be used)."""
    if not LIBRARY.exists():
        return None, "it was not built: pip found no C++ compiler when it installed jlstm"
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        return None, f"it does not load: {error}"
    for name in HANDLERS:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    library.jlstm_native_target.restype = ctypes.c_char_p
    return library.jlstm_native_target().decode(), ""
