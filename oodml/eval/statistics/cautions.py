"""What a reader must know before believing a table, a chart or a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder

TRAINING_ONLY = (
    "intervals over seeds cover the randomness of training on this ladder, not the choice of its "
    "classes."
)
# With fewer classes a side neither FID nor its excess estimates the shift well (docs/shift.md).
FEW_CLASSES = 100


def fid_cautions(ladder: Ladder) -> list[str]:
    """Whether the ladder's FIDs are mostly null, and whether its sides have few classes."""
    return [words for words in (_mostly_null(ladder), _few_classes(ladder)) if words]


def axis_notes(ladder: Ladder, x: str = "fid") -> list[str]:
    """The same in few words, for lines below the name of a chart's axis `x`."""
    span, sizes = null_span(ladder), _side_sizes(ladder)
    notes = []
    if x == "fid" and span is not None:
        notes.append(f"random splits of the same sizes: {span[0]:.1f} to {span[1]:.1f}")
    if min(sizes) < FEW_CLASSES:
        notes.append(f"only {min(sizes)} to {max(sizes)} classes a side")
    return notes


def null_span(ladder: Ladder) -> tuple[float, float, float, float] | None:
    """Null and excess of the easiest and of the hardest rung, where the null is most of both FIDs.

    As (null, null, excess, excess); None elsewhere, and for a ladder without a null.
    """
    ends = [ladder.rungs[0].shift, ladder.rungs[-1].shift]
    nulls = [shift.null_mean for shift in ends if shift and shift.null_mean is not None]
    if len(nulls) < 2:
        return None
    fids = ladder.rungs[0].fid, ladder.rungs[-1].fid
    if any(null <= fid / 2 for null, fid in zip(nulls, fids, strict=True)):
        return None
    return nulls[0], nulls[1], fids[0] - nulls[0], fids[1] - nulls[1]


def _mostly_null(ladder: Ladder) -> str | None:
    span = null_span(ladder)
    if span is None:
        return None
    null, last_null, excess, last_excess = span
    return (
        f"FID {ladder.rungs[0].fid:.1f} to {ladder.rungs[-1].fid:.1f} is mostly null: random "
        f"splits of the same sizes have {null:.1f} to {last_null:.1f}. Compare rungs by excess "
        f"FID, {excess:.1f} to {last_excess:.1f}."
    )


def _few_classes(ladder: Ladder) -> str | None:
    sizes = _side_sizes(ladder)
    if min(sizes) >= FEW_CLASSES:
        return None
    return (
        f"{min(sizes)} to {max(sizes)} classes a side: below {FEW_CLASSES}, the number of classes "
        "itself changes FID, and excess is no unbiased estimate of the shift."
    )


def _side_sizes(ladder: Ladder) -> list[int]:
    return [len(side) for rung in ladder.rungs for side in (rung.train_classes, rung.test_classes)]
