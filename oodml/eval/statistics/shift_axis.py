"""Where the rungs stand on a chart's x axis: by FID, by excess FID, or scaled to [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from oodml.errors import DataError, UsageError
from oodml.eval.statistics.published import PublishedStudy, published_names, published_study

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder

Row = TypeVar("Row", bound=Any)
AXES = ("fid", "excess", "scaled")
# The published FIDs are printed with two digits and differ from the files' by up to 0.4.
_SAME_RUNG = 0.5


@dataclass(frozen=True)
class ShiftAxis:
    """The `places` of the rungs by number, what stands below the axis, and the start split.

    `start` is where the split stands that the ladder was walked from, None if no rung is it.
    """

    label: str
    places: dict[int, float]
    start: float | None = None
    start_name: str = "start"

    def placed(self, rows: Sequence[Row]) -> list[Row]:
        """The rows (records with `rung` and `fid`) with the place of their rung as `fid`."""
        return [replace(row, fid=self.places[row.rung]) for row in rows]


def shift_axis(ladder: Ladder, x: str = "fid") -> ShiftAxis:
    """The axis of a ladder: `x` is "fid", "excess" (over random splits) or "scaled".

    Raises `DataError` if the ladder carries no excess.
    """
    if x not in AXES:
        raise UsageError(f"x axis {x!r}: allowed are {', '.join(AXES)}.")
    fids = {number: rung.fid for number, rung in enumerate(ladder.rungs)}
    label, places = ladder.fid_label(), fids
    if x == "excess":
        label = f"excess FID over random splits ({ladder.settings.level} level, "
        label += f"{ladder.features.backbone})"
        places = {number: _excess(ladder, number) for number in fids}
    if x == "scaled":
        label, places = "FID, scaled to [0, 1] over the rungs of its own ladder", scaled(fids)
    start = _start_rung(ladder)
    name = "default split" if study_of(ladder) else "start"
    return ShiftAxis(label, places, None if start is None else places[start], name)


def study_axis(study: PublishedStudy, x: str = "fid") -> ShiftAxis:
    """The axis of the published curves, whose FIDs have no null and so no excess."""
    if x == "excess":
        raise UsageError("the published FIDs come without a null, so they have no excess.")
    places = dict(enumerate(study.fids))
    label = "FID (class level, ResNet-50, as published)"
    if x == "scaled":
        label, places = "FID, scaled to [0, 1] over the rungs of its own ladder", scaled(places)
    return ShiftAxis(label, places, places[study.default], "default split")


def scaled(fids: dict[int, float]) -> dict[int, float]:
    """FIDs by rung, scaled to [0, 1]; a single rung stands at 0."""
    low, high = min(fids.values()), max(fids.values())
    return {rung: (fid - low) / ((high - low) or 1.0) for rung, fid in fids.items()}


def study_of(ladder: Ladder) -> PublishedStudy | None:
    """The published study whose FIDs a ladder carries; None for measured or other ladders."""
    if ladder.measured:
        return None
    for name in published_names():
        study = published_study(name)
        if all(
            any(abs(rung.fid - fid) < _SAME_RUNG for fid in study.fids) for rung in ladder.rungs
        ):
            return study
    return None


def _excess(ladder: Ladder, number: int) -> float:
    shift = ladder.rungs[number].shift
    if shift is None or shift.excess is None:
        raise DataError(
            f"rung {number} has no null to exceed; build the ladder with `oodml ladder build "
            "--null 20`, or leave --x out."
        )
    return shift.excess


def _start_rung(ladder: Ladder) -> int | None:
    """The rung that is the start split, or the default split of a published ladder."""
    study = study_of(ladder)
    if study is not None:
        fid = study.fids[study.default]
        near = [n for n, rung in enumerate(ladder.rungs) if abs(rung.fid - fid) < _SAME_RUNG]
        return near[0] if near else None
    if ladder.settings.start == "published":
        return None
    kinds = [ladder.trajectory[step].kind for step in ladder.rung_steps]
    return kinds.index("start") if "start" in kinds else None
