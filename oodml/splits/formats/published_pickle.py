"""Reading and writing published split files, with every value checked."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oodml.errors import DataError
from oodml.files import atomic_write, read_file
from oodml.splits.episodes import Episodes, Support, is_whole
from oodml.splits.formats.plain_pickle import read_plain_pickle

_KEYS = {"train", "test", "fid", "split_train", "split_val", "test_episodes"}
# Protocol 3 is what the published files have; every Python that can run their code reads it.
_PROTOCOL = 3
# The largest float, which integers in a pickle can exceed; NaN is not below it either.
_LARGEST_FID = sys.float_info.max


@dataclass(frozen=True)
class PublishedSplit:
    """One split of a published file or of a CSV: its classes, its FID and what goes with it.

    `validation_classes` are part of `train_classes`. The FID of a published file is between class
    means in ResNet-50 features (arXiv:2107.09562); a CSV does not state how its own was measured.
    """

    key: int
    train_classes: tuple[str, ...]
    test_classes: tuple[str, ...]
    fid: float
    validation_classes: tuple[str, ...]
    episodes: Episodes


class _Budget:
    """Limits the values that are read by the size of the file, since references can repeat them."""

    def __init__(self, most: int) -> None:
        self.left = most

    def spend(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise DataError("it refers to the same values over and over")


def read_published(path: str | Path) -> tuple[PublishedSplit, ...]:
    """The splits in a published pickle, by key; nothing in the file is ever executed.

    Raises `DataError` when the file is no plain pickle (see `read_plain_pickle`), not of the
    layout `key -> train, test, fid, split_train, split_val, test_episodes`, or inconsistent.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    return parse_published(data, path)


def parse_published(data: bytes, path: object) -> tuple[PublishedSplit, ...]:
    """The splits in the bytes of a published pickle; `path` names it in errors, as above."""
    content = read_plain_pickle(data, path)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} holds no splits: a published file maps split numbers to splits.")
    budget = _Budget(len(data))
    splits = []
    for key, value in content.items():
        try:
            splits.append(_split(key, value, budget))
        except DataError as error:
            raise DataError(f"{path}, split {str(key)[:20]}: {error}.") from None
    return tuple(sorted(splits, key=lambda split: split.key))


def write_published(splits: Sequence[PublishedSplit], path: str | Path) -> None:
    """Write splits as a pickle in the published layout, of lists, strings and floats only."""
    content = {split.key: _layout(split) for split in splits}
    with atomic_write(path) as file:
        pickle.dump(content, file, protocol=_PROTOCOL)


def _layout(split: PublishedSplit) -> dict[str, Any]:
    held_out = set(split.validation_classes)
    return {
        "train": list(split.train_classes),
        "test": list(split.test_classes),
        "fid": split.fid,
        "split_train": [name for name in split.train_classes if name not in held_out],
        "split_val": list(split.validation_classes),
        "test_episodes": {
            shots: {number: _support_layout(episode) for number, episode in episodes.items()}
            for shots, episodes in split.episodes.items()
        },
    }


def _support_layout(support: Support) -> Any:
    if is_whole(support):
        return list(support)
    return {name: list(images) for name, images in support.items()}


def _split(key: Any, value: Any, budget: _Budget) -> PublishedSplit:
    if type(key) is not int:
        raise DataError("its key is no number")
    if not isinstance(value, dict) or not {"train", "test", "fid"} <= set(value):
        raise DataError("it is no dict with 'train', 'test' and 'fid'")
    unknown = sorted(str(name)[:20] for name in set(value) - _KEYS)
    if unknown:
        raise DataError(f"unknown key {unknown[0]!r}")
    fid = value["fid"]
    if type(fid) not in (int, float) or not 0 <= fid <= _LARGEST_FID:
        raise DataError("its FID is no finite number")
    train = _names(value["train"], "train", budget)
    validation = _names(value.get("split_val", []), "split_val", budget)
    fit = _names(value.get("split_train", []), "split_train", budget)
    if (fit or validation) and sorted(fit + validation) != sorted(train):
        raise DataError("split_train and split_val are not the train classes, each once")
    return PublishedSplit(
        key,
        train,
        _names(value["test"], "test", budget),
        float(fid),
        validation,
        _episodes(value.get("test_episodes", {}), budget),
    )


def _names(value: Any, what: str, budget: _Budget) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise DataError(f"{what} is no list of names")
    budget.spend(len(value))
    if any(type(name) is not str for name in value):
        raise DataError(f"{what} is no list of names")
    return tuple(value)


def _episodes(value: Any, budget: _Budget) -> Episodes:
    return {
        shots: {
            number: _support(support, budget)
            for number, support in _numbered(episodes, budget).items()
        }
        for shots, episodes in _numbered(value, budget).items()
    }


def _numbered(value: Any, budget: _Budget) -> dict[int, Any]:
    if not isinstance(value, dict) or any(type(key) is not int for key in value):
        raise DataError("test_episodes is not of the form shots -> episode -> class -> names")
    budget.spend(len(value))
    return value


def _support(value: Any, budget: _Budget) -> dict[str, tuple[str, ...]]:
    # An episode of Stanford Online Products is a list of classes that are support as a whole.
    if isinstance(value, list | tuple):
        return dict.fromkeys(_names(value, "an episode", budget), ())
    if not isinstance(value, dict) or any(type(key) is not str for key in value):
        raise DataError("an episode is neither class -> names nor a list of classes")
    budget.spend(len(value))
    return {name: _names(support, "an episode", budget) for name, support in value.items()}
