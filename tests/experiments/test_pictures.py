"""The pictures show the numbers that they were given: lines, bands, limits, labels, and the gates of a net."""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import sketches
from cases import seeded
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from oracle import lstm as numpy_lstm
from PIL import Image

import jlstm
from experiments import pictures
from experiments.pictures import anatomy, curves, forecast, gates, lengths, style
from experiments.tasks.findings import ByLength, Example, Findings, Forecast

ERROR = dict(loss_name="mean squared error [V²]", measure="mean squared error", unit="V²", log_scale=True)
ACCURACY = dict(loss_name="cross entropy [nats]", measure="accuracy", unit="%", log_scale=False)


def points(axes, label):
    """The data of the line with that label, `[2, N]`."""
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return np.array(line.get_data(), float)


def band(axes, number=0):
    """Lower and upper edge by x of the band `number`."""
    edges = {}
    for x, y in axes.collections[number].get_paths()[0].vertices:
        low, high = edges.get(x, (y, y))
        edges[float(x)] = (min(low, float(y)), max(high, float(y)))
    return edges


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def cut(figure):
    """The texts of a figure that do not lie on the sheet, or that lie on another panel's text."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    sheet, renderer = figure.bbox, canvas.get_renderer()
    texts = [figure._suptitle, *(text for box in figure.legends for text in box.get_texts())]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())  # beyond them, ticks have labels that are not drawn
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            texts += [axis.label, *(label for tick in ticks for label in (tick.label1, tick.label2))]
    shown = [text for text in texts if text.get_visible() and text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in shown]
    whole = [min(b.x0, b.y0) >= -1 and b.x1 <= sheet.x1 + 1 and b.y1 <= sheet.y1 + 1 for b in boxes]
    off = [text.get_text() for text, is_whole in zip(shown, whole, strict=True) if not is_whole]
    labels = [axes.yaxis.label for axes in figure.axes if axes.yaxis.label.get_text()]
    boxes = [label.get_window_extent(renderer) for label in labels]
    off += [a.get_text() for n, a in enumerate(labels) for m in range(n) if boxes[n].overlaps(boxes[m])]
    return off


def test_one_run_is_one_panel_where_loss_and_measure_are_the_same() -> None:
    metrics = [{"step": 2, "loss": 0.1, "seconds": 3.0}, {"step": 4, "loss": 0.05}, {"step": 4, "held_out": 0.06}]
    figure = curves.figure(metrics, {"always 1": 1 / 6, "best": 0.01}, title="a $1 task", **ERROR)
    (axes,) = figure.axes
    np.testing.assert_array_equal(points(axes, "training loss"), [[2, 4], [0.1, 0.05]])
    np.testing.assert_array_equal(points(axes, "held-out"), [[4], [0.06]])
    np.testing.assert_array_equal(points(axes, "always 1: 0.167")[1], [1 / 6] * 2)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("optimiser steps", "mean squared error [V²]")
    assert axes.get_yscale() == "log" and not axes.collections
    assert legend(figure) == ["training loss", "held-out", "always 1: 0.167", "best: 0.01"]
    assert figure._suptitle.get_text() == "a $1 task" and cut(figure) == []


def sweep(values, key="loss", steps=(10, 20, 30)):
    """values `[member][step]` as lines; None is a line without a number, and nothing comes after it."""
    rows = [(member, *point) for member, row in enumerate(values) for point in zip(steps, row, strict=False)]
    return [{"step": step, key: value, "member": member} for member, step, value in rows]


def test_seeds_are_their_median_and_a_band_from_the_lowest_to_the_highest() -> None:
    losses, scores = [[3.0, 2.0, 1.0], [5.0, 1.0, 1.0], [4.0, None]], [[50.0, 70.0, 100.0], [60.0, 80.0, 90.0]]
    metrics = [*sweep(losses), *sweep([*scores, [55.0]], "held_out")]
    figure = curves.figure(metrics, {"chance": 50.0}, title="t", **ACCURACY)
    above, below = figure.axes
    np.testing.assert_array_equal(points(above, "training loss, 3 seeds"), [[10, 20, 30], [4, 1.5, 1]])
    assert band(above) == {10: (3, 5), 20: (1, 2), 30: (1, 1)}
    np.testing.assert_array_equal(points(below, "held-out, 3 seeds"), [[10, 20, 30], [55, 75, 95]])
    assert band(below) == {10: (50, 60), 20: (70, 80), 30: (90, 100)}
    # The third member ends at step 10, with its last number.
    np.testing.assert_array_equal(points(above, "training loss: diverged, 1 of 3"), [[10], [4]])
    assert below.get_ylim() == (0, 100) and above.get_yscale() == "linear"
    assert [any(line.get_label() == "chance: 50" for line in axes.lines) for axes in (above, below)] == [False, True]
    assert (above.get_ylabel(), below.get_ylabel()) == ("training loss\ncross entropy [nats]", "held-out\naccuracy [%]")
    assert figure.legends[0].get_title().get_text().startswith("lines: median of the seeds; bands:")


def test_swept_values_are_a_line_and_a_band_each() -> None:
    losses = [[3.0, 300.0], [1.0, 1.0], [5.0, 1.0], [None]]
    metrics = [*sweep(losses), *sweep([[0.3], [0.2], [0.5]], "held_out")]
    groups = ["lr=1", "lr=2", "lr=1", "lr=3"]
    figure = curves.figure(metrics, {}, title="t", groups=groups, **ERROR)
    above, below = figure.axes  # the same quantity, but three settings: two panels
    np.testing.assert_array_equal(points(above, "lr=1, 2 seeds"), [[10, 20], [4, 150.5]])
    np.testing.assert_array_equal(points(above, "lr=2"), [[10, 20], [1, 1]])
    np.testing.assert_array_equal(points(below, "lr=1, 2 seeds"), [[10], [0.4]])
    assert len(above.collections) == 1 and band(above) == {10: (3, 5), 20: (1, 300)}
    colours = [[to_hex(line.get_color()) for line in axes.lines[:2]] for axes in (above, below)]
    assert colours[0] == colours[1] and len(set(colours[0])) == 2
    assert "lr=3: no finite value" in legend(figure)
    assert above.get_yscale() == "log"  # 1 to 150
    with pytest.raises(ValueError, match="groups: expected a label for each of 4 members, got 3"):
        curves.figure(metrics, {}, title="t", groups=groups[:3], **ERROR)


def test_names_however_long_stay_on_the_sheet() -> None:
    count = 12
    metrics = [*sweep([[1.0, 0.1]] * count), *sweep([[1.0, 0.1]] * count, "held_out")]
    axis = dict(ERROR, loss_name="the mean of the squared error over everything [squared units of whatever it is]")
    groups = [f"train.learning_rate={n}, model.dropout=0.1" for n in range(count)]
    baselines = {f"always {n} of everything": n / 7 + 0.1 for n in range(5)}
    figure = curves.figure(metrics, baselines, title="many words " * 20, groups=groups, **axis)
    assert cut(figure) == [] and len(legend(figure)) == count + len(baselines)
    heights = [axes.get_position().height * figure.get_figheight() for axes in figure.axes]
    assert min(heights) > 2  # inches: the sheet has grown, not the panels shrunk
    assert len({tuple(c) if not isinstance(c, str) else c for c in style.colours(count)}) == count


def test_a_palette_keeps_what_is_drawn(tmp_path: Path) -> None:
    """A saved sheet is a PNG with a palette, and no pixel is far from the figure's own."""
    sheet = style.sheet("heat map and thin lines", (4, 3))
    axes = sheet.add_subplot()
    axes.imshow(np.random.default_rng(0).normal(size=(20, 30)), cmap="RdBu", extent=(0, 30, 0, 20))
    axes.plot([0, 30], [0, 20], color="k", linewidth=0.5)
    sheet.set_layout_engine("none")  # which moves the axes at every drawing
    style.save(sheet, tmp_path / "sheet.png")
    sheet.savefig(tmp_path / "whole.png")
    with Image.open(tmp_path / "sheet.png") as image, Image.open(tmp_path / "whole.png") as whole:
        assert image.mode == "P"
        off = np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(whole.convert("RGB"), int))
    assert off.max() < 40 and off.mean() < 2


