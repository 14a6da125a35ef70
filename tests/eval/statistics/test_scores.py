import logging

import numpy as np
import pytest
import scipy.stats
from eval.conftest import FIDS as FOUR_FIDS
from eval.conftest import rows
from eval.statistics.conftest import FIDS, LADDER, run

from oodml.errors import DataError, UsageError
from oodml.eval.statistics.curves import summarize
from oodml.eval.statistics.intervals import t_interval
from oodml.eval.statistics.scores import (
    MethodScore,
    aggregated_generalization_score,
    fitted_slope,
    line_ends,
    method_trends,
    score_methods,
)
from oodml.eval.statistics.series import Series


def test_rows_hold_mean_and_t_interval_over_seeds():
    records = [run(seed=seed, value=value) for seed, value in ((2, 0.7), (0, 0.5), (1, 0.9))]
    records += [run(rung=2, value=0.1), run("arcface", rung=1, value=0.3)]
    arcface, margin, hardest = summarize(reversed(records), LADDER)
    assert (arcface.series.method, arcface.rung, arcface.split) == ("arcface", 1, "split1")
    assert (margin.n, margin.seeds, margin.values) == (3, (0, 1, 2), (0.5, 0.9, 0.7))
    assert margin.mean == pytest.approx(0.7)
    low, high = scipy.stats.t.interval(0.95, 2, 0.7, scipy.stats.sem([0.5, 0.7, 0.9]))
    assert (margin.low, margin.high) == (pytest.approx(low), pytest.approx(high))
    assert (hardest.fid, hardest.n, hardest.low, hardest.high) == (50.0, 1, None, None)


def test_equal_values_have_an_interval_of_no_width():
    assert t_interval([0.25, 0.25]) == (0.25, 0.25, 0.25)


def test_changed_hyperparameters_are_a_method_of_their_own():
    rows = summarize([run(value=0.1), run(value=0.2, hyperparameters={"beta": 2})], LADDER)
    assert [row.series.method for row in rows] == ["margin", "margin(beta=2)"]


def test_unfinished_runs_and_runs_of_other_ladders_are_left_out(caplog):
    records = [run(), run(seed=1, status="failed"), run(seed=2, split="elsewhere")]
    with caplog.at_level(logging.WARNING, "oodml"):
        (row,) = summarize(records, LADDER)
    assert row.n == 1
    assert "1 of 2 runs" in caplog.text
    caplog.clear()
    assert len(summarize([run(), run(status="failed")], LADDER)) == 1
    assert not caplog.text


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="fingerprint"):
        summarize([run(fingerprint="0" * 16)], LADDER)
    with pytest.raises(DataError, match=r"steps \(300 and 20\)"):
        summarize([run(), run(rung=1, steps=20)], LADDER)
    with pytest.raises(DataError, match=r"1 of 2 .* recall_at_1"):
        summarize([run(), run(seed=1, metrics={"nmi": 1.0})], LADDER)
    with pytest.raises(UsageError, match="'recall_at_1'"):
        summarize([run()], LADDER, "recall_at1")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"gallery_images": 5}, r"gallery_images \(0 and 5\)"),
        ({"protocol": 99}, "protocol"),
        ({"backbone": "embeddings", "train": "none", "protocol": 99}, "protocol"),
        ({"shift": {"level": "class", "fid": 10.0}}, "class level.* sample level"),
        ({"shift": {"level": "sample", "fid": 11.0}}, "11.0.* 10.0"),
        ({"ruler": "another ruler"}, "another ruler.* ruler of the ladder"),
    ],
)
def test_methods_measured_otherwise_do_not_stand_in_one_table(other, words):
    with pytest.raises(DataError, match=words):
        summarize([run(), run("arcface", **other)], LADDER)


def test_runs_along_the_ladders_own_ruler_stand_together():
    assert len(summarize([run(ruler="ruler of the ladder"), run("arcface")], LADDER)) == 2


def test_embeddings_made_elsewhere_stand_beside_trained_runs():
    same = {"shift": {"level": "sample", "fid": 10.0000001}}
    foreign = run("clip", backbone="embeddings", weights="e" * 64, train="none", **same)
    other = run("dino", backbone="embeddings", weights="d" * 64, train="none")
    rows = summarize([run(), foreign, other], LADDER)
    assert [(row.series.method, row.fixed) for row in rows] == [
        ("clip", True),
        ("dino", True),
        ("margin", False),
    ]
    changed = run("clip", rung=1, backbone="embeddings", weights="0" * 64, train="none")
    with pytest.raises(DataError, match=r"'clip'.* weights"):
        summarize([foreign, changed], LADDER)


def test_no_runs_give_no_rows():
    assert summarize([], LADDER) == []
    assert score_methods([]) == []


