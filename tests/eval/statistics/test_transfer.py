"""The shift cost and what belongs to it, from made-up reference runs with known values."""

import logging

import numpy as np
import pytest
import scipy.stats
from eval.statistics.conftest import EXCESS, FIDS, LADDER, run

from oodml.errors import DataError, UsageError
from oodml.eval.statistics.curves import summarize
from oodml.eval.statistics.intervals import Estimate, ratio_estimate
from oodml.eval.statistics.transfer import transfer

# Means per rung of (seeds, rungs), and what each seed adds.
SHIFTED, MATCHED, FROZEN = (0.60, 0.44, 0.20), (0.61, 0.55, 0.41), (0.50, 0.42, 0.30)


def noisy(means, seeds=4, noise=0.01, seed=0):
    return np.array(means) + noise * np.random.default_rng(seed).standard_normal((seeds, 3))


def reference(shifted, matched, frozen=None, method="margin", **settings):
    """The reference runs of (seeds, rungs) matrices; NaN is a missing run."""
    records = []
    for side, values in (("shifted", shifted), ("matched", matched), ("nothing", frozen)):
        for seed, rung in np.ndindex(np.shape([] if values is None else values)):
            value = float(values[seed][rung])
            if not np.isnan(value):
                own = dict(settings, trained_on=side)
                if side == "nothing":
                    own = {k: v for k, v in own.items() if k != "hyperparameters"}
                    own["train"] = "none"
                name = "frozen" if side == "nothing" else method
                records.append(run(name, rung, seed, value, **own))
    return records


def drawn(costs, rung=0, method="margin"):
    """The runs on random splits with these costs."""
    return [
        run(method, rung, draw - 1, 0.5 + cost * (side == "matched"), trained_on=side,
            null_draw=draw)
        for draw, cost in enumerate(costs, 1)
        for side in ("shifted", "matched")
    ]  # fmt: skip


def ends(estimate):
    return estimate.value, estimate.low, estimate.high


def t_ends(values):
    low, high = scipy.stats.t.interval(
        0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values)
    )
    return pytest.approx((np.mean(values), low, high))


def test_every_value_is_paired_by_seed_with_its_t_interval():
    shifted, matched, frozen = noisy(SHIFTED), noisy(MATCHED, seed=1), noisy(FROZEN, seed=2)
    (found,) = transfer(reference(shifted, matched, frozen), LADDER)
    assert (found.series.name, found.seeds, found.left_out) == ("margin", (0, 1, 2, 3), 0)
    for rung, row in enumerate(found.rows):
        assert (row.rung, row.fid, row.excess) == (rung, FIDS[rung], EXCESS[rung])
        s, m, f = shifted[:, rung], matched[:, rung], frozen[:, rung]
        for estimate, values in (
            (row.shifted, s), (row.matched, m), (row.frozen, f),
            (row.shift_cost, m - s), (row.gain, s - f), (row.matched_gain, m - f),
        ):  # fmt: skip
            assert ends(estimate) == t_ends(values)
        if rung:
            cost = m - s
            assert ends(row.difficulty) == t_ends(matched[:, 0] - m)
            assert ends(row.fall) == t_ends(shifted[:, 0] - s)
            assert ends(row.cost_rise) == t_ends(cost - (matched - shifted)[:, 0])
    assert ends(found.rows[0].difficulty) == (0, 0, 0)
    areas = [
        scipy.integrate.trapezoid(cost, (np.array(FIDS) - 10) / 40) for cost in matched - shifted
    ]
    assert ends(found.area) == t_ends(areas)


def test_the_sums_hold_whatever_runs_are_missing():
    random = np.random.default_rng(3)
    for case in range(20):
        sides = [random.uniform(0, 1, (4, 3)) for _ in range(3)]
        for side in sides:
            side[random.random((4, 3)) < 0.03 * case] = np.nan
        for found in transfer(reference(*sides), LADDER):
            first = found.rows[0]
            for row in found.rows:
                if row.gain is not None:
                    assert row.gain.value == pytest.approx(
                        row.matched_gain.value - row.shift_cost.value, abs=1e-12
                    )
                if row.fall is not None:
                    assert row.fall.value == pytest.approx(
                        row.difficulty.value + row.cost_rise.value, abs=1e-12
                    )
                    assert first.shifted.value - row.shifted.value == pytest.approx(
                        row.difficulty.value + row.shift_cost.value - first.shift_cost.value,
                        abs=1e-12,
                    )


