"""The files of a run: `benchmark.md`, `benchmark.json`, and a PNG for each section with a chart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.benchmark import charts, markdown
from experiments.benchmark.results import Result, Row


def title(about: Mapping[str, Any]) -> str:
    """Return device and versions in one line."""
    versions = about["versions"]
    where = f"{about['device']} ({about['cpu']})" if about["device"].startswith("cpu") else about["device"]
    named = ", ".join(f"{name} {versions[name]}" for name in versions if name not in ("jaxlib", "numpy", "python"))
    return f"{where}, {about['dtype']}; {named}; Python {versions['python']}; {about['date'][:10]}"


def write(folder: Path, results: Mapping[str, Result], about: Mapping[str, Any], sections: tuple[str, ...]) -> str:
    """Write all files and return the Markdown. Charts of an earlier run are deleted, since they show other numbers."""
    if (folder / "benchmark.json").exists():
        for section in sections:
            (folder / f"{section}.png").unlink(missing_ok=True)
    page = markdown.page(results.values(), about, title(about))
    (folder / "benchmark.md").write_text(page, encoding="utf-8")
    record = {**about, "sections": {name: _plain(result) for name, result in results.items()}}
    (folder / "benchmark.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, result in results.items():
        if result.chart:
            charts.bars(folder / f"{name}.png", result, title(about))
    return page


def _plain(result: Result) -> dict[str, Any]:
    return {**result._asdict(), "rows": [_row(row) for row in result.rows]}


def _row(row: Row) -> dict[str, Any]:
    s = row.summary
    return {
        "case": row.case,
        "mode": row.mode,
        "name": row.name,
        "median_seconds": s.median,
        "quartiles_seconds": [s.q1, s.q3],
        "ratio": s.ratio,
        "ratio_quartiles": None if s.ratio_q1 is None else [s.ratio_q1, s.ratio_q3],
        "temporaries_bytes": row.temporaries,
    }
