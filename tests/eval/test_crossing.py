import numpy as np
import pytest
from synthetic_rows import FIDS, rows

from oodml.eval.statistics.crossing import crossings, separated_signs

NOISE = 0.001 * np.random.default_rng(0).normal(size=(4, 4))


def pair(difference):
    flat = np.zeros((4, 4)) + 0.5
    return rows(flat, "flat") + rows(flat + np.array(difference) + NOISE, "steep")


def test_a_crossing_is_where_the_lines_between_means_meet():
    (found,) = crossings(pair([0.1, 0.05, -0.05, -0.1]))
    assert (found.before, found.after) == ("steep", "flat")
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
    assert [(each.before, each.low) for each in found] == [("steep", FIDS[0]), ("flat", FIDS[2])]


def test_signs_are_bonferroni_corrected_over_the_rungs():
    # t = mean / (sd / 2) = 3.6 lies between the quantiles of one (3.18) and of four rungs (4.86).
    column = np.array([[1.0], [2.0], [3.0], [4.0]])
    column = (column - 2.5) / column.std(ddof=1) + 1.8
    assert separated_signs(column) == [1]
    assert separated_signs(np.hstack([column, column, -column, column])) == [0, 0, 0, 0]
