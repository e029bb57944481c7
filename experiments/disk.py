"""Recognise the errors of a disk that cannot be written to, from the standard library and from orbax."""

from __future__ import annotations

import errno
import os

# A disk that is full or not writable. Any other OSError is a bug and keeps its traceback.
REFUSALS = {
    code: os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)
}


def refusal(error: BaseException) -> str | None:
    """Return the system's message if the disk could not be written to, None for any other error."""
    if isinstance(error, OSError) and error.errno in REFUSALS:
        where = f": {error.filename}" if error.filename else ""
        return f"{REFUSALS[error.errno]}{where}"
    # orbax's C++ raises other classes, such as ValueError, with the system's message inside.
    return next((words for words in REFUSALS.values() if words in str(error)), None)


def reason(error: BaseException) -> str:
    """Return any error as one short line."""
    text = " ".join(str(error).split())
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."
