"""Collection: what is known about a published collection, and the decorator that names one."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from oodml.data.dataset import Dataset
from oodml.errors import unknown_name

Load = Callable[[Path], Dataset]
_REGISTRY: dict[str, Collection] = {}


@dataclass(frozen=True)
class Archive:
    """One file to download: a tar or zip archive, or, with any other suffix, a plain file.

    `checksum` is 32 hex digits of MD5 or 64 of SHA-256, as published, or empty if none is.
    `size` is in bytes. An archive's content goes to `into`, a folder below the root.
    """

    url: str
    file_name: str
    checksum: str = ""
    size: int | None = None
    into: str = ""


@dataclass(frozen=True)
class Collection:
    """A published collection: how to load its files, what it must hold and where it comes from.

    `load` takes the folder that holds the files. That is `folder` below the root, or the root
    itself; `landmarks` are the paths in it by which it is known. `classes` and `images` are the
    counts as published, checked after loading, or None. `groups` says in words what the groups
    are. `how_to_get` is for collections that cannot be downloaded without an agreement or a
    login. `default_root` overrules the folder that `root_of` gives.
    """

    name: str
    description: str
    load: Load
    classes: int | None = None
    images: int | None = None
    archives: tuple[Archive, ...] = ()
    folder: str = ""
    landmarks: tuple[str, ...] = ()
    groups: str = ""
    how_to_get: str = ""
    homepage: str = ""
    licence: str = ""
    default_root: Callable[[], Path] | None = None


def collection(
    name: str,
    description: str,
    *,
    classes: int | None = None,
    images: int | None = None,
    archives: tuple[Archive, ...] = (),
    folder: str = "",
    landmarks: tuple[str, ...] = (),
    groups: str = "",
    how_to_get: str = "",
    homepage: str = "",
    licence: str = "",
    default_root: Callable[[], Path] | None = None,
) -> Callable[[Load], Load]:
    """A decorator that makes `load(folder) -> Dataset` known as a collection named `name`.

    The other arguments are the fields of `Collection`.
    """

    def register(load: Load) -> Load:
        _REGISTRY[name] = Collection(
            name=name,
            description=description,
            load=load,
            classes=classes,
            images=images,
            archives=archives,
            folder=folder,
            landmarks=landmarks,
            groups=groups,
            how_to_get=how_to_get,
            homepage=homepage,
            licence=licence,
            default_root=default_root,
        )
        return load

    return register


def all_collections() -> dict[str, Collection]:
    """Every collection by name, sorted; each module of this package is looked into."""
    _import_all()
    return dict(sorted(_REGISTRY.items()))


def find_collection(name: str) -> Collection:
    """The collection of that name. Raises `UsageError` with the closest name if there is none."""
    known = all_collections()
    if name not in known:
        raise unknown_name("collection", name, known)
    return known[name]


@cache
def _import_all() -> None:
    import oodml.data.collections as package

    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")


def root_of(collection: Collection, root: str | Path | None = None) -> Path:
    """The folder of a collection's files and archives: `root`, or the default one.

    By default that is `$OODML_DATA/NAME`, and `~/.cache/oodml/collections/NAME` where the
    environment variable is not set.
    """
    if root is not None:
        return Path(root).expanduser()
    if collection.default_root is not None:
        return collection.default_root()
    everywhere = os.environ.get("OODML_DATA") or "~/.cache/oodml/collections"
    return Path(everywhere).expanduser() / collection.name
