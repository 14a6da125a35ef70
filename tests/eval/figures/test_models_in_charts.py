"""Several models in one chart: a colour a method, a line style a model, and a legend of both."""

from dataclasses import replace

import numpy as np
import pytest
from eval.conftest import rows
from eval.statistics.conftest import LADDER
from eval.statistics.test_transfer import reference
from matplotlib import rc_context

from oodml.eval.figures import curves, methods
from oodml.eval.figures.style import _SETTINGS, line_style, line_styles
from oodml.eval.figures.transfer import _figure as transfer_figure
from oodml.eval.statistics.comparisons import relative_deviation
from oodml.eval.statistics.scores import score_methods
from oodml.eval.statistics.series import Series
from oodml.eval.statistics.transfer import transfer

METHODS = ("frozen", "margin", "proxy_anchor")
MODELS = ("resnet50", "dinov2_vits14", "clip_vitb16")
LONG = ("clip_vitl14_336 aabbcc", "efficientnet_lite0 112px", "efficientnet_lite0 224px")
LONG_METHODS = ("generalized_lifted_structure", "proxy_anchor(temperature=0.1)", "multi_similarity")


@pytest.fixture(autouse=True)
def in_chart_style():
    with rc_context(_SETTINGS):
        yield


def grid(methods=METHODS, models=MODELS):
    random = np.random.default_rng(0)
    return [
        replace(row, series=Series(method, model, len(models) > 1))
        for number, method in enumerate(methods)
        for place, model in enumerate(models)
        for row in rows(0.3 + 0.02 * number + 0.15 * place + 0.01 * random.random((3, 4)), method)
    ]


def words_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_colour_and_marker_a_method_and_dashes_and_a_fill_a_model():
    styles = line_styles(row.series for row in grid())
    assert len(set(styles.values())) == 9
    for name in METHODS:
        own = [style for series, style in styles.items() if series.method == name]
        assert {(style.color, style.marker) for style in own} == {
            (line_style(name).color, line_style(name).marker)
        }
        assert len({style.dashes for style in own}) == len({style.pale for style in own}) == 3
    for name in MODELS:
        own = [style for series, style in styles.items() if series.backbone == name]
        assert len({(style.dashes, style.pale) for style in own}) == 1


def test_one_model_looks_as_without_a_model():
    (alone,) = {line_styles([row.series])[row.series] for row in grid(["frozen"], ["resnet50"])}
    assert alone == line_style("frozen")
    figure = curves._curve_figure(grid(models=["resnet50"]), "recall_at_1", "FID")
    assert not figure.legends
    assert {text.get_text() for text in figure.axes[0].texts} == set(METHODS)


def test_a_legend_explains_methods_and_models_apart():
    figure = curves._curve_figure(grid(), "recall_at_1", "FID")
    of_methods, of_models = figure.legends
    assert sorted(text.get_text() for text in of_methods.get_texts()) == sorted(METHODS)
    assert sorted(text.get_text() for text in of_models.get_texts()) == sorted(MODELS)
    # Six lines need no fewer words when they are divided, and fit beside their ends.
    few = curves._curve_figure(grid(METHODS[:2], ("resnet50", "tiny")), "recall_at_1", "FID")
    assert not few.legends
    assert "margin @ tiny" in {text.get_text() for text in few.axes[0].texts}


def test_panels_of_the_transfer_chart_name_method_and_model():
    level = np.array([[0.5, 0.45, 0.3]] * 3)
    runs = [
        run
        for model in ("efficientnet_lite0", "clip_vit_b16", "resnet50")
        for run in reference(level + 0.02, level + 0.1, level, backbone=model)
    ]
    found = transfer(runs, LADDER)
    figure = transfer_figure(found, "recall_at_1", "FID", None)
    shown = {text.get_text() for axes in figure.axes[: len(found)] for text in axes.texts}
    assert {each.series.name for each in found} <= shown


@pytest.mark.parametrize("names", [METHODS, LONG_METHODS[:1], LONG_METHODS])
@pytest.mark.parametrize("models", [MODELS, LONG, ("resnet50_aaaaaaaaaaaa", *LONG)])
def test_long_names_stay_on_the_page(names, models):
    given = grid(names, models)
    for figure in (
        curves._curve_figure(given, "recall_at_1", "FID"),
        curves._deviation_figure(relative_deviation(given), "recall_at_1", "FID"),
        methods._score_figure(score_methods(given), "recall_at_1"),
    ):
        figure.canvas.draw()
        for place in (*figure.legends, *(label for label in figure.axes[0].get_yticklabels())):
            box = place.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width
        for legend in figure.legends:
            assert legend.get_window_extent().y1 <= figure.axes[0].get_tightbbox().y0