def test_score_by_length() -> None:
    x = np.array([1, 20, 40, 100, 500])
    found = [ByLength(x, np.array(v, float), 40) for v in ([100, 100, 100, 90, 60], [100, 98, 90, 80, 70])]
    axis = {key: value for key, value in ACCURACY.items() if key != "loss_name"}
    figure = lengths.figure(found, {"chance": 50.0}, title="t", **axis)
    (axes,) = figure.axes
    np.testing.assert_array_equal(points(axes, "accuracy, 2 seeds"), [x, [100, 99, 95, 85, 65]])
    assert band(axes) == {1: (100, 100), 20: (98, 100), 40: (90, 100), 100: (80, 90), 500: (60, 70)}
    assert axes.get_ylim() == (0, 100) and axes.get_xlim() == (0, 500)
    (span,) = [patch for patch in axes.patches if patch.get_label() == "trained on lengths up to 40"]
    assert (span.get_x(), span.get_x() + span.get_width()) == (0, 40)
    assert axes.get_xlabel() == "length of the sequence [steps]" and axes.get_ylabel() == "accuracy [%]"
    assert not axes.lines[0].get_clip_on() and cut(figure) == []  # the line at 100 is whole
    over = lengths.figure([ByLength(x, x * 1.0, 40)], {}, title="t", **axis)
    assert over.axes[0].get_ylim()[1] > 500  # no percentage of a whole: nothing is hidden


