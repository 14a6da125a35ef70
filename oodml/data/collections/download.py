"""Download a collection and load it, its classes and images counted against those published."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import shlex
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oodml.data.collections.extract import extract
from oodml.data.collections.registry import (
    Archive,
    Collection,
    is_extracted,
    is_tar,
    is_zip,
    part_of,
    root_of,
    staging_of,
    unfinished,
)
from oodml.data.dataset import Dataset, Refuse, refuse_at_once
from oodml.errors import DataError
from oodml.files import locked
from oodml.progress import progress_bar
from oodml.text import first_few

_BLOCK = 1 << 20
_TIMEOUT = 60.0

logger = logging.getLogger("oodml")


def download_collection(
    collection: Collection, root: str | Path | None = None, *, progress: bool = False
) -> Path:
    """The folder that holds the collection's files, after all that is missing was downloaded.

    An archive that lies in the folder already, put there by hand or by an earlier call, is
    checked and extracted instead; a `.part` file is continued. Raises `DataError`, in one line,
    if there is no network, a checksum is wrong, the disk is full, or the collection cannot be
    downloaded without an agreement.
    """
    place = root_of(collection, root)
    if not collection.archives:
        raise DataError(f"{collection.name} cannot be downloaded here. {collection.how_to_get}")
    with locked(place / ".download.lock", lambda: _refuse_second(place)):
        _check_way(collection, place)
        for archive in collection.archives:
            if not is_extracted(archive, place):
                _get(collection, archive, place, progress)
                extract(archive, place, progress=progress)
    return place


def _check_way(collection: Collection, root: Path) -> None:
    """Before hours of downloading: raise if the folder to come is there from elsewhere."""
    folder = root / collection.folder
    started = any(
        staging_of(archive, root, state).exists()
        for archive in collection.archives
        for state in ("moving", "extracted")
    )
    into = any(archive.into for archive in collection.archives)
    if collection.folder and folder.exists() and not started and not into:
        raise DataError(
            f"{folder} is there already, but not as the whole collection. Remove it or move it "
            "away, then type the same command again."
        )


def _refuse_second(root: Path) -> None:
    raise DataError(f"another download into {root} is running; wait for it.")


def _get(collection: Collection, archive: Archive, root: Path, progress: bool) -> None:
    path = root / archive.file_name
    if path.is_file():
        check_file(archive, path, progress=progress)
        return
    if not archive.url:
        raise DataError(f"{collection.name} needs {path}. {collection.how_to_get}")
    part = part_of(archive, root)
    fetch(archive, part, progress=progress)
    check_file(archive, part, progress=progress)
    part.rename(path)
    _validator_of(part).unlink(missing_ok=True)


def fetch(archive: Archive, part: Path, *, progress: bool = False) -> None:
    """Download the archive's bytes that `part` lacks; what has come stays there if it stops.

    Raises `DataError` if there is no network, the server refuses, or the connection breaks off.
    """
    try:
        with _open(archive, part) as answer:
            _receive(archive, answer, part, progress)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and part.exists():
            return  # All of it is there already; the checksum decides.
        raise DataError(
            f"{archive.url} answers {error.code} {error.reason}. Get {archive.file_name} "
            f"otherwise, put it into {part.parent} and type the same command again."
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _broken_off(archive, part, error) from None


def _open(archive: Archive, part: Path) -> http.client.HTTPResponse:
    # Several hosts refuse Python's own name.
    request = urllib.request.Request(archive.url, headers={"User-Agent": "oodml"})
    validator = _validator_of(part)
    if part.is_file() and part.stat().st_size:
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        if validator.is_file():
            request.add_header("If-Range", validator.read_text())
    answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
    kind = answer.headers.get("Content-Type") or ""
    if kind.startswith("text/html") and (is_tar(archive) or is_zip(archive)):
        raise DataError(
            f"{archive.url} answers with a web page instead of {archive.file_name}. Get the file "
            f"with a browser, put it into {part.parent} and type the same command again."
        )
    return answer


def _validator_of(part: Path) -> Path:
    """The file with the ETag or date of the version that `part` belongs to."""
    return part.with_name(f".{part.name}.version")


def _receive(
    archive: Archive, answer: http.client.HTTPResponse, part: Path, progress: bool
) -> None:
    resumed = answer.status == http.client.PARTIAL_CONTENT
    start = part.stat().st_size if resumed else 0
    length = answer.headers.get("Content-Length")
    total = start + int(length) if length else None
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    if version and not version.startswith("W/"):
        _validator_of(part).write_text(version)
    with (
        part.open("ab" if resumed else "wb") as file,
        progress_bar(
            desc=archive.file_name,
            initial=start,
            total=total,
            unit="B",
            unit_scale=True,
            disable=not progress,
        ) as bar,
    ):
        while block := answer.read(_BLOCK):
            file.write(block)
            bar.update(len(block))
        come = file.tell()
    if total is not None and come < total:
        raise http.client.IncompleteRead(b"", total - come)


def _broken_off(archive: Archive, part: Path, error: Exception) -> DataError:
    come = part.stat().st_size if part.is_file() else 0
    kept = f"{come:,} bytes are kept" if come else "nothing has come yet"
    again = f"{kept}; type the same command again to go on."
    if getattr(error, "errno", None) == errno.ENOSPC:
        return DataError(f"the disk of {part.parent} is full; {again}")
    if isinstance(error, http.client.IncompleteRead):
        return DataError(f"the connection to {archive.url} broke off; {again}")
    reason = getattr(error, "reason", error)
    return DataError(f"cannot download {archive.url} ({reason}); {again}")


def check_file(archive: Archive, path: Path, *, progress: bool = False) -> None:
    """Raise a `DataError` if a downloaded file has not the archive's size or checksum."""
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        raise DataError(
            f"{path} has {size:,} bytes, {archive.file_name} must have {archive.size:,}: it is "
            "half downloaded or another file. Remove it and type the same command again."
        )
    if not archive.checksum:
        logger.warning("%s: no checksum is published; its content is not checked", path.name)
        return
    found = _checksum(path, "md5" if len(archive.checksum) == 32 else "sha256", progress)
    if found != archive.checksum:
        raise DataError(
            f"{path} has checksum {found}, {archive.file_name} must have {archive.checksum}: it "
            "is damaged or another file. Remove it and type the same command again."
        )