def test_swapping_the_sides_swaps_the_costs():
    one, other = noisy(SHIFTED), noisy(MATCHED, seed=1)
    (found,) = transfer(reference(one, other), LADDER)
    (swapped,) = transfer(reference(other, one), LADDER)
    for row, mirrored in zip(found.rows, swapped.rows, strict=True):
        cost = row.shift_cost
        assert ends(mirrored.shift_cost) == pytest.approx((-cost.value, -cost.high, -cost.low))
    assert found.area.value == pytest.approx(-swapped.area.value)


def test_retained_gain_is_the_ratio_with_an_interval_where_training_helps():
    shifted, matched, frozen = noisy(SHIFTED), noisy(MATCHED, seed=1), noisy(FROZEN, seed=2)
    (found,) = transfer(reference(shifted, matched, frozen), LADDER)
    gain, matched_gain = shifted - frozen, matched - frozen
    for rung, row in enumerate(found.rows):
        assert row.retained_gain.value == pytest.approx(
            gain[:, rung].mean() / matched_gain[:, rung].mean()
        )
        # By trying ratios: the interval holds those at which gain - r x matched gain may be zero.
        tried = np.linspace(-4, 4, 80001)
        left = gain[:, [rung]] - tried * matched_gain[:, [rung]]
        allowed = tried[
            np.abs(left.mean(0)) <= scipy.stats.t.ppf(0.975, 3) * left.std(0, ddof=1) / 2
        ]
        assert (row.retained_gain.low, row.retained_gain.high) == pytest.approx(
            (allowed[0], allowed[-1]), abs=2e-4
        )


def test_no_ratio_where_the_matched_gain_may_be_zero_or_has_no_interval():
    level = np.full((4, 3), 0.5)
    (found,) = transfer(reference(level, level + noisy((0, 0, 0)), level), LADDER)
    assert all(row.matched_gain.sign == 0 for row in found.rows)
    assert [row.retained_gain for row in found.rows] == [None] * 3
    (single,) = transfer(reference(level[:1], level[:1] + 0.1, level[:1] - 0.1), LADDER)
    assert single.rows[0].matched_gain.low is None
    assert single.rows[0].retained_gain is None
    hurt = transfer(reference(level - 0.2, level - 0.1, level), LADDER)[0]
    assert hurt.rows[0].matched_gain.high < 0 and hurt.rows[0].retained_gain is None


def test_intervals_of_ratios_hold_the_truth_in_95_of_100_studies():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        below = 0.08 + 0.02 * random.standard_normal(4)
        above = 0.03 + 0.02 * random.standard_normal(4)
        estimate = ratio_estimate(above, below)
        held += estimate is None or estimate.low <= 0.03 / 0.08 <= estimate.high
    assert 0.94 <= held / 2000 <= 0.96


def test_runs_without_partners_are_left_out_and_counted():
    shifted, matched, frozen = noisy(SHIFTED), noisy(MATCHED, seed=1), noisy(FROZEN, seed=2)
    matched[3, 1] = frozen[2, 2] = np.nan
    (found,) = transfer(reference(shifted, matched, frozen), LADDER)
    assert (found.seeds, found.left_out) == ((0, 1), 11)
    assert found.rows[0].shifted.value == pytest.approx(shifted[:2, 0].mean())
    matched[:, 1] = np.nan
    (found,) = transfer(reference(shifted, matched, frozen), LADDER)
    assert [row.rung for row in found.rows] == [0, 2]
    assert found.area is None and found.rows[1].cost_rise is not None
    assert transfer(reference(shifted[:1], matched[1:2] * np.nan), LADDER)[0].area is None


def test_sides_without_any_run_leave_gaps():
    shifted, frozen = noisy(SHIFTED), noisy(FROZEN, seed=2)
    (found,) = transfer(reference(shifted, np.full((4, 3), np.nan), frozen), LADDER)
    assert found.rows[0].matched is None and found.rows[0].shift_cost is None
    assert found.rows[0].gain.value == pytest.approx((shifted - frozen)[:, 0].mean())
    (found,) = transfer(reference(shifted, noisy(MATCHED)), LADDER)
    assert found.break_even is None and found.rows[0].gain is None
    assert found.rows[2].cost_rise is not None


