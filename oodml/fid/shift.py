"""The shift report: how far the test classes of a split lie from its training classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from oodml.errors import DataError
from oodml.features.features import Features, FeatureSource, require_one_network
from oodml.fid.class_moments import ClassMoments, Indices, Moments, split_terms
from oodml.fid.frechet import FrechetTerms
from oodml.fid.kernel_distance import kid_sums, mmd_sums
from oodml.fid.null import Null, bootstrap_interval, class_null, split_distance
from oodml.fid.sampling_bias import (
    SAMPLES_PER_DIMENSION,
    expected_bias,
    infinite_sample_distance,
)
from oodml.files import digest
from oodml.records import checked_fields

LOG = logging.getLogger("oodml")
# Draws cost milliseconds at class level, about a second each at sample level and d = 2048.
NULL_DRAWS = {"class": 100, "sample": 20}
# Above this part of the distance its finite-sample bias is worth a warning.
BIAS_PART = 0.1
# Products of features in one pass over all pairs of points, about a minute on 2 cores.
KERNEL_WORK = 1e12


class ClassSplit(Protocol):
    """Anything with disjoint train and test class names."""

    @property
    def train_classes(self) -> Sequence[str]: ...

    @property
    def test_classes(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Shift:
    """The distance between the classes of two sides, and the values to compare it with.

    `fid = mean_term + covariance_term`, in squared feature units, between Gaussians fitted to the
    `n_train` and `n_test` points of each side: images at level "sample", class means at level
    "class". Values of different levels, networks or dimensions are not comparable. `bound` limits
    the rounding error. The rest is None where it was not asked for:

    - `null_mean`, `null_sd`, `null_draws`: FID over random splits of the same classes, as many a
      side. `excess = fid - null_mean` and `z = excess / null_sd` say how much harder than a random
      split this one is. FID alone grows as classes are removed, the excess hardly: compare splits
      of different sizes by it.
    - `kid`, `kid_null_mean`, `kid_null_sd`: the unbiased kernel distance and its class null. A
      check that does not assume Gaussians.
    - `mmd`, `mmd_null_mean`, `mmd_null_sd`: the same with the kernel that `mmd_kernel` spells out.
    - `fid_infinity`: FID extrapolated to infinitely many images of these classes.
    - `bias_estimate`: what FID would be, from sampling alone, without any shift; too small below
      2 d points a side.
    - `low`, `high`: 95% interval of `fid` under a bootstrap over classes.
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
    null_draws: int | None = None
    excess: float | None = None
    z: float | None = None
    kid: float | None = None
    kid_null_mean: float | None = None
    kid_null_sd: float | None = None
    mmd: float | None = None
    mmd_null_mean: float | None = None
    mmd_null_sd: float | None = None
    mmd_kernel: str | None = None
    fid_infinity: float | None = None
    bias_estimate: float | None = None
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict; values that were not measured are left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, record: Any) -> Shift:
        """The record that `to_json` gave; unknown, missing and misplaced values raise DataError."""
        return cls(**checked_fields(cls, record, "a shift record"))


def measure_shift(
    features: Features,
    split: ClassSplit,
    *,
    level: str = "sample",
    null: int | None = None,
    kid: bool | None = None,
    mmd: bool = False,
    bandwidth: float | None = None,
    infinity: bool = False,
    bootstrap: int = 0,
    seed: int = 0,
) -> Shift:
    """The shift between the train and test classes of `split`, with its null (see `Shift`).

    `null` is the number of random class splits (default 100 at class level, 20 at sample level; 0
    leaves the null, and those of KID and MMD, out); `mmd` (with its `bandwidth` in feature units),
    `infinity` and `bootstrap` (draws) add the values of those names. KID and MMD take one pass over
    all pairs of points; by default KID is measured where that takes about a minute at most, and the
    log says where not. Raises DataError when a class has no features or
    stands on both sides, UsageError where an addition is impossible at this level or size.
    """
    statistics = ClassMoments.from_features(features, level)
    train, test = _sides(statistics, split)
    # Summed once, for the distance, the bias and the null.
    first, second = statistics.of(train), statistics.of(test)
    terms = split_terms(statistics, train, test, train_moments=first, test_moments=second)
    shift, pool = shift_between(statistics, train, test, terms), first + second
    draws = NULL_DRAWS[level] if null is None else null
    shift = replace(shift, bias_estimate=_bias(shift, pool, has_null=draws > 0))
    if draws:
        drawn = class_null(train, test, split_distance(statistics, train, test, pool), draws, seed)
        shift = with_null(shift, drawn)
    for name, wanted in (("kid", _affordable(statistics) if kid is None else kid), ("mmd", mmd)):
        if wanted:
            shift = _with_kernel(shift, statistics, train, test, name, bandwidth, draws, seed)
    if infinity:
        value = infinite_sample_distance(statistics, train, test, seed=seed)
        shift = replace(shift, fid_infinity=value)
    if bootstrap:
        low, high = bootstrap_interval(statistics, train, test, shift.fid, bootstrap, seed)
        shift = replace(shift, low=low, high=high)
    return shift


