"""DeepFashion's In-Shop Clothes Retrieval, read from its own list."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from oodml.data.collections.pool import Listed, pool, read_rows
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset
from oodml.errors import DataError

_LISTS = ("Eval/list_eval_partition.txt", "list_eval_partition.txt")
_STATUS = ("train", "query", "gallery")


@collection(
    "in_shop",
    "In-Shop Clothes: 7,982 garments, 52,712 photographs",
    classes=7_982,
    images=52_712,
    archives=(
        Archive("", "img.zip"),
        Archive("", "list_eval_partition.txt"),
    ),
    groups="the garments' categories, such as WOMEN/Dresses",
    how_to_get="Agree to the terms at https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/"
    "InShopRetrieval.html, get img.zip and list_eval_partition.txt, and put both into the folder.",
    homepage="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
    licence="non-commercial research and education, after agreement",
)
def load_in_shop(home: Path) -> Dataset:
    """7,982 garments, train, query and gallery images together.

    Class names read `WOMEN/Dresses id_00000002`, groups `WOMEN/Dresses`. A garment whose images
    lie in several categories counts to the one with most of them. The list lies in `Eval/` or
    beside `img/`, the images in `img/` or `Img/img/`.
    """
    rows = list(read_rows(_list_of(home), _row, form="IMAGE ITEM train|query|gallery", header=2))
    categories = _categories((item, path) for (path, item), _ in rows)
    prefix = "Img/" if not (home / "img").is_dir() and (home / "Img/img").is_dir() else ""
    names = {item: f"{category} {item}" for item, category in categories.items()}
    return pool(
        "in_shop",
        home,
        (Listed(names[item], prefix + path, place) for (path, item), place in rows),
        groups={names[item]: category for item, category in categories.items()},
    )


def _list_of(home: Path) -> Path:
    for name in _LISTS:
        if (home / name).is_file():
            return home / name
    raise DataError(f"there is no in_shop at {home}: it would hold {' or '.join(_LISTS)} and img.")


def _row(words: list[str]) -> tuple[str, str]:
    path, item, status = words
    if status not in _STATUS or len(path.split("/")) < 5:
        raise ValueError
    return path, item


def _categories(images: Iterable[tuple[str, str]]) -> dict[str, str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item, path in images:
        # img/WOMEN/Dresses/id_00000002/02_1_front.jpg
        counts[item]["/".join(path.split("/")[1:3])] += 1
    return {item: min(each, key=lambda name: (-each[name], name)) for item, each in counts.items()}
