"""The null of a distance over random class splits, and its bootstrap interval over classes.

Classes are given by their indices, int64 arrays (c,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oodml.errors import UsageError
from oodml.fid.class_moments import ClassMoments, Indices, Moments, PooledGram, split_terms
from oodml.parallel import each, side_by_side
from oodml.seeding import generator

Classes = npt.NDArray[np.int64]
INTERVAL = (2.5, 97.5)
# Up to here the singular values of a split's inner products cost less than its d-dimensional work.
GRAM_POOL = 1000


@dataclass(frozen=True)
class Null:
    """Mean and standard deviation (n - 1) of a distance over `draws` random splits."""

    mean: float
    sd: float
    draws: int

    @classmethod
    def of(cls, values: list[float]) -> Null:
        """The summary of `values`, at least 2 of them."""
        if len(values) < 2:
            raise UsageError(f"{len(values)} null draw(s); a standard deviation needs at least 2.")
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))


def random_class_splits(
    train: Indices, test: Indices, draws: int, seed: int
) -> Iterator[tuple[Classes, Classes]]:
    """Random splits of the classes of both sides together, with as many classes on each side.

    A draw depends on the set of classes, the sizes, the seed and its number only.
    """
    pool = np.sort(np.concatenate([np.asarray(train), np.asarray(test)])).astype(np.int64)
    for index in range(draws):
        order = generator(seed, "class null", len(train), index).permutation(pool)
        yield np.sort(order[: len(train)]), np.sort(order[len(train) :])


def class_null(
    train: Indices,
    test: Indices,
    distance: Callable[[Indices, Indices], float],
    draws: int,
    seed: int,
) -> Null:
    """The null of any distance: its mean and deviation over random splits of the same classes."""
    with side_by_side():
        splits = random_class_splits(train, test, draws, seed)
        return Null.of(each(lambda split: distance(*split), splits))


@side_by_side()
def split_distance(
    statistics: ClassMoments, train: Indices, test: Indices, pool: Moments | None = None
) -> Callable[[Indices, Indices], float]:
    """The Frechet distance of splits of the classes of `train` and `test`, for many draws.

    A small pool is measured from its inner products; of a large one the smaller side is summed from
    its points and the other is the rest of `pool`, the moments of all these classes if known.
    """
    if len(statistics.values) <= GRAM_POOL:
        gram = PooledGram.of(statistics)
        return lambda first, second: gram.terms(first, second).value
    if min(statistics.size(train), statistics.size(test)) <= statistics.dimension:
        pool = None
    elif pool is None:
        pool = statistics.of(np.concatenate([np.asarray(train), np.asarray(test)]))

    def distance(first: Indices, second: Indices) -> float:
        swapped = statistics.size(first) > statistics.size(second)
        small, large = (second, first) if swapped else (first, second)
        if pool is None or statistics.size(small) <= statistics.dimension:
            return split_terms(statistics, small, large).value
        own = statistics.of(small)
        return split_terms(
            statistics, small, large, train_moments=own, test_moments=pool - own
        ).value

    return distance


def bootstrap_interval(
    statistics: ClassMoments, train: Indices, test: Indices, value: float, draws: int, seed: int
) -> tuple[float, float]:
    """A 95% interval of the distance `value` for classes drawn from a wider population.

    Classes are drawn with replacement on each side. Repeated classes raise the distance as fewer
    classes do, so only the spread of the draws is used: their quantiles minus their median, laid
    around `value`, and never below 0.
    """
    if draws < 20:
        raise UsageError(f"{draws} bootstrap draws; an interval needs at least 20.")

    def distance(index: int) -> float:
        random = generator(seed, "class bootstrap", index)
        sides = (random.choice(np.asarray(side), len(side)) for side in (train, test))
        return split_terms(statistics, *sides).value

    with side_by_side():
        values = each(distance, range(draws))
    low, high = np.percentile(values, INTERVAL) - np.median(values)
    return max(value + float(low), 0.0), value + float(high)
