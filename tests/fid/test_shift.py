"""The shift report: nulls, excess, extrapolation, interval; JSON there and back."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from test_statistics import SOURCE, pool

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid import null
from oodml.fid.class_moments import ClassMoments, split_terms
from oodml.fid.frechet import frechet_distance
from oodml.fid.null import Null, bootstrap_interval, random_class_splits
from oodml.fid.sampling_bias import expected_bias, infinite_sample_distance
from oodml.fid.shift import Shift, measure_shift
from oodml.seeding import generator


def split(features, train, test):
    names = features.class_names
    return SimpleNamespace(
        train_classes=tuple(names[i] for i in train), test_classes=tuple(names[i] for i in test)
    )


def halves(features):
    count = len(features.class_names)
    return split(features, range(count // 2), range(count // 2, count))


def separated(gap, classes=40, d=24):
    """A pool whose second half of the classes is shifted along one axis."""
    features = pool(classes=classes, d=d)
    features.values[features.labels >= classes // 2, 3] += gap
    return features


def test_the_report_holds_what_was_asked_for_and_survives_json():
    features = pool()
    shift = measure_shift(
        features,
        halves(features),
        null=10,
        mmd=True,
        infinity=True,
        bootstrap=20,
    )
    assert shift.fid == pytest.approx(shift.mean_term + shift.covariance_term)
    assert shift.n_train + shift.n_test == len(features)
    assert None not in vars(shift).values()
    assert shift.low <= shift.fid <= shift.high
    assert Shift.from_json(shift.to_json()) == shift
    plain = measure_shift(features, halves(features), null=0, kid=False)
    assert plain.fid == shift.fid
    assert set(plain.to_json()) == {
        "level", "fid", "mean_term", "covariance_term", "n_train", "n_test", "dimension", "bound",
        "bias_estimate",
    }  # fmt: skip


def test_every_point_is_summed_once_for_distance_bias_and_null(monkeypatch):
    features, summed = pool(), []
    of_rows = ClassMoments.of_rows

    def counted(statistics, rows):
        summed.append(len(rows))
        return of_rows(statistics, rows)

    monkeypatch.setattr(ClassMoments, "of_rows", counted)
    monkeypatch.setattr(null, "GRAM_POOL", 10)
    measure_shift(features, halves(features), null=0, kid=True)
    assert sum(summed) == len(features)
    summed.clear()
    # Of each random split only the smaller side is summed.
    measure_shift(features, halves(features), null=3, kid=True)
    assert len(features) < sum(summed) <= len(features) * 2.5


def test_a_tampered_record_is_refused():
    record = measure_shift(pool(), halves(pool()), null=0, kid=False).to_json()
    with pytest.raises(DataError, match="'colour'"):
        Shift.from_json({**record, "colour": 1})
    with pytest.raises(DataError, match="fid is 'low'"):
        Shift.from_json({**record, "fid": "low"})
    del record["fid"]
    with pytest.raises(DataError, match="fid"):
        Shift.from_json(record)


@pytest.mark.parametrize("level", ["sample", "class"])
def test_a_random_split_has_no_excess_and_a_shifted_one_has(level):
    features = pool(seed=5)
    train, test = next(random_class_splits(range(20), range(20, 40), 1, seed=99))
    plain = measure_shift(features, split(features, train, test), level=level)
    assert abs(plain.z) < 3.5
    shifted = separated(4.0)
    hard = measure_shift(shifted, halves(shifted), level=level)
    assert hard.z > 5
    assert hard.excess == pytest.approx(hard.fid - hard.null_mean)
    assert hard.kid > hard.kid_null_mean + 3 * hard.kid_null_sd


@pytest.mark.parametrize("level", ["sample", "class"])
def test_fid_grows_as_classes_are_removed_and_the_excess_does_not(level):
    features = pool(classes=80, d=48)
    values = {}
    for count in (40, 10):
        reports = [
            measure_shift(features, split(features, train, test), level=level, null=12, kid=False)
            for train, test in random_class_splits(range(count), range(40, 40 + count), 4, seed=1)
        ]
        values[count] = [np.mean([getattr(r, k) for r in reports]) for k in ("fid", "excess")]
    assert values[10][0] > 1.6 * values[40][0]
    assert abs(values[10][1]) < 0.05 * values[10][0]
    assert abs(values[40][1]) < 0.05 * values[40][0]


def test_the_excess_recovers_a_shift_that_bias_hides():
    rng = generator(0, "known shift")
    d, n = 64, 40
    population = np.linspace(0.3, 1, d)
    values = rng.standard_normal((2 * n, d)) * population
    values[n:, 0] += 3.0
    features = Features(
        values.astype(np.float32), np.arange(2 * n), tuple(f"{i:03d}" for i in range(2 * n)), SOURCE
    )
    report = measure_shift(features, halves(features), level="class", kid=False)
    assert report.fid > 3 * 9
    assert report.excess == pytest.approx(9, rel=0.4)


def test_draws_depend_on_the_seed_and_the_set_of_classes_only():
    features = pool()
    names = features.class_names
    one = measure_shift(features, halves(features), seed=3, kid=False)
    other = measure_shift(
        features,
        SimpleNamespace(train_classes=names[:20][::-1], test_classes=names[20:]),
        seed=3,
        kid=False,
    )
    assert one == other
    again = measure_shift(features, halves(features), seed=4, kid=False)
    assert again.null_mean != one.null_mean
    for train, test in random_class_splits(range(5), range(5, 15), 20, seed=0):
        assert len(train) == 5
        assert sorted([*train, *test]) == list(range(15))


def test_extrapolation_finds_the_value_of_infinite_samples_and_is_refused_below_2d():
    features = pool(classes=40, per_class=100, d=24, spread=0.0, uneven=False)
    statistics = ClassMoments.from_features(features)
    train, test = range(20), range(20, 40)
    plain = split_terms(statistics, train, test).value
    value = infinite_sample_distance(statistics, train, test)
    assert abs(value) < 0.4 * plain
    with pytest.raises(UsageError, match="needs 48"):
        infinite_sample_distance(ClassMoments.from_features(pool(d=24), "class"), train, test)


def test_the_estimated_bias_is_what_equal_populations_show():
    d, sizes = 32, (600, 900)
    spectrum = np.geomspace(1, 0.05, d)
    values = []
    for index in range(12):
        rng = generator(index, "bias")
        a, b = (rng.standard_normal((n, d)) * np.sqrt(spectrum) for n in sizes)
        values.append(frechet_distance(a, b))
    assert expected_bias(np.diag(spectrum), *sizes) == pytest.approx(np.mean(values), rel=0.05)


def test_bias_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING, logger="oodml"):
        measure_shift(pool(), halves(pool()), level="class", null=0, kid=False)
    assert "finite-sample bias" in caplog.text


def test_costly_kid_is_left_out_unless_asked_for(caplog, monkeypatch):
    monkeypatch.setattr("oodml.fid.shift.KERNEL_WORK", 10.0)
    features = pool()
    with caplog.at_level(logging.INFO, logger="oodml"):
        assert measure_shift(features, halves(features), null=0).kid is None
    assert "KID left out" in caplog.text
    assert measure_shift(features, halves(features), null=0, kid=True).kid is not None


def test_the_interval_holds_the_value_and_narrows_with_more_classes():
    widths = []
    for classes in (20, 80):
        statistics = ClassMoments.from_features(pool(classes=classes, d=12))
        train, test = range(classes // 2), range(classes // 2, classes)
        value = split_terms(statistics, train, test).value
        low, high = bootstrap_interval(statistics, train, test, value, 40, 0)
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_impossible_requests_get_one_clear_line():
    features = pool()
    names = features.class_names
    both = SimpleNamespace(train_classes=names[:5], test_classes=names[4:9])
    with pytest.raises(DataError, match="both sides"):
        measure_shift(features, both)
    twice = SimpleNamespace(train_classes=(*names[:5], names[0]), test_classes=names[6:9])
    with pytest.raises(DataError, match="twice"):
        measure_shift(features, twice)
    unknown = SimpleNamespace(train_classes=("nobody",), test_classes=names[:3])
    with pytest.raises(DataError, match="'nobody'"):
        measure_shift(features, unknown)
    with pytest.raises(UsageError, match="2 per dimension"):
        measure_shift(features, halves(features), level="class", infinity=True)
    with pytest.raises(UsageError, match="at least 2"):
        Null.of([1.0])
    with pytest.raises(UsageError, match="at least 20"):
        measure_shift(features, halves(features), bootstrap=5)
    single = split(features, range(1), range(1, 3))
    with pytest.raises(DataError, match="at least 2"):
        measure_shift(features, single, level="class", null=0, kid=False)
