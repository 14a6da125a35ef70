"""The chart of what the shift costs: nothing overlaps, and every mark stands where it belongs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval.statistics.conftest import EXCESS, FIDS, LADDER
from eval.statistics.test_transfer import reference
from matplotlib.patches import Rectangle

from oodml.errors import DataError, UsageError
from oodml.eval.figures.curves import MANY
from oodml.eval.figures.transfer import _figure, plot_transfer, transfer_caption
from oodml.eval.statistics.transfer import MethodTransfer, transfer

LABEL = "FID (sample level, efficientnet_lite0)"
# Shifted, matched and untrained on three rungs: the gain falls to 0 halfway between the last two.
SHIFTED, MATCHED, FROZEN = (0.6, 0.5, 0.2), (0.6, 0.55, 0.4), (0.5, 0.45, 0.25)


def study(count: int = 1, seeds: int = 3, name: str = "method_{}") -> list[MethodTransfer]:
    random = np.random.default_rng(0)
    records: list[Any] = []
    for number in range(count):
        noise = 0.003 * random.standard_normal((2, seeds, 3))
        drop = 0.02 * number * np.array([0, 1, 1.5])
        records += reference(
            np.array(SHIFTED) - drop + noise[0],
            np.array(MATCHED) + noise[1],
            np.full((seeds, 3), FROZEN) if not number else None,
            method=name.format(number),
        )
    return transfer(records, LADDER)


def drawn(found: list[MethodTransfer], label: str = LABEL, **settings: Any) -> Any:
    settings.setdefault("places", None)
    figure = _figure(found, "recall_at_1", label, **settings)
    figure.draw_without_rendering()
    return figure


def texts_of(figure: Any) -> list[Any]:
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        found += axes.texts
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks():
                if min(low, high) <= tick.get_loc() <= max(low, high):
                    found += [tick.label1, tick.label2]
    return [text for text in found if text.get_visible() and text.get_text()]


LONG = "a_method_with_a_very_long_name(that=0.{}) @ resnet50 224px"
SCALED, WIDE = {0: -0.013, 1: 0.61, 2: 1.0}, {0: 9, 1: 990, 2: 12345}


@pytest.mark.parametrize(
    ("count", "seeds", "name", "label", "places"),
    [
        (1, 3, "margin", LABEL, None),
        (1, 1, LONG, LABEL, WIDE),
        (2, 3, "method_{}", f"excess {LABEL}\nonly 12 to 18 classes a side", SCALED),
        (3, 1, "method_{}", LABEL, WIDE),
        (4, 2, LONG, LABEL, SCALED),
        (5, 3, "method_{}", LABEL, WIDE),
        (MANY, 3, "hierarchical_divide_and_conquer_{}", LABEL, SCALED),
        (MANY, 3, "method_{}", LABEL, WIDE),
        (MANY + 1, 3, "hierarchical_divide_and_conquer_{}", f"{LABEL}\nsecond line", WIDE),
        (60, 1, LONG, LABEL, SCALED),
        (60, 2, "method_{}", LABEL, None),
    ],
)
def test_no_text_overlaps_another_or_leaves_the_page(
    count: int, seeds: int, name: str, label: str, places: Mapping[int, float] | None
) -> None:
    figure = drawn(study(count, seeds, name), label, places=places)
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    assert len(boxes) > count
    for words, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0, words
        assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, words
    for (one, box), (other, second) in itertools.combinations(boxes, 2):
        assert not box.padded(-1).overlaps(second.padded(-1)), (one, other)


def test_text_is_readable_in_a_column_of_a_paper() -> None:
    for count in (1, 6, 60):
        figure = drawn(study(count))
        scale = 3.5 / figure.get_figwidth()
        assert min(text.get_fontsize() for text in texts_of(figure)) * scale >= 5


def test_a_panel_holds_gains_and_the_break_even_on_zero() -> None:
    (found,) = study()
    panel = drawn([found]).axes[0]
    lines = {line.get_marker(): line for line in panel.lines if line.get_marker() != "None"}
    for marker, name in (("o", "gain"), ("s", "matched_gain")):
        values = [getattr(row, name).value for row in found.rows]
        assert lines[marker].get_ydata() == pytest.approx(values)
        assert list(lines[marker].get_xdata()) == list(FIDS)
    assert found.break_even is not None
    value, low, high = found.break_even.on(FIDS)
    assert (list(lines["D"].get_xdata()), list(lines["D"].get_ydata())) == ([value], [0.0])
    ends = [list(line.get_xdata()) for line in panel.lines if line.get_zorder() == 4]
    assert ends == [[low, high]]
    words = [text.get_text() for text in panel.texts]
    assert words == [
        "margin".replace("margin", "method_0"),
        f"◆ {value:.1f} [{low:.1f}, {high:.1f}]",
    ]


def test_the_marks_follow_another_axis_and_the_headline_does_not() -> None:
    (found,) = study()
    assert found.break_even is not None
    figure = drawn([found], places=dict(enumerate(EXCESS)))
    (diamond,) = (line for line in figure.axes[0].lines if line.get_marker() == "D")
    assert list(diamond.get_xdata()) == [found.break_even.on(EXCESS)[0]]
    assert "FID 10.0 to 50.0" in " ".join(text.get_text() for text in figure.texts)


def test_bars_are_as_long_as_difficulty_and_shift_and_the_fall_is_both() -> None:
    (found,) = study()
    bars = [patch for patch in drawn([found]).axes[1].patches if isinstance(patch, Rectangle)]
    last = found.rows[-1]
    assert last.difficulty and last.cost_rise and last.fall
    widths = [bar.get_width() for bar in bars]
    assert widths == pytest.approx([last.difficulty.value, last.cost_rise.value])
    assert bars[1].get_x() == bars[0].get_width()
    assert sum(widths) == pytest.approx(last.fall.value)
    # In grey, hatches tell them apart.
    assert bars[0].get_hatch() and not bars[1].get_hatch()


def test_what_is_won_by_easier_classes_stands_left_of_zero() -> None:
    shifted, matched = np.full((2, 3), (0.5, 0.5, 0.4)), np.full((2, 3), (0.5, 0.5, 0.7))
    axes = drawn(transfer(reference(shifted, matched, shifted), LADDER)).axes[1]
    difficulty, shift = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert difficulty.get_x() + difficulty.get_width() == pytest.approx(-0.2)
    assert (shift.get_x(), shift.get_width()) == (0, pytest.approx(0.3))


def test_an_end_of_the_ladder_is_marked_where_the_gain_never_falls_to_zero() -> None:
    level = np.full((2, 3), 0.5)
    for gain, marker, words in ((0.1, ">", "◆ >50"), (-0.1, "<", "◆ <10")):
        panel = drawn(transfer(reference(level + gain, level + 0.2, level), LADDER)).axes[0]
        assert marker in [line.get_marker() for line in panel.lines]
        assert panel.texts[1].get_text().startswith(words)


def test_many_methods_have_a_row_each_from_the_longest_paying_on() -> None:
    found = study(MANY + 3)
    bars, met = drawn(found).axes
    names = [text.get_text() for text in bars.texts]
    places = [line.get_xdata()[0] for line in met.lines if line.get_marker() in "D<>"]
    assert len(names) == len(places) == MANY + 3
    assert names[0] == "method_0" and places == sorted(places, reverse=True)
    assert len(drawn(found[:MANY]).axes) == MANY + 1


def test_without_the_untrained_network_only_falls_are_drawn() -> None:
    level = np.full((2, 3), 0.5)
    found = transfer(reference(level, level + 0.1), LADDER)
    (axes,) = drawn(found).axes
    assert axes.texts[0].get_text() == "margin"
    rungs = transfer(reference(level[:, :1], level[:, :1] + 0.1, level[:, :1]), LADDER)
    assert len(drawn(rungs).axes) == 1, "one rung has gains and no fall"


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@pytest.mark.parametrize("count", [3, MANY + 1])
def test_equal_values_give_equal_files(count: int, suffix: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    plot_transfer(study(count), first)
    plot_transfer(study(count)[::-1], second)
    assert first.read_bytes() == second.read_bytes()


def test_bad_calls_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        plot_transfer([], tmp_path / "a.png")
    with pytest.raises(UsageError):
        plot_transfer(study(), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_the_caption_defines_every_word_that_the_chart_uses() -> None:
    for count in (2, MANY + 1):
        words = transfer_caption(study(count), "recall_at_1")
        for term in ("FID", "shifted", "matched", "break-even", "ifficulty", "shift", "3 seeds"):
            assert term in words
        assert ("Lines:" in words) == (count <= MANY)
