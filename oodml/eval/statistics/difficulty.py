"""How much of the fall of embeddings made elsewhere is difficulty, by the matched runs of a method.

Embeddings have no matched run of their own, so what the shift costs them cannot be measured. The
difficulty of a rung can: it is what a reference method loses there although it was trained on
matched classes (`oodml.eval.statistics.transfer`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oodml.errors import DataError, UsageError
from oodml.eval.statistics.comparable import reference_runs
from oodml.eval.statistics.curves import Cells, check_metric
from oodml.eval.statistics.intervals import Array, Estimate, t_estimate
from oodml.eval.statistics.series import EMBEDDINGS, Series

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder


@dataclass(frozen=True)
class DifficultyRow:
    """Embeddings beside a matched method on the same halves of a rung: means over seeds.

    `fall` is what the embeddings lose from rung 0 to here, `difficulty` what the matched method
    loses, and `beyond` = fall - difficulty, all paired by seed, with 95% t-intervals.
    """

    rung: int
    fid: float
    embeddings: Estimate
    matched: Estimate
    fall: Estimate
    difficulty: Estimate
    beyond: Estimate


def matched_seeds(records: Iterable[RunRecord], ladder: Ladder, method: str) -> list[int]:
    """The seeds with which a method has a matched run on every rung.

    `method` is a label, `margin`, or `margin @ resnet50` where the runs are of several models.
    Raises `UsageError` where that names none or two of the runs' methods, or no seed is complete.
    """
    return _seeds(_matched(records, ladder, method, "recall_at_1"), ladder, method)


def falls_beyond_difficulty(
    records: Iterable[RunRecord],
    ladder: Ladder,
    embeddings: str,
    method: str,
    metric: str = "recall_at_1",
) -> list[DifficultyRow]:
    """One row a rung: the fall of `embeddings` on halves beside the difficulty by `method`.

    Seeds that both have on every rung are used. Raises as `matched_seeds`, and `DataError` if the
    embeddings have been measured on no such halves.
    """
    records = list(records)
    matched = _matched(records, ladder, method, metric)
    own = _cells(records, ladder, metric, "nothing", Series(embeddings, EMBEDDINGS))
    rungs = range(len(ladder.rungs))
    seeds = [seed for seed in _seeds(matched, ladder, method) if all(seed in own[r] for r in rungs)]
    if not seeds:
        raise DataError(f"{embeddings} was not measured on the halves of the runs of {method}.")
    values: dict[str, Array] = {
        name: np.array([[cells[rung][seed] for rung in rungs] for seed in seeds])
        for name, cells in (("embeddings", own), ("matched", matched))
    }
    values["fall"] = values["embeddings"][:, :1] - values["embeddings"]
    values["difficulty"] = values["matched"][:, :1] - values["matched"]
    values["beyond"] = values["fall"] - values["difficulty"]
    return [
        DifficultyRow(
            rung,
            ladder.rungs[rung].fid,
            **{name: t_estimate(matrix[:, rung].tolist()) for name, matrix in values.items()},
        )
        for rung in rungs
    ]


def _matched(records: Iterable[RunRecord], ladder: Ladder, method: str, metric: str) -> Cells:
    """The values of a method's matched runs, by rung and seed."""
    runs = [
        (record, rung, series)
        for record, rung, series in reference_runs(records, ladder)
        if record.spec.data.trained_on == "matched" and not record.spec.data.null_draw
    ]
    every = sorted({series for _, _, series in runs})
    named = [series for series in every if method in (series.name, series.method)]
    if len(named) != 1:
        known = ", ".join(series.name for series in every) or "none"
        found = "two models have" if named else "no method has"
        raise UsageError(
            f"reference {method!r}: {found} matched runs of that name (there are: {known}). Make "
            f"some with `oodml run LADDER -m {method} --reference -o DIR`, or name one of these."
        )
    check_metric(runs, metric)
    return _by_rung(runs, named[0], metric)


def _cells(
    records: Iterable[RunRecord], ladder: Ladder, metric: str, side: str, wanted: Series
) -> Cells:
    runs = reference_runs((r for r in records if r.spec.data.trained_on == side), ladder)
    return _by_rung(runs, wanted, metric)


def _by_rung(runs: Iterable[tuple[RunRecord, int, Series]], wanted: Series, metric: str) -> Cells:
    cells: Cells = defaultdict(dict)
    for record, rung, series in runs:
        if series == wanted:
            cells[rung][record.spec.seed] = record.metrics[metric]
    return cells


def _seeds(cells: Cells, ladder: Ladder, method: str) -> list[int]:
    """The seeds that every rung has."""
    seeds = set.intersection(*(set(cells.get(rung, {})) for rung in range(len(ladder.rungs))))
    if not seeds:
        raise UsageError(
            f"reference {method!r}: no seed has its matched run on every rung; do the rest with "
            f"`oodml run LADDER -m {method} --reference -o DIR`."
        )
    return sorted(seeds)
