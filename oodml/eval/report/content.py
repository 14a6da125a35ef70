"""What a report holds: every number of the curves, pairs, few-shot episodes and runs, as JSON."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, astuple
from typing import TYPE_CHECKING, Any

from oodml import __version__
from oodml.errors import DataError, unknown_name
from oodml.eval.figures.style import line_styles, on_dark
from oodml.eval.report.gallery import boards
from oodml.eval.report.ladder import ladder_content
from oodml.eval.report.pictures import gallery_content
from oodml.eval.report.reference_gallery import reference_boards
from oodml.eval.report.transfer import lines_of, references_on, transfer_content
from oodml.eval.statistics.cautions import fid_cautions
from oodml.eval.statistics.comparable import plain_runs
from oodml.eval.statistics.comparisons import compare_methods, crossings
from oodml.eval.statistics.curves import SummaryRow, summarize
from oodml.eval.statistics.few_shot import FewShotRow, few_shot_gains
from oodml.eval.statistics.scores import method_trends, score_methods
from oodml.eval.statistics.series import Series
from oodml.runs.spec import SETTING_NAMES, default_of

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.features.features import Features
    from oodml.runs.record import RunRecord
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder

LOG = logging.getLogger("oodml")
# What runs of one method may differ in.
_OF_A_RUN = ("split", "seed", "trained_on", "null_draw")
# Counts of queries are no scores.
_COUNTS = ("queries", "queries_left_out", "queries_tied")


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
    every = store.records()
    records = _on_ladder(plain_runs(every), ladder)
    references = references_on(every, ladder)
    series = lines_of(records, references)
    lines = sorted(set(series.values()))
    run_numbers = {record.id: index for index, record in enumerate([*records, *references])}
    metrics = metrics_of(records, metric)
    galleries, pictures = gallery_content(
        boards(records, ladder, store, features),
        reference_boards(references, ladder, series, store),
        dataset,
        lines,
        run_numbers,
    )
    values = {
        "version": __version__,
        "source": ladder.source,
        "features": asdict(ladder.features),
        "fid_label": ladder.fid_label(),
        "level": ladder.settings.level,
        "cautions": fid_cautions(ladder),
        "metric": metric,
        "metrics": metrics,
        "methods": method_styles(lines),
        "transfer": transfer_content(references, ladder, metrics, series, run_numbers),
        **curves(records, ladder, metrics, series, run_numbers),
        **runs_content([*records, *references], ladder, series),
        "ladder": ladder_content(ladder, features, _groups(features, dataset)),
        "few_shot": few_shot_content(records, ladder, series, run_numbers),
        "gallery": galleries,
    }
    return values, pictures


def metrics_of(records: Sequence[RunRecord], metric: str) -> list[str]:
    """The metrics that all runs have, `metric` among them; `UsageError` or `DataError` if not."""
    everywhere = set.intersection(*(set(record.metrics) for record in records)) - set(_COUNTS)
    if metric in everywhere:
        return sorted(everywhere, key=_natural)
    lacking = [record.id for record in records if metric not in record.metrics]
    if metric in _COUNTS or len(lacking) == len(records):
        raise unknown_name("metric", metric, everywhere)
    raise DataError(
        f"{len(lacking)} of {len(records)} runs have no {metric}: {', '.join(lacking[:5])}. "
        f"All of them have: {', '.join(sorted(everywhere, key=_natural)) or 'none'}."
    )


def method_styles(lines: Sequence[Series]) -> list[dict[str, Any]]:
    """Name, method, model, colours on a light and a dark page, marker and dashes of every line."""
    return [
        {
            "name": series.name,
            "method": series.method,
            "backbone": series.backbone,
            "light": style.color,
            "dark": on_dark(style.color),
            "marker": str(style.marker),
            "dashes": style.dashes,
            "pale": style.pale,
        }
        for series, style in line_styles(lines).items()
    ]


def curves(
    records: Sequence[RunRecord],
    ladder: Ladder,
    metrics: Sequence[str],
    series: Mapping[str, Series],
    run_numbers: dict[str, int],
) -> dict[str, Any]:
    """Cells (method, rung, runs) and per metric the mean and interval of each.

    `values[metric][i]` is `[mean, low, high]` of `cells[i]`; `scores[metric]` the aggregated
    scores by method, each with what is `lost` from the easiest to the hardest rung; `pairs[metric]`
    the methods two at a time. Runs are numbers into the report's list of runs.
    """
    number = _numbers(series)
    runs = {(series[r.id], r.spec.data.split, r.spec.seed): run_numbers[r.id] for r in records}
    tables = {metric: _rows(records, ladder, metric) for metric in metrics}
    first = tables[metrics[0]]
    return {
        "cells": [
            {
                "method": number[row.series],
                "rung": row.rung,
                "runs": [runs[row.series, row.split, seed] for seed in row.seeds],
            }
            for row in first
        ],
        "values": {
            metric: [[row.mean, row.low, row.high] for row in rows]
            for metric, rows in tables.items()
        },
        "scores": {metric: _scores(rows, ladder, number) for metric, rows in tables.items()},
        "pairs": {metric: pairs_content(rows, number) for metric, rows in tables.items()},
    }


def pairs_content(rows: Sequence[SummaryRow], number: Mapping[Series, int]) -> dict[str, Any]:
    """Every two methods of `compared`, and the `crossings` that their intervals allow to state.

    Methods are given by their `number`; a difference is `[mean, low, high]`, of `first` minus
    `second`.
    """
    return {
        "compared": [
            {
                "first": number[each.first],
                "second": number[each.second],
                "difference": astuple(each.difference),
                "p": each.p_holm,
                "rungs": each.rungs,
                "seeds": each.seeds,
                "left_out": each.left_out,
                "verdict": each.verdict,
            }
            for each in compare_methods(rows)
        ],
        "crossings": [
            {
                "before": number[each.before],
                "after": number[each.after],
                "fid": each.fid,
                "low": each.low,
                "high": each.high,
            }
            for each in crossings(rows)
        ],
    }


def few_shot_content(
    records: Sequence[RunRecord],
    ladder: Ladder,
    series: Mapping[str, Series],
    run_numbers: dict[str, int],
) -> dict[str, Any] | None:
    """Cells (method, rung, shots, episodes, left_out, runs) and per metric their `values`.

    `values[metric][i]` holds `zero`, `few`, `gain` and `relative` of `cells[i]`, each
    `[mean, low, high]`, or None for a relative gain over 0. None if no run was adapted.
    """
    metrics = _metrics(records)
    tables = {metric: few_shot_gains(records, ladder, metric) for metric in metrics}
    if not metrics or not tables[metrics[0]]:
        return None
    rows = tables[metrics[0]]
    runs, number = _runs(records, ladder, series, run_numbers), _numbers(series)
    return {
        "shots": sorted({row.shots for row in rows}),
        "metrics": metrics,
        "cells": [
            {
                "method": number[row.series],
                "rung": row.rung,
                "shots": row.shots,
                "episodes": row.episodes,
                "left_out": row.left_out,
                "runs": runs[row.series, row.rung, row.shots],
            }
            for row in rows
        ],
        "values": {metric: [_values(row) for row in own] for metric, own in tables.items()},
    }


def runs_content(
    records: Sequence[RunRecord], ladder: Ladder, series: Mapping[str, Series]
) -> dict[str, Any]:
    """`runs` in the records' order; shared `settings` and `environments` are listed once.

    `training_settings` names those that a run without training does not use. A run's `settings` and
    `environment` are numbers into those lists. Settings are the spec without split, seed,
    `trained_on` and `null_draw`, which each run has for itself; `defaults` are those of a bare
    spec.
    """
    number = _numbers(series)
    places = {split.id: rung for rung, split in enumerate(ladder.rungs)}
    settings: dict[str, int] = {}
    environments: dict[str, int] = {}
    runs = [
        {
            "id": record.id,
            "method": number[series[record.id]],
            "rung": places[record.spec.data.split],
            "split": record.spec.data.split,
            "seed": record.spec.seed,
            "trained_on": record.spec.data.trained_on,
            "null_draw": record.spec.data.null_draw,
            "seconds": record.seconds,
            "metrics": plain(record.metrics),
            "training": plain(record.training),
            "geometry": plain(record.geometry),
            "settings": _shared(settings, _settings(record)),
            "environment": _shared(environments, record.environment),
        }
        for record in records
    ]
    return {
        "runs": runs,
        "defaults": _defaults(),
        "training_settings": [
            name
            for name, (part, _) in SETTING_NAMES.items()
            if part == "training" or name == "embedding_dim"
        ],
        "settings": [json.loads(text) for text in settings],
        "environments": [json.loads(text) for text in environments],
    }


def plain(value: Any) -> Any:
    """The value with None in place of numbers that are not finite, which JSON lacks."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def _numbers(series: Mapping[str, Series]) -> dict[Series, int]:
    """The place of every series in the report's list of lines."""
    return {line: place for place, line in enumerate(sorted(set(series.values())))}


