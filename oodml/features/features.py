"""Features: one vector per sample, its label, and what made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.features.array_files import read_npz, text_bytes
from oodml.files import atomic_write, digest, parse_json
from oodml.records import checked_fields

SCHEMA = 1


@dataclass(frozen=True)
class FeatureSource:
    """What made a set of vectors; two sets are comparable when their `network` is equal.

    `dataset` and `fingerprint` name the images, `weights` is the full SHA-256 of the weights,
    `preprocessing` the canonical text of the input transform, `precision` is "fp32", "bf16"
    or "fp16", `image_size` and `resize` the options that gave this preprocessing, to repeat it.
    For trained embeddings `backbone` names the run.
    """

    dataset: str
    fingerprint: str
    backbone: str
    weights: str
    preprocessing: str
    precision: str
    image_size: int | None = None
    resize: str | None = None

    def with_data(self, dataset: str, fingerprint: str) -> FeatureSource:
        """The same network on other images."""
        return replace(self, dataset=dataset, fingerprint=fingerprint)

    @property
    def network(self) -> str:
        """Backbone, weights, preprocessing and precision in one line, without the data."""
        return f"{self.backbone} [{self.weights[:16]}] [{self.preprocessing}] {self.precision}"


@dataclass(frozen=True, eq=False)
class Features:
    """One vector per sample: backbone features and trained embeddings alike.

    `values` (n, d) float32; `labels` (n,) int64 index `class_names`; `groups`, if known, holds one
    superclass name per class; `sample_names`, if known, one name per sample. Raises `DataError`
    when shapes disagree, a label is out of range or a value is not finite (the rows are named).
    """

    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    source: FeatureSource
    sample_names: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        # What overflows becomes infinity, which is refused by row below.
        with np.errstate(over="ignore"):
            object.__setattr__(self, "values", np.asarray(self.values, dtype=np.float32))
        object.__setattr__(self, "labels", np.asarray(self.labels).astype(np.int64, copy=False))
        _check_shapes(self)
        _check_finite(self.values, self.sample_names)

    @classmethod
    def from_arrays(
        cls, values: Any, labels: Any, class_names: Sequence[str] | None = None
    ) -> Features:
        """Features made elsewhere: `values` (n, d) and `labels` (n,), NumPy arrays or tensors.

        Labels index `class_names`; without these they may be any numbers or names, and name the
        classes, of which only those that occur are there. The source is a digest of the contents,
        so equal arrays count as the same features. Raises `DataError` as the class does.
        """
        given, named = (_to_numpy(array) for array in (values, labels))
        if class_names is None:
            found, named = np.unique(named, return_inverse=True)
            class_names = [str(name) for name in found]
        unknown = FeatureSource("arrays", "", "arrays", "unknown", "unknown", "fp32")
        made = cls(given, named, tuple(class_names), unknown)
        contents = hashlib.sha256(np.ascontiguousarray(made.values).data)
        contents.update(np.ascontiguousarray(made.labels).data)
        fingerprint = digest([contents.hexdigest(), made.values.shape, made.class_names], 16)
        return replace(made, source=unknown.with_data("arrays", fingerprint))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_sizes(self) -> dict[str, int]:
        """The number of samples of every class, by name."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def of_classes(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The sample indices, ascending, of the named classes; an unknown name is a `DataError`."""
        unknown = sorted(set(names) - set(self.class_names))
        if unknown:
            raise DataError(
                f"{len(unknown)} classes are not among the {len(self.class_names)} of "
                f"{self.source.dataset}: {_some(unknown)}."
            )
        wanted = set(names)
        keep = np.array([name in wanted for name in self.class_names], dtype=bool)
        return np.flatnonzero(keep[self.labels])

    def subset(self, names: Sequence[str]) -> Features:
        """Only the named classes, in sorted order, with the labels renumbered to match."""
        rows = self.of_classes(names)
        kept = tuple(sorted(set(names)))
        position = {name: index for index, name in enumerate(self.class_names)}
        renumber = np.full(len(self.class_names), -1, dtype=np.int64)
        renumber[[position[name] for name in kept]] = np.arange(len(kept))
        samples, groups = self.sample_names, self.groups
        return Features(
            values=self.values[rows],
            labels=renumber[self.labels[rows]],
            class_names=kept,
            source=self.source,
            sample_names=tuple(samples[row] for row in rows) if samples else (),
            groups=None if groups is None else tuple(groups[position[name]] for name in kept),
        )

    def save(self, path: str | Path) -> None:
        """Write an `.npz` atomically: arrays `values` and `labels`, and `record`, a JSON text."""
        record = {
            "schema": SCHEMA,
            "source": asdict(self.source),
            "class_names": self.class_names,
            "sample_names": self.sample_names,
            "groups": self.groups,
        }
        with atomic_write(path) as file:
            np.savez(
                file, values=self.values, labels=self.labels, record=np.array(json.dumps(record))
            )

    @classmethod
    def load(cls, path: str | Path) -> Features:
        """The features that `save` wrote; `DataError` for any other or a damaged file."""
        return cls.read(path, path)

    @classmethod
    def read(cls, file: str | Path | IO[bytes], place: object) -> Features:
        """The features in a file, or in an open one; `place` names it in errors."""
        try:
            arrays = read_npz(file, ("values", "labels", "record"))
        except FileNotFoundError:
            raise DataError(f"no feature file at {place}.") from None
        except DataError as error:
            raise DataError(
                f"{place} is not a feature file of oodml ({error}); make one with "
                "`Features.save` or `oodml features`."
            ) from None
        record = parse_json(text_bytes(arrays["record"]), "record of features", place)
        try:
            return cls(arrays["values"], arrays["labels"], **_described(record))
        except DataError as error:
            raise DataError(f"{place}: {error}") from None


