"""A lock that allows one process per run directory."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TextIO

from experiments.config import UsageError

try:
    import fcntl
except ImportError:  # Windows has no fcntl: no lock there
    fcntl = None

NAME = "lock"


class Lock:
    """A context that keeps other processes out of this directory. The system frees the lock when the process ends.

    The file is never deleted. Otherwise a third process could lock a new file while a second has the old one open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self) -> None:
        """Raise UsageError with the pid of the process that holds the lock, if any. Writes nothing."""
        if (self.path / NAME).exists():
            with open(self.path / NAME, encoding="utf-8") as file:
                self._take(file, shared=True)

    def __enter__(self) -> Lock:
        self.path.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path / NAME, "a+", encoding="utf-8")
        try:
            self._take(self._file)
        except UsageError:
            self._file.close()
            raise
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        return self

    def _take(self, file: TextIO, *, shared: bool = False) -> None:
        try:
            if fcntl is not None:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(
                f"{self.path}: expected no other process here, process {file.read().strip() or 'unknown'} is running "
                "it. Wait for it, or type run.dir=runs/another."
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