def _checksum(path: Path, kind: str, progress: bool) -> str:
    state = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file, _bar(path, progress) as bar:
        while block := file.read(_BLOCK):
            state.update(block)
            bar.update(len(block))
    return state.hexdigest()


def _bar(path: Path, progress: bool) -> Any:
    return progress_bar(
        desc=f"check {path.name}",
        total=path.stat().st_size,
        unit="B",
        unit_scale=True,
        disable=not progress,
    )


@dataclass(frozen=True)
class Counts:
    """Classes and images of a collection: as published, None where that is unknown, and as found.

    Found are files that are not empty and classes that have one.
    """

    expected_classes: int | None
    found_classes: int
    expected_images: int | None
    found_images: int

    @property
    def right(self) -> bool:
        """True if nothing that is known is another number than was found."""
        return self.expected_classes in (None, self.found_classes) and self.expected_images in (
            None,
            self.found_images,
        )


def load_collection(
    collection: Collection,
    root: str | Path | None = None,
    *,
    refuse: Refuse = refuse_at_once,
) -> Dataset:
    """The whole collection as a pool, its classes and images counted against those published.

    `root` is the folder that holds the collection's folder, or that folder itself (see
    `root_of`). Nothing is downloaded. Raises `DataError`, which says what to type, if the lists
    are not there or damaged; refuses images that are listed and not there, and other numbers than
    the published ones.
    """
    place = root_of(collection, root)
    home = find_home(collection, place)
    try:
        dataset = collection.load(home)
    except DataError as error:
        raise _advised(error, collection, place) from None

    def refuse_with_advice(error: DataError) -> None:
        refuse(_advised(error, collection, place))

    _check_files(collection, dataset, home, refuse_with_advice)
    check_counts(collection, dataset, home, refuse_with_advice)
    return replace(dataset, name=collection.name, source=collection.name)


def _advised(error: DataError, collection: Collection, place: Path) -> DataError:
    state = unfinished(collection, place)
    also = f" Moreover, {state}." if state else ""
    return DataError(f"{error}{also} {what_to_do(collection, place)}")


def find_home(collection: Collection, root: Path) -> Path:
    """The folder under `root`, or `root` itself, that holds all landmarks of a collection."""
    homes = [root / collection.folder, root] if collection.folder else [root]
    missing = {
        home: [mark for mark in collection.landmarks if not (home / mark).exists()]
        for home in homes
    }
    for home in homes:
        if home.is_dir() and not missing[home]:
            return home
    raise DataError(f"{_what_is_there(collection, root, missing)} {what_to_do(collection, root)}")


def _what_is_there(collection: Collection, root: Path, missing: dict[Path, list[str]]) -> str:
    state = unfinished(collection, root)
    if state:
        return f"{collection.name} at {root} is not whole: {state}."
    home = min(missing, key=lambda each: (not each.is_dir(), len(missing[each])))
    if home.is_dir() and 0 < len(missing[home]) < len(collection.landmarks):
        return f"{collection.name} at {home} is not whole: it lacks {', '.join(missing[home])}."
    first = next(iter(missing))
    marks = ", ".join(str(first / mark) for mark in collection.landmarks) or first
    return f"there is no {collection.name} at {root}: it would hold {marks}."


def what_to_do(collection: Collection, root: Path) -> str:
    """The sentence that tells how to get the collection's files to `root`."""
    command = f"oodml dataset download {collection.name} --root {shlex.quote(str(root))}"
    if not collection.archives:
        return collection.how_to_get
    if all(is_extracted(archive, root) for archive in collection.archives):
        return f"Remove what is there, then type: {command}"
    return " ".join(filter(None, [collection.how_to_get, f"Type: {command}"]))


def _check_files(collection: Collection, dataset: Dataset, home: Path, refuse: Refuse) -> None:
    absent = [dataset.sample_names[row] for row in np.flatnonzero(dataset.sizes == 0)]
    if absent:
        listed = len(dataset) + len(dataset.skipped)
        refuse(
            DataError(
                f"{home}: {len(absent)} of {listed} images that {collection.name} lists are "
                f"missing or empty: {first_few(sorted(absent))}."
            )
        )


def check_counts(
    collection: Collection, dataset: Dataset, home: Path, refuse: Refuse = refuse_at_once
) -> None:
    """Refuse classes or images that are not as many as the collection must have."""
    counts = count(collection, dataset)
    if not counts.right:
        classes = counts.expected_classes or counts.found_classes
        images = counts.expected_images or counts.found_images
        refuse(
            DataError(
                f"{home} holds {counts.found_classes:,} classes and {counts.found_images:,} "
                f"images; {collection.name} must have {classes:,} classes and {images:,} images."
            )
        )


def count(collection: Collection, dataset: Dataset) -> Counts:
    """How many classes and images a collection must have, and has.

    Classes that were left out because of their single image count as there.
    """
    there = dataset.sizes > 0
    single = len(dataset.skipped)
    return Counts(
        collection.classes,
        len(np.unique(dataset.labels[there])) + single,
        collection.images,
        int(there.sum()) + single,
    )
