"""A split of a published pickle as the start of a ladder."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import make_features

from oodml.errors import DataError, UsageError
from oodml.splits.build import build_ladder
from oodml.splits.split import Split
from oodml.splits.start import read_start


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