def _groups(features: Features | None, dataset: Dataset | None) -> dict[str, str] | None:
    for source in (features, dataset):
        if source is not None and source.groups is not None:
            return dict(zip(source.class_names, source.groups, strict=True))
    return None


def _natural(metric: str) -> tuple[str, int]:
    """recall_at_8 before recall_at_10."""
    stem, _, cutoff = metric.rpartition("_")
    return (stem, int(cutoff)) if cutoff.isdigit() else (metric, 0)


def _rows(records: Sequence[RunRecord], ladder: Ladder, metric: str) -> list[SummaryRow]:
    for record in records:
        if not math.isfinite(record.metrics[metric]):
            raise DataError(f"{metric} of run {record.id} is {record.metrics[metric]}.")
    return summarize(records, ladder, metric)


def _scores(
    rows: Sequence[SummaryRow], ladder: Ladder, number: Mapping[Series, int]
) -> list[dict[str, Any]]:
    trends = method_trends(rows, ladder)
    lost = {trend.series: trend.lost and astuple(trend.lost) for trend in trends}
    return [
        {
            "method": number[score.series],
            "n": score.n,
            "mean": score.mean,
            "low": score.low,
            "high": score.high,
            "missing": [list(pair) for pair in score.missing],
            "lost": lost[score.series],
        }
        for score in score_methods(rows, ladder)
    ]


