"""How far two ladders agree: FID curves, class lists of the rungs, and the order of classes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from oodml.errors import DataError
from oodml.fid.class_moments import ClassMoments
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split, random_split

if TYPE_CHECKING:
    from oodml.features.features import Features

Real = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RungAgreement:
    """One rung of the first ladder beside the rung of the second at the nearest height.

    `height` is FID scaled so that a ladder's own trajectory spans [0, 1]. Jaccard indices are the
    size of the intersection over that of the union of the class lists: of the train sides, of the
    test sides, and of the classes that are no longer on the side where the walk started (None if
    nothing moved or a start is unknown). `chance` is what the first two would be, on average, for
    random splits of these sizes.
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

    `same_start` compares the splits that the walks started from, None if one is unknown (see
    `start_split`). `curve_distance` is the root mean square difference of the two trajectories,
    each scaled to [0, 1] in FID and in length. `key_correlation` is Spearman's rank correlation of
    the published key over the classes of the first ladder's start, under the two sets of features;
    None where those were not given or the start is unknown.
    """

    labels: tuple[str, str]
    same_start: bool | None
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

    Absolute FIDs of different networks do not compare, so each ladder is scaled by the lowest and
    highest FID of its own trajectory (arXiv:2107.09562, supplement A). Raises `DataError` if the
    ladders are of different classes.
    """
    ours, theirs = set(first.class_sizes), set(second.class_sizes)
    if ours != theirs:
        raise DataError(
            f"the ladders are of different classes: {len(ours - theirs)} only in the first, "
            f"{len(theirs - ours)} only in the second."
        )
    starts = start_split(first), start_split(second)
    heights = tuple(_scaled(ladder, [r.fid for r in ladder.rungs]) for ladder in (first, second))
    rungs = []
    for number, rung in enumerate(first.rungs):
        other = int(np.argmin(np.abs(heights[1] - heights[0][number])))
        pair = rung, second.rungs[other]
        rungs.append(
            RungAgreement(
                rung=number,
                other_rung=other,
                height=float(heights[0][number]),
                other_height=float(heights[1][other]),
                jaccard_train=_jaccard(*(set(split.train_classes) for split in pair)),
                jaccard_test=_jaccard(*(set(split.test_classes) for split in pair)),
                jaccard_moved=_jaccard_moved(starts, pair),
                chance=_chance(pair, len(ours)),
            )
        )
    return LadderAgreement(
        labels=(first.fid_label(), second.fid_label()),
        same_start=starts[0].id == starts[1].id if starts[0] and starts[1] else None,
        curve_distance=_curve_distance(first, second),
        rungs=tuple(rungs),
        key_correlation=_key_correlation(starts[0], *features) if features and starts[0] else None,
    )


def start_split(ladder: Ladder) -> Split | None:
    """The split that the ladder's walk started from, which need not be a rung; None if unknown.

    A given start is recorded and a random one is drawn again; a start of groups is found from the
    first rung by the steps between them, which a ladder measured anew no longer holds. Imported
    ladders and pairs of collections have none.
    """
    settings = ladder.settings
    if settings.start_train:
        return Split(settings.start_train, settings.start_test)
    if settings.start != "random":
        return None
    if settings.by == "class":
        names = tuple(ladder.class_sizes)
        return random_split(names, train_fraction=settings.train_fraction, seed=settings.seed)
    return None if ladder.former else _walked_to_start(ladder)


def _walked_to_start(ladder: Ladder) -> Split | None:
    """Found from the first rung over swaps; after a removal, the side of a class is unknown."""
    start = [step.kind for step in ladder.trajectory].index("start")
    first = ladder.rung_steps[0]
    between = ladder.trajectory[min(start, first) + 1 : max(start, first) + 1]
    if any(step.removed for step in between):
        return None
    train, test = set(ladder.rungs[0].train_classes), set(ladder.rungs[0].test_classes)
    for step in between if first < start else between[::-1]:
        moves = step.to_test, step.to_train
        leaving, coming = map(set, moves if first < start else moves[::-1])
        train, test = train - leaving | coming, test - coming | leaving
    return Split(tuple(train), tuple(test))


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
    """Both trajectories at 101 even parts of their length, on the scale of their own FIDs."""
    parts = np.linspace(0, 1, 101)
    curves = []
    for ladder in (first, second):
        fids = _scaled(ladder, [step.fid for step in ladder.trajectory])
        curves.append(np.interp(parts, np.linspace(0, 1, len(fids)), fids))
    return float(np.sqrt(np.mean((curves[0] - curves[1]) ** 2)))


def _scaled(ladder: Ladder, fids: list[float]) -> Real:
    """FIDs on the scale where the ladder's trajectory spans [0, 1]."""
    along = [step.fid for step in ladder.trajectory]
    low, span = min(along), max(along) - min(along)
    values = np.asarray(fids, dtype=np.float64)
    return np.zeros_like(values) if span == 0 else (values - low) / span


def _jaccard_moved(starts: tuple[Split | None, ...], rungs: tuple[Split, ...]) -> float | None:
    moved = []
    for start, rung in zip(starts, rungs, strict=True):
        if start is None:
            return None
        left_train = set(start.train_classes) - set(rung.train_classes)
        moved.append(left_train | (set(start.test_classes) - set(rung.test_classes)))
    return _jaccard(*moved) if any(moved) else None


def _jaccard(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second)


def _chance(rungs: tuple[Split, Split], pool: int) -> float:
    """The Jaccard index at the mean overlap of random sets of these sizes, mean of both sides."""
    indices = []
    for side in ("train_classes", "test_classes"):
        first, second = (len(getattr(rung, side)) for rung in rungs)
        common = first * second / pool
        indices.append(common / (first + second - common))
    return sum(indices) / 2
