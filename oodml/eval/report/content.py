"""Everything that a report shows, as plain JSON values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from oodml import __version__
from oodml.errors import DataError
from oodml.eval.report.curves import curves, method_styles, metrics_of
from oodml.eval.report.few_shot import few_shot_content
from oodml.eval.report.gallery import boards
from oodml.eval.report.gallery_content import gallery_content
from oodml.eval.report.ladder import ladder_content
from oodml.eval.report.runs import runs_content

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.features import Features
    from oodml.runs.record import RunRecord
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder

LOG = logging.getLogger("oodml")


def report_content(
    store: Store,
    ladder: Ladder,
    *,
    metric: str = "recall_at_1",
    features: Features | None = None,
    dataset: Dataset | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The report's values, and its pictures as data URIs, which the values name by number.

    Raises `DataError` if no finished run is on the ladder's splits or runs cannot be compared,
    `UsageError` if no run has the metric.
    """
    records = _on_ladder(store.records(), ladder)
    methods = sorted({record.label for record in records})
    run_numbers = {record.id: index for index, record in enumerate(records)}
    metrics = metrics_of(records, metric)
    galleries, pictures = gallery_content(
        boards(records, ladder, store, features), dataset, methods, run_numbers
    )
    values = {
        "version": __version__,
        "source": ladder.source,
        "features": asdict(ladder.features),
        "fid_label": ladder.fid_label(),
        "level": ladder.settings.level,
        "metric": metric,
        "metrics": metrics,
        "methods": method_styles(methods),
        **curves(records, ladder, metrics, methods, run_numbers),
        **runs_content(records, ladder, methods),
        "ladder": ladder_content(ladder, features, _groups(features, dataset)),
        "few_shot": few_shot_content(records, ladder, methods, run_numbers),
        "gallery": galleries,
    }
    return values, pictures


def _on_ladder(records: Sequence[RunRecord], ladder: Ladder) -> list[RunRecord]:
    done = [record for record in records if record.status == "done"]
    known = [record for record in done if ladder.split_of(record.spec.data.split) is not None]
    if not any(ladder.rung_of(record.spec.data.split) is not None for record in known):
        raise DataError("nothing to report: no finished runs on the rungs of this ladder.")
    if len(known) < len(done):
        LOG.warning(
            "%d of %d runs are on splits of another ladder and were left out",
            len(done) - len(known),
            len(done),
        )
    return known


def _groups(features: Features | None, dataset: Dataset | None) -> dict[str, str] | None:
    for source in (features, dataset):
        if source is not None and source.groups is not None:
            return dict(zip(source.class_names, source.groups, strict=True))
    return None
