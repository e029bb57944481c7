"""One process a run directory."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TextIO

from experiments.config import UsageError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

NAME = "lock"


class Lock:
    """As a context: no other process gets into this directory. The system frees it when a process dies, however.

    The file stays: were it deleted, a third process could lock a new one beside a second that waits for the old.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self) -> None:
        """UsageError with the other's pid where a process is in; writes nothing."""
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
