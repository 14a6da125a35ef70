"""Choices that a build makes for those who do not: recorded, and kept to in every later step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import UsageError
from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance
from oodml.splits.build import construction
from oodml.splits.build.construction import add_null, build_ladder
from oodml.splits.build.rungs import choose_evenly, choose_nearest
from oodml.splits.build.state import Pool
from oodml.splits.cross_collection import pair_ladder
from oodml.splits.episodes import class_folds, few_shot_episodes, validation_fold, validation_of
from oodml.splits.ladder import Ladder, Step
from oodml.splits.split import Split


def test_what_was_not_asked_for_is_recorded_as_it_was_done(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build_ladder(features).settings
    assert (plain.rungs, plain.easier, plain.budget, plain.seed) == (8, True, 0, 0)
    assert (plain.level, plain.search) == ("sample", "means")
    assert (plain.by, plain.train_fraction) == ("class", 0.5)
    assert (plain.start, plain.start_train, plain.fids, plain.steps) == ("random", (), (), ())
    start = Split(features.class_names[:12], features.class_names[12:])
    given = build_ladder(features, rungs=2, start=start).settings
    assert given.start == "given" and plain.start_test == ()
    assert (given.start_train, given.start_test) == (start.train_classes, start.test_classes)
    monkeypatch.setattr(construction, "BUDGET", 6)
    assert build_ladder(features, rungs=2, search="best").settings.budget == 6
    assert build_ladder(features, rungs=2, search="best", budget=4).settings.budget == 4
    assert build_ladder(features, rungs=2, search="transport").settings.budget == 0


def test_every_accepted_split_is_reported_as_it_will_be_recorded(features: Features) -> None:
    heard: list[Step] = []
    ladder = build_ladder(features, rungs=2, swap_size=2, on_step=heard.append)
    assert {(step.kind, step.fid) for step in heard} == {
        (step.kind, step.fid) for step in ladder.trajectory
    }
    assert len(heard) == len(ladder.trajectory) and heard[0].kind == "start"


def test_the_smallest_split_that_is_allowed(features: Features) -> None:
    names = features.class_names
    start = Split(names[:2], names[2:4])
    assert build_ladder(features, steps=(0,), start=start).rungs[0].id == start.id
    with pytest.raises(UsageError, match="a side with 1 classes: at least 2"):
        build_ladder(features, start=Split(names[:1], names[1:4]))


def test_rungs_are_measured_again_where_the_walk_was_not_exact_enough(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(construction, "is_tight", lambda terms: False)
    for rung in build_ladder(features, rungs=2).rungs:
        sides = (rung.train_classes, rung.test_classes)
        values = [features.values[features.of_classes(names)] for names in sides]
        assert rung.fid == pytest.approx(frechet_distance(*values), rel=1e-9)


def test_the_fewest_draws_shots_and_episodes(ladder: Ladder, features: Features) -> None:
    shift = add_null(ladder, features, draws=2).rungs[0].shift
    assert shift is not None and shift.null_draws == 2
    shift = add_null(ladder, features).rungs[0].shift
    assert shift is not None and shift.null_draws == 20
    assert [len(fold.fit_classes) for fold in class_folds(ladder.rungs[0], 12)] == [11] * 12
    (episode,) = few_shot_episodes(ladder.rungs[0], features, shots=(1,), episodes=1)
    assert (episode.shots, len(episode.support)) == (1, len(ladder.rungs[0].test_classes))
    for wrong in ({"shots": ()}, {"shots": (2, 0)}, {"episodes": 0}):
        with pytest.raises(UsageError, match="give numbers above 0"):
            few_shot_episodes(ladder.rungs[0], features, **wrong)  # type: ignore[arg-type]


def test_steps_and_the_end_are_parts_of_the_smaller_side() -> None:
    features = make_features(classes=350, per_class=1, dimension=2)
    start = Split(features.class_names[:150], features.class_names[150:])
    made = build_ladder(features, start=start, level="class", rungs=2, easier=False).settings
    assert (made.swap_size, made.min_classes) == (3, 90)


def test_a_groups_mean_is_that_of_its_points() -> None:
    features = make_features(classes=12, per_class=9, dimension=3)
    kept = np.flatnonzero(np.arange(len(features)) % 9 < 2 + features.labels % 7)
    features = replace(
        features,
        values=features.values[kept],
        labels=features.labels[kept],
        groups=tuple("cabcabccbaab"),
    )
    found = Pool.of(features, by="group")
    of_class = [ord(group) - ord("a") for group in features.groups or ()]
    group = np.array(of_class)[features.labels]
    centre = features.values.mean(axis=0, dtype=np.float64)
    for number in range(3):
        expected = features.values[group == number].mean(axis=0, dtype=np.float64) - centre
        np.testing.assert_allclose(found.statistics.means[number], expected, atol=1e-6)
        assert found.sizes[number] == found.statistics.counts[number] == (group == number).sum()
        assert found.classes[number] == 4
        assert found.squares[number] == pytest.approx(expected @ expected, rel=1e-4)


def test_points_of_a_group_stand_in_the_order_of_its_classes() -> None:
    groups = tuple("xy"[i] for i in np.random.default_rng(0).integers(0, 2, 90))
    features = replace(make_features(classes=90, per_class=2, dimension=2), groups=groups)
    found = Pool.of(features, by="group")
    for number, members in enumerate(found.members):
        own = np.concatenate([features.values[features.of_classes([name])] for name in members])
        start, end = found.statistics.starts[number : number + 2]
        assert (found.statistics.values[start:end] == own).all()


def test_a_pair_without_a_source_has_none() -> None:
    first, second = (make_features(classes=3, per_class=4, dimension=3, seed=i) for i in (0, 1))
    second = replace(second, class_names=("x", "y", "z"))
    assert pair_ladder(first, second).source == ""
    assert pair_ladder(first, second, source="two folders").source == "two folders"


def test_a_rungs_validation_classes_are_as_many_as_asked_for(ladder: Ladder) -> None:
    for fraction in (0.25, 0.5):
        fold = validation_of(ladder, 1, fraction=fraction, seed=3)
        assert fold == validation_fold(ladder.rungs[1], fraction=fraction, seed=3)
        assert len(fold.validation_classes) == round(fraction * 12)


def test_every_split_of_a_trajectory_may_become_a_rung() -> None:
    fids = [1.0, 2.0, 4.0, 8.0]
    assert choose_nearest(fids, fids) == choose_evenly(fids, 4) == [0, 1, 2, 3]
