"""Extract archives atomically, and nowhere but below their folder."""

from __future__ import annotations

import errno
import logging
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TypeVar

from oodml.data.collections.registry import (
    Archive,
    is_extracted,
    is_tar,
    is_zip,
    mark_extracted,
    staging_of,
)
from oodml.errors import DataError
from oodml.progress import progress_bar
from oodml.text import first_few

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    LookupError,
    struct.error,
    NotImplementedError,
    UnicodeDecodeError,
    ValueError,
)

_BLOCK = 1 << 20

logger = logging.getLogger("oodml")
Member = TypeVar("Member")


def extract(archive: Archive, root: Path, *, progress: bool = False) -> None:
    """Put the content of `root/archive.file_name` under `root/archive.into`, unless it is there.

    It is extracted into a hidden folder first and moved when it is whole. Links and devices are
    left out, with a line in the log. Raises `DataError` if the archive is damaged or would write
    outside that folder, if the disk is full, or if something of another origin lies where an entry
    must go; that is never overwritten.
    """
    if is_extracted(archive, root):
        return
    if not (is_tar(archive) or is_zip(archive) or archive.into):
        mark_extracted(archive, root, [archive.file_name])  # A plain file, in its place already.
        return
    extracting, moving = (staging_of(archive, root, each) for each in ("extracting", "moving"))
    if not moving.is_dir():
        shutil.rmtree(extracting, ignore_errors=True)
        staging_of(archive, root, "extracted").unlink(missing_ok=True)
        extracting.mkdir(parents=True)
        try:
            _unpack(archive, root, extracting, progress)
        except DataError:
            shutil.rmtree(extracting)  # It may have filled the disk.
            raise
        extracting.rename(moving)
    _move(archive, root, moving)


def _unpack(archive: Archive, root: Path, target: Path, progress: bool) -> None:
    path = root / archive.file_name
    try:
        if is_tar(archive):
            _unpack_tar(path, target, progress)
        elif is_zip(archive):
            _unpack_zip(path, target, progress)
        else:
            shutil.copyfile(path, target / path.name)
    except _DAMAGE as error:
        raise DataError(
            f"{path} cannot be extracted ({error}). Remove the file and get it again."
        ) from None
    except OSError as error:
        raise _disk_error(error, path) from None


def _disk_error(error: OSError, path: Path) -> DataError:
    if error.errno == errno.ENOSPC:
        return DataError(f"the disk is full; {path} is not extracted. Make room and try again.")
    return DataError(f"{path} cannot be extracted ({error.strerror or error}).")


def _unpack_tar(path: Path, target: Path, progress: bool) -> None:
    left_out = []
    with tarfile.open(path) as tar:
        for member in _bar(tar, path, progress):
            _check_name(path, member.name)
            if member.isfile() or member.isdir():
                tar.extract(member, target, filter="data")
            else:
                left_out.append(member.name)
        # The checksum of a compressed tar stands behind its last member.
        while tar.fileobj is not None and tar.fileobj.read(_BLOCK):
            pass
    _say_left_out(path, left_out)


def _unpack_zip(path: Path, target: Path, progress: bool) -> None:
    left_out = []
    with zipfile.ZipFile(path) as archive:
        for member in _bar(archive.infolist(), path, progress):
            _check_name(path, member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind in (0, stat.S_IFREG, stat.S_IFDIR):
                archive.extract(member, target)
            else:
                left_out.append(member.filename)
    _say_left_out(path, left_out)


def _bar(members: Iterable[Member], path: Path, progress: bool) -> Iterable[Member]:
    return progress_bar(members, desc=f"extract {path.name}", unit=" files", disable=not progress)


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if (
        not name
        or name.startswith(("/", "\\"))
        or ".." in parts
        or (parts and parts[0].endswith(":"))
    ):
        raise DataError(
            f"{path} is not to be trusted: its member {name!r} would be written outside the "
            "folder. Nothing of it was used; remove the file and get it from the collection's home."
        )


def _say_left_out(path: Path, names: list[str]) -> None:
    if names:
        logger.warning("%s: left out %d links: %s", path.name, len(names), first_few(names))


def _move(archive: Archive, root: Path, moving: Path) -> None:
    target = root / archive.into
    target.mkdir(parents=True, exist_ok=True)
    entries = sorted(entry.name for entry in moving.iterdir())
    for entry in entries:
        if (target / entry).exists():
            raise DataError(
                f"{target / entry} is in the way of {archive.file_name}, whose content goes "
                "there. Remove it or move it away, then try again."
            )
    if not staging_of(archive, root, "extracted").exists():
        mark_extracted(archive, root, entries)
    for entry in entries:
        (moving / entry).rename(target / entry)
    moving.rmdir()
