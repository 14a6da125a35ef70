"""Caltech-UCSD Birds-200-2011, read from its own lists."""

from __future__ import annotations

from pathlib import Path

from oodml.data.collections.pool import Listed, pool, read_rows
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset
from oodml.errors import DataError


@collection(
    "cub200",
    "CUB-200-2011: 200 kinds of birds, 11,788 photographs",
    classes=200,
    images=11_788,
    archives=(
        Archive(
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            "CUB_200_2011.tgz",
            # As CaltechDATA shows it beside the file.
            checksum="97eceeb196236b17998738112f37df78",
        ),
    ),
    folder="CUB_200_2011",
    landmarks=("images.txt", "image_class_labels.txt", "classes.txt", "images"),
    groups="the last word of the bird's name (Albatross, Warbler, ...), for the collection has no "
    "list of families",
    homepage="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    licence="non-commercial research and education",
)
def load_cub200(home: Path) -> Dataset:
    """200 kinds of birds; class names read `Black footed Albatross`, groups `Albatross`."""
    class_names = dict(
        pair for pair, _ in read_rows(home / "classes.txt", _class, form="NUMBER NUMBER.NAME")
    )
    labels = dict(
        pair
        for pair, _ in read_rows(
            home / "image_class_labels.txt", lambda words: (words[0], words[1]), form="IMAGE CLASS"
        )
    )
    listed = []
    for (image, path), place in read_rows(
        home / "images.txt", lambda words: (words[0], words[1]), form="IMAGE PATH"
    ):
        class_name = class_names.get(labels.get(image, ""))
        if class_name is None:
            raise DataError(f"{home}: {place}: image {image} has no class in the other lists.")
        listed.append(Listed(class_name, f"images/{path}", place))
    groups = {name: name.split()[-1] for name in class_names.values()}
    return pool("cub200", home, listed, groups=groups)


def _class(words: list[str]) -> tuple[str, str]:
    number, _, name = words[1].partition(".")
    if int(number) != int(words[0]) or not name.strip("_"):
        raise ValueError
    return words[0], name.replace("_", " ")
