"""Gather runs into one table, one row per run, with means over seeds: `python -m experiments.table runs/adding`.

The run.json files of all runs and sweeps under the directories are read, so an array job of single seeds gives the same
table as a sweep. table.csv and table.jsonl are written into the first directory, or into `--out`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from experiments import config, report
from experiments.schema import NO_NUMBERS, PLAIN_MODEL

REPLICATES = ("train.seed", "task.fold")  # runs that differ only in these repeat one setting
Row = dict[str, Any]


def rows(paths: Iterable[Path]) -> list[Row]:
    """Return a row for each member of each run under `paths`, sorted by directory; `config` is its flat config."""
    files = sorted({file for path in paths for file in path.rglob("run.json")})
    return [row for file in files for row in _rows_of(file)]


def _rows_of(file: Path) -> list[Row]:
    record = json.loads(file.read_text(encoding="utf-8"))
    flat = {
        f"{table}.{key}": value
        for table, keys in (record["config"] | {"model": PLAIN_MODEL | record["config"].get("model", {})}).items()
        if table not in (*NO_NUMBERS, "sweep")
        for key, value in keys.items()
    }
    result = record.get("result")
    if result is None:
        return [{"run": str(file.parent), "status": record["status"], "config": flat}]
    shared = {key: result[key] for key in ("measure", "unit", "steps", "seconds")}
    return [
        {
            "run": str(file.parent),
            "status": "finished" if member["diverged_at"] is None else "diverged",
            "config": flat | {key: value for key, value in member.items() if key in flat},
            "value": member["value"],
            "diverged_at": member["diverged_at"],
            **shared,
            **{key: value for key, value in member.items() if key not in flat and key not in ("value", "diverged_at")},
        }
        for member in result["members"]
    ]


def varied(rows: Sequence[Row]) -> list[str]:
    """Return the config's keys in which the rows differ, or else the seed."""
    keys = dict.fromkeys(key for row in rows for key in row["config"])
    different = [key for key in keys if len({_text(row["config"].get(key)) for row in rows}) > 1]
    return [*(key for key in different if key not in REPLICATES), *(k for k in REPLICATES if k in different)] or [
        "train.seed"
    ]


def flat(rows: Sequence[Row]) -> list[Row]:
    """Return the rows to write, with `config` replaced by the varied keys."""
    keys = varied(rows)
    return [
        {"run": row["run"], "status": row["status"], **{key: row["config"].get(key) for key in keys}}
        | {key: value for key, value in row.items() if key not in ("run", "status", "config")}
        for row in rows
    ]


def groups(rows: Sequence[Row]) -> list[Row]:
    """Merge rows that differ only in REPLICATES: mean, sample standard deviation, least and greatest value."""
    keys = [key for key in varied(rows) if key not in REPLICATES]
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(_text(row["config"].get(key)) for key in keys), []).append(row)
    made = []
    for members in found.values():
        values = [row["value"] for row in members if row.get("value") is not None]
        made.append({
            **{key: members[0]["config"].get(key) for key in keys},
            "measure": next((f"{row['measure']} [{row['unit']}]" for row in members if "measure" in row), ""),
            "runs": len(members),
            "diverged": sum(row["status"] == "diverged" for row in members),
            "unfinished": sum(row["status"] not in ("diverged", "finished") for row in members),
            "mean": statistics.fmean(values) if values else math.nan,
            "std": statistics.stdev(values) if len(values) > 1 else math.nan,
            "min": min(values, default=math.nan),
            "max": max(values, default=math.nan),
        })  # fmt: skip
    return sorted(made, key=lambda group: [_rank(group[k]) for k in keys])


def _rank(value: Any) -> tuple[str, Any]:
    """Return a key that sorts numbers by size. The values of a column have one type, or are None if a task lacks it."""
    return str(type(value)), _text(value) if isinstance(value, list | None) else value


def gather(paths: Sequence[Path], to: Console, *, write: Path) -> None:
    """Print the groups, and write table.csv and table.jsonl into the directory `write`."""
    found = rows(paths)
    if not found:
        raise config.UsageError(f"{', '.join(map(str, paths))}: expected run directories, found no run.json there.")
    lines = flat(found)
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with open(write / "table.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)
    (write / "table.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    grouped = groups(found)
    names = [name for name in grouped[0] if name not in ("diverged", "unfinished") or any(g[name] for g in grouped)]
    shown = Table(box=box.SIMPLE_HEAD)
    for name in names:
        shown.add_column(name.partition(".")[2] or name, justify="left" if name == "measure" else "right", no_wrap=True)
    for group in grouped:
        shown.add_row(*(_cell(group[name]) for name in names))
    # Full width: a table cut to the width of a terminal shows no numbers.
    Console(file=to.file, width=1000, highlight=False).print(shown)
    to.print(f"{len(found)} runs: {write / 'table.csv'}, {write / 'table.jsonl'}", markup=False)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.5g}"
    return str(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code."""
    parse = argparse.ArgumentParser(prog="python -m experiments.table", description=(__doc__ or "").partition("\n")[0])
    parse.add_argument("directories", nargs="+", type=Path, help="such as runs/adding; searched for runs at any depth")
    parse.add_argument("--out", type=Path, help="directory of table.csv and table.jsonl; default: the first one")
    args = parse.parse_args(argv)
    try:
        gather(args.directories, report.console(), write=args.out or args.directories[0])
    except (config.UsageError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
