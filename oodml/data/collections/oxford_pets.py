"""Oxford-IIIT Pet, read from its own list."""

from __future__ import annotations

from pathlib import Path

from oodml.data.collections.pool import Listed, pool, read_rows
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset
from oodml.data.groups import groups_of

_HOME = "https://www.robots.ox.ac.uk/~vgg/data/pets/"
_FORM = "IMAGE CLASS SPECIES BREED"
_SPECIES = {"1": "cat", "2": "dog"}


@collection(
    "oxford_pets",
    "Oxford-IIIT Pet: 37 breeds of cats and dogs, 7,349 photographs",
    classes=37,
    images=7_349,
    archives=tuple(
        # Checksums as in torchvision.datasets.OxfordIIITPet.
        Archive(f"{_HOME}data/{name}", name, checksum=checksum, into="oxford-iiit-pet")
        for name, checksum in (
            ("images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            ("annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        )
    ),
    folder="oxford-iiit-pet",
    landmarks=("images", "annotations/list.txt"),
    groups="cat and dog",
    homepage=_HOME,
    licence="CC BY-SA 4.0",
)
def load_oxford_pets(home: Path) -> Dataset:
    """37 breeds; class names read `american bulldog`, groups `cat` and `dog`.

    Only the images in `annotations/list.txt` count, which are those of `trainval.txt` and
    `test.txt` together; the folder holds some more, without labels, and MATLAB files. Several
    files called .jpg are PNG or GIF images, which are read as what they are.
    """
    lines = list(read_rows(home / "annotations" / "list.txt", _row, form=_FORM))
    rows = [(*row, place) for row, place in lines if row is not None]
    listed = (Listed(breed, f"{image}.jpg", place) for image, breed, _, place in rows)
    groups = groups_of(home, ((breed, species, place) for _, breed, species, place in rows))
    return pool("oxford_pets", home / "images", listed, groups=groups)


def _row(words: list[str]) -> tuple[str, str, str] | None:
    if words[0].startswith("#"):
        return None
    image, _, species, _ = words
    breed, _, number = image.rpartition("_")
    if not breed or not number.isdecimal() or species not in _SPECIES:
        raise ValueError
    return image, breed.replace("_", " "), _SPECIES[species]
