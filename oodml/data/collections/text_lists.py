"""Collections that list their images in lines of text, one a photograph."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from oodml.data.collections.registry import Archive, Listed, collection, pool, read_rows
from oodml.data.dataset import Dataset, groups_of
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
        pair for pair, _ in read_rows(home / "classes.txt", _cub_class, form="NUMBER NUMBER.NAME")
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


def _cub_class(words: list[str]) -> tuple[str, str]:
    number, _, name = words[1].partition(".")
    if int(number) != int(words[0]) or not name.strip("_"):
        raise ValueError
    return words[0], name.replace("_", " ")


_SOP_LISTS = ("Ebay_train.txt", "Ebay_test.txt")


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
    landmarks=_SOP_LISTS,
    groups="the 12 categories",
    homepage="https://cvgl.stanford.edu/projects/lifted_struct/",
    licence="research; the photographs are from eBay",
)
def load_sop(home: Path) -> Dataset:
    """22,634 products; class names read `coffee maker 08123`, groups `coffee maker`.

    The number is the product's `class_id` in the lists, with leading zeros.
    """
    groups: dict[str, str] = {}
    return pool("sop", home, _sop_images(home, groups), groups=groups)


def _sop_images(home: Path, groups: dict[str, str]) -> Iterator[Listed]:
    for name in _SOP_LISTS:
        rows = read_rows(
            home / name,
            _sop_row,
            form="image_id class_id super_class_id CATEGORY_final/FILE",
            header=1,
        )
        for (class_name, category, path), place in rows:
            groups[class_name] = category
            yield Listed(class_name, path, place)


def _sop_row(words: list[str]) -> tuple[str, str, str]:
    _, product, _, path = words
    folder, _, file = path.partition("/")
    category = folder.removesuffix("_final").replace("_", " ")
    if not category or not file:
        raise ValueError
    # The category is a part of the name, so a product cannot stand in two.
    return f"{category} {int(product):05d}", category, path


_IN_SHOP_LISTS = ("Eval/list_eval_partition.txt", "list_eval_partition.txt")
_IN_SHOP_STATUS = ("train", "query", "gallery")


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
    rows = list(
        read_rows(
            _in_shop_list(home), _in_shop_row, form="IMAGE ITEM train|query|gallery", header=2
        )
    )
    categories = _categories((item, path) for (path, item), _ in rows)
    prefix = "Img/" if not (home / "img").is_dir() and (home / "Img/img").is_dir() else ""
    names = {item: f"{category} {item}" for item, category in categories.items()}
    return pool(
        "in_shop",
        home,
        (Listed(names[item], prefix + path, place) for (path, item), place in rows),
        groups={names[item]: category for item, category in categories.items()},
    )


def _in_shop_list(home: Path) -> Path:
    for name in _IN_SHOP_LISTS:
        if (home / name).is_file():
            return home / name
    raise DataError(
        f"there is no in_shop at {home}: it would hold {' or '.join(_IN_SHOP_LISTS)} and img."
    )


def _in_shop_row(words: list[str]) -> tuple[str, str]:
    path, item, status = words
    if status not in _IN_SHOP_STATUS or len(path.split("/")) < 5:
        raise ValueError
    return path, item


def _categories(images: Iterable[tuple[str, str]]) -> dict[str, str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item, path in images:
        # img/WOMEN/Dresses/id_00000002/02_1_front.jpg
        counts[item]["/".join(path.split("/")[1:3])] += 1
    return {item: min(each, key=lambda name: (-each[name], name)) for item, each in counts.items()}


_AIRCRAFT_SPLITS = ("trainval", "test")
_AIRCRAFT_LISTS = tuple(
    f"data/images_{level}_{split}.txt"
    for level in ("variant", "manufacturer")
    for split in _AIRCRAFT_SPLITS
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
    landmarks=("data/images", *_AIRCRAFT_LISTS),
    groups="the 30 manufacturers",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    licence="non-commercial research",
)
def load_fgvc_aircraft(home: Path) -> Dataset:
    """100 variants; class names read `737-700`, groups `Boeing`.

    Groups are the coarsest of the three published levels: of the 70 families in between, most
    hold a single variant. Raises `DataError` if the images of a variant have two manufacturers.
    """
    variants = list(_aircraft_names(home, "variant"))
    makers = {image: maker for image, maker, _ in _aircraft_names(home, "manufacturer")}
    without = next(((image, place) for image, _, place in variants if image not in makers), None)
    if without is not None:
        raise DataError(f"{home}: {without[1]}: image {without[0]} has no manufacturer.")
    groups = groups_of(
        home, ((variant, makers[image], place) for image, variant, place in variants)
    )
    listed = (Listed(variant, f"{image}.jpg", place) for image, variant, place in variants)
    return pool("fgvc_aircraft", home / "data" / "images", listed, groups=groups)


def _aircraft_names(home: Path, level: str) -> Iterator[tuple[str, str, str]]:
    """Every image's number, its name at that level, and where that stands."""
    for split in _AIRCRAFT_SPLITS:
        path = home / "data" / f"images_{level}_{split}.txt"
        for (image, name), place in read_rows(path, _aircraft_row, form="IMAGE NAME"):
            yield image, name, place