def test_score_is_the_area_under_the_piecewise_linear_curve():
    assert aggregated_generalization_score([3, 9], [0.2, 0.6]) == pytest.approx(0.4)
    assert aggregated_generalization_score([1, 2, 9], [0.7] * 3) == pytest.approx(0.7)
    draw = np.random.default_rng(0)
    fids, values = np.sort(draw.random(6)) * 900, draw.random(6)
    grid = np.linspace(fids[0], fids[-1], 200_001)
    assert aggregated_generalization_score(fids, values) == pytest.approx(
        np.interp(grid, fids, values).mean(), abs=1e-5
    )
    shifted = aggregated_generalization_score(fids * 7 + 3, values)
    assert shifted == pytest.approx(aggregated_generalization_score(fids, values))


@pytest.mark.parametrize(
    ("fids", "values"),
    [([1], [1]), ([1, 2], [1]), ([2, 1], [1, 1]), ([1, 1], [1, 1]), ([1, 2], [1, float("nan")])],
)
def test_score_refuses_what_is_no_curve(fids, values):
    with pytest.raises(DataError):
        aggregated_generalization_score(fids, values)


def test_methods_are_scored_per_seed():
    records = [run(rung=r, seed=s, value=0.1 * r + 0.2 * s) for r in range(3) for s in range(2)]
    (score,) = score_methods(summarize(records, LADDER))
    areas = [aggregated_generalization_score(FIDS, [s, 0.1 + s, 0.2 + s]) for s in (0, 0.2)]
    assert score.values == pytest.approx(areas)
    assert (score.n, score.missing) == (2, ())
    assert (score.mean, score.low, score.high) == pytest.approx(t_interval(areas))


def test_gaps_are_reported_and_never_averaged_over():
    full = [run(rung=rung, seed=seed, value=0.5) for rung in range(3) for seed in range(2)]
    rows = summarize([r for r in full if (r.spec.data.split, r.spec.seed) != ("split1", 1)], LADDER)
    (score,) = score_methods(rows)
    assert score == MethodScore(Series("margin", "b"), 1, 0.5, None, None, (0.5,), ((1, 1),))
    easy = summarize([run(rung=0), run(rung=1)], LADDER)
    (score,) = score_methods(easy)
    assert score.mean == 0.5
    (score,) = score_methods(easy, LADDER)
    assert (score.n, score.mean, score.missing) == (0, None, ((2, 0),))


def test_one_rung_has_no_score():
    (score,) = score_methods(summarize([run()], LADDER))
    assert (score.n, score.mean, score.missing) == (0, None, ())


def test_slope_and_its_intervals_against_scipy():
    values = np.random.default_rng(0).random((3, 4))
    (trend,) = method_trends(rows(values))
    scaled = (np.array(FOUR_FIDS) - 10) / 100
    fits = [scipy.stats.linregress(scaled, row) for row in values]
    slopes = [fit.slope for fit in fits]
    assert (trend.slope.value, trend.slope.low, trend.slope.high) == pytest.approx(
        t_interval(slopes)
    )
    fit = scipy.stats.linregress(scaled, values.mean(0))
    reach = scipy.stats.t.ppf(0.975, 2) * fit.stderr
    assert trend.line.value == pytest.approx(fit.slope)
    assert trend.line.high - trend.line.value == pytest.approx(reach)
    assert trend.per_100(trend.line).value == pytest.approx(
        100 * scipy.stats.linregress(FOUR_FIDS, values.mean(0)).slope
    )
    assert trend.per_100(None) is None


def test_what_is_lost_from_easiest_to_hardest():
    values = np.array([[0.8, 0.7, 0.6, 0.4], [0.9, 0.7, 0.6, 0.5]])
    (trend,) = method_trends(rows(values))
    assert trend.lost.value == pytest.approx(0.4)
    assert trend.lost.high - trend.lost.low == pytest.approx(0, abs=1e-12)
    assert trend.lost_share.value == pytest.approx(1 - 0.45 / 0.85)
    assert trend.n == 2 and trend.span == 100


def test_a_straight_line_has_no_error():
    x = np.array([0.0, 0.3, 1.0])
    found = fitted_slope(x, 2 - 3 * x)
    assert (found.value, found.low, found.high) == pytest.approx((-3, -3, -3))
    assert line_ends(x, 2 - 3 * x) == pytest.approx((2, -1))
    assert fitted_slope(x[:2], 2 - 3 * x[:2]).low is None


def test_seeds_with_a_gap_take_no_part():
    values = np.array([[0.8, 0.7, 0.6, 0.4], [0.9, np.nan, 0.6, 0.5]])
    (trend,) = method_trends(rows(values))
    assert trend.n == 1
    assert trend.lost.value == pytest.approx(0.4) and trend.lost.low is None
    assert trend.line.low is not None


def test_a_method_without_a_complete_seed_has_no_trend():
    whole = rows([[0.8, 0.7, 0.6, 0.4]], "arcface")
    short = rows([[0.8, 0.7, 0.6, np.nan]], "margin")
    arcface, margin = method_trends(whole + short)
    assert arcface.lost is not None
    assert (margin.n, margin.slope, margin.lost) == (0, None, None)


def test_a_metric_of_zero_has_no_share():
    (trend,) = method_trends(rows([[0.0, 0.1, 0.2, 0.3]]))
    assert trend.lost_share is None and trend.lost.value == pytest.approx(-0.3)
