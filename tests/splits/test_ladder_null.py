from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance
from oodml.fid.null import random_class_splits
from oodml.fid.shift import measure_shift
from oodml.splits.build.construction import add_null
from oodml.splits.ladder import Ladder


@pytest.fixture(scope="module")
def with_null(ladder: Ladder, features: Features) -> Ladder:
    return add_null(ladder, features, 6)


def values(features: Features, names: tuple[str, ...]) -> np.ndarray:
    return features.values[features.of_classes(names)]


def test_the_null_is_that_of_random_splits_of_the_rungs_own_classes(
    with_null: Ladder, features: Features
) -> None:
    rung = with_null.rungs[-1]
    names = features.class_names
    sides = [[names.index(n) for n in side] for side in (rung.train_classes, rung.test_classes)]
    drawn = [
        frechet_distance(*(values(features, tuple(names[i] for i in side)) for side in split))
        for split in random_class_splits(*sides, 6, with_null.settings.seed)
    ]
    shift = rung.shift
    assert shift is not None
    assert shift.null_draws == 6
    assert shift.null_mean == pytest.approx(np.mean(drawn), rel=1e-6)
    assert shift.null_sd == pytest.approx(np.std(drawn, ddof=1), rel=1e-5)
    assert shift.excess == pytest.approx(shift.fid - np.mean(drawn), rel=1e-6)
    assert shift.z == pytest.approx(shift.excess / shift.null_sd)


def test_the_null_agrees_with_the_shift_report(with_null: Ladder, features: Features) -> None:
    for rung in with_null.rungs:
        report = measure_shift(features, rung, null=6, seed=with_null.settings.seed, kid=False)
        assert rung.shift is not None and report.null_mean is not None
        assert rung.shift.null_mean == pytest.approx(report.null_mean, rel=1e-6)


def test_other_features_and_a_single_draw_are_refused(ladder: Ladder, features: Features) -> None:
    other = replace(features, source=replace(features.source, backbone="another"))
    with pytest.raises(DataError, match="another"):
        add_null(ladder, other, 5)
    with pytest.raises(UsageError, match="1 null draw"):
        add_null(ladder, features, 1)
