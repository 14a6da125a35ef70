from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import published_cars, published_layout

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.splits.exchange import (
    export_ladder,
    imported_ladder,
    match_classes,
    published_splits,
    read_splits,
    with_data,
)
from oodml.splits.formats.published_pickle import read_published
from oodml.splits.ladder import Ladder
from oodml.splits.measure import measure_ladder


def test_a_published_pickle_becomes_a_ladder(tmp_path: Path) -> None:
    path = tmp_path / "splits.pkl"
    path.write_bytes(pickle.dumps(published_layout(), protocol=3))
    splits = read_published(path)
    assert [split.key for split in splits] == [1, 2, 3]
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


def test_falling_fids_and_shared_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.pkl"
    content = published_layout()
    content[2]["fid"] = 99.0
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"2: 99, 3: 25.5"):
        imported_ladder(read_published(path), "kinds")
    content = published_layout()
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


def test_data_that_lacks_classes_of_the_splits_is_refused(
    published: Ladder, features: Features
) -> None:
    match = match_classes(published.class_sizes, features.class_names)
    known = with_data(published, match, features, "somewhere")
    assert known.images(known.rungs[0].train_classes) == 12 * 8 and not known.measured
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


def test_rungs_count_from_0_in_the_csv_and_may_start_at_any_number(
    ladder: Ladder, features: Features, tmp_path: Path
) -> None:
    path = tmp_path / "ladder.csv"
    own = imported(ladder, path)
    header, *lines = path.read_text().splitlines()
    assert list(dict.fromkeys(line.split(",")[0] for line in lines)) == ["0", "1", "2"]
    from_7 = [f"{int(line[0]) + 7}{line[1:]}" for line in reversed(lines)]
    path.write_text("\n".join([header, *from_7]))
    again = imported_ladder(read_splits(path), "own", published=False)
    assert again.rungs == own.rungs and again.validation != ()


def test_an_imported_csv_claims_nothing_that_it_does_not_state(
    ladder: Ladder, features: Features, tmp_path: Path
) -> None:
    own = imported(ladder, tmp_path / "ladder.csv")
    assert own.fid_label() == "FID as the file gives it"
    text = repr((own.features, own.settings)) + own.fid_details()
    assert not re.search("class level|level='class'|ResNet|resize 256|published|fp32|milbich", text)
    assert own.features.fingerprint == ""
    own.save(tmp_path / "own.json")
    assert Ladder.load(tmp_path / "own.json") == own
    match = match_classes(own.class_sizes, features.class_names)
    named = with_data(own, match, features, "somewhere").features
    assert (named.dataset, named.fingerprint) == (
        features.source.dataset,
        features.source.fingerprint,
    )
    measured = measure_ladder(own, features, level="sample", null=0)
    assert measured.fid_label() == replace(ladder, features=features.source).fid_label()


def imported(ladder: Ladder, path: Path) -> Ladder:
    export_ladder(ladder, path, "csv")
    return imported_ladder(read_splits(path), "own", published=False)


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


def test_what_some_rungs_came_with_is_kept_and_the_others_are_drawn(
    ladder: Ladder, features: Features
) -> None:
    samples = replace(features, sample_names=names_of(features))
    held_out = ladder.rungs[1].train_classes[:2]
    given = {2: {0: {ladder.rungs[1].test_classes[0]: ("0.png", "1.png")}}}
    mixed = replace(ladder, validation=((), held_out, ()), episodes=({}, given, {}))
    splits, drawn = (published_splits(each, samples) for each in (mixed, ladder))
    assert (splits[1].validation_classes, splits[1].episodes) == (held_out, given)
    assert drawn[0].episodes and (splits[0], splits[2]) == (drawn[0], drawn[2])
    some = [replace(splits[0], validation_classes=()), *splits[1:]]
    assert imported_ladder(some, "own").validation[:2] == ((), held_out)


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
