"""Where ladders start: drawn, or given by a table, a ladder or a published file."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_features
from hypothesis import given, settings
from hypothesis import strategies as st

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.construction.start import read_sides, read_start
from oodml.splits.split import Split, random_split


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


def test_a_table_of_a_split_keeps_the_ends_of_lines_in_a_name(tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    table.write_bytes(b'class,side\r\n"a\r\nb",train\r\nc,test\r\n')
    assert read_sides(table) == Split(("a\r\nb",), ("c",))


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1.5, -0.5, float("nan")])
@pytest.mark.parametrize("by", ["class", "group"])
def test_a_fraction_that_is_none_is_called_so(features: Features, by: str, fraction: float) -> None:
    grouped = replace(features, groups=tuple("abcdefgh" * 3))
    with pytest.raises(UsageError, match="is not between 0 and 1"):
        build_ladder(grouped, by=by, train_fraction=fraction)


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.5, 0.3, 1.0, 0.0])


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(0, 12), fraction=numbers, by=st.sampled_from(["class", "group"]))
def test_a_draw_has_two_classes_a_side_or_is_refused(
    classes: int, fraction: float, by: str
) -> None:
    names = [f"class {i}" for i in range(classes)]
    try:
        split = random_split(names, train_fraction=fraction)
    except (DataError, UsageError) as error:
        one_line(error)
        assert classes < 4 or not 1.5 / classes <= fraction <= 1 - 1.5 / classes
    else:
        assert min(len(split.train_classes), len(split.test_classes)) >= 2
    if classes < 2:
        return
    features = make_features(classes, 2, 3)
    grouped = replace(features, groups=tuple(f"group {i // 2}" for i in range(classes)))
    try:
        ladder = build_ladder(grouped, by=by, train_fraction=fraction, steps=(0,), easier=False)
    except (DataError, UsageError) as error:
        one_line(error)
    else:
        assert min(len(ladder.rungs[0].train_classes), len(ladder.rungs[0].test_classes)) >= 2


sides = st.lists(st.sampled_from([f"class {i:03d}" for i in range(8)]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(train=sides, test=sides, unknown=st.booleans())
def test_a_split_keeps_each_class_on_one_side(
    train: list[str], test: list[str], unknown: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    features = make_features(classes=8, per_class=4, dimension=3)
    test = [*test, "zebra"] if unknown else test
    fine = bool(train and test) and len({*train, *test}) == len(train) + len(test)
    table = tmp_path_factory.getbasetemp() / "sides.csv"
    lines = [f"{name},{side}" for side, names in (("train", train), ("test", test))
             for name in names]  # fmt: skip
    table.write_text("\n".join(["class,side", *lines]))
    if fine and not unknown:
        assert read_start(str(table), features.class_names) == Split(tuple(train), tuple(test))
    else:
        with pytest.raises(DataError) as error:
            read_start(str(table), features.class_names)
        one_line(error)
    if not fine:
        with pytest.raises(DataError) as error:
            Split(tuple(train), tuple(test))
        one_line(error)
        return
    start = Split(tuple(train), tuple(test))
    try:
        ladder = build_ladder(features, start=start, steps=(0,), easier=False)
    except (DataError, UsageError) as error:
        one_line(error)
        assert unknown or min(len(train), len(test)) < 2
    else:
        assert ladder.rungs[0].id == start.id and not unknown


def one_line(error: pytest.ExceptionInfo[Exception] | Exception) -> str:
    text = str(error.value if isinstance(error, pytest.ExceptionInfo) else error)
    assert text and "\n" not in text and text[-1] in ".)", text
    return text
