"""One small run of the experiments, which all tests of the runner share, and so its compiled programs, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.run import CONFIGS

ADDING = str(CONFIGS / "adding.toml")
TINY = [
    "task.length=8", "task.held_out=16", "model.hidden_size=4", "model.dropout=0.1", "train.batch_size=4",
    "train.steps=6", "train.steps_per_call=2", "train.eval_every=3", "checkpoint.every=3",
]  # fmt: skip


def lines(file: str | Path) -> list[dict[str, Any]]:
    """JSON lines, strictly: NaN is none."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return [json.loads(line, parse_constant=refuse) for line in Path(file).read_text().splitlines()]
