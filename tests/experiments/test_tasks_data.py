"""Tasks over data, digits, sunspots and the user's own CSV file: their contents; no forecast reads the future."""

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
from small_run import errors, made

import jlstm
from experiments import bundled
from experiments.config import UsageError
from experiments.run import CONFIGS
from experiments.tasks import digits

README = (CONFIGS / "data" / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.usefixtures("elsewhere")


def initial(task: Any) -> Any:
    """The parameters that training starts from."""
    return jax.jit(task.init)(jax.random.key(0))


def answers(task: Any, params: Any, x: Any) -> np.ndarray:
    """The outputs of the task's net."""
    return np.asarray(jlstm.unroll(task.net, params, jnp.asarray(x, jnp.float32))[1])


def findings(task: Any, params: Any) -> Any:
    return task.findings(params, jax.random.key(0))


# The columns of a CSV file, a and b = a².
ROWS = np.array([[a, float(f"{a**2:.6g}")] for a in np.round(np.sin(np.arange(40)), 3)])


def from_file(rows: np.ndarray, *overrides: str) -> Any:
    """The task of a CSV file with these rows: b two rows on from three rows of a and b."""
    lines = [f"{a:.6g},{b:.6g},day {i}" for i, (a, b) in enumerate(rows)]
    Path("t.csv").write_text("\n".join(["a,b,name", *lines]) + "\n")
    window = ['task.inputs=["a","b"]', "task.target=b", "task.length=3", "task.horizon=2"]
    return made("csv", "data.path=t.csv", *window, *overrides)


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
    params = initial(task)
    right = answers(task, params, x).argmax(axis=1) == truth
    assert task.evaluate(params, task.test) == pytest.approx(100 * np.mean(right))


def test_sunspots_are_the_series_of_the_protocol() -> None:
    """The years, and the error of a linear map of 12 of them in each span, fitted here once more."""
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
    params = initial(task)
    numbers = findings(task, params).numbers
    both = (35 * numbers["ARV 1921-1955"] + 24 * numbers["ARV 1956-1979"]) / 59
    assert task.evaluate(params, task.test) == pytest.approx(both, rel=1e-5)


def test_square_roots_are_the_nets_alone() -> None:
    """The net reads and answers roots; the measure and the picture are in the units of the series."""
    task = made("sunspots", "task.held_out=35", "task.root=true")
    numbers, last = task.series.target, 1979 - 1700
    roots, past = np.sqrt(numbers), np.sqrt(numbers[: 1886 - 1700])
    z = (roots - past.mean()) / past.std()
    params = initial(task)
    (y,) = answers(task, params, z[last - 12 : last, None])
    said = max(past.mean() + past.std() * (z[last - 1] + y), 0) ** 2
    assert findings(task, params).forecast.predicted[-1] == pytest.approx(said, rel=1e-4)
    window = task.windows(task.span(1979, 1979))
    assert task.evaluate(params, window) == pytest.approx((said - numbers[-1]) ** 2 / 1535, rel=1e-3)
    low = (*params[:-1], params[-1]._replace(b=params[-1].b - 9))
    assert task.evaluate(low, window) == pytest.approx(numbers[-1] ** 2 / 1535, rel=1e-5)  # no number is below 0


@pytest.mark.parametrize("difference", ["true", "false"])
def test_a_forecast_is_measured_in_the_units_of_the_target(difference: str) -> None:
    """The expected forecasts come from windows that are cut out of the columns one after the other."""
    task, rows = from_file(ROWS, f"task.difference={difference}"), ROWS
    mean, deviation = rows[:28].mean(axis=0), rows[:28].std(axis=0)  # 8 rows to test, 4 held out
    params = initial(task)
    windows = np.stack([(rows[answer - 4 : answer - 1] - mean) / deviation for answer in range(32, 40)])
    y = answers(task, params, windows)[:, 0]
    said = deviation[1] * y + (mean[1] if difference == "false" else rows[30:38, 1])
    error = np.sqrt(np.mean((said - rows[32:, 1]) ** 2))
    assert jax.jit(task.evaluate)(params, task.test) == pytest.approx(error, rel=1e-4)
    error = np.sqrt(np.mean((rows[30:-2, 1] - rows[32:, 1]) ** 2))
    assert task.baselines()["repeat the last value"] == pytest.approx(error)
    assert findings(task, params).forecast.predicted[-8:] == pytest.approx(said, rel=1e-4)


@pytest.mark.parametrize(("row", "seen"), [(39, 0), (36, 2), (33, 3)])
def test_no_window_reads_the_future(row: int, seen: int) -> None:
    """A later value changes the inputs of no earlier window and nothing that is fitted; it reaches `seen` windows."""
    changed = ROWS.copy()
    changed[row, 1] = 7.0
    task, other = from_file(ROWS), from_file(changed)
    assert (task.mean, task.deviation) == (other.mean, other.deviation)
    for part in ("data", "held_out"):
        assert all(map(np.array_equal, getattr(task, part), getattr(other, part)))
    params, forecasts = initial(task), jax.jit(task.forecasts)
    one, two = (forecasts(params, each.test) for each in (task, other))
    differ = np.flatnonzero(np.asarray(one != two)) + 32  # the row that is forecast
    assert all(at - 2 >= row for at in differ) and len(differ) == seen
    assert len(task.data.ends) == 28 - 4 and len(task.held_out.ends) == 4 and len(task.test.ends) == 8


def test_noise_changes_the_inputs_of_training() -> None:
    quiet, noisy = (from_file(ROWS, f"task.noise={noise}") for noise in (0.0, 0.5))
    given = initial(quiet), None, quiet.data, 0, jax.random.key(1)
    losses = [jax.jit(task.loss)(*given)[0] for task in (quiet, noisy)]
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


def wrong(capsys: pytest.CaptureFixture[str], path: str, *overrides: str) -> list[str]:
    """The lines about a file that is refused before anything is written."""
    window = ["task.inputs=[]", "task.target=b", "task.length=3", "task.horizon=1", *overrides]
    found = errors(capsys, str(CONFIGS / "csv.toml"), f"data.path={path}", "run.dir=run", *window)
    assert not Path("run").exists()
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_mistake_in_the_file_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, expected = HOSTILE[name]
    Path("t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    (line,) = wrong(capsys, "t.csv", *(['task.delimiter=";"'] if name == "comma" else []))
    assert expected in line and "t.csv" in line


PATHS = {"nowhere.csv": "'nowhere.csv': No such file or directory.", ".": "'.': Is a directory.", "": "nothing. Type "}


@pytest.mark.parametrize(("path", "got"), PATHS.items())
def test_no_file(path: str, got: str, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = wrong(capsys, path)
    assert f"data.path: expected a CSV file, got {got}" in line


def test_many_mistakes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_text("a,b\n" + "1,x\n" * 40)
    lines = wrong(capsys, "t.csv")
    assert len(lines) == 6 and lines[-1].endswith("35 more mistakes of these kinds.")


@pytest.mark.parametrize(("name", "module"), [("digits", "sklearn"), ("sunspots", "statsmodels")])
def test_a_package_that_is_missing_is_named_with_the_line_to_type(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [module, *(m for m in sys.modules if m.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, loaded, None)
    with pytest.raises(UsageError, match=rf"expected the package {module}.*pip install .*\[experiments\]") as caught:
        made(name)
    assert len(caught.value.args) == 1
