"""Read columns of numbers from the user's CSV file. Each mistake is one line with its place and the correction."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.config import UsageError

SHOWN = 5  # at most this many mistakes of one file
TOO_LARGE = 1e100  # its square is still finite

# float() also accepts "1_000", "nan" and digits of other scripts.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


def read(path: str, columns: Sequence[tuple[str, str]], delimiter: str = ",") -> dict[str, np.ndarray]:
    """Read the columns `(key of the config, name)`; return float64 `[rows]` by name.

    The first line has the names. Numbers have a decimal point; the other columns may contain anything.
    Raises UsageError for a missing file, text that is not UTF-8, no header, an unknown or repeated name, a row with
    another number of fields, and a cell that is empty, not a number or not finite.
    """
    lines = _lines(path, delimiter)
    if not lines:
        raise UsageError(
            f"{path}: line 1: expected the names of the columns, got an empty file. Write a,b for example."
        )
    names = lines[0][1]
    _check_names(path, names, columns)
    wanted = {name: names.index(name) for _, name in columns}
    problems: list[str] = []
    cells: dict[str, list[float]] = {name: [] for name in wanted}
    for number, fields in lines[1:]:
        if len(fields) != len(names):
            came = f"{len(fields)}" if fields else "an empty line"
            problems.append(
                f"{path}: line {number}: expected {len(names)} fields, as in line {lines[0][0]}, got {came}. "
                "Correct or remove that line."
            )
            continue
        for name, at in wanted.items():
            value = _number(fields[at])
            if isinstance(value, float):
                cells[name].append(value)
            else:
                problems.append(f'{path}: line {number}, column "{name}": {value}')
    if len(problems) > SHOWN:
        rest = len(problems) - SHOWN
        problems[SHOWN:] = [f"{path}: {rest} more {'mistake' if rest == 1 else 'mistakes'} of these kinds."]
    if problems:
        raise UsageError(*problems)
    return {name: np.array(values, np.float64) for name, values in cells.items()}


def _lines(path: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return every row with the number of its last line in the file, without the empty lines at the end."""
    if not path:
        raise UsageError("data.path: expected a CSV file, got nothing. Type data.path=/path/to/table.csv.")
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(
            f"data.path: expected a CSV file, got {path!r}: {error.strerror}. Type data.path=/path/to/table.csv."
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}: line {line}: expected UTF-8 text, got the byte 0x{data[error.start]:02X}. "
            "Type iconv -f latin1 -t utf-8 OLD > NEW.csv (or its true encoding), then data.path=NEW.csv."
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        lines += ((reader.line_num, [field.strip() for field in fields]) for fields in reader)
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: expected CSV, got: {error}. Correct that line.") from None
    while lines and not lines[-1][1]:
        lines.pop()
    return lines


def _check_names(path: str, names: list[str], columns: Sequence[tuple[str, str]]) -> None:
    problems = []
    for key, name in columns:
        if name not in names:
            problems.append(f'{key}: expected a column of {path}, got "{name}". {_suggest(name, names)}')
        elif names.count(name) > 1:
            places = " and ".join(str(at + 1) for at, other in enumerate(names) if other == name)
            problems.append(
                f'{path}: line 1: expected one column "{name}", got {names.count(name)}, columns {places}. '
                "Rename all but one."
            )
    if problems:
        raise UsageError(*dict.fromkeys(problems))


def _suggest(name: str, names: list[str]) -> str:
    other = next((d for d in ";\t|," if len(names) == 1 and d in names[0]), None)
    near = difflib.get_close_matches(name, names, n=1)
    if other:
        return f"Its first line is {names[0]!r}. Type 'task.delimiter={json.dumps(other)}'."
    if all(NUMBER.fullmatch(name) for name in names):
        return "Its first line has numbers only. Write a line with the names of the columns above it."
    if near:
        return f'Did you mean "{near[0]}"?'
    return f"It has {', '.join(json.dumps(name, ensure_ascii=False) for name in names)}."


def _number(cell: str) -> float | str:
    """Return the number, or a message about the mistake."""
    if NUMBER.fullmatch(cell) and abs(float(cell)) < TOO_LARGE:
        return float(cell)
    if not cell:
        return "expected a number, got an empty cell. Fill it in or remove that line."
    shown = cell if len(cell) <= 40 else f"{cell[:37]}..."
    if NOT_FINITE.fullmatch(cell):
        return f'expected a finite number, got "{shown}". Fill in a number or remove that line.'
    if NUMBER.fullmatch(cell):
        return f'expected a number below {TOO_LARGE:g}, got "{shown}". Change the unit of that column.'
    if NUMBER.fullmatch(cell.replace(",", ".")):
        return f'expected a number with a decimal point, got "{shown}". Type {cell.replace(",", ".")}'
    return f'expected a number, got "{shown}". Correct or remove that line.'
