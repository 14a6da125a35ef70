import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from eval.conftest import FIDS, rows

from oodml.errors import DataError
from oodml.eval.statistics.comparisons import (
    compare_methods,
    crossings,
    deviation_lines,
    holm,
    rank_agreement,
    ranks,
    relative_deviation,
    score_ranks,
    separated_signs,
)
from oodml.eval.statistics.curves import pairs_of
from oodml.eval.statistics.intervals import t_interval
from oodml.eval.statistics.scores import MethodScore
from oodml.eval.statistics.series import Series

RANDOM = np.random.default_rng(0)

BASE = 0.6 - 0.1 * np.arange(4) + 0.01 * RANDOM.normal(size=(5, 4))


def test_difference_interval_and_test_against_scipy():
    other = BASE + 0.02 + 0.01 * RANDOM.normal(size=BASE.shape)
    (found,) = compare_methods(rows(BASE, "a") + rows(other, "b"))
    difference = other - BASE
    assert (found.first.name, found.second.name) == ("b", "a")
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


NOISE = 0.001 * np.random.default_rng(0).normal(size=(4, 4))


def pair(difference):
    flat = np.zeros((4, 4)) + 0.5
    return rows(flat, "flat") + rows(flat + np.array(difference) + NOISE, "steep")


def test_a_crossing_is_where_the_lines_between_means_meet():
    (found,) = crossings(pair([0.1, 0.05, -0.05, -0.1]))
    assert (found.before.name, found.after.name) == ("steep", "flat")
    assert (found.low, found.high) == (20.0, 50.0)
    means = np.add(NOISE.mean(0), [0.1, 0.05, -0.05, -0.1])
    share = means[1] / (means[1] - means[2])
    assert found.fid == pytest.approx(20 + share * 30)


def test_rungs_that_cannot_be_told_widen_the_place():
    (found,) = crossings(pair([0.1, 0.0, 0.0, -0.1]))
    assert (found.low, found.high) == (10.0, 110.0)
    assert 10 < found.fid < 110


@pytest.mark.parametrize(
    "difference", [[0.1, 0.1, 0.1, 0.0], [0.1, 0.05, 0.02, 0.1], [0.0, 0.0, 0.0, -0.1]]
)
def test_no_crossing_is_stated_where_one_side_is_not_separated(difference):
    assert crossings(pair(difference)) == []


def test_noise_and_single_seeds_cross_nowhere():
    random = np.random.default_rng(1)
    noise = [r for n in range(12) for r in rows(random.normal(size=(3, 4)), f"m{n:02d}")]
    assert crossings(noise) == []
    one = rows([[0.9, 0.7, 0.2, 0.1]], "a") + rows([[0.5] * 4], "b")
    assert crossings(one) == []


def test_two_crossings_in_one_pair():
    found = crossings(pair([0.1, -0.1, -0.1, 0.1]))
    assert [(each.before.name, each.low) for each in found] == [
        ("steep", FIDS[0]),
        ("flat", FIDS[2]),
    ]


def test_signs_are_bonferroni_corrected_over_the_rungs():
    # t = mean / (sd / 2) = 3.6 lies between the quantiles of one (3.18) and of four rungs (4.86).
    column = np.array([[1.0], [2.0], [3.0], [4.0]])
    column = (column - 2.5) / column.std(ddof=1) + 1.8
    assert separated_signs(column) == [1]
    assert separated_signs(np.hstack([column, column, -column, column])) == [0, 0, 0, 0]


def test_ranks_start_at_the_highest_and_ties_share():
    found = ranks(rows([[0.5, 0.1]], "a", [1, 2]) + rows([[0.5, 0.2]], "b", [1, 2]))
    a, b = Series("a"), Series("b")
    assert found == {0: {a: 1.5, b: 1.5}, 1: {a: 2.0, b: 1.0}}


