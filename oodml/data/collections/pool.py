"""From a collection's list of images to a checked Dataset."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from oodml.data.dataset import Dataset
from oodml.data.samples import FEWEST_IMAGES, Sample, dataset_of, first_few
from oodml.errors import DataError

logger = logging.getLogger("oodml")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Listed:
    """One image as a collection lists it: its class, its path below the home, and where it stands.

    `place` is for messages, such as `images.txt, line 3`.
    """

    class_name: str
    name: str
    place: str


def pool(
    name: str,
    home: Path,
    listed: Iterable[Listed],
    *,
    groups: Mapping[str, str] | None = None,
) -> Dataset:
    """The listed images under `home` as a Dataset; `groups` maps class names to superclasses.

    Images without a file have size 0, for which `load_collection` refuses them. Classes of a
    single image are left out, counted aloud, and those images that are there stand in `skipped`:
    there is nothing that such a query could find. Raises `DataError` if nothing is listed, if an
    image is listed twice or lies outside `home`, or if a class has no group.
    """
    images = _distinct(home, listed)
    if not images:
        raise DataError(f"{home}: the lists of {name} name no image.")
    counts = Counter(each.class_name for each in images.values())
    missing_group = sorted(set(counts) - set(groups)) if groups is not None else []
    if missing_group:
        raise DataError(
            f"{home}: {len(missing_group)} of {len(counts)} classes of {name} have no group: "
            f"{first_few(missing_group)}."
        )
    samples = [
        Sample(each.class_name, path, home / path, _size(f"{home}/{path}"))
        for path, each in images.items()
    ]
    single = {each for each, count in counts.items() if count < FEWEST_IMAGES}
    kept = [sample for sample in samples if sample.class_name not in single]
    if not kept:
        raise DataError(f"{home}: no class of {name} has more than one image.")
    if single:
        logger.warning("%s: left out %d classes of a single image", name, len(single))
    skipped = sorted(each.name for each in samples if each.class_name in single and each.size)
    return dataset_of(kept, name=name, source=name, groups=groups, skipped=skipped)


def _distinct(home: Path, listed: Iterable[Listed]) -> dict[str, Listed]:
    images: dict[str, Listed] = {}
    for each in listed:
        parts = [part for part in each.name.split("/") if part not in ("", ".")]
        if not parts or each.name[0] == "/" or ".." in parts or "\0" in each.name:
            raise DataError(f"{home}: {each.place}: {each.name!r} is no path inside the folder.")
        if not each.class_name.strip():
            raise DataError(f"{home}: {each.place}: the class of {each.name!r} has no name.")
        other = images.setdefault("/".join(parts), each)
        if other is not each:
            raise DataError(
                f"{home}: {each.place}: {each.name!r} is listed a second time (first: "
                f"{other.place})."
            )
    return images


def _size(path: str) -> int:
    """In bytes; 0 if there is no such file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path for each of millions takes longer than this
    except (OSError, ValueError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def read_rows(
    path: Path, parse: Callable[[list[str]], Value], *, form: str, header: int = 0
) -> Iterator[tuple[Value, str]]:
    """What `parse` makes of each line's words, with the line's place for messages.

    Empty lines and the first `header` lines are passed over. Raises `DataError` if the file
    cannot be read as UTF-8 or a line is not of the `form` that is named, which is where `parse`
    raises `ValueError` or `IndexError`.
    """
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if number <= header or not words:
            continue
        place = f"{path.name}, line {number}"
        try:
            value = parse(words)
        except (ValueError, IndexError):
            raise DataError(f"{path}, line {number}: {line[:80]!r} is not '{form}'.") from None
        yield value, place


def read_text(path: Path) -> str:
    """The text of an index file, or a `DataError` that names it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable UTF-8 text file ({error}).") from None
