"""What a disk that cannot be written to looks like, from the standard library and from orbax."""

from __future__ import annotations

import errno
import os

# A disk that is full or may not be written to; any other OSError is a bug, and keeps its traceback.
REFUSALS = {
    code: os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)
}


def refusal(error: BaseException) -> str | None:
    """The system's words where a disk refused to be written to, None where something else went wrong."""
    if isinstance(error, OSError) and error.errno in REFUSALS:
        where = f": {error.filename}" if error.filename else ""
        return f"{REFUSALS[error.errno]}{where}"
    # orbax's C++ raises ValueError and the like, with the system's words inside.
    return next((words for words in REFUSALS.values() if words in str(error)), None)


def reason(error: BaseException) -> str:
    """Any error in a short line."""
    text = " ".join(str(error).split())
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."
