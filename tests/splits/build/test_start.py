"""Starts and splits that are given, odd or wrong: read as they are or refused by their name."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_features

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.splits.build.construction import build_ladder
from oodml.splits.build.start import read_sides, read_start
from oodml.splits.build.state import Pool
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split


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


def test_unknown_keys_of_a_split_are_named() -> None:
    with pytest.raises(DataError, match=r"^unknown keys in a split: "):
        Split.from_json({"odd": 1})


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


def test_a_start_may_lie_in_a_folder_with_a_colon(features: Features, tmp_path: Path) -> None:
    ladder = build_ladder(features, rungs=2)
    place = tmp_path / "16:9"
    place.mkdir()
    ladder.save(place / "ladder.json")
    named = read_start(f"{place / 'ladder.json'}:1", features.class_names)
    assert named.id == ladder.rungs[1].id


def published_file(path: Path, names: Sequence[str]) -> Path:
    """A pickle in the published layout, numbered 4 and 9, with class names spelt another way."""
    spelt = [f"{number:03d}.{name.upper().replace(' ', '_')}" for number, name in enumerate(names)]
    splits = {
        key: {"train": spelt[first:], "test": spelt[:first], "fid": float(key),
              "split_train": spelt[first + 2 :], "split_val": spelt[first : first + 2],
              "test_episodes": {2: {0: {name: ["a.jpg", "b.jpg"] for name in spelt[:first]}}}}
        for key, first in ((4, 10), (9, 15))
    }  # fmt: skip
    path.write_bytes(pickle.dumps(splits, protocol=3))
    return path


def test_a_start_comes_from_a_published_file(tmp_path: Path) -> None:
    features = make_features(classes=32, per_class=5, dimension=5)
    names = features.class_names
    path = published_file(tmp_path / "published.pkl", names)
    split = read_start(f"{path}:9", names)
    assert split == Split(names[15:], names[:15])
    assert read_start(f"{path}:4", names) == Split(names[10:], names[:10])
    given = f"{path}:9"
    ladder = build_ladder(features, start=split, start_name=given, rungs=2, easier=False)
    assert ladder.rungs[0].id == split.id and ladder.settings.start == given
    assert set(ladder.settings.start_train) == set(names[15:])
    with pytest.raises(UsageError, match="has no split 5; it has 4 to 9"):
        read_start(f"{path}:5", names)
    with pytest.raises(UsageError, match="name one, such as"):
        read_start(str(path), names)
    with pytest.raises(DataError, match="1 classes are not in the collection, such as '031"):
        read_start(f"{path}:9", names[:-1])
    path.write_bytes(pickle.dumps({9: print}))
    with pytest.raises(DataError, match="refused"):
        read_start(f"{path}:9", names)
