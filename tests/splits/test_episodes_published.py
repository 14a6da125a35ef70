"""Episodes that came with published splits: kept in the ladder, found in the data, handed on."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import DataError
from oodml.features.features import Features
from oodml.files import digest
from oodml.splits.episodes import Episode, episodes_of, few_shot_episodes
from oodml.splits.exchange import (
    export_ladder,
    imported_ladder,
    match_classes,
    read_splits,
    with_data,
)
from oodml.splits.ladder import Ladder


def data() -> Features:
    features = make_features(classes=12, per_class=9, dimension=4)
    names = tuple(f"folder {label}/{row % 9}.jpg" for row, label in enumerate(features.labels))
    return replace(features, sample_names=names)


def content(features: Features, whole: bool = False) -> dict[int, dict[str, Any]]:
    """Three splits in the published layout, of the classes of `features`, capitals elsewhere."""
    names = [name.upper() for name in features.class_names]
    splits = {}
    for key in (1, 2, 3):
        train, test = names[key : 6 + key], names[6 + key :] + names[:key]
        random = np.random.default_rng(key)
        episodes: dict[int, Any] = {
            shots: {
                number: {
                    name: [f"{image}.jpg" for image in random.permutation(9)[:shots]]
                    for name in test
                }
                for number in range(3)
            }
            for shots in (2, 5)
        }
        if whole:
            episodes = {2: {number: test[number : number + 3] for number in range(3)}}
        splits[key] = {"train": train, "test": test, "fid": 8.5 * key, "split_train": train[2:],
                       "split_val": train[:2], "test_episodes": episodes}  # fmt: skip
    return splits


def published(tmp_path: Path, features: Features, whole: bool = False) -> Ladder:
    path = tmp_path / "published.pkl"
    path.write_bytes(pickle.dumps(content(features, whole), protocol=3))
    ladder = imported_ladder(read_splits(path), "made")
    match = match_classes(ladder.class_sizes, features.class_names)
    return with_data(ladder, match, features, "")


@pytest.mark.parametrize("whole", [False, True])
def test_episodes_survive_the_ladder_file_and_the_way_back(tmp_path: Path, whole: bool) -> None:
    features = data()
    ladder = published(tmp_path, features, whole)
    assert len(ladder.episodes) == 3
    ladder.save(tmp_path / "ladder.json")
    loaded = Ladder.load(tmp_path / "ladder.json")
    assert loaded == ladder
    export_ladder(loaded, tmp_path / "again.pkl", "pickle")
    again = imported_ladder(read_splits(tmp_path / "again.pkl"), "made")
    assert (again.episodes, again.validation) == (ladder.episodes, ladder.validation)
    written = pickle.loads((tmp_path / "again.pkl").read_bytes())
    given = content(features, whole)
    for key in given:
        ours, theirs = written[key]["test_episodes"][2], given[key]["test_episodes"][2]
        assert all(
            type(ours[n]) is type(theirs[n]) and len(ours[n]) == len(theirs[n]) for n in ours
        )


def test_the_published_episodes_are_the_ones_used(tmp_path: Path) -> None:
    features = data()
    ladder, given = published(tmp_path, features), content(features)
    found = episodes_of(ladder, 1, features, shots=(2, 5), episodes=3)
    assert [(e.shots, e.number) for e in found] == [(s, n) for s in (2, 5) for n in range(3)]
    for episode in found:
        assert episode.published and episode.left_out == ()
        wanted = given[2]["test_episodes"][episode.shots][episode.number]
        assert named(episode.support, features) == {
            (name.lower(), image) for name, images in wanted.items() for image in images
        }
        everything = features.of_classes(ladder.rungs[1].test_classes)
        assert sorted([*episode.support, *episode.query]) == sorted(everything)
    order = np.random.default_rng(0).permutation(len(features))
    turned = replace(features, values=features.values[order], labels=features.labels[order],
                     sample_names=tuple(features.sample_names[i] for i in order))  # fmt: skip
    again = episodes_of(ladder, 1, turned, shots=(2, 5), episodes=3)
    assert [named(e.query, turned) for e in again] == [named(e.query, features) for e in found]


def named(rows: np.ndarray, features: Features) -> set[tuple[str, str]]:
    return {
        (features.class_names[features.labels[r]], features.sample_names[r].split("/")[1])
        for r in rows
    }


def test_support_of_whole_classes_is_queried_with_the_others(tmp_path: Path) -> None:
    features = data()
    ladder = published(tmp_path, features, whole=True)
    for episode in episodes_of(ladder, 0, features, shots=(2,), episodes=3):
        classes = [set(features.labels[rows].tolist()) for rows in (episode.support, episode.query)]
        assert [len(labels) for labels in classes] == [3, 3] and not classes[0] & classes[1]
        assert len(episode.support) == len(episode.query) == 27


@pytest.mark.parametrize("lack", ["shots", "number", "image", "names"])
def test_what_does_not_fit_is_drawn_and_the_log_says_so(
    tmp_path: Path, lack: str, caplog: pytest.LogCaptureFixture
) -> None:
    features = data()
    ladder = published(tmp_path, features)
    first = features.of_classes(ladder.rungs[0].test_classes)[0]
    changed = {
        "image": tuple("lost.jpg" if row == first else n
                       for row, n in enumerate(features.sample_names)),
        "names": (),
    }  # fmt: skip
    samples = replace(features, sample_names=changed.get(lack, features.sample_names))
    shots, count = (3 if lack == "shots" else 5), (4 if lack == "number" else 3)
    with caplog.at_level(logging.WARNING, "oodml"):
        found = episodes_of(ladder, 0, samples, shots=(shots,), episodes=count)
    drawn = few_shot_episodes(ladder.rungs[0], samples, shots=(shots,), episodes=count)
    assert [content_of(e) for e in found] == [content_of(e) for e in drawn]
    assert not any(e.published for e in found) and f"{shots} shots" in caplog.text


def content_of(episode: Episode) -> tuple[Any, ...]:
    return episode.shots, episode.number, episode.support.tolist(), episode.query.tolist()


def test_without_published_episodes_they_are_drawn_in_silence(
    ladder: Ladder, features: Features, caplog: pytest.LogCaptureFixture
) -> None:
    samples = replace(features, sample_names=tuple(f"{i:03d}" for i in range(len(features))))
    found = episodes_of(ladder, 2, samples, shots=(2, 5), seed=3)
    drawn = few_shot_episodes(ladder.rungs[2], samples, shots=(2, 5), seed=3)
    assert [content_of(e) for e in found] == [content_of(e) for e in drawn]
    assert not caplog.records


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e[0]["2"]["1"].update({"zebra": ["0.jpg"]}), "rung 0, 2 shots, episode 1"),
        (lambda e: e[2]["5"].update({"0": {}}), "rung 2, 5 shots, episode 0 is empty"),
        (lambda e: e.pop(), "2 episodes for 3 rungs"),
        (lambda e: e[1].update({"two": {}}), "not a valid ladder"),
        (lambda e: e[1]["2"].update({"0": ["0.jpg"]}), "not a valid ladder"),
        (lambda e: e[1]["2"]["0"].update({"class 003": "0.jpg"}), "not a valid ladder"),
    ],
)
def test_episodes_that_fit_no_rung_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    record = published(tmp_path, data()).to_json()
    change(record["episodes"])
    record.pop("digest")
    record["digest"] = digest(record, 64)
    (tmp_path / "ladder.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=words):
        Ladder.load(tmp_path / "ladder.json")


# The access pattern of the published loaders: a dict by split number, lists of folder names, the
# share of train classes held out, and lists of file names by shots, episode and class.
AUTHORS = """
import pickle, sys
assert not any("oodml" in name or "numpy" in name for name in sys.modules)
splits = pickle.load(open(sys.argv[1], "rb"))
for split_id in splits:
    split = splits[split_id]
    assert type(split_id) is int and type(split["fid"]) is float
    for key in ("train", "test", "split_train", "split_val"):
        assert type(split[key]) is list and all(type(name) is str for name in split[key])
    assert not set(split["train"]) & set(split["test"])
    assert set(split["split_train"]) | set(split["split_val"]) == set(split["train"])
    for shots in split["test_episodes"]:
        for episode in range(10):
            for name in split["test"]:
                files = split["test_episodes"][shots][episode][name]
                assert len(set(files)) == shots and all("/" not in file for file in files)
print(sorted(splits), [len(splits[i]["test_episodes"]) for i in splits])
assert not any("oodml" in name or "numpy" in name for name in sys.modules)
"""


def test_the_exported_pickle_is_read_without_oodml(ladder: Ladder, tmp_path: Path) -> None:
    features = make_features()
    names = tuple(f"folder/{label}/{i}.png" for i, label in enumerate(features.labels))
    path = tmp_path / "splits.pkl"
    export_ladder(ladder, path, "pickle", replace(features, sample_names=names))
    # -I -S: no current folder, no site packages, so nothing but the standard library is there.
    command = [sys.executable, "-I", "-S", "-c", AUTHORS, str(path)]
    read = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert read.returncode == 0, read.stderr
    assert read.stdout.strip() == "[1, 2, 3] [2, 2, 2]"
    # Every Python from 3.0 on reads protocol 3, as the published files have it.
    assert path.read_bytes()[:2] == b"\x80\x03"
