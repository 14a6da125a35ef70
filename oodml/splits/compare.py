"""Do two networks build the same ladder? Curves, class lists, and keys of the classes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from oodml.errors import DataError
from oodml.fid.statistics import ClassMoments
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split

if TYPE_CHECKING:
    from oodml.features.features import Features

Real = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RungAgreement:
    """One rung of the first ladder beside the rung of the second at the nearest height.

    `height` is FID scaled to [0, 1] over a ladder's rungs. Jaccard indices are the size of the
    intersection over that of the union of the class lists: of the train sides, of the test sides,
    and of the classes that left their side since the first rung. `chance` is what the first two
    would be, on average, for random splits of these sizes.
    """

    rung: int
    other_rung: int
    height: float
    other_height: float
    jaccard_train: float
    jaccard_test: float
    jaccard_moved: float | None
    chance: float


@dataclass(frozen=True)
class LadderAgreement:
    """How far two ladders over the same classes agree.

    `curve_distance` is the root mean square difference of the two curves of FID, each scaled to
    [0, 1], along the part of the walk that is done. `key_correlation` is Spearman's rank
    correlation of the published key over the classes of the first ladder's first rung, under the
    two sets of features; None where those were not given.
    """

    labels: tuple[str, str]
    same_start: bool
    curve_distance: float
    rungs: tuple[RungAgreement, ...]
    key_correlation: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict for a JSON file."""
        return asdict(self)


def compare_ladders(
    first: Ladder, second: Ladder, features: tuple[Features, Features] | None = None
) -> LadderAgreement:
    """The agreement of two ladders, built with two networks or in two ways, on the same classes.

    Absolute FIDs of different networks do not compare, so every ladder is scaled by its own rungs
    (arXiv:2107.09562, supplement A). Raises `DataError` if the ladders are of different classes.
    """
    ours, theirs = set(first.class_sizes), set(second.class_sizes)
    if ours != theirs:
        raise DataError(
            f"the ladders are of different classes: {len(ours - theirs)} only in the first, "
            f"{len(theirs - ours)} only in the second."
        )
    heights = _scaled([r.fid for r in first.rungs]), _scaled([r.fid for r in second.rungs])
    rungs = []
    for number, height in enumerate(heights[0]):
        other = int(np.argmin(np.abs(heights[1] - height)))
        rungs.append(_agreement(first, second, number, other, (height, heights[1][other])))
    return LadderAgreement(
        labels=(first.fid_label(), second.fid_label()),
        same_start=first.rungs[0].id == second.rungs[0].id,
        curve_distance=_curve_distance(first, second),
        rungs=tuple(rungs),
        key_correlation=None if features is None else _key_correlation(first.rungs[0], *features),
    )


def published_keys(features: Features, split: Split) -> Real:
    """The published key of every class, those of `train_classes` first, then of `test_classes`.

    Distance of the class mean to the other side's mean minus that to its own side's, float64
    (n,); lowest for the classes that change sides first (arXiv:2107.09562). Side means weight all
    images alike.
    """
    statistics = ClassMoments.from_features(features)
    train, test = (statistics.indices(side) for side in (split.train_classes, split.test_classes))
    centres = [
        np.average(statistics.means[side], axis=0, weights=statistics.counts[side])
        for side in (train, test)
    ]
    keys = []
    for side, own, other in ((train, *centres), (test, *centres[::-1])):
        means = statistics.means[side]
        keys.append(np.linalg.norm(means - other, axis=1) - np.linalg.norm(means - own, axis=1))
    return np.concatenate(keys)


def _key_correlation(start: Split, first: Features, second: Features) -> float:
    return float(spearmanr(published_keys(first, start), published_keys(second, start)).statistic)


def _curve_distance(first: Ladder, second: Ladder) -> float:
    """Both walks at 101 even parts of their length, on the scale of their rungs."""
    parts = np.linspace(0, 1, 101)
    curves = []
    for ladder in (first, second):
        fids = _scaled([step.fid for step in ladder.trajectory])
        curves.append(np.interp(parts, np.linspace(0, 1, len(fids)), fids))
    return float(np.sqrt(np.mean((curves[0] - curves[1]) ** 2)))


def _scaled(fids: list[float]) -> Real:
    values = np.asarray(fids, dtype=np.float64)
    span = values.max() - values.min()
    return np.zeros_like(values) if span == 0 else (values - values.min()) / span


def _agreement(
    first: Ladder, second: Ladder, number: int, other: int, heights: tuple[float, float]
) -> RungAgreement:
    a, b = first.rungs[number], second.rungs[other]
    moved = _moved(first, number), _moved(second, other)
    pool = len(first.class_sizes)
    expected = [_chance(len(x), len(y), pool) for x, y in (
        (a.train_classes, b.train_classes), (a.test_classes, b.test_classes))]  # fmt: skip
    return RungAgreement(
        rung=number,
        other_rung=other,
        height=float(heights[0]),
        other_height=float(heights[1]),
        jaccard_train=_jaccard(set(a.train_classes), set(b.train_classes)),
        jaccard_test=_jaccard(set(a.test_classes), set(b.test_classes)),
        jaccard_moved=_jaccard(*moved) if moved[0] or moved[1] else None,
        chance=sum(expected) / 2,
    )


def _moved(ladder: Ladder, number: int) -> set[str]:
    start, rung = ladder.rungs[0], ladder.rungs[number]
    left_train = set(start.train_classes) - set(rung.train_classes)
    return left_train | (set(start.test_classes) - set(rung.test_classes))


def _jaccard(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second)


def _chance(first: int, second: int, pool: int) -> float:
    """The Jaccard index at the mean overlap of random sets of these sizes."""
    common = first * second / pool
    return common / (first + second - common)