@pytest.mark.parametrize("count", [60, 1000])
def test_forecast(count: int) -> None:
    times = 1900 + np.arange(count)
    truth = np.sin(times) * 50
    error = np.where(times < 1940, 3.0, -4.0)
    spans = {"training": (1900, 1939), "test": (1940, 1900 + count - 1)}
    figure = forecast.figure(Forecast(times, truth, truth - error, spans, "sunspot number", "year"), title="t")
    assert len(figure.axes) == (2 if count == 60 else 3)
    top, residual = figure.axes[0], figure.axes[-1]
    np.testing.assert_array_equal(points(top, "truth"), [times, truth])
    np.testing.assert_array_equal(points(top, "forecast, one step ahead"), [times, truth - error])
    np.testing.assert_allclose(residual.lines[0].get_ydata(), error, rtol=1e-12)
    reached = [("training, 1900 to 1939", 3), (f"test, 1940 to {1899 + count}", 4)]
    assert legend(figure)[2:] == [f"{span}, root mean square error {error}" for span, error in reached]
    edges = [(p.get_x(), p.get_x() + p.get_width()) for p in top.patches]
    assert edges == [(1899.5, 1939.5), (1939.5, 1899.5 + count)]  # no gap between the spans
    assert (top.get_ylabel(), residual.get_ylabel()) == ("sunspot number", "truth - forecast\nsunspot number")
    assert residual.get_xlabel() == "year" and cut(figure) == []
    if count == 1000:
        assert figure.axes[1].get_xlim() == (times[-200] - 0.5, times[-1] + 0.5)


def numpy_gates(params, inputs, reverse=False):
    """i, f, g, o, c and h of an LSTM at each step, `[T, H]` each, from the oracle's outputs h = o tanh(c)."""
    h = numpy_lstm(params, inputs, return_sequences=True, reverse=reverse)[1]
    before = np.roll(h, -1 if reverse else 1, axis=0)
    before[-1 if reverse else 0] = 0
    z = np.tensordot(inputs, params.w_ih, 1) + np.tensordot(before, params.w_hh, 1) + params.b
    i, f, o = (1 / (1 + np.exp(-z[:, k])) for k in (0, 1, 3))
    return i, f, np.tanh(z[:, 2]), o, np.arctanh(h / o), h


NAMES = ["input gate i", "forget gate f", "candidate g", "output gate o", "cell state c", "hidden state h"]


def test_gates_are_those_of_the_oracle() -> None:
    ids = np.array([0, 2, 1, 1, 0, 2, 2])
    net = jlstm.Stack((jlstm.Embed(3, 4), jlstm.Dropout(0.5), jlstm.Bidirectional(jlstm.LSTM(5)), jlstm.LSTM(3)))
    params = seeded(net)
    parts = anatomy.look(net, params, ids)
    embedded = np.asarray(params[0].w, float)[ids]
    for part, name in zip(parts, ("forward", "backward"), strict=True):
        assert part.name == f"LSTM of 5 units (layer 1 of 2, {name} direction)"
        mine = jax.tree.map(lambda p: np.asarray(p, float), getattr(params[2], name))
        want = numpy_gates(mine, embedded, reverse=name == "backward")
        rows = [*part.gates, *part.states]
        assert [row.name for row in rows] == NAMES
        for row, values in zip(rows, want, strict=True):
            np.testing.assert_allclose(row.values, values, atol=1e-6)

    figure = gates.figure(parts[0], Example(ids, {}, tuple("a\n$a\0 b")), title="t")
    heat = [axes for axes in figure.axes if axes.images]
    order = np.argsort(-parts[0].states[0].values.mean(axis=0), kind="stable")
    for axes, row in zip(heat, [*parts[0].gates, *parts[0].states], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), row.values[:, order].T)
        assert axes.get_ylabel() == f"{row.name}\n5 units" and axes.get_xlim() == (-0.5, 6.5)
        low, high = axes.images[0].get_clim()
        assert (low, high) == {"i": (0, 1), "f": (0, 1), "o": (0, 1), "g": (-1, 1)}.get(row.name[-1], (-high, high))
        assert high >= np.abs(row.values).max()
    ticks = [label.get_text() for label in heat[-1].get_xticklabels()]
    assert ticks == ["a", "↵", "$", "a", gates.UNKNOWN, "␣", "b"] and cut(figure) == []