def _aircraft_row(words: list[str]) -> tuple[str, str]:
    if len(words) < 2:
        raise ValueError
    return words[0], " ".join(words[1:])


_PETS_HOME = "https://www.robots.ox.ac.uk/~vgg/data/pets/"
_PETS_FORM = "IMAGE CLASS SPECIES BREED"
_SPECIES = {"1": "cat", "2": "dog"}


@collection(
    "oxford_pets",
    "Oxford-IIIT Pet: 37 breeds of cats and dogs, 7,349 photographs",
    classes=37,
    images=7_349,
    archives=tuple(
        # Checksums as in torchvision.datasets.OxfordIIITPet.
        Archive(f"{_PETS_HOME}data/{name}", name, checksum=checksum, into="oxford-iiit-pet")
        for name, checksum in (
            ("images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            ("annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        )
    ),
    folder="oxford-iiit-pet",
    landmarks=("images", "annotations/list.txt"),
    groups="cat and dog",
    homepage=_PETS_HOME,
    licence="CC BY-SA 4.0",
)
def load_oxford_pets(home: Path) -> Dataset:
    """37 breeds; class names read `american bulldog`, groups `cat` and `dog`.

    Only the images in `annotations/list.txt` count, which are those of `trainval.txt` and
    `test.txt` together; the folder holds some more, without labels, and MATLAB files. Several
    files called .jpg are PNG or GIF images, which are read as what they are.
    """
    lines = list(read_rows(home / "annotations" / "list.txt", _pets_row, form=_PETS_FORM))
    rows = [(*row, place) for row, place in lines if row is not None]
    listed = (Listed(breed, f"{image}.jpg", place) for image, breed, _, place in rows)
    groups = groups_of(home, ((breed, species, place) for _, breed, species, place in rows))
    return pool("oxford_pets", home / "images", listed, groups=groups)


def _pets_row(words: list[str]) -> tuple[str, str, str] | None:
    if words[0].startswith("#"):
        return None
    image, _, species, _ = words
    breed, _, number = image.rpartition("_")
    if not breed or not number.isdecimal() or species not in _SPECIES:
        raise ValueError
    return image, breed.replace("_", " "), _SPECIES[species]


# The ten published partitions only move images between these three; each holds all of them.
_DTD_LISTS = ("train1.txt", "val1.txt", "test1.txt")


@collection(
    "dtd",
    "Describable Textures: 47 textures, 5,640 photographs",
    classes=47,
    images=5_640,
    archives=(
        Archive(
            "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
            "dtd-r1.0.1.tar.gz",
            # As in torchvision.datasets.DTD.
            checksum="fff73e5086ae6bdbea199a49dfb8a4c1",
        ),
    ),
    folder="dtd",
    landmarks=("images", *(f"labels/{name}" for name in _DTD_LISTS)),
    homepage="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    licence="research only",
)
def load_dtd(home: Path) -> Dataset:
    """47 textures; class names read `polka-dotted`. There are no groups."""
    return pool("dtd", home / "images", _dtd_images(home / "labels"))


def _dtd_images(folder: Path) -> Iterator[Listed]:
    for name in _DTD_LISTS:
        for (texture, path), place in read_rows(folder / name, _dtd_row, form="TEXTURE/IMAGE.jpg"):
            yield Listed(texture, path, place)


def _dtd_row(words: list[str]) -> tuple[str, str]:
    (path,) = words
    texture, _ = path.split("/")
    return texture, path
