import itertools

import numpy as np
import pytest
from PIL import Image

from oodml.errors import DataError, UsageError
from oodml.eval.figures.curves import _curve_figure, mark_start, plot_curves
from oodml.eval.figures.line_labels import spread
from oodml.eval.figures.style import _KNOWN, _LISTED, line_style
from oodml.eval.statistics.curves import SummaryRow
from oodml.eval.statistics.published import published_study
from oodml.eval.statistics.series import Series
from oodml.train.registry import all_methods

METHODS = ("frozen", "contrastive", "multi_similarity", "margin", "arcface", "proxy_anchor")


def rows(methods=METHODS, rungs=range(4), seeds=3):
    return [
        SummaryRow(
            Series(method),
            rung,
            f"s{rung}",
            5.0 + 4 * rung,
            seeds,
            0.5 - 0.05 * rung + 0.001 * number,
            *((None, None) if seeds == 1 else (0.4 - 0.05 * rung, 0.6 - 0.05 * rung)),
            (0.5,) * seeds,
        )
        for number, method in enumerate(methods)
        for rung in rungs
    ]


@pytest.mark.parametrize("suffix", ["png", "svg", "PDF"])
def test_equal_rows_give_equal_files(tmp_path, suffix):
    first, second = tmp_path / f"a.{suffix}", tmp_path / "deep" / f"b.{suffix}"
    plot_curves(rows(), first)
    plot_curves(rows()[::-1], second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 3000
    plot_curves(rows(seeds=1), second)
    assert first.read_bytes() != second.read_bytes()


def test_png_can_be_printed_in_a_column(tmp_path):
    plot_curves(rows(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 1000
        assert np.ptp(np.asarray(image.convert("L"))) > 150


def drawn(given, metric="recall_at_1", fid_label="FID (sample level, inception_v3)"):
    figure = _curve_figure(given, metric, fid_label)
    figure.canvas.draw()
    return figure, figure.axes[0]


def test_axes_say_what_they_show():
    _, axes = drawn(rows())
    assert axes.get_xlabel() == "FID (sample level, inception_v3)"
    assert axes.get_ylabel() == "recall at 1"
    assert "95% interval over 3 seeds" in axes.get_title("left")
    assert drawn(rows(seeds=1))[1].get_title("left") == "one seed, no interval"


def test_names_beside_the_lines_do_not_overlap_and_stay_inside():
    figure, axes = drawn(rows())
    assert [text.get_text() for text in axes.texts] == list(METHODS)
    boxes = [text.get_window_extent() for text in axes.texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert box.x0 > axes.bbox.x1
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
    colors = [text.get_color() for text in axes.texts]
    assert colors == [line_style(method).color for method in METHODS]


@pytest.mark.parametrize("methods", [[f"m{n}" for n in range(40)], ["x" * 40, "$y^"]])
def test_names_that_do_not_fit_stand_in_a_legend(methods):
    figure, axes = drawn(rows(methods))
    assert not axes.texts
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == set(methods)
    box = legend.get_window_extent()
    assert box.y0 >= 0
    assert box.y1 < axes.get_tightbbox().y0


def test_a_line_breaks_where_runs_are_missing():
    margin = [row for row in rows(("margin",)) if row.rung != 1]
    given = margin + rows(("frozen",))
    _, axes = drawn(given)
    frozen, margin = axes.lines[:2]
    assert np.isfinite(frozen.get_ydata()).all()
    assert np.isnan(margin.get_ydata()).tolist() == [False, True, False, False]


def test_a_method_looks_the_same_everywhere_and_unlike_the_others():
    assert len({line_style(method).color for method in METHODS}) == 6
    assert len({line_style(method).marker for method in METHODS}) == 6
    assert line_style("triplet") == line_style("triplet")
    others = {line_style(f"method_{number}") for number in range(60)}
    assert len(others) > 45
    assert all(look.dashes != ":" for look in others), "dots are for published curves"


def test_no_two_listed_methods_look_alike():
    listed = [*_KNOWN, *_LISTED]
    assert len({line_style(name) for name in listed}) == len(listed)
    assert len(set(listed)) == len(listed)


def test_a_label_keeps_the_colour_of_its_method():
    plain, changed = line_style("margin"), line_style("margin(beta=0.9)")
    assert changed.color == plain.color and changed.marker != plain.marker
    assert line_style("margin +flip").color == plain.color
    published = line_style("margin (published)")
    assert (published.color, published.marker, published.dashes) == (plain.color, plain.marker, ":")


def test_many_lines_are_drawn_without_bands():
    few, many = drawn(rows())[1], drawn(rows([f"m{n}" for n in range(30)]))[1]
    assert len(few.collections) == 6 and not many.collections
    assert "95% interval over 3 seeds" in few.get_title("left")
    assert many.get_title("left") == "mean over 3 seeds"


def test_a_break_even_is_marked_on_its_line_and_named():
    met = {Series("margin"): 11.0, Series("arcface"): 99.0, Series("elsewhere"): 9.0}
    figure = _curve_figure(rows(("margin", "arcface")), "recall_at_1", "FID", (), met)
    (tick,) = (line for line in figure.axes[0].lines if line.get_marker() == "|")
    first = rows(("margin",))[0].mean
    assert (list(tick.get_xdata()), list(tick.get_ydata())) == (
        [11.0],
        [pytest.approx(first - 0.05 * 6 / 4)],
    )
    assert "break-even" in figure.axes[0].get_title("left")
    many = [f"m{number}" for number in range(30)]
    for given, places in ((rows(many), {Series("m0"): 11.0}), (rows(), {})):
        figure = _curve_figure(given, "recall_at_1", "FID", (), places)
        assert "|" not in [line.get_marker() for line in figure.axes[0].lines]
        assert "break-even" not in figure.axes[0].get_title("left")


def test_published_curves_break_where_a_marker_is_hidden():
    study = published_study("sop")
    figure = _curve_figure(rows(("margin",)), "recall_at_1", "FID", study.rows())
    axes = figure.axes[0]
    assert "margin (published)" in [text.get_text() for text in axes.texts]
    gaps = [np.isnan(line.get_ydata()).sum() for line in axes.lines[:8]]
    assert sorted(gaps) == sorted(sum(v is None for v in c.values) for c in study.curves)
    assert axes.get_title("left").endswith("dotted: published")


def test_the_start_split_is_marked(tmp_path):
    plot_curves(rows(), tmp_path / "a.svg", start=9.0, start_name="default split")
    plot_curves(rows(), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()
    _, axes = drawn(rows())
    mark_start(axes, 9.0, "default split")
    assert axes.texts[-1].get_text() == "default split"
    assert list(axes.lines[-1].get_xdata()) == [9.0, 9.0]


def test_spread_moves_little_and_keeps_the_distance():
    assert spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    draw = np.random.default_rng(0)
    for _ in range(50):
        heights = np.sort(draw.random(8))
        moved = np.array(spread(heights.tolist(), 0.12))
        assert (np.diff(moved) >= 0.12 - 1e-9).all()
        assert moved[0] >= 0.06 - 1e-9
        assert moved[-1] <= 0.94 + 1e-9


def test_bad_calls_get_one_clear_line_and_write_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"\.svg"):
        plot_curves(rows(), tmp_path / "chart.jpeg")
    with pytest.raises(DataError):
        plot_curves([], tmp_path / "chart.png")
    assert not list(tmp_path.iterdir())


def test_a_name_is_text_and_never_mathematics(tmp_path):
    plot_curves(rows(["cost $\\nonsense{$"]), tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").exists()


def test_every_registered_method_has_a_look_of_its_own():
    looks = {name: line_style(name) for name in all_methods()}
    assert len(set(looks.values())) == len(looks), "append the new method to _LISTED in styles.py"


def test_methods_without_a_band_are_named():
    given = rows(("margin", "proxy_anchor")) + rows(("frozen",), seeds=1)
    last = drawn(given)[1].get_title("left").splitlines()[-1]
    assert "frozen" in last and "margin" not in last and "1 to 3" not in last


@pytest.mark.parametrize(
    "label",
    ["FID (class level, inception_v3)", "excess FID over random splits\n(sample level)\nthird"],
)
def test_every_line_of_an_axis_name_stays_on_the_page(label):
    _, axes = drawn(rows(), fid_label=label)
    assert axes.xaxis.get_tightbbox().y0 >= 0
    assert axes.xaxis.label.get_window_extent().width < axes.bbox.width
    assert axes.bbox.height == pytest.approx(drawn(rows())[1].bbox.height)
