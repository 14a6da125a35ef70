from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid.shift import measure_shift
from oodml.splits.exchange import (
    imported_ladder,
    match_classes,
    read_splits,
    remeasured,
    with_data,
)
from oodml.splits.export import export_ladder
from oodml.splits.ladder import Ladder
from oodml.splits.plain_pickle import read_plain_pickle
from oodml.splits.published import read_published

HERE = Path(__file__).parents[2]


def layout(splits: int = 3, scalars: bool = True) -> dict[int, dict[str, Any]]:
    """What a published pickle holds, with NumPy strings and floats as there."""
    names = [np.str_(f"kind {i:02d} Ä") if scalars else f"kind {i:02d} Ä" for i in range(12)]
    content = {}
    for number in range(1, splits + 1):
        train, test = names[number - 1 : 5 + number], names[5 + number :] + names[: number - 1]
        content[number] = {
            "train": train,
            "test": test,
            "fid": np.float64(8.5 * number),
            "split_train": train[1:],
            "split_val": train[:1],
            "test_episodes": {
                shots: {e: {name: [f"{i}.jpg" for i in range(shots)] for name in test}
                        for e in range(2)}
                for shots in (2, 5)
            },
        }  # fmt: skip
    return content


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("scalars", [True, False])
def test_plain_pickles_read_as_pickle_reads_them(protocol: int, scalars: bool) -> None:
    content = layout(scalars=scalars)
    read = read_plain_pickle(pickle.dumps(content, protocol=protocol))
    assert read == content
    assert type(read[1]["train"][0]) is str and type(read[1]["fid"]) is float


def test_a_published_pickle_becomes_a_ladder(tmp_path: Path) -> None:
    path = tmp_path / "splits.pkl"
    path.write_bytes(pickle.dumps(layout(), protocol=3))
    splits = read_published(path)
    assert splits[0].episodes[5][1][splits[0].test_classes[0]] == tuple(
        f"{i}.jpg" for i in range(5)
    )
    ladder = imported_ladder(splits, "kinds")
    assert [rung.fid for rung in ladder.rungs] == [8.5, 17.0, 25.5]
    assert not ladder.measured
    assert ladder.fid_label() == "FID (class level, ResNet-50, as published)"
    assert ladder.validation[0] == splits[0].validation_classes
    assert ladder.images(splits[0].train_classes) is None
    ladder.save(tmp_path / "ladder.json")
    assert Ladder.load(tmp_path / "ladder.json") == ladder


