"""The exact Frechet terms between two sets of classes."""

from __future__ import annotations

import numpy as np

from oodml.fid.frechet import TOLERANCE, FrechetTerms, frechet_terms, terms_of_covariances
from oodml.fid.statistics import ClassMoments, Indices, Moments

# Of the 16 digits of the moments, those that a spread may lose before the points are asked.
MOST_LOST = 1e-6


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
    `tolerance` as in `frechet_terms`: 1e-6 saves a search two thirds of the time on real features.
    The indices are int64 arrays (c,).
    """
    fewest = min(statistics.size(train), statistics.size(test))
    if fewest > statistics.dimension:
        a = train_moments or statistics.of(train)
        b = test_moments or statistics.of(test)
    if fewest <= statistics.dimension or _is_lost(a) or _is_lost(b):
        points = statistics.points(train), statistics.points(test)
        return frechet_terms(*points, tolerance=tolerance)
    # Both sides have more than d points, so their covariances are taken to be of full rank.
    return terms_of_covariances(a.mean - b.mean, a.covariance, b.covariance, tolerance=tolerance)


def _is_lost(moments: Moments) -> bool:
    # A spread far below the distance from the centre is rounding in moments about that centre:
    # that of points which are all alike would have negative variances.
    second = float(np.trace(moments.scatter)) / moments.count
    mean = moments.mean
    return second - float(mean @ mean) < MOST_LOST * second
