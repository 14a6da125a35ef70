"""Units, starts, rungs, pairs and rebuilding: the choices around a walk."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance
from oodml.splits.build.construction import add_null, build_ladder, rebuild_ladder
from oodml.splits.build.rungs import choose_nearest, choose_steps
from oodml.splits.build.start import read_start
from oodml.splits.build.state import Pool, Sides
from oodml.splits.cross_collection import pair_ladder
from oodml.splits.exchange import imported_ladder, published_splits, remeasured
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split, random_split


@pytest.fixture(scope="module")
def grouped() -> Features:
    """32 classes of 2 to 9 samples in 11 groups of 1 to 4 classes."""
    features = make_features(classes=32, per_class=9, dimension=5, seed=3)
    keep = [i for i, label in enumerate(features.labels) if i % 9 < 2 + label % 8]
    groups = tuple(f"group {(i * i) % 32 % 11:02d}" for i in range(32))
    return replace(
        features, values=features.values[keep], labels=features.labels[keep], groups=groups
    )


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


def test_a_start_comes_from_a_table_or_a_rung(grouped: Features, tmp_path: Path) -> None:
    names = grouped.class_names
    lines = [f"{name},{'train' if i < 20 else 'test'}" for i, name in enumerate(names)]
    table = tmp_path / "start.csv"
    table.write_text("class,side\n" + "\n".join(lines) + "\n")
    split = read_start(str(table), names)
    assert split == Split(names[:20], names[20:])
    ladder = build_ladder(grouped, start=split, start_name="start.csv", rungs=3, easier=False)
    assert ladder.rungs[0].id == split.id and ladder.settings.start == "start.csv"
    ladder.save(tmp_path / "ladder.json")
    assert read_start(f"{tmp_path / 'ladder.json'}:2", names).id == ladder.rungs[2].id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere.csv", "no split at"),
        ("ladder.json", "ladder.json:3"),
        ("folder", "allowed are"),
        ("half.csv", "line 3"),
        ("both.csv", "both sides"),
        ("other.csv", "not in the collection, such as 'zebra'"),
    ],
)
def test_a_start_that_is_none_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("half.csv").write_text("class,side\na,train\nb,left\n")
    Path("both.csv").write_text("class,side\na,train\na,test\n")
    Path("other.csv").write_text("class,side\na,train\nzebra,test\n")
    with pytest.raises((DataError, UsageError), match=words):
        read_start(text, ["a", "b"])


def test_rungs_lie_nearest_to_given_fids() -> None:
    fids = [1.0, 1.1, 1.2, 4.0, 5.5, 6.0, 9.0, 10.0]
    targets = (1.15, 1.16, 6.1)

    def cost(chosen: tuple[int, ...]) -> float:
        return float(sum(abs(fids[i] - t) for i, t in zip(chosen, targets, strict=True)))

    assert tuple(choose_nearest(fids, targets)) == min(combinations(range(8), 3), key=cost)
    with pytest.raises(UsageError, match=r"out of reach: 0\.5, 11; .* 1 to 10"):
        choose_nearest(fids, (0.5, 2, 11))
    with pytest.raises(UsageError, match="only 2"):
        choose_nearest(fids[:2], (1, 1.05, 1.1))


def test_rungs_stand_at_given_steps_from_the_start() -> None:
    fids = [1.0, 2.0, 3.0, 4.0]
    assert choose_steps(fids, 1, (2, 0, -1)) == [0, 1, 3]
    with pytest.raises(UsageError, match=r"out of reach: -2, 3; .* -1 to 2"):
        choose_steps(fids, 1, (-2, 0, 3))


WAYS: list[dict[str, Any]] = [
    {"rungs": 3},
    {"rungs": 3, "by": "group", "search": "transport", "min_classes": 5},
    {"rungs": 3, "search": "best", "budget": 30, "seed": 4, "level": "class"},
    {"rungs": 3, "train_fraction": 0.4},
    {"steps": (0, 1), "swap_size": 1, "easier": False},
    {"rungs": 2, "search": "milbich2021"},
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


def test_a_given_start_is_recorded_and_other_features_are_refused(grouped: Features) -> None:
    start = Split(grouped.class_names[:12], grouped.class_names[12:])
    ladder = build_ladder(grouped, start=start, start_name="a.csv", rungs=3)
    assert rebuild_ladder(ladder, grouped) == ladder
    with pytest.raises(DataError, match="measured on"):
        rebuild_ladder(ladder, replace(grouped, source=replace(grouped.source, weights="1" * 64)))


def test_a_null_is_rebuilt_with_its_ladder(grouped: Features) -> None:
    ladder = add_null(build_ladder(grouped, rungs=2, seed=7), grouped, 3)
    assert rebuild_ladder(ladder, grouped) == ladder


def test_what_was_not_built_is_not_rebuilt(grouped: Features) -> None:
    built = build_ladder(grouped, rungs=3, level="class")
    measured = remeasured(imported_ladder(published_splits(built), "pool"), grouped)
    assert measured.features == grouped.source
    pair = pair_ladder(grouped, other_collection(), level="class", beside=built)
    for ladder in (measured, pair):
        with pytest.raises(DataError, match="not built"):
            rebuild_ladder(ladder, replace(grouped, source=ladder.features))


def other_collection() -> Features:
    other = make_features(classes=10, per_class=7, dimension=5, seed=9)
    names = ("class 000", "class 001", *(f"kind {i}" for i in range(8)))
    return replace(other, class_names=names, source=replace(other.source, fingerprint="f" * 16))


def test_a_pair_trains_on_one_collection_and_tests_on_the_other(grouped: Features) -> None:
    other = other_collection()
    ladder = build_ladder(grouped, rungs=4)
    pair = pair_ladder(grouped, other, beside=ladder)
    [rung] = [r for r in pair.rungs if r.id not in {own.id for own in ladder.rungs}]
    assert len(pair.rungs) == 5
    assert set(rung.train_classes) == set(grouped.class_names) - {"class 000", "class 001"}
    assert set(rung.test_classes) == {f"kind {i}" for i in range(8)}
    values = (
        grouped.values[grouped.of_classes(rung.train_classes)],
        other.values[other.of_classes(rung.test_classes)],
    )
    assert rung.fid == pytest.approx(frechet_distance(*values), rel=1e-8)
    assert set(pair.class_sizes) == {*grouped.class_names, *rung.test_classes}
    alone = pair_ladder(grouped, other)
    assert [r.id for r in alone.rungs] == [rung.id] and "class 000" not in alone.class_sizes


def test_pairs_that_do_not_compare_are_refused(grouped: Features) -> None:
    other = other_collection()
    ladder = build_ladder(grouped, rungs=2)
    strange = replace(other, source=replace(other.source, weights="2" * 64))
    for train, test, options, words in (
        (grouped, strange, {}, "different networks"),
        (grouped, grouped, {}, "0 and 0 remain"),
        (grouped, other, {"beside": ladder, "level": "class"}, "level 'sample'"),
        (other, replace(other, source=replace(other.source, fingerprint="e" * 16),
                        class_names=tuple(f"x{i}" for i in range(10))),
         {"beside": ladder}, "neither"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            pair_ladder(train, test, **options)  # type: ignore[arg-type]
