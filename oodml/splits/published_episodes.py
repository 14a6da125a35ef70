"""Few-shot episodes that came with published splits: kept by name, found again in the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.records import checked_value

Rows = npt.NDArray[np.int64]
# shots -> episode -> class -> names of its support images (none: the whole class is support)
Support = dict[str, tuple[str, ...]]
Episodes = dict[int, dict[int, Support]]


def episodes_to_json(episodes: Episodes) -> dict[str, Any]:
    """Episodes as JSON has them: numbers as text, names as lists."""
    return {
        str(shots): {
            str(number): {name: list(images) for name, images in support.items()}
            for number, support in numbered.items()
        }
        for shots, numbered in episodes.items()
    }


def episodes_from_json(record: Any) -> Episodes:
    """The episodes that `episodes_to_json` wrote; raises `DataError` for another layout."""
    layout = dict[str, dict[str, dict[str, tuple[str, ...]]]]
    checked = checked_value(layout, record, "episodes", "a ladder")
    return {
        _number(shots): {_number(number): support for number, support in numbered.items()}
        for shots, numbered in checked.items()
    }


def check_episodes(episodes: Episodes, test_classes: Sequence[str], rung: int) -> None:
    """Raise `DataError` if an episode of the rung is empty or names a class of another side."""
    known = set(test_classes)
    for shots, numbered in episodes.items():
        for number, support in numbered.items():
            if not support or not set(support) <= known:
                raise DataError(
                    f"rung {rung}, {shots} shots, episode {number} is empty or has classes "
                    "outside the test classes."
                )


def renamed_episodes(episodes: Episodes, names: Mapping[str, str]) -> Episodes:
    """The same episodes with each class under its name in `names`."""
    return {
        shots: {
            number: {names[name]: images for name, images in support.items()}
            for number, support in numbered.items()
        }
        for shots, numbered in episodes.items()
    }


def support_rows(
    support: Support, rows: Mapping[str, Rows], sample_names: Sequence[str]
) -> Rows | None:
    """The ascending sample indices of an episode's support; None if they are not all in the data.

    `rows` holds the sample indices of every test class. Published names carry no folder, so a
    sample is known by the last part of its name, within its class. All indices are int64 arrays
    (n,).
    """
    found = []
    for name, images in support.items():
        own = rows[name].tolist()
        if images and not sample_names:
            return None
        if images:
            wanted = set(images)
            own = [row for row in own if PurePosixPath(sample_names[row]).name in wanted]
            if len(own) != len(wanted):
                return None
        found += own
    return np.array(sorted(found), dtype=np.int64)


def is_whole(support: Support) -> bool:
    """Whether the support is made of whole classes, and the query of all others."""
    return not any(support.values())


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise DataError(f"{text[:20]!r} is no number of shots or of an episode.")
    return int(text)