def measure(statistics: ClassMoments, split: ClassSplit) -> Shift:
    """The shift between the train and test classes of `split`, without a null.

    Raises DataError when a class has no features or stands on both sides.
    """
    return shift_between(statistics, *_sides(statistics, split))


def shift_between(
    statistics: ClassMoments, train: Indices, test: Indices, terms: FrechetTerms | None = None
) -> Shift:
    """The shift between the classes of index `train` and `test` (c,), without a null.

    `terms` are those of the two sides, where they are known already.
    """
    terms = terms or split_terms(statistics, train, test)
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


def with_null(shift: Shift, null: Null) -> Shift:
    """`shift` with its class null, excess and z (None where the null does not vary)."""
    excess = shift.fid - null.mean
    return replace(
        shift,
        null_mean=null.mean,
        null_sd=null.sd,
        null_draws=null.draws,
        excess=excess,
        z=excess / null.sd if null.sd > 0 else None,
    )


@dataclass(frozen=True)
class JointSides:
    """The class names of two collections in their joint pool; A stands for train, B for test."""

    train_classes: tuple[str, ...]
    test_classes: tuple[str, ...]


def joined(a: Features, b: Features) -> tuple[Features, JointSides]:
    """Both collections as one pool, and which of its classes came from which.

    Classes are named `A/name` and `B/name`, so that equal names stay apart. The pool can be given
    to `measure_shift` with the sides as its split. Raises `DataError` if the two were made by
    different networks, inputs or precisions, or with different dimensions.
    """
    require_one_network(a, b)
    if a.values.shape[1] != b.values.shape[1]:
        raise DataError(f"A has {a.values.shape[1]} dimensions, B has {b.values.shape[1]}.")
    named = [
        replace(features, class_names=tuple(f"{side}/{name}" for name in features.class_names))
        for side, features in zip(("A", "B"), (a, b), strict=True)
    ]
    source = a.source.with_data(
        f"{a.source.dataset} and {b.source.dataset}",
        digest([a.source.fingerprint, b.source.fingerprint], 16),
    )
    sides = JointSides(named[0].class_names, named[1].class_names)
    return concatenated(named[0], named[1], source), sides


def concatenated(a: Features, b: Features, source: FeatureSource) -> Features:
    """The samples of `a`, then those of `b`, as one pool; no class may be in both."""
    return Features(
        np.concatenate([a.values, b.values]),
        np.concatenate([a.labels, b.labels + len(a.class_names)]),
        (*a.class_names, *b.class_names),
        source,
        groups=None if a.groups is None or b.groups is None else (*a.groups, *b.groups),
    )


def _sides(statistics: ClassMoments, split: ClassSplit) -> tuple[Indices, Indices]:
    both = sorted(set(split.train_classes) & set(split.test_classes))
    if both:
        raise DataError(f"class {both[0]!r} stands on both sides of the split.")
    for side in (split.train_classes, split.test_classes):
        if len(set(side)) != len(side):
            raise DataError("a class stands twice on one side of the split.")
    return statistics.indices(split.train_classes), statistics.indices(split.test_classes)


def _bias(shift: Shift, pool: Moments, *, has_null: bool) -> float:
    sizes = shift.n_train, shift.n_test
    bias = expected_bias(pool.covariance, *sizes)
    if min(sizes) < SAMPLES_PER_DIMENSION * shift.dimension or bias > BIAS_PART * shift.fid:
        LOG.warning(
            "FID %.4g contains a finite-sample bias of about %.3g%s (%d and %d points in %d"
            " dimensions); %s.",
            shift.fid,
            bias,
            "" if min(sizes) >= SAMPLES_PER_DIMENSION * shift.dimension else " or more",
            *sizes,
            shift.dimension,
            "compare its excess over the null, not FID itself"
            if has_null
            else "compare it with FIDs of as many points only, or by KID, which has no such bias",
        )
    return bias


def _affordable(statistics: ClassMoments) -> bool:
    work = float(len(statistics.values)) ** 2 * statistics.dimension
    if work > KERNEL_WORK:
        LOG.info("KID left out: it would take %.0e products (kid=True forces it).", work)
    return work <= KERNEL_WORK


def _with_kernel(
    shift: Shift,
    statistics: ClassMoments,
    train: Indices,
    test: Indices,
    name: str,
    bandwidth: float | None,
    draws: int,
    seed: int,
) -> Shift:
    sums = kid_sums(statistics) if name == "kid" else mmd_sums(statistics, bandwidth)
    values: dict[str, Any] = {name: sums.squared_distance(train, test)}
    if name == "mmd":
        values["mmd_kernel"] = sums.kernel
    if draws:
        drawn = class_null(train, test, sums.squared_distance, draws, seed)
        values |= {f"{name}_null_mean": drawn.mean, f"{name}_null_sd": drawn.sd}
    return replace(shift, **values)
