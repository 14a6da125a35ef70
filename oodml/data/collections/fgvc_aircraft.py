"""FGVC-Aircraft, read from its own lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oodml.data.collections.pool import Listed, pool, read_rows
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset
from oodml.data.groups import groups_of
from oodml.errors import DataError

_SPLITS = ("trainval", "test")
_LISTS = tuple(
    f"data/images_{level}_{split}.txt" for level in ("variant", "manufacturer") for split in _SPLITS
)


@collection(
    "fgvc_aircraft",
    "FGVC-Aircraft: 100 variants of aircraft, 10,000 photographs",
    classes=100,
    images=10_000,
    archives=(
        Archive(
            "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/"
            "fgvc-aircraft-2013b.tar.gz",
            "fgvc-aircraft-2013b.tar.gz",
            # Not published at the home; the value that other loaders of this archive check.
            checksum="d4acdd33327262359767eeaa97a4f732",
        ),
    ),
    folder="fgvc-aircraft-2013b",
    landmarks=("data/images", *_LISTS),
    groups="the 30 manufacturers",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    licence="non-commercial research",
)
def load_fgvc_aircraft(home: Path) -> Dataset:
    """100 variants; class names read `737-700`, groups `Boeing`.

    Groups are the coarsest of the three published levels: of the 70 families in between, most
    hold a single variant. Raises `DataError` if the images of a variant have two manufacturers.
    """
    variants = list(_lines(home, "variant"))
    makers = {image: maker for image, maker, _ in _lines(home, "manufacturer")}
    without = next(((image, place) for image, _, place in variants if image not in makers), None)
    if without is not None:
        raise DataError(f"{home}: {without[1]}: image {without[0]} has no manufacturer.")
    groups = groups_of(
        home, ((variant, makers[image], place) for image, variant, place in variants)
    )
    listed = (Listed(variant, f"{image}.jpg", place) for image, variant, place in variants)
    return pool("fgvc_aircraft", home / "data" / "images", listed, groups=groups)


def _lines(home: Path, level: str) -> Iterator[tuple[str, str, str]]:
    """Every image's number, its name at that level, and where that stands."""
    for split in _SPLITS:
        path = home / "data" / f"images_{level}_{split}.txt"
        for (image, name), place in read_rows(path, _line, form="IMAGE NAME"):
            yield image, name, place


def _line(words: list[str]) -> tuple[str, str]:
    if len(words) < 2:
        raise ValueError
    return words[0], " ".join(words[1:])
