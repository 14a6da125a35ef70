"""Ladders as they are built: steps and rungs against the samples, settings as recorded."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_features
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance
from oodml.splits.construction import build_ladder as construction
from oodml.splits.construction.build_ladder import build_ladder, rebuild_ladder
from oodml.splits.construction.state import Pool, Sides
from oodml.splits.cross_collection import pair_ladder
from oodml.splits.exchange import imported_ladder, published_splits
from oodml.splits.ladder import Ladder, Step
from oodml.splits.measure import add_null, measure_ladder
from oodml.splits.split import Split, random_split


def test_the_fid_along_a_trajectory_equals_that_of_the_samples() -> None:
    features = make_features(classes=30, per_class=10, dimension=12, seed=1)
    ladder = build_ladder(features, rungs=4, swap_size=3, easier=False)
    train = set(random_split(features.class_names).train_classes)
    test = set(features.class_names) - train
    for step in ladder.trajectory:
        train = (train - set(step.to_test) - set(step.removed)) | set(step.to_train)
        test = (test - set(step.to_train) - set(step.removed)) | set(step.to_test)
        a, b = (features.values[features.of_classes(sorted(side))] for side in (train, test))
        assert step.fid == pytest.approx(frechet_distance(a, b), rel=1e-9)
    rung = ladder.rungs[-1]
    assert (set(rung.train_classes), set(rung.test_classes)) == (train, test)
    assert len(ladder.trajectory) > 4 and {s.kind for s in ladder.trajectory} == {
        "start", "swap", "removal"
    }  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(8, 24),
    level=st.sampled_from(["sample", "class"]),
    swap_size=st.integers(1, 4),
)
def test_every_ladder_rises_and_accounts_for_every_class(
    seed: int, classes: int, level: str, swap_size: int
) -> None:
    features = make_features(classes, 5, 4, seed)
    ladder = build_ladder(
        features, rungs=2, seed=seed, level=level, swap_size=swap_size, min_classes=3
    )
    fids = [step.fid for step in ladder.trajectory]
    assert all(a < b for a, b in pairwise(fids))
    removed = {name for step in ladder.trajectory for name in step.removed}
    for rung in ladder.rungs:
        kept = set(rung.train_classes) | set(rung.test_classes)
        assert kept | removed >= set(features.class_names)
        assert not set(rung.train_classes) & set(rung.test_classes)
        assert min(len(rung.train_classes), len(rung.test_classes)) >= 3
    last = ladder.rungs[-1]
    assert set(last.train_classes) | set(last.test_classes) == set(features.class_names) - removed


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(8, 20),
    level=st.sampled_from(["sample", "class"]),
    search=st.sampled_from(["means", "transport", "best"]),
)
def test_trajectories_rise_from_the_easiest_to_the_hardest(
    seed: int, classes: int, level: str, search: str
) -> None:
    features = make_features(classes, 5, 4, seed)
    ladder = build_ladder(
        features, rungs=2, seed=seed, level=level, search=search, min_classes=3, null=0,
        budget=20 if search == "best" else None,
    )  # fmt: skip
    fids = [step.fid for step in ladder.trajectory]
    assert all(a < b for a, b in pairwise(fids))
    kinds = [step.kind for step in ladder.trajectory]
    start = kinds.index("start")
    assert set(kinds[:start]) <= {"easier"} and "easier" not in kinds[start:]
    train, test = (set(side) for side in sides_of(ladder.rungs[0]))
    for step in ladder.trajectory[1:]:
        assert set(step.to_test) <= train and set(step.to_train) <= test
        train = (train - set(step.to_test) - set(step.removed)) | set(step.to_train)
        test = (test - set(step.to_train) - set(step.removed)) | set(step.to_test)
        assert not train & test
        if step is ladder.trajectory[start]:
            drawn = random_split(features.class_names, seed=seed)
            assert (tuple(sorted(train)), tuple(sorted(test))) == sides_of(drawn)
    assert (tuple(sorted(train)), tuple(sorted(test))) == sides_of(ladder.rungs[-1])
    values = [features.values[features.of_classes(sorted(side))] for side in (train, test)]
    if level == "sample":
        assert fids[-1] == pytest.approx(frechet_distance(*values), rel=1e-8)


def sides_of(split: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return split.train_classes, split.test_classes


def test_a_ladder_does_not_depend_on_class_order_or_global_random_state(tmp_path: Path) -> None:
    features = make_features()
    order = np.random.default_rng(5).permutation(len(features.class_names))
    renumber = np.empty_like(order)
    renumber[order] = np.arange(len(order))
    shuffled = replace(
        features,
        class_names=tuple(features.class_names[i] for i in order),
        labels=renumber[features.labels],
    )
    build_ladder(features, rungs=3).save(tmp_path / "a.json")
    np.random.seed(1)  # noqa: NPY002
    build_ladder(features, rungs=3).save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    one, other = build_ladder(features, rungs=3), build_ladder(shuffled, rungs=3)
    assert [rung.id for rung in one.rungs] == [rung.id for rung in other.rungs]
    assert [r.fid for r in one.rungs] == pytest.approx([r.fid for r in other.rungs], rel=1e-9)


@pytest.mark.parametrize("level", ["sample", "class"])
@pytest.mark.parametrize("search", ["means", "transport"])
def test_groups_move_whole_and_classes_keep_their_names(
    grouped: Features, level: str, search: str
) -> None:
    ladder = build_ladder(grouped, by="group", level=level, search=search, rungs=2, min_classes=4)
    assert grouped.groups is not None
    owner = dict(zip(grouped.class_names, grouped.groups, strict=True))
    for rung in ladder.rungs:
        train, test = ({owner[n] for n in side} for side in (rung.train_classes, rung.test_classes))
        assert not train & test
        members = {name for name, group in owner.items() if group in train | test}
        assert members == {*rung.train_classes, *rung.test_classes}
        assert min(len(rung.train_classes), len(rung.test_classes)) >= 4
        fine = Pool.of(grouped, level=level)
        by_class = Sides.of(fine, fine.units(rung.train_classes), fine.units(rung.test_classes))
        assert rung.fid == pytest.approx(by_class.fid, rel=1e-8)
    fids = [step.fid for step in ladder.trajectory]
    assert all(a < b for a, b in pairwise(fids))


def test_groups_must_be_known_and_stay_whole(grouped: Features) -> None:
    with pytest.raises(UsageError, match="know no groups"):
        build_ladder(make_features(), by="group")
    with pytest.raises(UsageError, match="in two"):
        build_ladder(grouped, by="group", start=random_split(grouped.class_names))
    one = replace(grouped, groups=("all",) * len(grouped.class_names))
    with pytest.raises(UsageError, match="one group"):
        build_ladder(one, by="group")


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


def test_steps_and_the_end_are_parts_of_the_smaller_side() -> None:
    features = make_features(classes=350, per_class=1, dimension=2)
    start = Split(features.class_names[:150], features.class_names[150:])
    made = build_ladder(features, start=start, level="class", rungs=2, easier=False).settings
    assert (made.swap_size, made.min_classes) == (3, 90)


def test_a_ladder_names_its_source_and_counts_its_images(features: Features) -> None:
    built = build_ladder(features, rungs=2, swap_size=2, source="photos/pool")
    assert built.source == "photos/pool"
    assert built.class_sizes == dict.fromkeys(features.class_names, 8)
    assert build_ladder(features, rungs=2, swap_size=2).source == ""


NAMES = tuple(f"class {i:03d}" for i in range(32))
WAYS: list[dict[str, Any]] = [
    {"rungs": 3},
    {"rungs": 3, "by": "group", "search": "transport", "min_classes": 5},
    {"rungs": 3, "search": "best", "budget": 30, "seed": 4, "level": "class"},
    {"rungs": 3, "train_fraction": 0.4},
    {"steps": (0, 1), "swap_size": 1, "easier": False},
    {"rungs": 2, "search": "milbich2021"},
    {"rungs": 3, "start": Split(NAMES[:12], NAMES[12:]), "start_name": "a.csv", "null": 3},
]


@pytest.mark.parametrize("way", WAYS)
def test_a_ladder_is_rebuilt_byte_for_byte_from_what_it_records(
    grouped: Features, tmp_path: Path, way: dict[str, Any]
) -> None:
    build_ladder(grouped, source="here", **way).save(tmp_path / "first.json")
    loaded = Ladder.load(tmp_path / "first.json")
    np.random.seed(3)  # noqa: NPY002
    rebuild_ladder(loaded, grouped).save(tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


def test_what_was_not_built_is_not_rebuilt(grouped: Features) -> None:
    built = build_ladder(grouped, rungs=3, level="class")
    imported = measure_ladder(imported_ladder(published_splits(built), "pool"), grouped, null=0)
    assert imported.features == grouped.source
    other_network = replace(grouped, source=replace(grouped.source, backbone="other"))
    measured = measure_ladder(built, other_network, null=0)
    other = make_features(classes=10, per_class=7, dimension=5, seed=9)
    other = replace(
        other,
        class_names=tuple(f"kind {i}" for i in range(10)),
        source=replace(other.source, fingerprint="f" * 16),
    )
    pair = pair_ladder(grouped, other, level="class", beside=built)
    for ladder in (imported, measured, pair):
        with pytest.raises(DataError, match="not built"):
            rebuild_ladder(ladder, replace(grouped, source=ladder.features))


@pytest.mark.parametrize(
    ("given_settings", "words"),
    [
        ({"rungs": 1}, "1 rungs"),
        ({"rungs": 500}, "500 rungs"),
        ({"level": "image"}, "'image'"),
        ({"swap_size": 0}, "swap size 0"),
        ({"swap_size": 99}, "swap size 99"),
        ({"min_classes": 1}, "min classes 1"),
        ({"min_classes": 99}, "min classes 99"),
        ({"fids": [1], "steps": [1]}, "fids and steps"),
        ({"rungs": 3, "fids": [9.0]}, "rungs and fids"),
        ({"rungs": 3, "steps": [0]}, "rungs and steps"),
        ({"steps": (0, 0, 1)}, "twice"),
        ({"fids": [float("inf")]}, "inf"),
        ({"search": "best", "budget": -1}, "budget -1"),
        ({"budget": 5}, "budget 5"),
        ({"null": 1}, "null 1"),
    ],
)
def test_settings_that_cannot_be_or_would_do_nothing_are_refused(
    features: Features, given_settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        build_ladder(features, **given_settings)


def test_a_ladder_takes_no_features_but_its_own(ladder: Ladder, features: Features) -> None:
    other = replace(features, source=replace(features.source, precision="bf16"))
    for request in (rebuild_ladder, add_null):
        with pytest.raises(DataError, match="bf16"):
            request(ladder, other)
    published = replace(ladder.rungs[0], shift=None, published_fid=1.0)
    with pytest.raises(DataError, match=published.id):
        add_null(replace(ladder, rungs=(published,), rung_steps=(0,)), features)


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.5, 0.3, 1.0, 0.0])
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "rungs": st.integers(-2, 6),
        "fids": st.lists(numbers, max_size=3),
        "steps": st.lists(st.integers(-3, 4), max_size=3),
        "train_fraction": numbers,
        "by": st.sampled_from(["class", "group", "clas"]),
        "level": st.sampled_from(["sample", "class", "", "image"]),
        "search": st.sampled_from(["means", "transport", "best", "milbich2021", ""]),
        "budget": st.integers(-3, 6),
        "easier": st.booleans(),
        "swap_size": st.integers(-1, 6),
        "min_classes": st.integers(-1, 6),
        "seed": st.integers(0, 3),
    },
)


def one_line(error: pytest.ExceptionInfo[Exception] | Exception) -> str:
    text = str(error.value if isinstance(error, pytest.ExceptionInfo) else error)
    assert text and "\n" not in text and text[-1] in ".)", text
    return text


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 9),
    per_class=st.integers(1, 4),
    dimension=st.integers(1, 5),
    spoil=st.sampled_from([None, None, "constant", "equal classes", "huge", "no spread in one"]),
    options=SETTINGS,
)
@example(classes=4, per_class=1, dimension=3, spoil=None, options={"level": "sample"})
@example(classes=6, per_class=3, dimension=2, spoil="constant", options={"search": "transport"})
@example(classes=8, per_class=4, dimension=2, spoil="huge", options={"search": "best"})
def test_any_settings_give_a_ladder_or_one_clear_line(
    classes: int, per_class: int, dimension: int, spoil: str | None, options: dict[str, Any]
) -> None:
    if options.get("search") == "best":
        options = {"budget": 4, **options}
    try:
        features = spoilt(make_features(classes, per_class, dimension), spoil)
        ladder = build_ladder(features, **{"rungs": 2, **options})
        ladder = add_null(ladder, features, 2)
    except (DataError, UsageError) as error:
        one_line(error)
    else:
        assert np.isfinite([rung.fid for rung in ladder.rungs]).all()


def spoilt(features: Features, how: str | None) -> Features:
    values = features.values.astype(np.float64)
    if how == "constant":
        values[:] = 3.0
    elif how == "equal classes":
        values = np.tile(values[features.labels == 0], (len(features.class_names), 1))
    elif how == "huge":
        values *= 1e37
    elif how == "no spread in one":
        values[:, 0] = 1.0
    return replace(features, values=values)


@settings(max_examples=30, deadline=None)
@given(
    bad=st.lists(
        st.tuples(st.integers(0, 47), st.integers(0, 3),
                  st.sampled_from([np.nan, np.inf, -np.inf, 1e200])),
        min_size=1, max_size=6,
    ),
    level=st.sampled_from(["sample", "class"]),
    search=st.sampled_from(["means", "transport"]),
)  # fmt: skip
def test_features_that_are_no_numbers_are_refused_by_row(
    bad: list[tuple[int, int, float]], level: str, search: str
) -> None:
    features = make_features(classes=8, per_class=6, dimension=4)
    values = features.values.astype(np.float64)
    for row, column, value in bad:
        values[row, column] = value
    with pytest.raises(DataError) as error:
        build_ladder(replace(features, values=values), rungs=2, level=level, search=search)
    text = one_line(error)
    rows = sorted({row for row, _, _ in bad})
    assert f"{len(rows)} of 48 feature rows hold NaN or infinity: {rows[0]}" in text
