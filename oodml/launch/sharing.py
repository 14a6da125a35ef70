"""Resources for several processes: the features lie in files that all of them map into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oodml.fid.features import Features
from oodml.train.build import Resources


@dataclass(frozen=True)
class SharedResources:
    """Resources whose feature values lie in a file, mapped into memory when they are opened."""

    values: Path
    rest: Resources

    def open(self) -> Resources:
        """The resources as they were, their values read from the file when they are touched."""
        values = np.load(self.values, mmap_mode="r", allow_pickle=False)
        return with_values(self.rest, values)


@contextmanager
def shared(resources: Resources, directory: Path | None = None) -> Iterator[SharedResources]:
    """Resources with their values in a file of `directory`, which is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="oodml-", dir=directory) as folder:
        path = Path(folder) / "values.npy"
        np.save(path, resources.features.values)
        yield SharedResources(path, emptied(resources))


def emptied(resources: Resources) -> Resources:
    """The same resources without their weight: every row of values is the same single number."""
    features = resources.features
    return with_values(resources, np.broadcast_to(np.float32(0), (len(features), 1)))


def with_values(resources: Resources, values: np.ndarray) -> Resources:
    """The resources with other values of the same samples."""
    features: Features = replace(resources.features, values=values)
    return replace(resources, features=features)