def _runs(
    records: Sequence[RunRecord],
    ladder: Ladder,
    series: Mapping[str, Series],
    run_numbers: dict[str, int],
) -> dict[tuple[Series, int, int], list[int]]:
    """The numbers of the runs behind each series, rung and number of shots, by seed."""
    found: dict[tuple[Series, int, int], list[int]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.spec.seed):
        rung = ladder.rung_of(record.spec.data.split)
        for shots in record.few_shot if rung is not None else ():
            found[series[record.id], rung or 0, int(shots)].append(run_numbers[record.id])
    return found


def _values(row: FewShotRow) -> dict[str, Any]:
    return {
        "zero": astuple(row.zero_shot),
        "few": astuple(row.few_shot),
        "gain": astuple(row.gain),
        "relative": None if row.relative_gain is None else astuple(row.relative_gain),
    }


def _metrics(records: Sequence[RunRecord]) -> list[str]:
    """The metrics that all episodes have on both sides; counts are no scores."""
    found = [
        set(episode["few_shot"]) & set(episode["zero_shot"])
        for record in records
        for entry in record.few_shot.values()
        for episode in entry["episodes"]
    ]
    names = set.intersection(*found) if found else set[str]()
    return sorted(name for name in names if not name.startswith("queries"))


def _settings(record: RunRecord) -> dict[str, Any]:
    values = record.spec.settings()
    return {key: plain(value) for key, value in values.items() if key not in _OF_A_RUN}


def _defaults() -> dict[str, Any]:
    defaults = {name: default_of(name) for name in SETTING_NAMES if name != "seed"}
    return {name: value for name, value in defaults.items() if value is not MISSING}


def _shared(known: dict[str, int], value: Any) -> int:
    """The place of a value in a list where equal ones stand once."""
    return known.setdefault(json.dumps(value, default=str), len(known))
