"""Which runs may stand in one table: the same data, the same ladder, the same measuring."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oodml.errors import DataError
from oodml.eval.statistics.series import Series, series_of
from oodml.runs.spec import SETTING_NAMES

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

# What must be equal in all runs of a table.
_SHARED = ("gallery_classes", "gallery_images", "protocol")
# FIDs of one split agree to rounding; those of another network or level do not come this near.
_SAME_FID = 0.01
logger = logging.getLogger("oodml")


def check_comparable(chosen: Sequence[tuple[RunRecord, int, Series]], ladder: Ladder) -> None:
    """Refuse, with a `DataError`, runs whose values must not be compared.

    That is: made on other data than the ladder's; a shift measured by another ruler, of another FID
    level, or of another size than the ladder's rung has; runs of one series, so of one method on
    one model, that differ in more than split and seed; runs measured on galleries of different
    sizes or by different protocols. Different models may stand beside each other, and embeddings
    made elsewhere too.
    """
    first: dict[Series, RunRecord] = {}
    for record, _, series in chosen:
        _check_data(record, ladder)
        _check_ruler(record, ladder)
        _check_shift(record, ladder)
        _check_settings(record, first.setdefault(series, record))
    _check_shared(list(first.values()), _SHARED)


def comparable_runs(
    records: Iterable[RunRecord], ladder: Ladder
) -> list[tuple[RunRecord, int, Series]]:
    """The finished plain runs on the ladder's rungs, each with its rung's number and its series.

    Runs on other splits are left out, with a warning, and so are matched references and, where
    others are there, runs on validation classes. Raises `DataError` as `check_comparable`.
    """
    known = _on_rungs(plain_runs(records), ladder)
    series = series_of(record.spec for record, _ in known)
    chosen = [(record, rung, series[record.id]) for record, rung in known]
    check_comparable(chosen, ladder)
    return chosen


def reference_runs(
    records: Iterable[RunRecord], ladder: Ladder
) -> list[tuple[RunRecord, int, Series]]:
    """The finished runs of matched references on the ladder's rungs, as `comparable_runs`.

    Their series is that of the plain run, whichever classes they were trained on.
    """
    own = [record for record in records if record.spec.is_reference]
    known = [(record, rung, record.spec.plain) for record, rung in _on_rungs(own, ladder)]
    series = series_of(plain for _, _, plain in known)
    check_comparable([(replace(r, spec=p), rung, series[p.id]) for r, rung, p in known], ladder)
    return [(record, rung, series[plain.id]) for record, rung, plain in known]


def plain_runs(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The runs without the matched references, which are measured on halves of the test classes.

    Runs on validation classes, which chose settings, are left out too where others are there.
    """
    plain = [record for record in records if not record.spec.is_reference]
    tested = [record for record in plain if record.spec.data.measured_on == "test"]
    return tested or plain


def _on_rungs(records: Iterable[RunRecord], ladder: Ladder) -> list[tuple[RunRecord, int]]:
    """The finished runs on the ladder's rungs; others are left out with a warning."""
    done = [record for record in records if record.status == "done"]
    placed = [(record, ladder.rung_of(record.spec.data.split)) for record in done]
    known = [(record, rung) for record, rung in placed if rung is not None]
    if len(known) < len(placed):
        logger.warning(
            "%d of %d runs are on splits of another ladder and were left out",
            len(placed) - len(known),
            len(placed),
        )
    return known


def _check_data(record: RunRecord, ladder: Ladder) -> None:
    if record.spec.data.fingerprint != ladder.features.fingerprint:
        raise DataError(
            f"run {record.id} was made on other data than the ladder: fingerprint "
            f"{record.spec.data.fingerprint}, the ladder's is {ladder.features.fingerprint}."
        )


def _check_ruler(record: RunRecord, ladder: Ladder) -> None:
    if record.ruler and record.ruler != ladder.features.network:
        raise DataError(
            f"the shift of run {record.id} was measured by {record.ruler}, this ladder's by "
            f"{ladder.features.network}; rulers are never mixed. Keep the runs of two ladders in "
            "two folders."
        )


def _check_shift(record: RunRecord, ladder: Ladder) -> None:
    split = ladder.split_of(record.spec.data.split)
    if not record.shift or split is None or split.shift is None:
        return
    level, fid = record.shift.get("level"), record.shift.get("fid")
    if level != split.shift.level:
        raise DataError(
            f"run {record.id} carries a shift of {level} level, the ladder's FIDs are of "
            f"{split.shift.level} level; the two are never mixed. Keep them in different folders."
        )
    if fid is None or not math.isclose(fid, split.shift.fid, rel_tol=_SAME_FID, abs_tol=1e-6):
        raise DataError(
            f"run {record.id} carries FID {fid}, the ladder has {split.shift.fid} for the same "
            "split: another network measured it. Keep the runs of two ladders in two folders."
        )


def _check_settings(record: RunRecord, other: RunRecord) -> None:
    # Of thousands of records nearly all are equal: compare whole specs before single settings.
    if record.spec.with_settings(split=other.spec.data.split, seed=other.spec.seed) == other.spec:
        return
    differing = _differing(record, other, SETTING_NAMES.keys() - {"split", "seed"})
    if differing:
        raise DataError(
            f"runs {other.id} and {record.id} are both {record.label!r} and differ in "
            f"{', '.join(differing)}. Keep runs of different settings in different folders."
        )


def _check_shared(records: Sequence[RunRecord], keys: Iterable[str]) -> None:
    for record in records[1:]:
        differing = _differing(record, records[0], keys)
        if differing:
            raise DataError(
                f"runs {records[0].id} ({records[0].label}) and {record.id} ({record.label}) "
                f"differ in {', '.join(differing)}, so their values cannot stand in one table. "
                "Keep them in different folders."
            )


def _differing(ours: RunRecord, theirs: RunRecord, keys: Iterable[str]) -> list[str]:
    pairs = [(key, theirs.spec.setting(key), ours.spec.setting(key)) for key in sorted(keys)]
    return [f"{key} ({_shown(old)} and {_shown(new)})" for key, old, new in pairs if old != new]


def _shown(value: Any) -> str:
    """A value in a message; a SHA-256 by its beginning."""
    text = str(value)
    return text[:16] if len(text) == 64 else text
