"""A collection's archives in small: its own file names and layout, other counts and checksums."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from PIL import Image

from oodml.data.collections.collection import Collection, find_collection
from oodml.data.collections.download import download_collection
from oodml.data.collections.verified import load_collection
from oodml.data.dataset import Dataset

Files = Mapping[str, bytes]


def picture(shade: int = 0, kind: str = "JPEG") -> bytes:
    """An encoded image of 4 x 4 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(file, kind)
    return file.getvalue()


def small_collection(
    name: str, archives: Mapping[str, Files | bytes], root: Path, *, classes: int, images: int
) -> Collection:
    """The collection with these counts, its archives lying in `root` as if downloaded."""
    whole = find_collection(name)
    assert {each.file_name for each in whole.archives} == set(archives)
    root.mkdir(parents=True, exist_ok=True)
    checksums = {}
    for file_name, files in archives.items():
        content = files if isinstance(files, bytes) else packed(file_name, files)
        (root / file_name).write_bytes(content)
        checksums[file_name] = hashlib.md5(content).hexdigest()
    small = tuple(replace(each, checksum=checksums[each.file_name]) for each in whole.archives)
    return replace(whole, archives=small, classes=classes, images=images)


def packed(file_name: str, files: Files) -> bytes:
    """A zip or tar archive, as the name says, of these files."""
    target = io.BytesIO()
    if file_name.endswith(".zip"):
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return target.getvalue()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def download_and_load(collection: Collection, root: Path) -> Dataset:
    """What a user gets by `oodml dataset download` and the collection's name."""
    download_collection(collection, root)
    return load_collection(collection, root)