def _described(record: dict[str, Any]) -> dict[str, Any]:
    """Names and source, of the types that they are annotated with."""
    schema = record.pop("schema", None)
    if type(schema) is not int or schema != SCHEMA:
        raise DataError(f"features of schema {schema!r}; this version of oodml reads {SCHEMA}.")
    arrays = dict.fromkeys(("values", "labels"))
    known = checked_fields(Features, {**arrays, **record}, "the features", ("source", *arrays))
    for name in arrays:
        known.pop(name)
    source = checked_fields(FeatureSource, known["source"], "the source of the features")
    return {**known, "source": FeatureSource(**source)}


def _to_numpy(array: Any) -> npt.NDArray[Any]:
    return np.asarray(array.detach().cpu().numpy() if hasattr(array, "detach") else array)


def _check_types(features: Features) -> None:
    for name, allowed in (("values", "fiu"), ("labels", "iu")):
        kind = np.asarray(getattr(features, name)).dtype
        if kind.kind not in allowed:
            needed = "integers" if name == "labels" else "real numbers"
            raise DataError(
                f"the {name} of these features are of type {kind}; needed are {needed}."
            )


def _check_shapes(features: Features) -> None:
    values, labels, classes = features.values, features.labels, len(features.class_names)
    if values.ndim != 2 or labels.shape != values.shape[:1] or 0 in values.shape:
        raise DataError(
            f"features have values of shape {values.shape} and labels of shape {labels.shape}; "
            "needed are (n, d) and (n,) with n and d at least 1."
        )
    if len(set(features.class_names)) != classes:
        raise DataError("the class names of these features are not unique.")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}, but there are {classes} classes."
        )
    if features.sample_names and len(features.sample_names) != len(labels):
        raise DataError(f"{len(features.sample_names)} sample names for {len(labels)} samples.")
    if features.groups is not None and len(features.groups) != classes:
        raise DataError(f"{len(features.groups)} groups for {classes} classes: give one a class.")


def _check_finite(values: npt.NDArray[np.float32], sample_names: tuple[str, ...]) -> None:
    rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(rows):
        named = [f"{row} ({sample_names[row]})" if sample_names else str(row) for row in rows[:6]]
        raise DataError(
            f"{len(rows)} of {len(values)} feature rows hold NaN or infinity: {_some(named)}"
            f"{', ...' if len(rows) > len(named) else ''}."
        )


def _some(names: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def are_constant(features: Features) -> bool:
    """Whether all of several vectors are the same, so that no distance means anything."""
    return len(features) > 1 and not np.ptp(features.values, axis=0).any()


def require_distinct(features: Features) -> None:
    """Raise `DataError` for a network that gives every image the same features."""
    if are_constant(features):
        raise DataError(
            f"{features.source.backbone} gives all {len(features)} images the same features: its "
            "weights are missing or zero, or the images are copies of one; give another weights "
            "file."
        )


def require_one_network(a: Features, b: Features) -> None:
    """Raise `DataError` for features of different networks, inputs or precisions."""
    if a.source.network != b.source.network:
        raise DataError(
            f"A was made by {a.source.network}, B by {b.source.network}; distances between "
            "different networks, inputs or precisions mean nothing."
        )