@jlstm.record
class ThreeGates(sketches.OldGRU):
    """A cell that names its gates, and whose update does more than apply an activation to them."""

    def project(self, params, x):
        return dict(zip("zrn", super().project(params, x), strict=True))

    def recur(self, params, h):
        return dict(zip("zrn", super().recur(params, h), strict=True))

    def update(self, params, h, z):
        return super().update(params, h, (z["z"], z["r"], z["n"]))


def test_another_cell_is_drawn_by_its_own_names_or_left_out_with_a_reason() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    cell = ThreeGates()
    params = seeded(cell)
    (part,) = anatomy.look(cell, params, x)
    assert [row.name for row in part.gates] == [f"{gate}, before its activation" for gate in "nrz"]
    assert [row.name for row in part.states] == ["state state"]
    seen = jlstm.trace(cell, params, x)[1]
    np.testing.assert_array_equal(part.states[0].values, seen.outputs)  # a GRU's output is its state
    np.testing.assert_array_equal(part.gates[2].values, seen.z["z"])

    unnamed = jlstm.Residual(jlstm.Stack((sketches.LSTMP(), jlstm.Dense(3))))
    for net, words in ((unnamed, "gates: LSTMP does not name its gates"), (jlstm.Dense(2), "has no recurrent layer")):
        with pytest.raises(anatomy.LeftOutError, match=words):
            anatomy.look(net, seeded(net), x)


@pytest.mark.parametrize(("T", "rows"), [(100, 2), (300, 20)])
def test_the_input_stands_above_the_gates(T: int, rows: int) -> None:
    gate = anatomy.Rows("input gate i", np.full((T, 3), 0.5), 0.0, 1.0)
    part = anatomy.Part("LSTM", (gate,), (anatomy.Rows("cell state c", np.zeros((T, 3)), None, None),))
    x = np.random.default_rng(0).normal(size=(T, rows))
    named = {"a number with a long name": x[:, 0], "mark": x[:, 1]} if rows == 2 else {}
    figure = gates.figure(part, Example(x, named, ("s",) * T), title="t")
    first = figure.axes[0]
    if rows == 2:
        np.testing.assert_array_equal(first.patches[0].get_data().values, x[:, 0])
        assert first.get_ylabel().replace("\n", " ") == "a number with a long name"
    else:
        np.testing.assert_array_equal(first.images[0].get_array(), x.T)
        assert first.get_ylabel() == "input\n20 numbers"
    last = next(axes for axes in figure.axes if axes.get_xlabel())
    assert last.get_xlabel().startswith("step\n") and cut(figure) == []  # too many symbols to be read
    assert figure._suptitle.get_text().endswith(f"on one sequence of {T} steps")


def test_draw_writes_what_applies_and_says_what_it_left_out(tmp_path: Path) -> None:
    x = np.ones((6, 3), np.float32)
    task: Any = SimpleNamespace(**ACCURACY, test=None, example=lambda: Example(x, {"one": x[:, 0]}))
    metrics = [*sweep([[1.0], [2.0]]), *sweep([[50.0], [60.0]], "held_out")]
    by_length = ByLength(np.array([1, 2]), np.array([50.0, 60.0]), 1)
    series = Forecast(np.arange(5), np.zeros(5), np.ones(5), {"test": (0, 4)}, "volts [V]", "second")
    lstm, dense = jlstm.LSTM(2), jlstm.Dense(1)
    found = [Findings(), Findings(by_length=by_length, forecast=series)]  # the first one diverged
    draw = functools.partial(pictures.draw, tmp_path, task)
    drawn = draw(lstm, seeded(lstm), found, metrics, {}, "t", groups=["a", "b"], shown=1)
    names = ["learning_curve.png", "length.png", "forecast.png", "gates.png"]
    assert drawn == (tuple(tmp_path / name for name in names), ())
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)
    drawn = draw(dense, seeded(dense), Findings(), metrics[:1], {}, "t")
    assert drawn.files == (tmp_path / "learning_curve.png",)
    assert drawn.left_out == ("gates: the net has no recurrent layer that could be looked into.",)