def test_tau_against_scipy_over_shared_methods():
    values = np.random.default_rng(0).random((7, 3))
    values[6, 1] = np.nan
    given = [r for n, v in enumerate(values) for r in rows(v[None], f"m{n}", [1, 2, 3])]
    found = rank_agreement(given)
    assert [(a.rung, a.other, a.methods) for a in found] == [(0, 1, 6), (0, 2, 7), (1, 2, 6)]
    expected = scipy.stats.kendalltau(values[:, 0], values[:, 2])
    assert (found[1].tau, found[1].p) == pytest.approx((expected.statistic, expected.pvalue))


def test_scores_are_ranked_among_those_that_exist():
    scores = [MethodScore(m, 1, v, None, None) for m, v in (("a", 0.2), ("b", None), ("c", 0.5))]
    assert score_ranks(scores) == {"a": 2.0, "c": 1.0}
    assert score_ranks([]) == {}


def test_nothing_is_said_of_too_few_or_equal_methods():
    two = rows([[0.5, 0.1]], "a", [1, 2]) + rows([[0.4, 0.2]], "b", [1, 2])
    assert rank_agreement(two)[0].tau is None
    equal = [r for name in "abc" for r in rows([[0.5, 0.1]], name, [1, 2])]
    assert rank_agreement(equal)[0].tau is None


A = np.array([[0.8, 0.6, 0.5, 0.3], [0.9, 0.7, 0.5, 0.4]])


B = np.array([[0.6, 0.5, 0.4, 0.3], [0.7, 0.6, 0.3, 0.2]])


def test_deviation_from_the_mean_of_the_methods():
    found = relative_deviation(rows(A, "a") + rows(B, "b"))
    mean = (A.mean(0) + B.mean(0)) / 2
    assert [d.deviation.value for d in found[:4]] == pytest.approx(A.mean(0) / mean - 1)
    assert [d.deviation.value for d in found[4:]] == pytest.approx(B.mean(0) / mean - 1)
    assert [d.fid for d in found[:4]] == list(FIDS)


def test_interval_draws_the_seeds_of_all_methods_together():
    found = relative_deviation(rows(A, "a") + rows(B, "b"))[1]
    drawn = []
    for pick in itertools.product(range(2), repeat=2):
        a, b = A[list(pick), 1].mean(), B[list(pick), 1].mean()
        drawn.append(a / ((a + b) / 2) - 1)
    reach = scipy.stats.t.ppf(0.975, 1) * np.std(drawn) * np.sqrt(2)
    assert found.deviation.high - found.deviation.value == pytest.approx(reach)


def test_a_method_with_a_gap_is_compared_and_not_averaged_in():
    gap = A.copy()
    gap[:, 2] = np.nan
    found = relative_deviation(rows(gap, "a") + rows(B, "b"))
    assert [d.rung for d in found if d.series.method == "a"] == [0, 1, 3]
    assert not any(d.in_mean for d in found if d.series.method == "a")
    assert [d.deviation.value for d in found if d.series.method == "b"] == pytest.approx([0] * 4)
    with pytest.raises(DataError, match="every rung"):
        relative_deviation(rows(gap, "a") + rows(B[:, :3], "b", FIDS[:3]))


def test_rungs_need_not_be_numbered_without_gaps():
    only = [row for row in rows(A, "a") + rows(B, "b") if row.rung in (1, 3)]
    assert all(d.deviation.low is not None for d in relative_deviation(only))


def test_a_mean_may_be_given():
    found = relative_deviation(rows(A, "a"), {0: 0.5, 2: 1.0})
    assert [(d.rung, d.deviation.value) for d in found] == [(0, pytest.approx(0.7)), (2, -0.5)]


def test_line_against_scipy():
    found = relative_deviation(rows(A, "a") + rows(B, "b"))
    line = deviation_lines(found)[0]
    fit = scipy.stats.linregress(FIDS, [d.deviation.value for d in found[:4]])
    assert line.easiest == pytest.approx(fit.intercept + fit.slope * FIDS[0])
    assert line.hardest == pytest.approx(fit.intercept + fit.slope * FIDS[-1])
    assert deviation_lines(found[:2]) == []


def test_nothing_is_relative_to_zero():
    with pytest.raises(DataError, match="mean is 0"):
        relative_deviation(rows(A * 0, "a"))
