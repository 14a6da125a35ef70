"""Small archives in the exact layout of published collections, made and served by the tests."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from oodml.data.collections.download import download_collection, load_collection
from oodml.data.collections.registry import Archive, Collection, find_collection
from oodml.data.dataset import Dataset

# What stands in a file; None stands for an image of noise.
Files = Mapping[str, str | bytes | None]


def picture(name: str) -> bytes:
    """An image file of 6 x 6 pixels of noise, seeded by its name, in the format of its suffix."""
    random = np.random.default_rng(list(name.encode()))
    image = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    file = io.BytesIO()
    image.save(file, "PNG" if name.lower().endswith("png") else "JPEG")
    return file.getvalue()


def content_of(name: str, content: str | bytes | None) -> bytes:
    if content is None:
        return picture(name)
    return content.encode() if isinstance(content, str) else content


def lay_out(folder: Path, files: Files) -> Path:
    """The files as they lie after the extraction."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content_of(name, content))
    return folder


def pack(path: Path, files: Files) -> Path:
    """A zip, tar or tar.gz archive of the files, or, by any other suffix, the one file itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content_of(name, content))
    elif path.name.endswith((".tar", ".tgz", ".tar.gz")):
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
            for name, content in files.items():
                data = content_of(name, content)
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        (content,) = files.values()
        path.write_bytes(content_of(path.name, content))
    return path


def archive_of(path: Path, into: str = "") -> Archive:
    """The archive as a collection would publish it, at a file:// address."""
    data = path.read_bytes()
    return Archive(path.as_uri(), path.name, hashlib.md5(data).hexdigest(), len(data), into)


def small(name: str, classes: int, images: int) -> Collection:
    """The named collection, expected to have these counts."""
    return replace(find_collection(name), classes=classes, images=images)


def downloaded(
    collection: Collection, place: Path, *packed: Files, root: Path | None = None
) -> Dataset:
    """What loads after the collection's archives, with these files in them, are downloaded."""
    archives = tuple(
        archive_of(pack(place / "server" / each.file_name, files), each.into)
        for each, files in zip(collection.archives, packed, strict=True)
    )
    served = replace(collection, archives=archives)
    root = root or place / "root"
    download_collection(served, root)
    return load_collection(served, root)


BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "029.American_Crow")


def birds(classes: Sequence[str] = BIRDS) -> dict[str, str | bytes | None]:
    images = [f"{name}/{name[4:]}_{i:04d}_7961.jpg" for name in classes for i in range(3)]
    numbers = {name: str(int(name[:3])) for name in classes}
    files: dict[str, str | bytes | None] = {f"CUB_200_2011/images/{path}": None for path in images}
    rows = list(enumerate(images, start=1))
    files["CUB_200_2011/images.txt"] = "".join(f"{i} {path}\n" for i, path in rows)
    files["CUB_200_2011/image_class_labels.txt"] = "".join(
        f"{i} {numbers[path.split('/')[0]]}\n" for i, path in rows
    )
    files["CUB_200_2011/classes.txt"] = "".join(f"{numbers[name]} {name}\n" for name in classes)
    files["CUB_200_2011/README"] = "a bird"
    files["attributes.txt"] = "1 has_bill_shape::curved\n"
    return files