def test_a_method_is_compared_with_its_own_network():
    level = np.full((2, 3), 0.5)
    records = [
        *reference(level + 0.1, level + 0.2, level, backbone="small"),
        *reference(level + 0.3, level + 0.4, level - 0.2, backbone="large"),
    ]
    large, small = transfer(records, LADDER)
    assert (large.series.name, small.series.name) == ("margin @ large", "margin @ small")
    assert large.rows[0].gain.value == pytest.approx(0.5)
    assert small.rows[0].gain.value == pytest.approx(0.1)


def test_whole_networks_are_compared_with_features_of_any_precision():
    level = np.full((2, 3), 0.5)
    records = reference(level + 0.1, level + 0.2, train="all")
    records += reference(None, None, level, precision="fp16")
    assert transfer(records, LADDER)[0].rows[0].gain.value == pytest.approx(0.1)
    heads = reference(level + 0.1, level + 0.2)
    heads += reference(None, None, level, precision="fp16")
    assert transfer(heads, LADDER)[0].rows[0].gain is None


def test_the_null_of_the_cost_is_what_one_random_split_gives():
    costs = (0.03, -0.01, 0.02, -0.03, 0.0)
    records = [*reference(noisy(SHIFTED), noisy(MATCHED, seed=1)), *drawn(costs, rung=1)]
    (found,) = transfer(records, LADDER)
    null = found.rows[1].null
    assert [row.null is None for row in found.rows] == [True, False, True]
    assert null.costs == pytest.approx(costs)
    assert ends(null.mean) == t_ends(costs)
    reach = scipy.stats.t.ppf(0.975, 4) * np.std(costs, ddof=1) * np.sqrt(1.2)
    assert (null.low, null.high) == pytest.approx((0.002 - reach, 0.002 + reach))
    assert found.rows[1].shift_cost.value > null.high
    assert null.told_apart(found.rows[1].shift_cost) is True
    assert null.told_apart(Estimate(0.01, 0.009, 0.011)) is False
    (single,) = transfer([*records[:24], *drawn(costs[:1], rung=2)], LADDER)
    assert single.rows[2].null.told_apart(Estimate(9.0)) is None
    assert found.seeds == (0, 1, 2, 3)


def test_one_new_random_split_lies_within_the_null_95_times_in_100():
    random = np.random.default_rng(1)
    level = np.full((2, 3), 0.5)
    held = 0
    for _ in range(400):
        costs = 0.02 * random.standard_normal(6)
        found = transfer([*reference(level, level), *drawn(costs[:5])], LADDER)
        held += not found[0].rows[0].null.told_apart(Estimate(float(costs[5])))
    assert 0.92 <= held / 400 <= 0.98


def test_plain_runs_and_reference_runs_never_mix(caplog):
    records = reference(noisy(SHIFTED), noisy(MATCHED), noisy(FROZEN))
    plain = [run("margin", rung, value=0.9) for rung in range(3)]
    assert [row.mean for row in summarize([*records, *plain], LADDER)] == [0.9] * 3
    with_plain = transfer([*plain, *records], LADDER)
    assert with_plain[0].rows == transfer(records, LADDER)[0].rows
    assert transfer(plain, LADDER) == []
    with caplog.at_level(logging.WARNING, "oodml"):
        transfer([*records, run(split="elsewhere", trained_on="matched")], LADDER)
    assert "1 of 37 runs" in caplog.text


def test_what_cannot_be_compared_is_refused():
    records = reference(noisy(SHIFTED), noisy(MATCHED))
    other_ruler = {"level": "sample", "fid": 99.0}
    with pytest.raises(DataError, match="FID 99"):
        transfer([*records, run(seed=9, trained_on="matched", shift=other_ruler)], LADDER)
    with pytest.raises(DataError, match="steps"):
        transfer([*records, run(seed=9, trained_on="matched", steps=20)], LADDER)
    with pytest.raises(UsageError, match="nmi"):
        transfer(records, LADDER, "nmi")
