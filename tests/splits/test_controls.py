from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance
from oodml.fid.null import random_class_splits
from oodml.fid.shift import measure_shift
from oodml.seeding import generator
from oodml.splits.build import build_ladder
from oodml.splits.controls import _random_like, add_controls, add_null
from oodml.splits.equal import split_features
from oodml.splits.gallery import equal_gallery, gallery_classes_of, subsample
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split


@pytest.fixture(scope="module")
def controlled(ladder: Ladder, features: Features) -> Ladder:
    return add_null(add_controls(ladder, features, seed=3), features, 6, seed=3)


def values(features: Features, names: tuple[str, ...]) -> np.ndarray:
    return features.values[features.of_classes(names)]


def test_the_null_is_that_of_random_splits_of_the_rungs_own_classes(
    controlled: Ladder, features: Features
) -> None:
    rung = controlled.rungs[-1]
    names = features.class_names
    sides = [[names.index(n) for n in side] for side in (rung.train_classes, rung.test_classes)]
    drawn = [
        frechet_distance(*(values(features, tuple(names[i] for i in side)) for side in split))
        for split in random_class_splits(*sides, 6, 3)
    ]
    shift = rung.shift
    assert shift is not None
    assert shift.null_mean == pytest.approx(np.mean(drawn), rel=1e-6)
    assert shift.null_sd == pytest.approx(np.std(drawn, ddof=1), rel=1e-5)
    assert shift.excess == pytest.approx(shift.fid - np.mean(drawn), rel=1e-6)
    assert shift.z == pytest.approx(shift.excess / shift.null_sd)


def test_the_null_agrees_with_the_shift_report(controlled: Ladder, features: Features) -> None:
    for rung in controlled.rungs:
        report = measure_shift(features, rung, null=6, seed=3, kid=False)
        assert rung.shift is not None and report.null_mean is not None
        assert rung.shift.null_mean == pytest.approx(report.null_mean, rel=1e-6)


def test_a_control_differs_from_its_rung_in_the_shift_only(controlled: Ladder) -> None:
    for rung, control in zip(controlled.rungs, controlled.controls, strict=True):
        assert len(control.train_classes) == len(rung.train_classes)
        pool = set(rung.train_classes + rung.test_classes)
        assert set(control.train_classes + control.test_classes) == pool
        assert control.shift is not None and rung.shift is not None
        assert control.shift.null_mean == rung.shift.null_mean
        assert (
            control.shift.n_train + control.shift.n_test == rung.shift.n_train + rung.shift.n_test
        )
    hardest, control = controlled.rungs[-1].shift, controlled.controls[-1].shift
    assert hardest is not None and hardest.z is not None and hardest.z > 3
    assert control is not None and control.z is not None and abs(control.z) < 3


def test_controls_depend_on_the_seed_only(ladder: Ladder, features: Features) -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    first = add_controls(ladder, features, seed=1)
    order = np.random.default_rng(1).permutation(len(features))
    shuffled = replace(features, values=features.values[order], labels=features.labels[order])
    again = add_controls(ladder, shuffled, seed=1)
    assert [c.id for c in first.controls] == [c.id for c in again.controls]
    other = add_controls(ladder, features, seed=2)
    assert [c.id for c in first.controls] != [c.id for c in other.controls]


def test_a_ladder_finds_rungs_and_controls_by_id(controlled: Ladder, tmp_path: Path) -> None:
    control = controlled.controls[1]
    assert controlled.split_of(control.id) == control
    assert controlled.control_of(control.id) == 1
    assert controlled.rung_of(control.id) is None
    assert controlled.split_of(controlled.rungs[0].id) == controlled.rungs[0]
    assert controlled.split_of("nothing") is None
    controlled.save(tmp_path / "ladder.json")
    assert Ladder.load(tmp_path / "ladder.json") == controlled


def test_a_control_of_another_size_is_refused(controlled: Ladder) -> None:
    small = replace(controlled.controls[0], test_classes=controlled.controls[0].test_classes[:3])
    with pytest.raises(DataError, match="control of rung 0"):
        replace(controlled, controls=(small, *controlled.controls[1:]))
    with pytest.raises(DataError, match="1 controls for 3 rungs"):
        replace(controlled, controls=controlled.controls[:1])


def test_features_of_another_network_are_refused(ladder: Ladder, features: Features) -> None:
    other = replace(features, source=replace(features.source, backbone="another"))
    with pytest.raises(DataError, match="another"):
        add_null(ladder, other, 5)
    with pytest.raises(DataError, match="another"):
        add_controls(ladder, other)
    with pytest.raises(UsageError, match="--null 1"):
        add_null(ladder, features, 1)


def test_controls_of_equal_size_keep_to_the_images_that_take_part(features: Features) -> None:
    equal = build_ladder(features, rungs=3, swap_size=2, equal_size=True)
    rungs = tuple(
        replace(
            rung, images_kept=tuple((name, 5) for name in rung.train_classes + rung.test_classes)
        )
        for rung in equal.rungs
    )
    equal = add_null(add_controls(replace(equal, rungs=rungs), features), features, 4)
    for control in equal.controls:
        assert control.images_kept
        kept = split_features(control, features)
        two = (values(kept, control.train_classes), values(kept, control.test_classes))
        assert control.shift is not None
        assert control.shift.fid == pytest.approx(frechet_distance(*two), rel=1e-6)


def test_a_gallery_is_nested_seeded_and_of_the_asked_size(ladder: Ladder) -> None:
    split = ladder.rungs[0]
    three, five = gallery_classes_of(split, 3, 7), gallery_classes_of(split, 5, 7)
    assert set(three) < set(five) < set(split.test_classes)
    assert gallery_classes_of(split, 5, 7) == five != gallery_classes_of(split, 5, 8)
    assert gallery_classes_of(split, 0, 7) == split.test_classes
    with pytest.raises(UsageError, match="12 test classes"):
        gallery_classes_of(split, 99, 0)


def test_a_subsample_keeps_two_of_every_class() -> None:
    labels = generator(0, "labels").integers(0, 6, 60)
    labels[0] = 6  # a class of one
    rows = subsample(labels, 20, 1)
    assert len(rows) == 20 and (np.diff(rows) > 0).all()
    counts = np.bincount(labels[rows], minlength=7)
    assert counts[:6].min() >= 2 and counts[6] == 1
    assert np.array_equal(subsample(labels, 0, 1), np.arange(60))
    for count in (5, 61):
        with pytest.raises(UsageError, match=r"13 .two a class. to 60"):
            subsample(labels, count, 1)


def test_the_equal_gallery_fits_every_rung(controlled: Ladder) -> None:
    classes, images = equal_gallery(controlled, range(2), True)
    assert classes == min(len(rung.test_classes) for rung in controlled.rungs)
    assert images == classes * 8
    unknown = replace(controlled, class_sizes=dict.fromkeys(controlled.class_sizes, 0))
    with pytest.raises(UsageError, match="how many images"):
        equal_gallery(unknown, [0], False)


def test_too_few_classes_for_a_control_are_named() -> None:
    rung = Split(("a", "b"), ("c", "d"))
    taken = {Split(two, tuple(set("abcd") - set(two))).id for two in combinations("abcd", 2)}
    last = Split(("b", "d"), ("a", "c"))
    assert _random_like(rung, taken - {last.id}, 0) == last
    with pytest.raises(DataError, match="4 classes are too few for a control"):
        _random_like(rung, taken, 0)
