"""The feature cache: shards written whole or not at all, keyed by all that decides their values."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.files import atomic_write, digest, locked, read_json, write_json

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.features import FeatureSource

logger = logging.getLogger("oodml")

# A killed extraction loses at most one shard: half a minute of Inception on two cores.
SHARD = 512
SCHEMA = 1

Values = npt.NDArray[np.float32]

_READ_ERRORS = (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Shards:
    """A directory with the features of one dataset from one network, in shards of `SHARD` rows.

    Each shard also holds the sizes, times and a hash of the contents of its images, so an image
    that was replaced by another of the same name and size is computed again.
    """

    directory: Path
    dataset: Dataset
    dimension: int

    def span(self, index: int) -> range:
        """The samples of one shard."""
        return range(index * SHARD, min((index + 1) * SHARD, len(self.dataset)))

    def missing(self) -> list[int]:
        """The shards that are absent or whose images have changed."""
        count = -(-len(self.dataset) // SHARD)
        return [index for index in range(count) if not self._valid(index)]

    def filled(self, compute: Callable[[list[range]], Iterator[Values]]) -> Values:
        """All rows (n, d), after `compute` has given those of the spans that are missing.

        What was computed before a kill is kept, and one process at a time computes.
        """
        with self.locked():
            missing = self.missing()
            rows = compute([self.span(index) for index in missing])
            for index, values in zip(missing, rows, strict=True):
                self.write(index, values)
            return self.read()

    def write(self, index: int, values: Values) -> None:
        """Store the rows of one shard, whole or not at all."""
        span = self.span(index)
        shard: dict[str, Any] = {
            "values": values,
            "key": np.array(self.directory.name),
            "stamps": _stamps(self.dataset, span),
            "contents": np.array(_contents(self.dataset, span)),
        }
        try:
            with atomic_write(self._path(index)) as file:
                np.savez(file, **shard)
        except OSError as error:
            raise _unwritable(self.directory, error) from None

    def read(self) -> Values:
        """All rows, (n, d) float32, in the order of the dataset."""
        values = np.empty((len(self.dataset), self.dimension), dtype=np.float32)
        for index in range(-(-len(self.dataset) // SHARD)):
            span = self.span(index)
            values[span.start : span.stop] = self._load(index)["values"]
        return values

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time fills the directory; the system frees the lock of a killed one."""
        with locked(
            self.directory / "lock",
            lambda: logger.info("waiting for another process to fill %s", self.directory),
        ):
            yield

    def _path(self, index: int) -> Path:
        return self.directory / f"shard-{index:05d}.npz"

    def _load(self, index: int) -> dict[str, Any]:
        path, rows = self._path(index), len(self.span(index))
        try:
            with np.load(path, allow_pickle=False) as file:
                shard = {name: file[name] for name in ("values", "key", "stamps", "contents")}
            if shard["values"].shape != (rows, self.dimension):
                raise ValueError(f"shape {shard['values'].shape}, not {(rows, self.dimension)}")
            if str(shard["key"]) != self.directory.name:
                raise ValueError(f"it was made for {shard['key']}")
        except _READ_ERRORS as error:
            raise DataError(
                f"the feature cache {path} is damaged or foreign ({error}): delete it, run again."
            ) from None
        return shard

    def _valid(self, index: int) -> bool:
        if not self._path(index).exists():
            return False
        shard, span = self._load(index), self.span(index)
        if np.array_equal(shard["stamps"], _stamps(self.dataset, span)):
            return True
        return str(shard["contents"]) == _contents(self.dataset, span)


def open_shards(
    cache: str | Path | None, source: FeatureSource, dataset: Dataset, dimension: int
) -> Shards:
    """The cache directory for `source`, made if it is absent; `DataError` if it holds another."""
    order = hashlib.sha256("\0".join(dataset.sample_names).encode("utf-8", "surrogateescape"))
    record = {
        "schema": SCHEMA,
        # The name is no part of the content, and the preprocessing says what its options did.
        "source": {**asdict(source), "dataset": "", "image_size": None, "resize": None},
        "order": order.hexdigest(),
        "samples": len(dataset),
        "dimension": dimension,
        "shard": SHARD,
    }
    name = f"{source.backbone.replace(':', '-').replace('/', '-')}-{source.precision}"
    directory = cache_directory(cache) / "features" / f"{name}-{digest(record, 16)}"
    path = directory / "record.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_json(path, record)
        (directory / "lock").touch()
    except OSError as error:
        raise _unwritable(directory, error) from None
    if read_json(path, "feature cache") != record:
        raise DataError(
            f"{directory} is not the feature cache that its name says; delete it and run again."
        )
    return Shards(directory, dataset, dimension)


def _unwritable(directory: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot write the feature cache {directory} ({error.strerror}): name another directory "
        "as cache or by $OODML_CACHE."
    )


def cache_directory(cache: str | Path | None = None) -> Path:
    """`cache`, else `$OODML_CACHE`, else ~/.cache/oodml."""
    return Path(cache or os.environ.get("OODML_CACHE") or "~/.cache/oodml").expanduser()


def _stamps(dataset: Dataset, span: range) -> npt.NDArray[np.int64]:
    """(len(span), 2) sizes and modification times in nanoseconds; -1 for a file that is gone."""
    return np.array([_stamp(dataset.paths[row]) for row in span], dtype=np.int64)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


def _contents(dataset: Dataset, span: range) -> str:
    digest = hashlib.sha256()
    for row in span:
        try:
            digest.update(hashlib.sha256(dataset.paths[row].read_bytes()).digest())
        except OSError:
            digest.update(b"gone")
    return digest.hexdigest()
