"""Tasks over data, digits, sunspots and the user's own CSV file: what is in them, and no forecast reads the future."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from experiments import bundled, config, tasks
from experiments.config import UsageError
from experiments.run import CONFIGS, main
from experiments.tasks import digits

TINY = ["model.hidden_size=3", "train.batch_size=4"]
README = (CONFIGS / "data" / "README.md").read_text(encoding="utf-8")


def made(name: str, *overrides: str) -> Any:
    """A small task from its own config."""
    return tasks.make(config.load(str(CONFIGS / f"{name}.toml"), [*TINY, *overrides]).config)


def table(path: Path, rows: int = 40, **changed: float) -> str:
    """A CSV file with a, b = a² and a name; `a39=7` puts a 7 into row 39 of a."""
    a = np.round(np.sin(np.arange(rows)), 3)
    cells = {"a": a, "b": a**2}
    for place, value in changed.items():
        cells[place[0]][int(place[1:])] = value
    lines = [f"{x:.6g},{y:.6g},day {i}" for i, (x, y) in enumerate(zip(*cells.values(), strict=True))]
    path.write_text("\n".join(["a,b,name", *lines]) + "\n")
    return str(path)


def from_table(path: str, *overrides: str) -> Any:
    """The task of a `table`: b two rows on from three rows of a and b."""
    shape = ['task.inputs=["a","b"]', "task.target=b", "task.length=3", "task.horizon=2"]
    return made("csv", f"data.path={path}", *shape, *overrides)


def test_the_folds_of_digits_are_disjoint_and_cover_all() -> None:
    images, labels = bundled.digits()
    assert images.shape == (1797, 8, 8) and images.min() == 0 and images.max() == 16
    assert list(np.bincount(labels)) == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as its authors count them
    splits = [digits.split(labels, fold) for fold in range(5)]
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(1797))
    for split in splits:
        assert sorted(np.concatenate(split)) == list(range(1797))  # so no image is in two parts
        for part in split:
            assert np.abs(np.bincount(labels[part]) - len(part) / 10).max() < 0.03 * len(part)
    assert all(map(np.array_equal, splits[3], digits.split(labels, 3)))


@pytest.mark.parametrize(("order", "shape"), [("rows", (8, 8)), ("pixels", (64, 1))])
def test_digits_are_read_in_order_and_scored_as_the_share_that_is_right(order: str, shape: tuple[int, int]) -> None:
    task = made("digits", f"task.order={order}", "task.fold=2")
    images, labels = bundled.digits()
    test = digits.split(labels, 2).test
    x, truth = map(np.asarray, task.test)
    np.testing.assert_array_equal(x.reshape(-1, 64), images[test].reshape(-1, 64) / 16)
    np.testing.assert_array_equal(truth, labels[test])
    assert x.shape[1:] == shape == task.batch_shape().shape[1:]
    params = jax.jit(task.init)(jax.random.key(0))
    answers = np.argmax(jlstm.unroll(task.net, params, jnp.asarray(x))[1], axis=1)
    assert task.evaluate(params, task.test) == pytest.approx(100 * np.mean(answers == truth))


def test_sunspots_are_the_series_of_the_protocol() -> None:
    """The years, and what a linear map of 12 of them reaches in each span, fitted here once more."""
    task = made("sunspots", "task.held_out=35")
    series = task.series
    assert (task.years[0], task.years[-1], len(task.years)) == (1700, 1979, 280)
    assert dict(zip(task.years, series.target, strict=True))[1957] == 190.2  # the highest
    z = np.array([series.target[at - 12 : at] for at in range(12, 280)])
    fitted = slice(0, 1921 - 1712)
    design = np.column_stack([z, np.ones(len(z))])
    weights = np.linalg.lstsq(design[fitted], series.target[12:][fitted], rcond=None)[0]
    errors = (design @ weights - series.target[12:]) ** 2 / 1535
    reached = {"1700-1920": 0.1285, "1921-1955": 0.1262, "1956-1979": 0.3584}
    for (span, value), years in zip(reached.items(), (slice(0, 209), slice(209, 244), slice(244, 268)), strict=True):
        assert errors[years].mean() == pytest.approx(value, abs=5e-5)
        assert task.facts["linear"][span] == pytest.approx(value, abs=5e-5)
    assert task.baselines()["linear"] == pytest.approx(errors[209:].mean())
    years = task.years[series.answers(series.held_out)]
    assert (years[0], years[-1], len(task.data.ends)) == (1886, 1920, 1886 - 1712)
    params = jax.jit(task.init)(jax.random.key(0))
    numbers = task.findings(params, jax.random.key(0)).numbers
    both = (35 * numbers["ARV 1921-1955"] + 24 * numbers["ARV 1956-1979"]) / 59
    assert task.evaluate(params, task.test) == pytest.approx(both, rel=1e-5)


def test_square_roots_are_the_nets_alone() -> None:
    """It reads and answers them; the measure and the picture are in the units of the series."""
    task = made("sunspots", "task.held_out=35", "task.root=true")
    numbers, rows = task.series.target, slice(1979 - 1700, None)
    roots, past = np.sqrt(numbers), np.sqrt(numbers[: 1886 - 1700])
    z = (roots - past.mean()) / past.std()
    params = jax.jit(task.init)(jax.random.key(0))
    y = np.asarray(jlstm.unroll(task.net, params, jnp.asarray(z[rows.start - 12 : rows.start, None], jnp.float32))[1])
    said = max(past.mean() + past.std() * (z[rows.start - 1] + y[0]), 0) ** 2
    assert task.findings(params, jax.random.key(0)).forecast.predicted[-1] == pytest.approx(said, rel=1e-4)
    last = task.windows(task.span(1979, 1979))
    assert task.evaluate(params, last) == pytest.approx((said - numbers[-1]) ** 2 / 1535, rel=1e-3)
    low = (*params[:-1], params[-1]._replace(b=params[-1].b - 9))
    assert task.evaluate(low, last) == pytest.approx(numbers[-1] ** 2 / 1535, rel=1e-5)  # no number is below 0


@pytest.mark.parametrize("difference", ["true", "false"])
def test_a_forecast_is_measured_in_the_units_of_the_target(tmp_path: Path, difference: str) -> None:
    """Every window, cut out of the columns one after the other."""
    task = from_table(table(tmp_path / "t.csv"), f"task.difference={difference}")
    a = np.round(np.sin(np.arange(40)), 3)
    rows = np.stack([a, np.array([float(f"{v:.6g}") for v in a**2])], axis=1)
    mean, deviation = rows[:28].mean(axis=0), rows[:28].std(axis=0)  # 8 rows to test, 4 held out
    params = jax.jit(task.init)(jax.random.key(0))
    windows = np.stack([(rows[answer - 4 : answer - 1] - mean) / deviation for answer in range(32, 40)])
    y = np.asarray(jlstm.unroll(task.net, params, jnp.asarray(windows, jnp.float32))[1])[:, 0]
    said = deviation[1] * y + (mean[1] if difference == "false" else rows[30:38, 1])
    error = np.sqrt(np.mean((said - rows[32:, 1]) ** 2))
    assert jax.jit(task.evaluate)(params, task.test) == pytest.approx(error, rel=1e-4)
    assert task.baselines()["repeat the last value"] == pytest.approx(
        np.sqrt(np.mean((rows[32:, 1] - rows[30:-2, 1]) ** 2))
    )
    assert task.findings(params, jax.random.key(0)).forecast.predicted[-8:] == pytest.approx(said, rel=1e-4)


@pytest.mark.parametrize(("row", "seen"), [(39, 0), (36, 2), (33, 3)])
def test_no_window_reads_the_future(tmp_path: Path, row: int, seen: int) -> None:
    """A later value changes the inputs of no earlier window and nothing that is fitted; it reaches `seen` windows."""
    task, other = (
        from_table(path) for path in (table(tmp_path / "t.csv"), table(tmp_path / "u.csv", **{f"b{row}": 7.0}))
    )
    assert (task.mean, task.deviation) == (other.mean, other.deviation)
    for part in ("data", "held_out"):
        assert all(map(np.array_equal, getattr(task, part), getattr(other, part)))
    params = jax.jit(task.init)(jax.random.key(0))
    forecasts = jax.jit(task.forecasts)
    one, two = (forecasts(params, each.test) for each in (task, other))
    changed = np.flatnonzero(np.asarray(one != two)) + 32  # the row that is forecast
    assert all(at - 2 >= row for at in changed) and len(changed) == seen
    assert len(task.data.ends) == 28 - 4 and len(task.held_out.ends) == 4 and len(task.test.ends) == 8


def test_noise_changes_the_inputs_of_training(tmp_path: Path) -> None:
    quiet, noisy = (from_table(table(tmp_path / "t.csv"), f"task.noise={noise}") for noise in (0.0, 0.5))
    params = jax.jit(quiet.init)(jax.random.key(0))
    losses = [jax.jit(task.loss)(params, None, task.data, 0, jax.random.key(1))[0] for task in (quiet, noisy)]
    assert losses[0] != losses[1]


def test_the_example_file_is_made_by_the_lines_beside_it() -> None:
    names: dict[str, Any] = {}
    exec(re.findall("```python\n(.*?)```", README, re.DOTALL)[0], names)
    data = (CONFIGS / "data" / "lorenz.csv").read_bytes()
    assert data == names["text"].encode()
    assert hashlib.sha256(data).hexdigest() in README


GOOD = "\n".join(["a,b", *(f"{i % 7},{i}" for i in range(40))]) + "\n"
HOSTILE = {
    "text": (GOOD.replace("\n3,10\n", "\n3,ten\n"), 'line 12, column "b": expected a number, got "ten".'),
    "comma": ("a;b\n1;2,5\n", 'line 2, column "b": expected a number with a decimal point, got "2,5".'),
    "gap": (GOOD.replace("\n3,10\n", "\n3,\n"), 'line 12, column "b": expected a number, got an empty cell.'),
    "empty line": (GOOD.replace("\n3,10\n", "\n\n"), "line 12: expected 2 fields, as in line 1, got an empty line."),
    "short line": (GOOD.replace("\n3,10\n", "\n3\n"), "line 12: expected 2 fields, as in line 1, got 1."),
    "nan": (GOOD.replace("\n3,10\n", "\n3,nan\n"), 'line 12, column "b": expected a finite number, got "nan".'),
    "huge": (GOOD.replace("\n3,10\n", "\n3,1e300\n"), 'line 12, column "b": expected a number below 1e+100'),
    "one row": ("a,b\n1,2\n", "expected 5 training rows or more (task.length + task.horizon + 1), got 0 of 1"),
    "names only": ("a,b\n", "expected 5 training rows or more (task.length + task.horizon + 1), got 0 of 0"),
    "empty": ("", "line 1: expected the names of the columns, got an empty file."),
    "constant": ("a,b\n" + "1,2\n" * 40, '"b": expected numbers that vary in the 28 training rows, got 2 in all.'),
    "column": (GOOD.replace("b", "c"), 'got "b". It has "a", "c".'),
    "near column": (GOOD.replace("b", "bb"), 'got "b". Did you mean "bb"?'),
    "twice": (GOOD.replace("a,b", "b,b"), 'line 1: expected one column "b", got 2, columns 1 and 2.'),
    "no header": (GOOD.partition("\n")[2], 'got "b". Its first line has numbers only.'),
    "delimiter": (GOOD.replace(",", ";"), """Type 'task.delimiter=";"'."""),
    "latin1": (GOOD.replace("\n3,10\n", "\nµ,10\n").encode("latin1"), "line 12: expected UTF-8 text, got the byte 0x"),
    "binary": (b"\xff\xfe\x00\x01" * 9, "line 1: expected UTF-8 text, got the byte 0xFF."),
    "quote": (GOOD + '"1,2\n', "expected CSV, got: unexpected end of data."),
}  # fmt: skip


def wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> list[str]:
    """What a command line prints that is refused before anything is written."""
    run = tmp_path / "run"
    argv = [str(CONFIGS / "csv.toml"), *TINY, "task.inputs=[]", "task.length=3", "task.horizon=1", *overrides]
    assert main([*argv, f"run.dir={run}"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and not run.exists()
    return shown.err.splitlines()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_mistake_in_the_file_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, expected = HOSTILE[name]
    file = tmp_path / "t.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    more = ['task.delimiter=";"'] if name == "comma" else []
    (line,) = wrong(tmp_path, capsys, f"data.path={file}", "task.target=b", *more)
    assert expected in line and str(file) in line


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.path=nowhere.csv"], "data.path: expected a CSV file, got 'nowhere.csv': No such file or directory."),
        (["data.path=."], "data.path: expected a CSV file, got '.': Is a directory."),
        (["data.path="], "data.path: expected a CSV file, got nothing. Type data.path=/path/to/table.csv."),
    ],
)
def test_no_file(overrides: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = wrong(tmp_path, capsys, "task.target=b", *overrides)
    assert expected in line


def test_many_mistakes_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\n" + "1,x\n" * 40)
    lines = wrong(tmp_path, capsys, f"data.path={file}", "task.target=b")
    assert len(lines) == 6 and lines[-1].endswith("35 more mistakes of these kinds.")


@pytest.mark.parametrize(("name", "module"), [("digits", "sklearn"), ("sunspots", "statsmodels")])
def test_a_package_that_is_missing_is_named_with_the_line_to_type(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [module, *(m for m in sys.modules if m.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, loaded, None)
    with pytest.raises(UsageError, match=re.escape('not installed. Type pip install -e ".[experiments]"')) as caught:
        made(name)
    assert f"expected the package {module}" in str(caught.value) and len(caught.value.args) == 1
