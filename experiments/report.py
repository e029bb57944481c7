"""The output of a run: a bar with loss and steps/s, plain lines if the output is not a terminal, and the result."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from experiments.sweep import TRACED

SECONDS_BETWEEN_LINES = 10.0
SHOWN = ("train.seed", *TRACED)


def console() -> Console:
    """Return a console for standard output. It is made anew for every run, so that a redirected stdout is used."""
    return Console(highlight=False, soft_wrap=True)


class Progress:
    """The progress of a run. Use it as a context; call `begin` first, then `advance` after every device call."""

    def __init__(self, to: Console) -> None:
        self.console = to
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=to,
            disable=not to.is_terminal,
        )

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, step: int, steps: int) -> None:
        """Start the bar with `step` of `steps` done."""
        self.steps, self.loss = steps, float("nan")
        self.mark: tuple[int, float] | None = None
        self.last_line = time.monotonic()
        self.task = self.bar.add_task("compiling", total=steps, completed=step, text="")

    def advance(self, step: int, loss: float, *, quiet: bool = False) -> None:
        """Show that `step` steps are done with this mean loss. quiet: print no line, since another follows at once."""
        now = time.monotonic()
        self.mark = self.mark or (step, now)  # the first call compiles, so the rate counts from its end
        self.loss = loss
        self.bar.update(self.task, completed=step, description="training", text=self._numbers(step, now))
        if not (quiet or self.console.is_terminal) and now - self.last_line > SECONDS_BETWEEN_LINES:
            self._line(step, self._numbers(step, now))

    def evaluated(self, step: int, value: float) -> None:
        """Print a line for an evaluation on held-out data."""
        self._line(step, f"{self._numbers(step, time.monotonic())}  held-out {value:.5g}")

    def _numbers(self, step: int, now: float) -> str:
        first, then = self.mark or (step, now)
        rate = f"  {(step - first) / (now - then):.1f} steps/s" if step > first else ""
        return f"loss {self.loss:.5g}{rate}"

    def _line(self, step: int, text: str) -> None:
        self.last_line = time.monotonic()
        self.console.print(f"step {step}/{self.steps}  {text}")


def show_result(to: Console, path: Path, record: dict[str, Any]) -> None:
    """Print the numbers of a finished run and the baselines, best first, and the files of the run."""
    result = record["result"]
    unit = result["unit"]
    if (path / "sample.txt").exists():
        to.print(f"\nsample:\n{(path / 'sample.txt').read_text(encoding='utf-8')}", markup=False)
    to.print(f"\n{result['measure']} [{unit}] after {result['steps']} steps, {result['seconds']:.0f} s", markup=False)
    ours = {_name(row, len(result["members"])): row["value"] for row in result["members"]}
    rows = {name: value for name, value in ours.items() if value is not None} | record["baselines"]
    for name, value in sorted(rows.items(), key=lambda row: row[1], reverse=result["higher_is_better"]):
        to.print(f"  {name:32}{value:10.4f}", style="bold" if name in ours else "", markup=False)
    for row in result["members"]:
        if row["diverged_at"] is not None:
            to.print(f"  {_name(row, 2):32}diverged at step {row['diverged_at']}", style="red", markup=False)
    to.print(f"{path}: {', '.join(sorted(file.name for file in path.iterdir()))}", markup=False)


def _name(row: dict[str, Any], members: int) -> str:
    """Return a name that identifies a member: its seed and its values."""
    if members == 1:
        return "this run"
    return ", ".join(f"{key.partition('.')[2]} {value:g}" for key, value in row.items() if key in SHOWN)
