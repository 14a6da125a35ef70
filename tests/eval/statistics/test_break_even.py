"""The break-even on gains whose zero is known, and against every place tried one by one."""

import numpy as np
import pytest
import scipy.stats

from oodml.eval.statistics.break_even import break_even

FIDS = (10.0, 20.0, 50.0)


def around(means, noise=0.01, seeds=4, seed=0):
    return np.array(means) + noise * np.random.default_rng(seed).standard_normal(
        (seeds, len(means))
    )


def test_straight_lines_between_rungs_are_followed():
    found = break_even(np.array([[0.3, 0.1, -0.2], [0.3, 0.1, -0.2]]))
    assert (found.kind, found.place) == ("within", pytest.approx(1 + 1 / 3))
    assert found.on(FIDS) == pytest.approx((30.0, 30.0, 30.0))
    assert found.crossings == 1


def test_one_seed_has_a_place_without_an_interval():
    assert break_even(np.array([[0.3, 0.1, -0.2]])).on(FIDS) == (pytest.approx(30), None, None)


@pytest.mark.parametrize(
    ("means", "kind", "expected"),
    [
        ((0.3, 0.2, 0.1), "beyond", (None, 50.0, None)),
        ((-0.1, -0.2, -0.3), "before", (None, None, 10.0)),
    ],
)
def test_a_gain_that_keeps_its_sign_lies_beyond_or_before_the_ladder(means, kind, expected):
    found = break_even(around(means))
    assert (found.kind, found.on(FIDS), found.crossings) == (kind, expected, 0)


def test_nothing_is_stated_where_the_interval_holds_zero_everywhere():
    found = break_even(around((0.001, 0.0, -0.001), noise=0.05))
    assert (found.pays_to, found.costs_from) == (None, None)


def test_a_gain_that_comes_back_is_followed_to_its_first_zero():
    found = break_even(around((0.1, -0.1, 0.2), noise=0.001))
    assert found.place == pytest.approx(0.5, abs=0.02)
    assert (found.crossings, found.costs_from) == (2, None)
    late = break_even(around((-0.1, 0.2, 0.3), noise=0.001))
    assert (late.kind, late.place, late.crossings, late.pays_to) == ("before", None, 1, None)


@pytest.mark.parametrize("seed", range(8))
def test_the_interval_ends_where_the_band_of_the_gain_meets_zero(seed):
    gains = around((0.08, 0.03, -0.02, -0.06), noise=0.015, seeds=3 + seed % 3, seed=seed)
    count = len(gains)
    along = np.linspace(0, 3, 30001)
    tried = np.array([np.interp(along, range(4), own) for own in gains])
    reach = scipy.stats.t.ppf(0.975, count - 1) * tried.std(0, ddof=1) / np.sqrt(count)
    above, below = tried.mean(0) > reach, tried.mean(0) < -reach
    found = break_even(gains)
    pays = along[np.argmin(above)] if above[0] else None
    costs = along[len(along) - np.argmin(below[::-1])] if below[-1] else None
    for given, expected in ((found.pays_to, pays), (found.costs_from, costs)):
        assert given == (None if expected is None else pytest.approx(expected, abs=2e-4))


def test_the_interval_holds_the_true_zero_in_95_of_100_studies():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(1500):
        found = break_even(np.array((0.1, -0.1)) + 0.02 * random.standard_normal((3, 2)))
        low = -1 if found.pays_to is None else found.pays_to
        high = 2 if found.costs_from is None else found.costs_from
        held += low <= 0.5 <= high
    assert 0.94 <= held / 1500 <= 0.96
