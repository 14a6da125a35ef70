import numpy as np
import pytest
import scipy.stats
from synthetic_rows import rows

from oodml.eval.statistics.rank_stability import rank_agreement, ranks, score_ranks
from oodml.eval.statistics.scores import MethodScore


def test_ranks_start_at_the_highest_and_ties_share():
    found = ranks(rows([[0.5, 0.1]], "a", [1, 2]) + rows([[0.5, 0.2]], "b", [1, 2]))
    assert found == {0: {"a": 1.5, "b": 1.5}, 1: {"a": 2.0, "b": 1.0}}


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
