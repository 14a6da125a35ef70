"""Choices that a build makes for those who do not: recorded, and kept to in every later step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import DataError, UsageError
from oodml.fid.features import Features
from oodml.fid.frechet import FrechetTerms, frechet_distance
from oodml.splits import build, procedure
from oodml.splits.build import build_ladder
from oodml.splits.controls import add_controls, add_null
from oodml.splits.episodes import class_folds, few_shot_episodes, validation_fold, validation_of
from oodml.splits.equal import split_features, split_rows
from oodml.splits.gain import Gains
from oodml.splits.ladder import Ladder, Step
from oodml.splits.pool import Pool
from oodml.splits.procedure import _Memory, _picks, published_harder
from oodml.splits.rungs import choose_evenly, choose_nearest
from oodml.splits.sides import Sides, is_tight
from oodml.splits.split import Split, random_split
from oodml.splits.start import read_sides, read_start
from oodml.splits.swap import EASIER, HARDER, by_nearness, swap_step
from oodml.splits.walk import State, swap_until_saturated, walk_to


def test_what_was_not_asked_for_is_recorded_as_it_was_done(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build_ladder(features).settings
    assert (plain.rungs, plain.easier, plain.budget, plain.seed) == (8, True, 0, 0)
    assert (plain.level, plain.search, plain.procedure) == ("sample", "published", "oodml")
    assert (plain.by, plain.train_fraction, plain.equal_size) == ("class", 0.5, False)
    assert (plain.start, plain.start_train, plain.fids, plain.steps) == ("random", (), (), ())
    start = Split(features.class_names[:12], features.class_names[12:])
    given = build_ladder(features, rungs=2, start=start).settings
    assert given.start == "given" and plain.start_test == ()
    assert (given.start_train, given.start_test) == (start.train_classes, start.test_classes)
    monkeypatch.setattr(build, "BUDGET", 6)
    assert build_ladder(features, rungs=2, search="best").settings.budget == 6
    assert build_ladder(features, rungs=2, search="best", budget=4).settings.budget == 4
    assert build_ladder(features, rungs=2, search="gain", budget=4).settings.budget == 0


def test_every_accepted_split_is_reported_as_it_will_be_recorded(features: Features) -> None:
    heard: list[Step] = []
    ladder = build_ladder(features, rungs=2, swap_size=2, on_step=heard.append)
    assert {(step.kind, step.fid) for step in heard} == {
        (step.kind, step.fid) for step in ladder.trajectory
    }
    assert len(heard) == len(ladder.trajectory) and heard[0].kind == "start"


def test_classes_that_a_pool_does_not_have_are_named(features: Features) -> None:
    pool = Pool.of(replace(features, groups=tuple("abcdefgh" * 3)), by="group")
    with pytest.raises(DataError, match=r"^1 class.* without features, such as 'nobody'"):
        pool.units([*features.class_names, "nobody"])


def test_a_table_of_a_split_keeps_the_ends_of_lines_in_a_name(tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    table.write_bytes(b'class,side\r\n"a\r\nb",train\r\nc,test\r\n')
    assert read_sides(table) == Split(("a\r\nb",), ("c",))


def test_a_split_without_an_id_was_changed_by_hand(ladder: Ladder) -> None:
    record = ladder.rungs[0].to_json()
    for wrong in (record.pop("id"), None):
        with pytest.raises(DataError, match="changed by hand"):
            Split.from_json(record if wrong is None else {**record, "id": wrong[::-1]})


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1.5, -0.5, float("nan")])
@pytest.mark.parametrize("by", ["class", "group"])
def test_a_fraction_that_is_none_is_called_so(features: Features, by: str, fraction: float) -> None:
    grouped = replace(features, groups=tuple("abcdefgh" * 3))
    with pytest.raises(UsageError, match="is not between 0 and 1"):
        build_ladder(grouped, by=by, train_fraction=fraction)


def test_the_smallest_split_that_is_allowed(features: Features) -> None:
    names = features.class_names
    start = Split(names[:2], names[2:4])
    assert build_ladder(features, steps=(0,), start=start).rungs[0].id == start.id
    with pytest.raises(UsageError, match="a side with 1 classes: at least 2"):
        build_ladder(features, start=Split(names[:1], names[1:4]))


@pytest.mark.parametrize(("fewest", "dimension"), [(3, 1), (8, 2), (40, 10), (64, 16), (999, 16)])
def test_gains_look_at_as_many_dimensions_as_points_allow(fewest: int, dimension: int) -> None:
    assert Gains.of(Pool.of(make_features()), fewest).inside.dimension == dimension


def test_units_that_are_equally_near_move_in_the_order_of_their_index() -> None:
    features = make_features(classes=900, per_class=1, dimension=3)
    kinds = np.random.default_rng(0).integers(0, 2, 900)
    features.values[:] = kinds[:, None]
    sides = Sides.of(Pool.of(features, level="class"), np.arange(500), np.arange(500, 900))
    for sign in (EASIER, HARDER):
        for ranked in by_nearness(sides, sign):
            for kind in (0, 1):
                alike = ranked[kinds[ranked] == kind].tolist()
                assert alike == sorted(alike) and len(alike) > 100


def test_rungs_are_measured_again_where_the_walk_was_not_exact_enough(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "is_tight", lambda terms: False)
    for rung in build_ladder(features, rungs=2).rungs:
        sides = (rung.train_classes, rung.test_classes)
        values = [features.values[features.of_classes(names)] for names in sides]
        assert rung.fid == pytest.approx(frechet_distance(*values), rel=1e-9)


def test_a_side_may_grow_beyond_the_dimensions() -> None:
    features = make_features(classes=8, per_class=10, dimension=24)
    kept = np.flatnonzero((np.arange(len(features)) % 10 < 5) | (features.labels > 3))
    features = replace(features, values=features.values[kept], labels=features.labels[kept])
    sides = Sides.of(Pool.of(features), np.arange(4), np.arange(4, 8))
    assert sides.moments is None
    for out, back in (([0], [4]), ([1, 2], [6, 7]), ([4], [1])):
        sides = sides.exchange(np.array(out), np.array(back))
        values = [
            features.values[np.isin(features.labels, side)] for side in (sides.train, sides.test)
        ]
        assert (sides.moments is None) == (min(map(len, values)) <= 24)
        assert sides.fid == pytest.approx(frechet_distance(*values), rel=1e-9)


def test_without_a_budget_the_best_search_ends_where_gain_does() -> None:
    # Two kinds of classes with equal means, which the published key cannot tell apart.
    plain = make_features(classes=20, per_class=20, dimension=4, seed=1)
    random = np.random.default_rng(0)
    spread = np.where(random.permutation(20)[:, None] % 2, 0.3, 3.0)[plain.labels]
    values = (spread * random.standard_normal(plain.values.shape)).astype(np.float32)
    features = replace(plain, values=values)
    ways = {
        search: build_ladder(features, search=search, budget=0, rungs=2, min_classes=8).trajectory
        for search in ("published", "gain", "best")
    }
    assert ways["best"] == ways["gain"] != ways["published"]


def test_as_many_are_picked_on_either_side() -> None:
    pool = Pool.of(make_features(classes=8, per_class=3, dimension=4), level="class")
    sides = Sides.of(pool, np.arange(2), np.arange(2, 8))
    memory = _Memory(5, train=(0,), test=())
    to_test, to_train = _picks(sides, 2, HARDER, memory)
    assert to_test.tolist() == [1] and len(to_train) == 1


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


def test_a_walk_to_a_target_is_recorded_as_swaps() -> None:
    pool = Pool.of(make_features(classes=16, per_class=6, dimension=3))
    order = np.random.default_rng(1).permutation(16)
    start = Sides.of(pool, order[:8], order[8:])
    seen: list[State] = []
    walk_to(start, Sides.of(pool, np.arange(8), np.arange(8, 16)), 1, by_nearness, seen.append)
    assert seen and {state.kind for state in seen} == {"swap"}


def test_images_kept_that_are_no_numbers_are_named(ladder: Ladder) -> None:
    record = {**ladder.rungs[0].to_json(), "images_kept": ["class 000"]}
    with pytest.raises(DataError, match=r"a split.*images_kept|images_kept.*a split"):
        Split.from_json(record)


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ((), ("a",), "^the train classes of a split are empty"),
        (("a",), (), "^the test classes of a split are empty"),
        (("a", "b", "a"), ("c",), "^train classes named twice: 'a'"),
        (("a",), ("c", "c", "b", "b"), "^test classes named twice: 'b', 'c'"),
        (
            tuple("abcdef"),
            tuple("bcdefg"),
            "^5 classes are on both sides.*'b', 'c', 'd' and 2 more",
        ),
        (tuple("abc"), tuple("bca"), "^3 classes are on both sides.*'a', 'b', 'c'[.]$"),
    ],
)
def test_a_split_says_which_side_is_wrong(
    train: tuple[str, ...], test: tuple[str, ...], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        Split(train, test)


def test_swaps_towards_easier_splits_lower_fid_and_take_as_many_units() -> None:
    pool = Pool.of(make_features(classes=15, per_class=6, dimension=3))
    order = np.random.default_rng(0).permutation(15)
    for units in (5, 10):
        begin = Sides.of(pool, order[:units], order[units:])
        for sign in (EASIER, HARDER):
            seen: list[State] = []
            swap_until_saturated(begin, 7, by_nearness, sign, accept=seen.append)
            fids = [begin.fid, *(state.fid for state in seen)]
            assert seen and all(sign * step > 0 for step in np.diff(fids))
            # All 5 of the smaller side at once, then by halves: the first that moves FID.
            sizes = (5, 2, 1)
            tried = [swap_step(begin, size, by_nearness, sign)[0] for size in sizes]
            first = next(side for side in tried if sign * (side.fid - begin.fid) > 0)
            assert seen[0].train.tolist() == first.train.tolist()


def test_equal_size_is_measured_at_the_level_of_the_ladder() -> None:
    features = make_features(classes=20, per_class=6, dimension=3)
    uneven = np.flatnonzero(np.arange(len(features)) % 6 < 3 + features.labels % 4)
    features = replace(
        features,
        values=features.values[uneven],
        labels=features.labels[uneven],
        sample_names=tuple(f"image {row}" for row in uneven),
    )
    ladder = build_ladder(features, rungs=2, level="class", equal_size=True, min_classes=8)
    for rung in ladder.rungs:
        part = split_features(rung, features)
        rows = np.sort(np.concatenate(split_rows(rung, features)))
        assert part.sample_names == tuple(features.sample_names[row] for row in rows)
        means = {
            name: part.values[part.labels == label].astype(np.float64).mean(axis=0)
            for label, name in enumerate(part.class_names)
        }
        sides = [
            np.array([means[name] for name in names])
            for names in (rung.train_classes, rung.test_classes)
        ]
        assert rung.fid == pytest.approx(frechet_distance(*sides), rel=1e-6)


def test_a_distance_that_is_all_mean_is_tight() -> None:
    assert is_tight(FrechetTerms(1.0, 0.0, 0.0))
    assert not is_tight(FrechetTerms(1.0, 1.0, 1e-8))


def test_a_rungs_validation_classes_are_as_many_as_asked_for(ladder: Ladder) -> None:
    for fraction in (0.25, 0.5):
        fold = validation_of(ladder, 1, fraction=fraction, seed=3)
        assert fold == validation_fold(ladder.rungs[1], fraction=fraction, seed=3)
        assert len(fold.validation_classes) == round(fraction * 12)


def test_every_split_of_a_trajectory_may_become_a_rung() -> None:
    fids = [1.0, 2.0, 4.0, 8.0]
    assert choose_nearest(fids, fids) == choose_evenly(fids, 4) == [0, 1, 2, 3]


def test_a_control_of_a_rung_that_was_never_measured_is_measured(
    ladder: Ladder, features: Features
) -> None:
    published = replace(ladder.rungs[1], shift=None, published_fid=1.0)
    alone = replace(ladder, rungs=(published,), rung_steps=(0,))
    (control,) = add_controls(alone, features).controls
    assert control.shift is not None and control.shift.null_mean is None
    (same,) = add_controls(replace(alone, rungs=ladder.rungs[1:2]), features).controls
    assert control.shift == same.shift


def test_a_start_may_lie_in_a_folder_with_a_colon(features: Features, tmp_path: Path) -> None:
    ladder = build_ladder(features, rungs=2)
    place = tmp_path / "16:9"
    place.mkdir()
    ladder.save(place / "ladder.json")
    named = read_start(f"{place / 'ladder.json'}:1", features.class_names)
    assert named.id == ladder.rungs[1].id


def test_published_removals_go_on_with_swaps_and_remember_arrivals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(procedure, "HARDER_STEPS", 1)
    features = make_features(classes=60, per_class=4, dimension=6)
    pool = Pool.of(features, level="class")
    start = random_split(features.class_names)
    begin = Sides.of(pool, pool.units(start.train_classes), pool.units(start.test_classes))
    seen: list[State] = []
    assert published_harder(begin, 2, 4, seen.append) == "1 swaps and 34 removals made"
    kinds = [state.kind for state in seen]
    assert kinds.count("swap") > 3 and "removal" in kinds
    before = begin
    arrived: tuple[list[int], list[int]] = ([], [])
    for state in seen[: kinds.index("removal")]:
        for own, (old, new) in enumerate(((before.train, state.train), (before.test, state.test))):
            gone, came = np.setdiff1d(old, new), np.setdiff1d(new, old)
            assert len(gone) == len(came) == 2
            assert not set(gone.tolist()) & set(arrived[own][-3:])
            arrived[own].extend(came.tolist())
        before = Sides(pool, state.train, state.test)
