"""The ladder for the report: class means in a plane, sides, groups and moves of every rung."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from oodml.eval.figures.class_plane import project
from oodml.eval.figures.ladder import moves
from oodml.fid.class_moments import ClassMoments

if TYPE_CHECKING:
    from oodml.features.features import Features
    from oodml.splits.ladder import Ladder
    from oodml.splits.split import Split

# Coordinates are whole numbers up to this, finer than a screen shows.
GRID = 2000
TRAIN, TEST, AWAY = "0", "1", "2"


def ladder_content(
    ladder: Ladder, features: Features | None, groups: dict[str, str] | None
) -> dict[str, Any]:
    """`classes` of the pool once, and every rung with a side (train, test, away) for each.

    The plane is that of `project`, fitted to the means of all classes; `classes.plane` is None
    without features, `classes.groups` without groups. `start` is the split that the walk was
    started from: its `fid`, its `rung` if it is one, and the last rung not `after` it, -1 for none.
    """
    names = sorted(ladder.class_sizes)
    place = {name: index for index, name in enumerate(names)}
    moved: list[dict[str, list[int]]] = [{} for _ in ladder.rungs]
    for rung, kind, moving in moves(ladder):
        moved[rung][kind] = [place[name] for name in moving]
    return {
        "classes": {
            "names": names,
            "plane": None if features is None else _plane(features, names),
            "groups": None if groups is None else _groups(groups, names),
        },
        "start": _start(ladder),
        "rungs": [
            {
                **_measured(rung),
                "train": _side(ladder, rung.train_classes),
                "test": _side(ladder, rung.test_classes),
                "sides": _sides(rung, place),
                "moved": moved[number],
            }
            for number, rung in enumerate(ladder.rungs)
        ],
    }


def _start(ladder: Ladder) -> dict[str, Any] | None:
    kinds = [step.kind for step in ladder.trajectory]
    if ladder.settings.start == "published" or "start" not in kinds:
        return None
    step = kinds.index("start")
    rung = ladder.rung_steps.index(step) if step in ladder.rung_steps else None
    after = sum(each <= step for each in ladder.rung_steps) - 1
    return {"fid": ladder.trajectory[step].fid, "rung": rung, "after": after}


def _measured(split: Split) -> dict[str, Any]:
    names = ("null_mean", "null_sd", "null_draws", "excess", "z", "mean_term", "covariance_term")
    values = {name: getattr(split.shift, name, None) for name in names}
    return {"split": split.id, "fid": split.fid, "measured": split.shift is not None, **values}


def _side(ladder: Ladder, names: tuple[str, ...]) -> dict[str, int | None]:
    return {"classes": len(names), "images": ladder.images(names)}


def _sides(rung: Split, place: dict[str, int]) -> str:
    sides = [AWAY] * len(place)
    for side, names in ((TRAIN, rung.train_classes), (TEST, rung.test_classes)):
        for name in names:
            sides[place[name]] = side
    return "".join(sides)


def _plane(features: Features, names: list[str]) -> dict[str, Any]:
    statistics = ClassMoments.from_features(features)
    plane, labels = project(statistics.means, "pca")
    plane = plane[statistics.indices(names)]
    low = plane.min(axis=0)
    scale = GRID / max(float((plane.max(axis=0) - low).max()), np.finfo(float).tiny)
    grid = np.rint((plane - low) * scale).astype(int)
    return {"x": grid[:, 0].tolist(), "y": grid[:, 1].tolist(), "axes": list(labels)}


def _groups(groups: dict[str, str], names: list[str]) -> dict[str, Any]:
    """The largest group first; of every class the number of its group."""
    sizes = Counter(groups[name] for name in names)
    order = sorted(sizes, key=lambda group: (-sizes[group], group))
    number = {group: index for index, group in enumerate(order)}
    return {"names": order, "of": [number[groups[name]] for name in names]}