class Call:
    """An object that a naive reader would call `function` for."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def nested(depth: int) -> bytes:
    return pickle.PROTO + b"\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


HOSTILE = {
    "os.system": lambda mark: pickle.dumps({1: Call(os.system, f"touch {mark}")}),
    "eval": lambda mark: pickle.dumps([Call(eval, f"open({str(mark)!r}, 'w')")], protocol=0),
    "exec in a value": lambda mark: pickle.dumps(
        {1: {**layout()[1], "fid": Call(exec, f"open({str(mark)!r}, 'w')")}}
    ),
    "getattr": lambda mark: pickle.dumps(Call(getattr, Call(__import__, "os"), "system")),
    "numpy load": lambda mark: pickle.dumps(Call(np.load, str(mark), None, True)),
    "object array": lambda mark: pickle.dumps(np.array([{}, 1], dtype=object)),
    "inst opcode": lambda mark: f"(Vtouch {mark}\nios\nsystem\n.".encode(),
    "obj opcode": lambda mark: f"(cos\nsystem\nS'touch {mark}'\no.".encode(),
    "newobj": lambda mark: b"\x80\x02cnumpy\ndtype\n)\x81.",
    "dotted name": lambda mark: b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "name from the memo": lambda mark: (
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x04true\x85R."
    ),
    "persistent id": lambda mark: b"Pabc\n.",
    "extension": lambda mark: b"\x80\x02\x82\x01.",
    "build of a dict": lambda mark: b"\x80\x02}}(X\x01\x00\x00\x00aK\x01ub.",
    "build of a name": lambda mark: b"\x80\x02cnumpy\ndtype\n}b.",
    "call of a string": lambda mark: b"\x80\x02X\x02\x00\x00\x00os)R.",
    "call of a scalar type": lambda mark: b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R)R.",
    "codecs to run": lambda mark: b"\x80\x02c_codecs\ndecode\nX\x01\x00\x00\x00a\x85R.",
    "object scalar": lambda mark: (
        b"\x80\x03cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R"
        b"C\x02N.\x86R."
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_before_they_run(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(DataError, match="refused before anything in it ran"):
        read_plain_pickle(HOSTILE[name](mark))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "instruction"),
    [
        ("inst opcode", "INST"),
        ("newobj", "NEWOBJ"),
        ("persistent id", "PERSID"),
        ("extension", "EXT1"),
    ],
)
def test_instructions_that_run_code_are_named(name: str, instruction: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"the instruction {instruction}, which may run code"):
        read_plain_pickle(HOSTILE[name](tmp_path / "mark"))


def test_the_hostile_pickles_would_run_elsewhere(tmp_path: Path) -> None:
    for name in ("os.system", "eval", "inst opcode", "exec in a value"):
        mark = tmp_path / name.replace(" ", "-").replace(".", "-")
        pickle.loads(HOSTILE[name](mark))
        assert mark.exists(), name


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02r\xff\xff\xff\x7f.",  # a memo index of 2**31
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",  # bytes of a terabyte
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",  # an integer of 2 GiB
        b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",  # a frame of an exabyte
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"a.",
        b"\x80\x03cnumpy\ndtype\nX\x0b\x00\x00\x00U2000000000\x85R.",
    ],
)
def test_giant_lengths_take_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        value = read_plain_pickle(data)
    except DataError:
        value = None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert not isinstance(value, dict)


def test_every_truncation_is_one_clear_line(tmp_path: Path) -> None:
    data = pickle.dumps(layout(1), protocol=3)
    path = tmp_path / "cut.pkl"
    for length in [0, 1, 2, 3, *range(5, len(data) - 1, len(data) // 60)]:
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"cut\.pkl"):
            read_published(path)


def test_deep_nesting_and_repetition_end(tmp_path: Path) -> None:
    path = tmp_path / "deep.pkl"
    path.write_bytes(nested(200_000))
    with pytest.raises(DataError, match="holds no splits"):
        read_published(path)
    support = {f"class {i}": ["a"] * 300 for i in range(300)}
    bomb = dict.fromkeys(range(300), dict.fromkeys(range(300), support))
    split = {**layout(1, scalars=False)[1], "test_episodes": bomb}
    path.write_bytes(pickle.dumps({1: split}))
    with pytest.raises(DataError, match="over and over"):
        read_published(path)


def change(**values: Any) -> Callable[[Any], Any]:
    return lambda content: content[1].update(values)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change(fid="8"), "its FID"),
        (change(fid=float("nan")), "its FID"),
        (change(fid=True), "its FID"),
        (change(train="abc"), "train is no list"),
        (change(test=[1, 2]), "test is no list"),
        (change(extra=1), "unknown key 'extra'"),
        (change(split_val=["no class"]), "split_train and split_val"),
        (change(test_episodes=[1]), "test_episodes"),
        (change(test_episodes={2: {0: {"a": [3]}}}), "an episode"),
        (change(test_episodes={2: {0: 5}}), "an episode"),
        (lambda content: content.update(a=content.pop(1)), "its key is no number"),
        (lambda content: content.clear(), "holds no splits"),
        (lambda content: content[1].pop("test"), "with 'train', 'test'"),
    ],
)
def test_another_layout_is_refused_by_name(
    damage: Callable[[Any], Any], words: str, tmp_path: Path
) -> None:
    content = layout()
    damage(content)
    path = tmp_path / "splits.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=words) as error:
        read_published(path)
    assert "splits.pkl" in str(error.value)


def test_falling_fids_and_shared_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.pkl"
    content = layout()
    content[2]["fid"] = 99.0
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"2: 99, 3: 25.5"):
        imported_ladder(read_published(path), "kinds")
    content = layout()
    content[1]["test"] = content[1]["test"] + content[1]["train"][:1]
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="both sides"):
        imported_ladder(read_published(path), "kinds")
    with pytest.raises(DataError, match="cannot be read"):
        read_published(tmp_path)


def test_class_names_are_matched_with_a_report() -> None:
    published = ["001.Black_footed_Albatross", "Audi S4", "BMW/X5", "twin-a", "twin a", "gone"]
    data = ["Black-footed Albatross", "Audi S4", "bmw x5", "TwinA", "new"]
    match = match_classes(published, data)
    assert match.matched == {
        "001.Black_footed_Albatross": "Black-footed Albatross",
        "Audi S4": "Audi S4",
        "BMW/X5": "bmw x5",
    }
    assert match.missing_in_data == ("gone", "twin a", "twin-a")
    assert match.missing_in_splits == ("TwinA", "new")
    assert match.report(1) == (
        "3 classes match (2 respelt); 3 missing in the data: gone and 2 more; "
        "2 in the data and in no split: TwinA and 1 more."
    )


@pytest.fixture(scope="module")
def published(
    ladder: Ladder, features: Features, tmp_path_factory: pytest.TempPathFactory
) -> Ladder:
    path = tmp_path_factory.mktemp("exchange") / "own.pkl"
    export_ladder(ladder, path, "pickle", replace(features, sample_names=names_of(features)))
    return imported_ladder(read_splits(path), "own")


def names_of(features: Features) -> tuple[str, ...]:
    return tuple(f"folder/{label}/{i}.png" for i, label in enumerate(features.labels))


def test_remeasured_splits_carry_both_distances(published: Ladder, features: Features) -> None:
    match = match_classes(published.class_sizes, features.class_names)
    known = with_data(published, match, features, "somewhere")
    assert known.images(known.rungs[0].train_classes) == 12 * 8 and not known.measured
    turned = tuple(
        replace(rung, published_fid=fid)
        for rung, fid in zip(reversed(known.rungs), (1.0, 2.0, 3.0), strict=True)
    )
    assert known.episodes
    backwards = replace(
        known, rungs=turned, validation=known.validation[::-1], episodes=known.episodes[::-1]
    )
    measured = remeasured(backwards, features, "sample")
    assert (measured.validation, measured.episodes) == (known.validation, known.episodes)
    assert measured.measured and measured.features == features.source
    assert [rung.published_fid for rung in measured.rungs] == [3.0, 2.0, 1.0]
    for rung in measured.rungs:
        assert rung.fid == measure_shift(features, rung, null=0, kid=False).fid
    lacking = features.subset(features.class_names[1:])
    match = match_classes(published.class_sizes, lacking.class_names)
    with pytest.raises(DataError, match="1 missing in the data: class 000"):
        with_data(published, match, lacking, "somewhere")


def test_what_is_exported_comes_back(
    ladder: Ladder, published: Ladder, features: Features, tmp_path: Path
) -> None:
    for back in (published, imported(ladder, tmp_path / "ladder.csv")):
        for ours, theirs in zip(ladder.rungs, back.rungs, strict=True):
            assert (ours.train_classes, ours.test_classes) == (
                theirs.train_classes,
                theirs.test_classes,
            )
            assert ours.fid == theirs.fid
        assert len(back.validation[0]) == 3
    export_ladder(ladder, tmp_path / "ladder.json", "json")
    assert Ladder.load(tmp_path / "ladder.json") == ladder
    with pytest.raises(UsageError, match="Did you mean 'csv'"):
        export_ladder(ladder, tmp_path / "x", "cvs")


def imported(ladder: Ladder, path: Path) -> Ladder:
    export_ladder(ladder, path, "csv")
    return imported_ladder(read_splits(path), "own")


def test_the_exported_pickle_has_the_published_layout(
    ladder: Ladder, features: Features, tmp_path: Path
) -> None:
    path = tmp_path / "own.pkl"
    export_ladder(ladder, path, "pickle", replace(features, sample_names=names_of(features)))
    content = pickle.loads(path.read_bytes())
    assert list(content) == [1, 2, 3]
    split = content[1]
    assert sorted(split["split_train"] + split["split_val"]) == sorted(split["train"])
    assert list(split["test_episodes"]) == [2, 5]  # no class has the 12 samples of 10 shots
    two, five = split["test_episodes"][2][9], split["test_episodes"][5][9]
    assert sorted(two) == sorted(split["test"])
    assert all(len(five[name]) == 5 and set(two[name]) < set(five[name]) for name in two)
    assert "/" not in two[split["test"][0]][0]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["rung,fid,side"], "first line must be rung,fid,side,class"),
        (["rung,fid,side,class", "1,2,train"], "line 2 is not of the form"),
        (["rung,fid,side,class", "1,x,train,a"], "line 2 is not of the form"),
        (["rung,fid,side,class", "1,2,trian,a"], "line 2: side must be"),
        (["rung,fid,side,class", "1,nan,train,a"], "FID a finite number"),
        (["rung,fid,side,class", "1,2,train,a", "1,3,test,b"], "line 3: rung 1 has two FIDs"),
    ],
)
def test_a_wrong_csv_is_refused_by_line(lines: list[str], words: str, tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=words):
        read_splits(path)


def published_cars() -> Path:
    given = os.environ.get("OODML_CARS196_SPLITS")
    return Path(given) if given else HERE.parent / "shared" / "data" / "cars196_splits.pkl"


@pytest.mark.skipif(not published_cars().exists(), reason="the published splits are not at hand")
def test_the_published_cars_splits_are_what_was_published() -> None:
    ladder = imported_ladder(read_splits(published_cars()), "cars196")
    fids = [rung.fid for rung in ladder.rungs]
    assert len(fids) == 8 and fids == sorted(fids)
    assert fids[0] == pytest.approx(8.59123, abs=1e-5)
    assert fids[-1] == pytest.approx(123.03106, abs=1e-5)
    assert [len(r.test_classes) for r in ladder.rungs] == [98] * 5 + [86, 74, 62]
    assert [len(held_out) for held_out in ladder.validation] == [25] * 5 + [22, 19, 16]
    assert len(ladder.class_sizes) == 196
    for rung, episodes in zip(ladder.rungs, ladder.episodes, strict=True):
        assert {shots: len(numbered) for shots, numbered in episodes.items()} == {
            2: 10, 5: 10, 10: 10
        }  # fmt: skip
        for shots, numbered in episodes.items():
            for support in numbered.values():
                assert sorted(support) == list(rung.test_classes)
                assert {len(images) for images in support.values()} == {shots}
