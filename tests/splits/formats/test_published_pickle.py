"""The layout of the published split files: what departs from it is named."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import published_layout

from oodml.errors import DataError
from oodml.splits.formats.published_pickle import read_published


def nested(depth: int) -> bytes:
    return pickle.PROTO + b"\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def test_every_truncation_is_one_clear_line(tmp_path: Path) -> None:
    data = pickle.dumps(published_layout(1), protocol=3)
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
    split = {**published_layout(1, scalars=False)[1], "test_episodes": bomb}
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
    content = published_layout()
    damage(content)
    path = tmp_path / "splits.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=words) as error:
        read_published(path)
    assert "splits.pkl" in str(error.value)
