import itertools

import numpy as np
import pytest
import scipy.stats

from oodml.eval.statistics.intervals import Estimate, over_seeds, resamples, t_estimate


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_every_resample_is_listed_with_its_chance(seeds):
    weights, chances = resamples(seeds)
    listed = [
        np.bincount(p, minlength=seeds) for p in itertools.product(range(seeds), repeat=seeds)
    ]
    assert chances.sum() == pytest.approx(1)
    for row, chance in zip(weights, chances, strict=True):
        share = np.mean([(row * seeds == counts).all() for counts in listed])
        assert chance == pytest.approx(share)


@pytest.mark.parametrize("seeds", [2, 3, 5, 7])
def test_a_linear_statistic_has_the_t_interval(seeds):
    values = np.random.default_rng(seeds).normal(size=seeds)
    found = over_seeds(lambda weights: weights @ values, seeds)
    low, high = scipy.stats.t.interval(0.95, seeds - 1, values.mean(), scipy.stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert t_estimate(values.tolist()).high == pytest.approx(high)


def test_many_seeds_are_drawn_and_near_the_closed_form():
    values = np.random.default_rng(1).normal(size=12)
    found = over_seeds(lambda weights: weights @ values, 12)
    low, high = scipy.stats.t.interval(0.95, 11, values.mean(), scipy.stats.sem(values))
    assert found.low == pytest.approx(low, abs=0.05)
    assert found.low != low
    assert found == over_seeds(lambda weights: weights @ values, 12)
    assert high - low == pytest.approx(found.high - found.low, rel=0.05)


def test_a_ratio_has_the_error_of_its_resamples():
    top, base = np.array([0.5, 0.6, 0.4]), np.array([0.9, 0.8, 0.85])
    found = over_seeds(lambda weights: (weights @ top) / (weights @ base), 3)
    drawn = [
        top[list(pick)].mean() / base[list(pick)].mean()
        for pick in itertools.product(range(3), repeat=3)
    ]
    reach = scipy.stats.t.ppf(0.975, 2) * np.std(drawn) * np.sqrt(3 / 2)
    assert found.value == pytest.approx(top.mean() / base.mean())
    assert found.high - found.value == pytest.approx(reach)


def test_one_seed_has_no_interval_and_no_sign():
    found = over_seeds(lambda weights: weights @ np.array([0.4]), 1)
    assert found == Estimate(0.4)
    assert found.sign == 0


def test_sign_is_where_the_interval_excludes_zero():
    assert [Estimate(0.1, low, 0.2).sign for low in (0.05, 0.0, -0.1)] == [1, 0, 0]
    assert Estimate(-0.1, -0.2, -0.05).sign == -1


def test_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        values = random.normal(size=3)
        found = over_seeds(lambda weights, values=values: weights @ values, 3)
        hits += found.low < 0 < found.high
    assert 0.92 < hits / 600 < 0.98
