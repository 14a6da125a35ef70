"""Stanford Online Products, read from its own lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oodml.data.collections.pool import Listed, pool, read_rows
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset

_LISTS = ("Ebay_train.txt", "Ebay_test.txt")


@collection(
    "sop",
    "Stanford Online Products: 22,634 products of 12 categories, 120,053 photographs",
    classes=22_634,
    images=120_053,
    archives=(
        Archive(
            # As in pytorch_metric_learning.datasets.sop: the home's own copy.
            "https://drive.usercontent.google.com/download?id=1TclrpQOF_ullUP99wk_gjGN8pKvtErG8"
            "&export=download&authuser=0&confirm=t",
            "Stanford_Online_Products.zip",
            # As in the StanfordOnlineProducts loader of vadimkantorov/metriclearningbench.
            checksum="7f73d41a2f44250d4779881525aea32e",
        ),
    ),
    folder="Stanford_Online_Products",
    landmarks=_LISTS,
    groups="the 12 categories",
    homepage="https://cvgl.stanford.edu/projects/lifted_struct/",
    licence="research; the photographs are from eBay",
)
def load_sop(home: Path) -> Dataset:
    """22,634 products; class names read `coffee maker 08123`, groups `coffee maker`.

    The number is the product's `class_id` in the lists, with leading zeros.
    """
    groups: dict[str, str] = {}
    return pool("sop", home, _listed(home, groups), groups=groups)


def _listed(home: Path, groups: dict[str, str]) -> Iterator[Listed]:
    for name in _LISTS:
        rows = read_rows(
            home / name, _row, form="image_id class_id super_class_id CATEGORY_final/FILE", header=1
        )
        for (class_name, category, path), place in rows:
            groups[class_name] = category
            yield Listed(class_name, path, place)


def _row(words: list[str]) -> tuple[str, str, str]:
    _, product, _, path = words
    folder, _, file = path.partition("/")
    category = folder.removesuffix("_final").replace("_", " ")
    if not category or not file:
        raise ValueError
    # The category is a part of the name, so a product cannot stand in two.
    return f"{category} {int(product):05d}", category, path
