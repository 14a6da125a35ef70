"""The registry of published collections, and what their loaders share."""

from __future__ import annotations

import json
import logging
import os
import pkgutil
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from oodml.data.dataset import FEWEST_IMAGES, Dataset
from oodml.data.listing import Sample, dataset_of
from oodml.errors import DataError, unknown_name
from oodml.files import write_json
from oodml.text import first_few

logger = logging.getLogger("oodml")
Value = TypeVar("Value")
Load = Callable[[Path], Dataset]
_REGISTRY: dict[str, Collection] = {}


@dataclass(frozen=True)
class Archive:
    """One file to download: a tar or zip archive, or, with any other suffix, a plain file.

    `checksum` is 32 hex digits of MD5 or 64 of SHA-256, as published, or empty if none is.
    `size` is in bytes. An archive's content goes to `into`, a folder below the root.
    """

    url: str
    file_name: str
    checksum: str = ""
    size: int | None = None
    into: str = ""


@dataclass(frozen=True)
class Collection:
    """A published collection: how to load its files, what it must hold and where it comes from.

    `load` takes the folder that holds the files. That is `folder` below the root, or the root
    itself; `landmarks` are the paths in it by which it is known. `classes` and `images` are the
    counts as published, checked after loading, or None. `groups` says in words what the groups
    are. `how_to_get` is for collections that cannot be downloaded without an agreement or a
    login. `default_root` overrules the folder that `root_of` gives.
    """

    name: str
    description: str
    load: Load
    classes: int | None = None
    images: int | None = None
    archives: tuple[Archive, ...] = ()
    folder: str = ""
    landmarks: tuple[str, ...] = ()
    groups: str = ""
    how_to_get: str = ""
    homepage: str = ""
    licence: str = ""
    default_root: Callable[[], Path] | None = None


def collection(name: str, description: str, **about: Any) -> Callable[[Load], Load]:
    """A decorator that makes `load(folder) -> Dataset` known as a collection named `name`.

    `about` are the other fields of `Collection`.
    """

    def register(load: Load) -> Load:
        _REGISTRY[name] = Collection(name, description, load, **about)
        return load

    return register


def all_collections() -> dict[str, Collection]:
    """Every collection by name, sorted; each module of this package is looked into."""
    _import_all()
    return dict(sorted(_REGISTRY.items()))


def find_collection(name: str) -> Collection:
    """The collection of that name. Raises `UsageError` with the closest name if there is none."""
    known = all_collections()
    if name not in known:
        raise unknown_name("collection", name, known)
    return known[name]


@cache
def _import_all() -> None:
    import oodml.data.collections as package

    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")


def root_of(collection: Collection, root: str | Path | None = None) -> Path:
    """The folder of a collection's files and archives: `root`, or the default one.

    By default that is `$OODML_DATA/NAME`, and `~/.cache/oodml/collections/NAME` where the
    environment variable is not set.
    """
    if root is not None:
        return Path(root).expanduser()
    if collection.default_root is not None:
        return collection.default_root()
    return everywhere() / collection.name


def everywhere() -> Path:
    """Where data lie by default: `$OODML_DATA`, or `~/.cache/oodml/collections`."""
    return Path(os.environ.get("OODML_DATA") or "~/.cache/oodml/collections").expanduser()


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
    single image are left out with a warning, and those images that exist stand in `skipped`:
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
            raise DataError(f"{home}: {each.place}: {each.name!r} is not a path inside the folder.")
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


_TAR = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


def is_tar(archive: Archive) -> bool:
    """True if the file's name is that of a tar archive."""
    return archive.file_name.lower().endswith(_TAR)


def is_zip(archive: Archive) -> bool:
    """True if the file's name is that of a zip archive."""
    return archive.file_name.lower().endswith(".zip")


def part_of(archive: Archive, root: Path) -> Path:
    """Where the download so far lies."""
    return root / f"{archive.file_name}.part"


def staging_of(archive: Archive, root: Path, state: str) -> Path:
    """Where the extraction lies in the state `extracting`, `moving` or `extracted`."""
    return root / f".{archive.file_name}.{state}"


def is_extracted(archive: Archive, root: Path) -> bool:
    """True if the archive was extracted to the end here and all its entries are still there."""
    if staging_of(archive, root, "moving").is_dir():
        return False
    try:
        entries = json.loads(staging_of(archive, root, "extracted").read_bytes())["entries"]
        return all((root / archive.into / str(entry)).exists() for entry in entries)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def mark_extracted(archive: Archive, root: Path, entries: list[str]) -> None:
    """Note down the archive's top-level entries, which are about to be moved to their place."""
    write_json(
        staging_of(archive, root, "extracted"),
        {"checksum": archive.checksum, "entries": entries},
    )


def unfinished(collection: Collection, root: Path) -> str:
    """What was begun and not finished, in words; empty if nothing was."""
    for archive in collection.archives:
        name, part = archive.file_name, part_of(archive, root)
        if part.is_file():
            whole = f" of {archive.size:,}" if archive.size else ""
            return f"the download of {name} stopped after {part.stat().st_size:,}{whole} bytes"
        for state in ("extracting", "moving"):
            if staging_of(archive, root, state).is_dir():
                return f"the extraction of {name} was cut off"
        packed = is_tar(archive) or is_zip(archive)
        if packed and (root / name).is_file() and not is_extracted(archive, root):
            return f"{name} exists but is not extracted"
    return ""
