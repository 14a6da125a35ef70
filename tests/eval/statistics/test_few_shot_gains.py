from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from eval.statistics.conftest import LADDER, run

from oodml.errors import DataError
from oodml.eval.statistics.few_shot import few_shot_gains

ZERO = np.array([[0.50, 0.52, 0.48], [0.60, 0.58, 0.56]])
FEW = np.array([[0.55, 0.60, 0.50], [0.61, 0.66, 0.58]])


def adapted(zero, few, rung=0, seed=0, shots="2", metric="recall_at_1"):
    episodes = [
        {"zero_shot": {metric: a}, "few_shot": {metric: b}} for a, b in zip(zero, few, strict=True)
    ]
    record = run(rung=rung, seed=seed)
    return replace(record, few_shot={shots: {"episodes": episodes, "left_out": 3 * rung}})


def test_gain_is_measured_per_episode_and_averaged_over_seeds():
    records = [adapted(ZERO[seed], FEW[seed], seed=seed) for seed in (0, 1)]
    (row,) = few_shot_gains([*records, run(rung=1)], LADDER)
    zero, few = ZERO.mean(0), FEW.mean(0)
    assert (row.series.method, row.shots, row.rung, row.fid) == ("margin", 2, 0, 10.0)
    assert (row.episodes, row.seeds) == (3, 2)
    assert row.zero_shot.value == pytest.approx(zero.mean())
    gain = few - zero
    low, high = scipy.stats.t.interval(0.95, 2, gain.mean(), scipy.stats.sem(gain))
    assert (row.gain.value, row.gain.low, row.gain.high) == pytest.approx((gain.mean(), low, high))
    assert row.relative_gain.value == pytest.approx(np.mean(gain / zero))


def test_shots_and_rungs_are_rows_of_their_own_in_order_of_number():
    records = [
        replace(
            adapted(ZERO[0], FEW[0], rung=rung),
            few_shot={
                shots: {"episodes": adapted(ZERO[0], FEW[0]).few_shot["2"]["episodes"]}
                for shots in ("10", "5")
            },
        )
        for rung in (1, 0)
    ]
    found = few_shot_gains(records, LADDER)
    assert [(row.shots, row.rung) for row in found] == [(5, 0), (5, 1), (10, 0), (10, 1)]


def test_one_episode_has_no_interval_and_zero_no_relative_gain():
    (row,) = few_shot_gains([adapted([0.0], [0.2])], LADDER)
    assert row.gain.value == 0.2 and row.gain.low is None and row.relative_gain is None


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(DataError, match="2 and 3 episodes"):
        few_shot_gains([adapted(ZERO[0], FEW[0]), adapted([1, 1], [1, 1], seed=1)], LADDER)
    with pytest.raises(DataError, match="recall_at_1"):
        few_shot_gains([adapted([1], [1], metric="nmi")], LADDER)
    assert few_shot_gains([run()], LADDER) == []


def test_classes_that_are_too_small_are_counted():
    rows = few_shot_gains([adapted(ZERO[0], FEW[0], rung=rung) for rung in (0, 1)], LADDER)
    assert [row.left_out for row in rows] == [0, 3]
