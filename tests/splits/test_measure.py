from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance
from oodml.fid.null import random_class_splits
from oodml.fid.shift import measure_shift
from oodml.splits.exchange import imported_ladder, published_splits
from oodml.splits.ladder import FormerRuler, Ladder
from oodml.splits.measure import add_null, measure_ladder


@pytest.fixture(scope="module")
def other(features: Features) -> Features:
    """The same samples under another network, to which other classes resemble each other."""
    blocks = features.values.reshape(24, 8, -1)[np.random.default_rng(1).permutation(24), :, :8]
    source = replace(features.source, backbone="other", weights="1" * 64)
    return replace(features, values=blocks.reshape(len(features), -1), source=source)


def fids(ladder: Ladder) -> list[float]:
    return [rung.fid for rung in ladder.rungs]


def side(features: Features, names: tuple[str, ...]) -> np.ndarray:
    return features.values[features.of_classes(names)]


def test_the_null_is_that_of_random_splits_of_the_rungs_own_classes(
    ladder: Ladder, features: Features
) -> None:
    with_null = add_null(ladder, features, 6)
    rung = with_null.rungs[-1]
    names = features.class_names
    sides = [[names.index(n) for n in side] for side in (rung.train_classes, rung.test_classes)]
    drawn = [
        frechet_distance(*(side(features, tuple(names[i] for i in part)) for part in split))
        for split in random_class_splits(*sides, 6, with_null.settings.seed)
    ]
    shift = rung.shift
    assert shift is not None
    assert shift.null_draws == 6
    assert shift.null_mean == pytest.approx(np.mean(drawn), rel=1e-6)
    assert shift.null_sd == pytest.approx(np.std(drawn, ddof=1), rel=1e-5)
    assert shift.excess == pytest.approx(shift.fid - np.mean(drawn), rel=1e-6)
    assert shift.z == pytest.approx(shift.excess / shift.null_sd)


def test_another_ruler_measures_the_same_splits_and_keeps_the_former_fids(
    ladder: Ladder, other: Features, tmp_path: Path
) -> None:
    held_out = tuple(rung.train_classes[:2] for rung in ladder.rungs)
    measured = measure_ladder(replace(ladder, validation=held_out), other, null=3)
    ids = [rung.id for rung in ladder.rungs]
    order = [ids.index(rung.id) for rung in measured.rungs]
    assert order == [2, 0, 1] and measured.validation == tuple(held_out[n] for n in order)
    for rung in measured.rungs:
        values = side(other, rung.train_classes), side(other, rung.test_classes)
        assert rung.fid == pytest.approx(frechet_distance(*values), rel=1e-9)
        assert rung.shift == replace(
            measure_shift(other, rung, null=3, kid=False), bias_estimate=None
        )
    assert measured.features == other.source and "other" in measured.fid_label()
    assert measured.former == FormerRuler(
        ladder.features, "sample", tuple(ladder.rungs[number].fid for number in order)
    )
    assert [step.fid for step in measured.trajectory] == [rung.fid for rung in measured.rungs]
    measured.save(tmp_path / "ladder.json")
    assert Ladder.load(tmp_path / "ladder.json") == measured
    with pytest.raises(DataError, match="2 former FIDs for 3 rungs"):
        replace(measured, former=replace(measured.former, fids=(1.0, 2.0)))


def test_there_and_back_again_are_the_first_fids(
    ladder: Ladder, features: Features, other: Features
) -> None:
    back = measure_ladder(measure_ladder(ladder, other, null=0), features, null=0)
    assert [rung.id for rung in back.rungs] == [rung.id for rung in ladder.rungs]
    assert fids(back) == pytest.approx(fids(ladder))
    assert back.former is not None and back.former.features == other.source


def test_the_ladders_own_ruler_adds_the_null_and_another_level_is_another_ruler(
    ladder: Ladder, features: Features
) -> None:
    assert measure_ladder(ladder, features, null=0) == ladder
    assert measure_ladder(ladder, features, null=4) == add_null(ladder, features, 4)
    of_means = measure_ladder(ladder, features, level="class", null=0)
    assert of_means.former is not None and of_means.former.level == "sample"
    for rung in of_means.rungs:
        shift = measure_shift(features, rung, level="class", null=0, kid=False)
        assert rung.shift == replace(shift, bias_estimate=None)


def test_published_fids_stay_beside_those_of_every_ruler(
    ladder: Ladder, features: Features, other: Features
) -> None:
    splits = published_splits(ladder, replace(features, sample_names=names_of(features)))
    known = imported_ladder(splits, "own")
    turned = tuple(
        replace(rung, published_fid=fid)
        for rung, fid in zip(reversed(known.rungs), (1.0, 2.0, 3.0), strict=True)
    )
    assert known.episodes
    backwards = replace(
        known, rungs=turned, validation=known.validation[::-1], episodes=known.episodes[::-1]
    )
    measured = measure_ladder(backwards, features, level="sample")
    assert (measured.validation, measured.episodes) == (known.validation, known.episodes)
    assert measured.measured and measured.features == features.source and measured.former is None
    assert measured.class_sizes == features.class_sizes
    assert [rung.published_fid for rung in measured.rungs] == [3.0, 2.0, 1.0]
    assert fids(measured) == pytest.approx(fids(ladder))
    assert measure_ladder(known, features, null=0).settings.level == "class"
    again = measure_ladder(measured, other)
    published = {rung.id: rung.published_fid for rung in measured.rungs}
    assert {rung.id: rung.published_fid for rung in again.rungs} == published
    assert again.former is not None
    assert dict(zip((r.id for r in again.rungs), again.former.fids, strict=True)) == {
        rung.id: rung.fid for rung in measured.rungs
    }


def names_of(features: Features) -> tuple[str, ...]:
    return tuple(f"folder/{label}/{i}.png" for i, label in enumerate(features.labels))


def test_what_cannot_measure_a_ladder_is_refused(
    ladder: Ladder, features: Features, other: Features
) -> None:
    foreign = replace(other, source=other.source.with_data("birds", "f" * 16))
    with pytest.raises(DataError, match=f"'synthetic'.*'birds' with {'f' * 16}"):
        measure_ladder(ladder, foreign)
    with pytest.raises(DataError, match="class 000"):
        measure_ladder(ladder, other.subset(other.class_names[1:]))
    unmeasured = imported_ladder(published_splits(ladder), "own")
    with pytest.raises(DataError, match="24 missing in the data"):
        measure_ladder(unmeasured, replace(make_features(4), class_names=tuple("abcd")))
    with pytest.raises(UsageError, match="'image'"):
        measure_ladder(ladder, other, level="image")
    with pytest.raises(UsageError, match="null 1"):
        measure_ladder(ladder, other, null=1)
