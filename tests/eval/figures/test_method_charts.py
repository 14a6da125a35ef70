"""The charts besides the curves: what they show, that it fits, and equal bytes for equal data."""

from dataclasses import replace

import numpy as np
import pytest
from eval.conftest import FIDS, rows
from matplotlib import rc_context

from oodml.errors import DataError, UsageError
from oodml.eval.figures import curves, methods
from oodml.eval.figures.style import _SETTINGS
from oodml.eval.statistics.comparisons import relative_deviation
from oodml.eval.statistics.correlation import Correlation
from oodml.eval.statistics.few_shot import FewShotRow
from oodml.eval.statistics.intervals import Estimate
from oodml.eval.statistics.scores import score_methods
from oodml.eval.statistics.series import Series

METHODS = ("frozen", "margin", "arcface", "proxy_anchor")
RANDOM = np.random.default_rng(0)


def given(methods=METHODS):
    return [
        row
        for number, method in enumerate(methods)
        for row in rows(0.6 - 0.02 * number + 0.01 * RANDOM.normal(size=(3, 4)), method)
    ]


ROWS = given()
SCORES = score_methods(ROWS)
ADAPTED = [
    FewShotRow(
        Series(method), shots, rung, fid, 10, 1, Estimate(0.5), Estimate(0.5), Estimate(0.05),
        Estimate(0.01 * shots + 0.001 * rung, 0.0, 0.2),
    )
    for method in METHODS
    for shots in (5, 2)
    for rung, fid in enumerate(FIDS)
]  # fmt: skip
CORRELATED = [
    Correlation(name, side, scope, 8, 8, Estimate(0.1, -0.2, 0.4), Estimate(0.3, -0.1, 0.6))
    for name in ("uniformity", "alignment")
    for side in ("test", "train")
    for scope in ("rung 0", "rung 1", "pooled", "within")
]
CHARTS = [
    (curves.plot_deviation, relative_deviation(ROWS)),
    (methods.plot_scores, SCORES),
    (methods.plot_few_shot, ADAPTED),
    (methods.plot_geometry, CORRELATED),
]


@pytest.mark.parametrize(("plot", "data"), CHARTS)
def test_equal_data_give_equal_files(plot, data, tmp_path):
    for suffix in ("svg", "pdf"):
        plot(data, tmp_path / f"a.{suffix}")
        plot(data[::-1], tmp_path / f"b.{suffix}")
        first = (tmp_path / f"a.{suffix}").read_bytes()
        assert first == (tmp_path / f"b.{suffix}").read_bytes()
        assert len(first) > 3000


@pytest.mark.parametrize(("plot", "data"), CHARTS)
def test_no_data_and_other_suffixes_get_one_line(plot, data, tmp_path):
    with pytest.raises(DataError):
        plot([], tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"\.png"):
        plot(data, tmp_path / "a.jpeg")
    assert not list(tmp_path.iterdir())


@pytest.fixture(autouse=True)
def in_chart_style():
    with rc_context(_SETTINGS):
        yield


def everything_inside(figure):
    figure.canvas.draw()
    page = figure.bbox
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1, (box, page)
        assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, (box, page)
    for words in [*figure.legends, *figure.texts]:
        box = words.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= page.x1 + 1 and box.y0 >= -1


def test_deviation_is_in_percent_and_fits():
    figure = curves._deviation_figure(relative_deviation(ROWS), "recall_at_1", "FID")
    everything_inside(figure)
    assert "%" in figure.axes[0].get_yticklabels()[1].get_text()
    gap = [row for row in ROWS if (row.series.method, row.rung) != ("margin", 1)]
    figure = curves._deviation_figure(relative_deviation(gap), "recall_at_1", "FID")
    assert "not in the mean: margin" in figure.axes[0].get_title("left")


def test_long_ticks_and_long_names_of_axes_stay_inside():
    close = [replace(row, mean=0.98 + row.mean / 1e3, low=None, high=None) for row in ROWS]
    fid = "excess FID over random splits (sample level, vit_base_patch14_reg4_dinov2.lvd142m)"
    drawn = [
        curves._curve_figure(close, "recall_at_1", fid),
        curves._deviation_figure(relative_deviation(close), "mean_average_precision_at_r", fid),
    ]
    for figure in drawn:
        everything_inside(figure)
        label = figure.axes[0].xaxis.label.get_window_extent()
        assert "e" not in "".join(each.get_text() for each in figure.axes[0].get_yticklabels())
        assert not figure.axes[0].yaxis.get_offset_text().get_text()
        assert label.x0 >= 0 and label.x1 <= figure.bbox.width


def test_best_score_stands_on_top_with_its_value():
    gap = score_methods([row for row in ROWS if (row.series.method, row.rung) != ("margin", 1)])
    long = replace(gap[0], series=Series("a_method_of_a_rather_long_name"))
    figure = methods._score_figure([*gap, long], "recall_at_1")
    everything_inside(figure)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    known = {score.series.method: score.mean for score in [*gap, long]}
    values = [known[name] for name in names[1:]]
    assert names[0] == "margin" and values == sorted(values)
    words = [text.get_text().strip() for text in axes.texts]
    assert words[0] == "no complete curve"
    best = max(gap, key=lambda score: score.mean or 0)
    assert words[-1] == f"{best.mean:.3f} ±{(best.high - best.low) / 2:.3f}"


def test_few_shot_has_a_panel_per_shots_on_one_scale():
    figure = methods._few_shot_figure(ADAPTED, "recall_at_1", "FID")
    everything_inside(figure)
    assert [axes.get_title("left") for axes in figure.axes] == ["2 shots", "5 shots"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    without = [replace(row, relative_gain=None) for row in ADAPTED]
    with pytest.raises(DataError, match="few-shot"):
        methods.plot_few_shot(without, "a.png")


def test_geometry_shows_train_beside_test():
    figure = methods._geometry_figure(CORRELATED, "recall_at_1", "spearman")
    everything_inside(figure)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["train embeddings", "test embeddings"]
    drawn = {round(float(line.get_xdata()[0]), 3) for line in figure.axes[0].lines}
    assert 0.3 in drawn and 0.1 not in drawn
