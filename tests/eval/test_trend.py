import numpy as np
import pytest
import scipy.stats
from synthetic_rows import FIDS, rows

from oodml.eval.statistics.scores import t_interval
from oodml.eval.statistics.trend import fitted_slope, line_ends, method_trends


def test_slope_and_its_intervals_against_scipy():
    values = np.random.default_rng(0).random((3, 4))
    (trend,) = method_trends(rows(values))
    scaled = (np.array(FIDS) - 10) / 100
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
        100 * scipy.stats.linregress(FIDS, values.mean(0)).slope
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
