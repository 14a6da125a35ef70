"""Hugging Face datasets as pools: from the Hub, from `save_to_disk`, from Parquet and Arrow files.

Nothing is run and nothing is unpickled: `datasets` since 4.0 knows no dataset scripts, and only the
readers in `_READERS` may open the files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from oodml.data.collections.registry import everywhere
from oodml.data.dataset import Dataset, Refuse, groups_of, refuse_at_once
from oodml.data.listing import Sample, dataset_of
from oodml.errors import DataError, UsageError, unknown_name
from oodml.text import as_text

PREFIX = "hf:"
FORM = "hf:OWNER/NAME[:CONFIG][@SPLIT+SPLIT][?image=COLUMN&label=COLUMN&group=COLUMN]"
_ROLES = ("image", "label", "group")
_ADDRESS = re.compile(r"(?P<location>.+?)(:(?P<config>[^:@/]+))?(@(?P<splits>\w[\w.+-]*))?")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_SPLIT_NAME = re.compile(r"\w[\w.-]*")
# The readers of `datasets` that only read columns and image files; "cache" is its offline copy.
_READERS = frozenset({"arrow", "cache", "csv", "imagefolder", "json", "parquet"})
_FILE_READERS = {".parquet": "parquet", ".arrow": "arrow"}
# What `datasets` and pyarrow are known to raise on damaged files and without a network.
_FAILURES = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
logger = logging.getLogger("oodml")
_SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


@dataclass(frozen=True)
class Address:
    """What a source of the form `FORM` names; `columns` maps image, label, group to columns."""

    location: str
    config: str | None
    splits: tuple[str, ...]
    columns: dict[str, str]


def parse_address(source: str) -> Address:
    """The parts of `hf:...`; without the prefix, of a path that exists, nothing is cut off.

    Raises `UsageError` if the text is not of the form `FORM`.
    """
    text = source.removeprefix(PREFIX)
    if text and _exists(text):
        return Address(text, None, (), {})
    text, _, query = text.partition("?")
    match = _ADDRESS.fullmatch(text)
    columns = dict(parse_qsl(query, keep_blank_values=True))
    if match is None or not all(columns.values()):
        raise UsageError(f"{source!r} is not of the form {FORM}.")
    for role in columns:
        if role not in _ROLES:
            raise unknown_name("column role", role, _ROLES)
    splits = tuple(filter(None, (match["splits"] or "").split("+")))
    return Address(match["location"], match["config"], splits, columns)


def load_hugging_face(
    source: str, *, root: str | Path | None = None, refuse: Refuse = refuse_at_once
) -> Dataset:
    """All splits of a Hugging Face dataset as one pool.

    `source` is of the form `FORM`; instead of OWNER/NAME a folder that `save_to_disk` wrote, a
    folder of Parquet files or of images, or a .parquet or .arrow file. The image column is the one
    of the feature `Image`; the label column is the one of the feature `ClassLabel`, else the one
    of text or whole numbers; where several would do, the one called `image` or `label`. Rows
    without an image or a label are left out, with a warning that counts them. Samples are named by
    split, row and content. Encoded images are written unchanged, once, below `root`, by default
    `$OODML_DATA/hf` or `~/.cache/oodml/collections/hf`, under the hash of their bytes.

    Raises `DataError` if the extra `hf` is missing or the data cannot be had or read, `UsageError`
    for a name or a column that does not exist or is not clear. Refuses rows whose class or group
    is none that the column has, image files that do not exist, a class with two groups or a single
    image.
    """
    address = parse_address(source)
    library = _library()
    try:
        rows = list(_all_rows(library, source, address, root, refuse))
    except (*_FAILURES, library.exceptions.DatasetsError) as error:
        raise DataError(f"cannot load {source}: {_reason(error)}.") from None
    if not rows:
        raise DataError(f"{source} holds no image with a label.")
    place = Path(address.location)
    name = place.stem if place.suffix.lower() in _FILE_READERS else place.name
    samples = [sample for sample, _ in rows]
    groups = _groups(source, rows, refuse)
    return dataset_of(samples, name=name or "hf", source=source, groups=groups, refuse=refuse)


@dataclass(frozen=True)
class Columns:
    """The columns of one split and their features; texts are None where a row has no value."""

    image: str
    label: str
    group: str | None
    features: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """The columns, each once."""
        return list(dict.fromkeys(filter(None, (self.image, self.label, self.group))))

    def label_text(self, row: Mapping[str, Any]) -> str | None:
        """The class name in a row."""
        return _text(self.label, self.features[self.label], row[self.label])

    def group_text(self, row: Mapping[str, Any]) -> str | None:
        """The superclass name in a row; None if no group column was asked for.

        Raises `DataError` if the row has none.
        """
        if self.group is None:
            return None
        text = _text(self.group, self.features[self.group], row[self.group])
        if text is None:
            raise DataError(f"the column {self.group!r} has rows without a group.")
        return text


def choose_columns(
    library: Any, features: Mapping[str, Any], asked: Mapping[str, str], where: str
) -> Columns:
    """The columns asked for by role, and where nothing was asked those that the features show.

    `library` is the module `datasets`. Raises `UsageError` if a column does not exist, does not
    fit its role, or if several would do; `DataError` if none does.
    """
    scalars = [name for name, each in features.items() if _is_label(library, each)]
    classes = [name for name in scalars if isinstance(features[name], library.ClassLabel)]
    images = [name for name, each in features.items() if isinstance(each, library.Image)]
    fitting = {"image": images, "label": scalars, "group": scalars}
    for role, column in asked.items():
        if column not in fitting[role]:
            raise _unfit(role, column, fitting[role], features, where)
    image = asked.get("image") or _only("image", images, where)
    label = asked.get("label") or _only("label", classes or scalars, where)
    return Columns(image, label, asked.get("group"), features)


def stored(content: bytes, root: str | Path | None = None) -> Path:
    """The file below `root` that holds exactly these bytes, written if it is not there yet.

    `root` is by default `$OODML_DATA/hf`, or `~/.cache/oodml/collections/hf`. The name is the
    SHA-256 of the bytes with the suffix of the image format. A reader never sees half a file.
    """
    digest = hashlib.sha256(content).hexdigest()
    folder = everywhere() / "hf" if root is None else Path(root).expanduser()
    path = folder / digest[:2] / f"{digest}{_suffix(content)}"
    if not _holds(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without fsync, which costs minutes over 100,000 images: what a power failure cuts short
        # has another size and is written again.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # a name too long; no such user's home
        return False


def _library() -> Any:
    try:
        return import_module("datasets")
    except ImportError:
        raise DataError(
            "Hugging Face datasets need the package datasets. Type: pip install 'oodml[hf]'"
        ) from None


def _all_rows(
    library: Any, source: str, address: Address, root: str | Path | None, refuse: Refuse
) -> Iterator[tuple[Sample, str | None]]:
    for name, table in _splits(library, address, source).items():
        columns = choose_columns(
            library, table.features, address.columns, f"{source}, split {name!r}"
        )
        yield from _rows(library, name, table, columns, root, refuse)


def _splits(library: Any, address: Address, source: str) -> dict[str, Any]:
    """The splits asked for, by name, each a `datasets.Dataset`."""
    found = _open(library, address, source)
    splits = dict(found) if isinstance(found, dict) else {str(found.split or "all"): found}
    for name in address.splits:
        if name not in splits:
            raise unknown_name("split", name, splits)
    for name in splits:
        if not _SPLIT_NAME.fullmatch(name):
            raise DataError(f"{source}: {name!r} is not the name of a split.")
    return {name: splits[name] for name in address.splits or splits}


def _open(library: Any, address: Address, source: str) -> Any:
    place = Path(address.location).expanduser()
    if any((place / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return library.load_from_disk(str(place))
    if place.is_file():
        builder = library.load_dataset_builder(_file_reader(place), data_files=str(place))
    elif place.is_dir() or _HUB_NAME.fullmatch(address.location):
        location = str(place) if place.is_dir() else address.location
        builder = library.load_dataset_builder(location, address.config)
    else:
        raise UsageError(
            f"{source!r}: there is no file or folder {address.location}, and a dataset on the Hub "
            f"is named OWNER/NAME. The form is {FORM}."
        )
    _check_reader(builder, source)
    builder.download_and_prepare()
    return builder.as_dataset()


def _file_reader(place: Path) -> str:
    suffix = place.suffix.lower()
    if suffix not in _FILE_READERS:
        raise UsageError(f"{place} is not a file of one of {', '.join(_FILE_READERS)}.")
    return _FILE_READERS[suffix]


def _check_reader(builder: Any, source: str) -> None:
    modules = [kind.__module__.split(".") for kind in type(builder).__mro__]
    readers = [parts[2] for parts in modules if parts[:2] == ["datasets", "packaged_modules"]]
    reader = next((each for each in readers if each != "folder_based_builder"), "unknown")
    if reader not in _READERS:
        raise DataError(
            f"{source} is stored for the reader {reader!r}; oodml reads "
            f"{', '.join(sorted(_READERS - {'cache'}))}. Save it with save_to_disk and give that "
            "folder as hf:FOLDER."
        )


def _rows(
    library: Any,
    split: str,
    table: Any,
    columns: Columns,
    root: str | Path | None,
    refuse: Refuse,
) -> Iterator[tuple[Sample, str | None]]:
    """Each labelled image of a split with the name of its group, if there is one."""
    plain = table.with_format(None).select_columns(columns.names)
    plain = plain.cast_column(columns.image, library.Image(decode=False))
    # Arrow trusts the offsets in a file and reads where they point, so they are validated first.
    plain.data.validate(full=True)
    left_out = 0
    for number, row in enumerate(plain):
        place = f"{split}/{number:07d}"
        image = row[columns.image]
        try:
            label = columns.label_text(row)
            if label is None or not image or not (image["bytes"] or image["path"]):
                left_out += 1
                continue
            group = columns.group_text(row)
        except DataError as error:
            refuse(DataError(f"{place}: {error}"))
            continue
        yield _sample(place, label, image, root, refuse), group
    if left_out:
        logger.warning("%s: left out %d rows without an image or a label", split, left_out)


def _sample(
    place: str, label: str, image: dict[str, Any], root: str | Path | None, refuse: Refuse
) -> Sample:
    if image["bytes"]:
        path = stored(image["bytes"], root)
        # The content in the name makes the fingerprint follow it.
        name = f"{place}-{path.stem[:12]}{path.suffix}"
    else:
        path = Path(image["path"])
        name = f"{place}-{path.name}"
    try:
        size = path.stat().st_size
    except OSError as error:
        refuse(DataError(f"{place}: cannot read {as_text(str(path))}: {error.strerror}."))
        size = 0
    return Sample(label, name, path, size)


def _groups(
    source: str, rows: list[tuple[Sample, str | None]], refuse: Refuse
) -> dict[str, str] | None:
    stated = [
        (sample.class_name, group, sample.name) for sample, group in rows if group is not None
    ]
    return groups_of(source, stated, refuse) if stated else None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text[:300] or type(error).__name__


def _is_label(library: Any, feature: Any) -> bool:
    if isinstance(feature, library.ClassLabel):
        return True
    # Such as string, large_string, int64, uint8.
    kind = feature.dtype.removeprefix("large_") if isinstance(feature, library.Value) else ""
    return kind == "string" or kind.startswith(("int", "uint"))


def _unfit(
    role: str, column: str, fitting: list[str], features: Mapping[str, Any], where: str
) -> UsageError:
    if column not in features:
        return unknown_name("column", column, features)
    return UsageError(
        f"{where}: the column {column!r} cannot be the {role}; "
        f"{', '.join(map(repr, fitting)) or 'no column'} can."
    )


def _only(role: str, fitting: list[str], where: str) -> str:
    if not fitting:
        raise DataError(f"{where}: no column can be the {role}.")
    if len(fitting) == 1 or role in fitting:
        return role if role in fitting else fitting[0]
    raise UsageError(
        f"{where}: {', '.join(map(repr, fitting))} can each be the {role}. Choose one: add "
        f"?{role}={fitting[0]} to the source."
    )


def _text(column: str, feature: Any, value: Any) -> str | None:
    if value is None or value == "":
        return None
    names = getattr(feature, "names", None)
    if names is None:
        return str(value)
    if value == -1:  # the Hub's value for a hidden label
        return None
    if not 0 <= value < len(names):
        raise DataError(f"the column {column!r} holds the class {value}; it has {len(names)}.")
    return str(names[value])


def _holds(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _suffix(content: bytes) -> str:
    return next((suffix for magic, suffix in _SUFFIXES.items() if content.startswith(magic)), "")
