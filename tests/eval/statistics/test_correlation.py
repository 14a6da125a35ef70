from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from eval.statistics.conftest import LADDER, run

from oodml.errors import DataError, UsageError
from oodml.eval.statistics.correlation import correlate_geometry, fisher, geometry_points, pearson

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(8, 3))  # methods x rungs
Y = 0.5 + 0.1 * X + 0.05 * RANDOM.normal(size=(8, 3))


def shaped(method, rung, x, y, seed=0, side="test"):
    record = run(f"m{method}", rung=rung, seed=seed, value=y)
    return replace(record, geometry={side: {"uniformity": x}})


def records(x=X, y=Y):
    return [
        shaped(method, rung, float(x[method, rung]), float(y[method, rung]))
        for method in range(len(x))
        for rung in range(x.shape[1])
    ]


def found(given):
    return {each.scope: each for each in correlate_geometry(given, LADDER)}


def test_within_a_rung_against_scipy():
    own = found(records())["rung 1"]
    reference = scipy.stats.pearsonr(X[:, 1], Y[:, 1])
    low, high = reference.confidence_interval()
    assert (own.property, own.side, own.points, own.methods) == ("uniformity", "test", 8, 8)
    assert own.pearson.value == pytest.approx(reference.statistic)
    assert (own.pearson.low, own.pearson.high) == pytest.approx((low, high))
    rho = scipy.stats.spearmanr(X[:, 1], Y[:, 1]).statistic
    reach = scipy.stats.norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / 5)
    assert own.spearman.value == pytest.approx(rho)
    assert own.spearman.high == pytest.approx(np.tanh(np.arctanh(rho) + reach))


def test_pooled_takes_all_points_and_within_takes_the_rungs_off():
    # Shift moves both together although within each rung they go apart.
    x = np.arange(3) * 100 + X
    y = np.arange(3) * 10 - Y
    both = found(records(x, y))
    pooled = scipy.stats.pearsonr(x.ravel(), y.ravel()).statistic
    centred = scipy.stats.pearsonr((x - x.mean(0)).ravel(), (y - y.mean(0)).ravel()).statistic
    assert both["pooled"].pearson.value == pytest.approx(pooled) and pooled > 0.9
    assert both["within"].pearson.value == pytest.approx(centred) and centred < -0.5
    rho = scipy.stats.spearmanr(x.ravel(), y.ravel()).statistic
    assert both["pooled"].spearman.value == pytest.approx(rho)
    assert both["pooled"].points == 24
    for each in (both["pooled"].pearson, both["within"].spearman):
        assert each.low < each.value < each.high


def test_pooled_intervals_draw_whole_methods():
    """24 points in 8 pairs of equal methods say no more than their methods do."""
    wide = found(records(np.repeat(X[:, :1], 3, 1), np.repeat(Y[:, :1], 3, 1)))["pooled"].pearson
    naive = fisher(wide.value, 24)
    assert wide.high - wide.low > 1.3 * (naive.high - naive.low)
    assert (
        wide
        == found(records(np.repeat(X[:, :1], 3, 1), np.repeat(Y[:, :1], 3, 1)))["pooled"].pearson
    )


def test_a_point_is_the_mean_over_seeds():
    given = [shaped(0, 0, x, y, seed) for seed, (x, y) in enumerate([(1.0, 0.2), (3.0, 0.6)])]
    ((point,),) = geometry_points(given, LADDER).values()
    assert (point.x, point.y, point.rung, point.series.method) == (2.0, pytest.approx(0.4), 0, "m0")


def test_few_points_have_no_interval():
    few = found(records(X[:3], Y[:3]))
    assert few["rung 0"].pearson.low is None and few["pooled"].pearson.low is None
    assert found(records(X[:2], Y[:2]))["rung 0"].pearson is None
    assert found(records(X * 0 + 0.3, Y))["rung 0"].pearson is None
    assert pearson(np.array([0.1 + 0.2, 0.3, 0.3]), np.arange(3.0)) is None
    assert fisher(1.0, 9).low is None


def test_sides_are_kept_apart():
    both = [*records()[:1], shaped(0, 1, 0.5, 0.5, side="train")]
    assert set(geometry_points(both, LADDER)) == {("uniformity", "test"), ("uniformity", "train")}


def test_runs_without_geometry_and_unknown_metrics_get_one_line():
    with pytest.raises(DataError, match="geometry"):
        correlate_geometry([run()], LADDER)
    with pytest.raises(UsageError, match="'recall_at_1'"):
        correlate_geometry(records(), LADDER, "recall_at1")
