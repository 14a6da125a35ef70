import itertools

import numpy as np
import pytest
import scipy.stats
from synthetic_rows import FIDS, rows

from oodml.errors import DataError
from oodml.eval.statistics.deviation import deviation_lines, relative_deviation

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
    assert [d.rung for d in found if d.method == "a"] == [0, 1, 3]
    assert not any(d.in_mean for d in found if d.method == "a")
    assert [d.deviation.value for d in found if d.method == "b"] == pytest.approx([0] * 4)
    with pytest.raises(DataError, match="no method has runs on every rung"):
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
    with pytest.raises(DataError, match="mean is 0 on some rung"):
        relative_deviation(rows(A * 0, "a"))
