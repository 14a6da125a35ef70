"""Resources for several processes: the features lie in files that all of them map into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oodml.train.build import Resources

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SharedResources:
    """Resources whose arrays lie in files, mapped into memory when they are opened."""

    values: Path
    views: Path | None
    rest: Resources

    def open(self) -> Resources:
        """The resources as they were; a row is read from the disk when it is first touched."""
        views = None if self.views is None else _mapped(self.views)
        return with_arrays(self.rest, _mapped(self.values), views)


def _mapped(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


@contextmanager
def shared(resources: Resources) -> Iterator[SharedResources]:
    """Resources with their arrays in a folder that is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="oodml-") as folder:
        values, views = Path(folder) / "values.npy", None
        np.save(values, resources.features.values)
        if resources.views is not None:
            views = Path(folder) / "views.npy"
            np.save(views, resources.views)
        yield SharedResources(values, views, emptied(resources))


def emptied(resources: Resources) -> Resources:
    """The same resources without their weight: every row of values is the same single number."""
    return with_arrays(resources, np.broadcast_to(np.float32(0), (len(resources.features), 1)))


def with_arrays(resources: Resources, values: Array, views: Array | None = None) -> Resources:
    """The resources with other values (n, C) and cached views (V, n, C) of the same samples."""
    return replace(resources, features=replace(resources.features, values=values), views=views)
