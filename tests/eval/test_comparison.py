from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from synthetic_rows import rows

from oodml.eval.statistics.comparisons import compare_methods, holm
from oodml.eval.statistics.curves import pairs_of
from oodml.eval.statistics.scores import t_interval

RANDOM = np.random.default_rng(0)
BASE = 0.6 - 0.1 * np.arange(4) + 0.01 * RANDOM.normal(size=(5, 4))


def test_difference_interval_and_test_against_scipy():
    other = BASE + 0.02 + 0.01 * RANDOM.normal(size=BASE.shape)
    (found,) = compare_methods(rows(BASE, "a") + rows(other, "b"))
    difference = other - BASE
    assert (found.first, found.second) == ("b", "a")
    assert (found.rungs, found.seeds, found.pairs, found.left_out) == (4, 5, 20, 0)
    estimate = (found.difference.value, found.difference.low, found.difference.high)
    assert estimate == pytest.approx(t_interval(difference.mean(1).tolist()))
    assert found.p == pytest.approx(scipy.stats.wilcoxon(difference.ravel()).pvalue)
    assert found.verdict == "b above a on average"


def test_equal_methods_are_not_separated():
    (same,) = compare_methods(rows(BASE, "a") + rows(BASE, "b"))
    assert (same.p, same.p_holm, same.difference.value) == (1.0, 1.0, 0.0)
    assert same.verdict == "not separated"
    noisy = BASE + 0.05 * RANDOM.normal(size=BASE.shape)
    (found,) = compare_methods(rows(BASE, "a") + rows(noisy, "b"))
    assert found.verdict == "not separated"


def test_separated_needs_test_and_interval():
    shift = np.full(BASE.shape, 0.01)
    shift[0] = 0.2
    (found,) = compare_methods(rows(BASE, "a") + rows(BASE + shift, "b"))
    assert found.p_holm < 0.01 and found.difference.low < 0
    assert found.verdict == "not separated"
    (clear,) = compare_methods(rows(BASE[:, :1], "a", [1.0]) + rows(BASE[:, :1] + 1, "b", [1.0]))
    assert clear.difference.low > 0
    assert clear.p is None and clear.verdict == "too few pairs to tell (5)"


def test_one_seed_has_no_interval():
    whole = np.arange(8)[None] * 0.01
    fids = list(range(1, 9))
    (found,) = compare_methods(rows(whole, "a", fids) + rows(whole + 0.1, "b", fids))
    assert found.p < 0.05 and found.difference.low is None
    assert found.verdict == "one seed: no interval, not separated"


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_values_are_corrected_over_all_pairs():
    values = [BASE + step for step in (0.0, 0.02, 0.05)]
    found = compare_methods([r for n, v in enumerate(values) for r in rows(v, f"m{n}")])
    assert len(found) == 3
    assert [each.p_holm for each in found] == pytest.approx(holm([each.p for each in found]))
    assert found[0].p_holm > found[0].p


def test_a_fixed_method_stands_against_every_seed():
    fixed = [replace(row, fixed=True) for row in rows(BASE[:1], "frozen")]
    (pair,) = pairs_of(fixed + rows(BASE, "margin"))
    assert pair.differences == pytest.approx(BASE[:1] - BASE)
    assert pair.left_out == 0
    (single,) = pairs_of(rows(BASE[:1], "frozen") + rows(BASE, "margin"))
    assert single.differences.shape == (1, 4) and single.left_out == 16


def test_runs_without_a_partner_are_counted_and_left_out():
    gap = BASE.copy()
    gap[1, 2] = np.nan
    (pair,) = pairs_of(rows(gap, "a") + rows(BASE[:, :3], "b", [10.0, 20.0, 50.0]))
    assert pair.rungs == (0, 1, 2)
    assert pair.differences.shape == (4, 3)
    assert pair.left_out == (19 - 12) + (15 - 12)
    assert compare_methods(rows(BASE[:, :1], "a", [1.0])) == []
