"""SIGTERM, SIGUSR1 and Ctrl-C ask a run to save and stop. They never interrupt it in the middle of a step."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

# Slurm sends SIGUSR1 before the time limit (--signal=B:USR1@120). Not every platform has it.
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")


class Signals:
    """A context that handles signals. `received` is the first one or None. A second Ctrl-C raises KeyboardInterrupt."""

    received: signal.Signals | None = None

    def __enter__(self) -> Signals:
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # Python allows no handlers elsewhere
            numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
            self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return  # a SIGTERM after a SIGUSR1 must not stop the save
        self.received = signal.Signals(number)
        # Not print: a handler may run in the middle of another print.
        os.write(2, f"\n{self.received.name}: saving after this call. Ctrl-C again stops at once.\n".encode())
