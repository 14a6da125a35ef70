"""How far the download and the extraction of archives have come, read off the disk.

Beside an archive `birds.tgz` may lie: `birds.tgz.part`, the download so far;
`.birds.tgz.extracting`, the extraction so far; `.birds.tgz.moving`, a whole extraction whose
entries are being moved to their place; `.birds.tgz.extracted`, the list of those entries.
"""

from __future__ import annotations

import json
from pathlib import Path

from oodml.data.collections.registry import Archive, Collection
from oodml.files import write_json

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
            return f"{name} lies there but is not extracted"
    return ""
