"""The report of a shift: what it holds, what it warns of, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_features
from fid.conftest import SOURCE, pool

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid import null, shift
from oodml.fid.class_moments import ClassMoments
from oodml.fid.frechet import frechet_distance
from oodml.fid.kernel_distance import kid_sums, mmd_sums
from oodml.fid.null import Null, class_null, random_class_splits
from oodml.fid.shift import Shift, concatenated, joined, measure_shift, with_null
from oodml.seeding import generator
from oodml.splits.split import Split


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


def collection(classes: int, seed: int, fingerprint: str, **changes: object) -> Features:
    made = make_features(classes=classes, per_class=6, dimension=4, seed=seed)
    source = replace(made.source, dataset=f"photos {seed}", fingerprint=fingerprint * 16)
    return replace(made, source=source, **changes)  # type: ignore[arg-type]


def test_equal_names_stay_apart_and_every_row_keeps_its_class() -> None:
    a, b = collection(3, 1, "a"), collection(2, 2, "b")
    pool, sides = joined(a, b)
    assert sides.train_classes == ("A/class 000", "A/class 001", "A/class 002")
    assert sides.test_classes == ("B/class 000", "B/class 001")
    assert pool.class_names == sides.train_classes + sides.test_classes
    assert (pool.values == np.concatenate([a.values, b.values])).all()
    assert pool.labels.tolist() == [*a.labels, *(b.labels + 3)]
    assert pool.source.dataset == "photos 1 and photos 2"
    shift = measure_shift(pool, sides, null=0)
    assert shift.fid == pytest.approx(frechet_distance(a.values, b.values), rel=1e-9)
    assert (shift.n_train, shift.n_test) == (18, 12)


def test_the_fingerprint_tells_collections_and_their_order_apart() -> None:
    a, b, other = collection(3, 1, "a"), collection(2, 2, "b"), collection(2, 2, "c")
    pairs = ((a, b), (b, a), (a, other), (other, b))
    made = [joined(*pair)[0].source.fingerprint for pair in pairs]
    assert len(set(made)) == 4 and {len(each) for each in made} == {16}
    assert joined(a, b)[0].source.fingerprint == made[0]


def test_groups_are_kept_where_both_collections_have_them() -> None:
    a, b = collection(3, 1, "a", groups=("x", "x", "y")), collection(2, 2, "b", groups=("z", "z"))
    b = replace(b, class_names=("p", "q"))
    assert concatenated(a, b, a.source).groups == ("x", "x", "y", "z", "z")
    assert concatenated(replace(a, groups=None), b, a.source).groups is None
    assert concatenated(a, replace(b, groups=None), a.source).groups is None


def test_collections_seen_differently_do_not_compare() -> None:
    a, b = collection(3, 1, "a"), collection(2, 2, "b")
    strange = replace(b, source=replace(b.source, weights="2" * 64))
    with pytest.raises(DataError, match=r"A was made by .*, B by"):
        joined(a, strange)
    with pytest.raises(DataError, match="A has 4 dimensions, B has 3"):
        joined(a, replace(b, values=b.values[:, :3]))


def test_kid_is_measured_up_to_its_limit_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    features = make_features(classes=6, per_class=5, dimension=4)
    halves = Split(features.class_names[:3], features.class_names[3:])
    for limit, measured in ((30 * 30 * 4, True), (30 * 30 * 4 - 1, False)):
        monkeypatch.setattr(shift, "KERNEL_WORK", limit)
        assert (measure_shift(features, halves, null=0).kid is not None) == measured


def test_a_report_holds_the_kernel_distances_of_its_names() -> None:
    features = make_features(classes=8, per_class=5, dimension=4)
    halves = Split(features.class_names[:3], features.class_names[3:])
    found = measure_shift(features, halves, null=3, kid=True, mmd=True, bandwidth=2.0, seed=6)
    statistics, sides = ClassMoments.from_features(features), (range(3), range(3, 8))
    for name, sums in (("kid", kid_sums(statistics)), ("mmd", mmd_sums(statistics, 2.0))):
        drawn = class_null(*sides, sums.squared_distance, 3, 6)
        assert getattr(found, name) == sums.squared_distance(*sides)
        assert getattr(found, f"{name}_null_mean") == drawn.mean
        assert getattr(found, f"{name}_null_sd") == drawn.sd
    assert found.mmd_kernel == sums.kernel


def test_a_null_that_does_not_vary_gives_no_z() -> None:
    features = make_features(classes=4, per_class=6, dimension=3)
    found = measure_shift(
        features, Split(features.class_names[:2], features.class_names[2:]), null=0
    )
    assert with_null(found, Null(1.0, 0.0, 5)).z is None
    drawn = with_null(found, Null(1.0, 0.5, 5))
    assert drawn.excess == found.fid - 1.0 and drawn.z == drawn.excess / 0.5
    assert (drawn.null_mean, drawn.null_sd, drawn.null_draws) == (1.0, 0.5, 5)


@pytest.mark.parametrize(
    ("per_class", "gap", "warned"), [(40, 0.0, True), (40, 9.0, False), (2, 90.0, True)]
)
def test_bias_is_warned_of_where_it_is_large_or_cannot_be_told(
    per_class: int, gap: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    features = make_features(classes=6, per_class=per_class, dimension=4)
    features.values[:] = np.random.default_rng(9).standard_normal(features.values.shape)
    features.values[features.labels >= 3] += gap
    measure_shift(features, Split(features.class_names[:3], features.class_names[3:]), null=0)
    assert ("finite-sample bias" in caplog.text) == warned
    assert "null" not in caplog.text, "there is none to compare with"
