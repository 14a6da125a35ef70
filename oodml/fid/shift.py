"""The shift report: how far the test classes of a split lie from its training classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from oodml.errors import DataError
from oodml.fid.frechet import TOLERANCE, FrechetTerms, frechet_terms, terms_of_covariances
from oodml.fid.statistics import ClassMoments, Indices, Moments

if TYPE_CHECKING:
    from oodml.fid.features import Features


class ClassSplit(Protocol):
    """Anything with disjoint train and test class names."""

    @property
    def train_classes(self) -> Sequence[str]: ...

    @property
    def test_classes(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Shift:
    """The distance between the classes of two sides, and what it must be compared with.

    `fid = mean_term + covariance_term`, in squared feature units, between Gaussians fitted to the
    `n_train` and `n_test` points of each side: images at level "sample", class means at level
    "class". Values of different levels, networks or dimensions are not comparable. `bound` limits
    the rounding error.
    """

    level: str
    fid: float
    mean_term: float
    covariance_term: float
    n_train: int
    n_test: int
    dimension: int
    bound: float
    null_mean: float | None = None
    null_sd: float | None = None
    excess: float | None = None
    z: float | None = None
    kid: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict; values that were not measured are left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shift:
        """The record that `to_json` gave; unknown or missing keys raise DataError."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(value) - known)
        if unknown:
            raise DataError(f"unknown key {unknown[0]!r} in a shift record.")
        try:
            return cls(**value)
        except TypeError as error:
            raise DataError(f"incomplete shift record ({error}).") from None


def split_terms(
    statistics: ClassMoments,
    train: Indices,
    test: Indices,
    *,
    train_moments: Moments | None = None,
    test_moments: Moments | None = None,
    tolerance: float = TOLERANCE,
) -> FrechetTerms:
    """The exact Frechet terms between two sets of classes, given by class index.

    Takes the points themselves while one side has at most d of them, the moments above; moments
    that the caller already holds (a trajectory updates them by the classes that moved) are used.
    """
    fewest = min(statistics.size(train), statistics.size(test))
    if fewest <= statistics.dimension:
        points = statistics.points(train), statistics.points(test)
        return frechet_terms(*points, tolerance=tolerance)
    a = train_moments or statistics.of(train)
    b = test_moments or statistics.of(test)
    return terms_of_covariances(
        a.mean - b.mean,
        a.covariance,
        b.covariance,
        counts=(a.count, b.count),
        tolerance=tolerance,
    )


def measure_shift(features: Features, split: ClassSplit, *, level: str = "sample") -> Shift:
    """The shift between the train and test classes of `split`.

    Raises DataError when a class has no features or stands on both sides.
    """
    statistics = ClassMoments.from_features(features, level)
    train = statistics.indices(split.train_classes)
    test = statistics.indices(split.test_classes)
    both = sorted(set(split.train_classes) & set(split.test_classes))
    if both:
        raise DataError(f"class {both[0]!r} stands on both sides of the split.")
    return shift_of(statistics, train, test, split_terms(statistics, train, test))


def shift_of(statistics: ClassMoments, train: Indices, test: Indices, terms: FrechetTerms) -> Shift:
    """The record of `terms` measured between the classes `train` and `test`."""
    return Shift(
        level=statistics.level,
        fid=terms.value,
        mean_term=terms.mean,
        covariance_term=terms.covariance,
        n_train=statistics.size(train),
        n_test=statistics.size(test),
        dimension=statistics.dimension,
        bound=terms.bound,
    )
