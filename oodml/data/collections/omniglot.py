"""Omniglot, read from its folders of alphabets and characters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oodml.data.collections.pool import Listed, pool
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset
from oodml.errors import DataError

_SETS = ("images_background", "images_evaluation")


@collection(
    "omniglot",
    "Omniglot: 1,623 characters of 50 alphabets, 32,460 drawings",
    classes=1_623,
    images=32_460,
    archives=tuple(
        # Checksums as in torchvision.datasets.Omniglot.
        Archive(
            f"https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{name}.zip",
            f"{name}.zip",
            checksum=checksum,
            into="omniglot-py",
        )
        for name, checksum in zip(
            _SETS,
            ("68d2efa1b9178cc56df9314c21c6e718", "6b91aef0f799c5bb55b94e3f2daec811"),
            strict=True,
        )
    ),
    folder="omniglot-py",
    landmarks=_SETS,
    groups="the 50 alphabets",
    homepage="https://github.com/brendenlake/omniglot",
    licence="MIT",
)
def load_omniglot(home: Path) -> Dataset:
    """1,623 characters; class names read `Sanskrit character07`, groups `Sanskrit`.

    The background and the evaluation set together. Raises `DataError` if an alphabet stands in
    both: then characters of one number would be mixed up.
    """
    origins: dict[str, str] = {}
    groups: dict[str, str] = {}
    listed = []
    for origin, folder, alphabet, character in _characters(home):
        if origins.setdefault(alphabet, origin) != origin:
            raise DataError(f"{home}: {alphabet!r} stands in {origins[alphabet]} and in {origin}.")
        class_name = f"{alphabet} {character}"
        groups[class_name] = alphabet
        names = sorted(path.relative_to(home).as_posix() for path in folder.glob("[!.]*.png"))
        listed += [Listed(class_name, name, folder.name) for name in names]
    return pool("omniglot", home, listed, groups=groups)


def _characters(home: Path) -> Iterator[tuple[str, Path, str, str]]:
    """Each character's set, folder, alphabet and number, such as `character07`."""
    for origin in _SETS:
        for folder in sorted((home / origin).glob("[!.]*/[!.]*")):
            yield origin, folder, folder.parent.name.replace("_", " "), folder.name
