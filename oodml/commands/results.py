"""The chart and the table of a directory of runs that come first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import FOLDER, together
from oodml.commands.tables import Table
from oodml.commands.terminal import echo
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.eval.statistics.scores import MethodScore
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

metric_option = click.option(
    "--metric",
    default="recall_at_1",
    show_default=True,
    help="Metric of the runs; `oodml list metrics` names them.",
)
directory_argument = together(click.argument("directory", type=FOLDER), metric_option)


def open_results(directory: Path) -> tuple[Ladder, list[RunRecord]]:
    """The ladder and the finished runs of a directory; `DataError` if either is missing."""
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder

    check_directory(directory)
    records = Store(directory).records()
    if not records:
        raise DataError(f"{directory} holds no finished run yet; make some with `oodml run`.")
    return Ladder.load(directory / "ladder.json"), records


def check_directory(directory: Path) -> None:
    """`DataError` unless the directory is there."""
    if not directory.is_dir():
        raise DataError(f"no directory {directory}; `oodml run LADDER -m METHOD -o DIR` makes one.")


def draw(ladder: Ladder, records: list[RunRecord], metric: str, paths: Sequence[Path]) -> None:
    """Write the chart of a metric against FID."""
    from oodml.eval.figures.curves import plot_curves, shift_axis
    from oodml.eval.statistics.curves import summarize

    check_charts(paths)
    axis = shift_axis(ladder)
    rows = summarize(records, ladder, metric)
    for path in paths:
        plot_curves(
            rows,
            path,
            metric=metric,
            fid_label=axis.label,
            start=axis.start,
            start_name=axis.start_name,
        )


def check_charts(paths: Sequence[Path]) -> None:
    """`UsageError` unless every name is that of a chart, before any of them is drawn."""
    for path in paths:
        if path.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise UsageError(f"{path}: a chart's name ends in .png, .svg or .pdf.")


def print_table(ladder: Ladder, records: list[RunRecord], metric: str, table_format: str) -> None:
    """Print a metric per method and rung, and each method's aggregated score."""
    from oodml.eval.statistics.curves import summarize
    from oodml.eval.statistics.scores import score_methods

    rows = summarize(records, ladder, metric)
    if not rows:
        raise DataError(
            f"none of {len(records)} runs is on the rungs of this ladder; give the directory of "
            "its own runs."
        )
    scores = {score.method: score for score in score_methods(rows, ladder)}
    if table_format in ("csv", "json"):
        echo(long_table(rows).render(table_format), exact=True)
        return
    fids = [rung.fid for rung in ladder.rungs]
    echo(wide_table(fids, rows, scores).render(table_format))
    echo()
    for line in _notes(ladder, scores, metric):
        echo(words_beside(line, table_format))


def words_beside(text: str, table_format: str) -> str:
    """A line that stands beside a table: in LaTeX a comment, so that the output compiles."""
    return f"% {text}" if table_format == "latex" else text


def wide_table(
    fids: Sequence[float], rows: Sequence[SummaryRow], scores: Mapping[str, MethodScore]
) -> Table:
    """One row a method, best aggregated score first, and one column a rung."""
    cells = {(row.method, row.rung): row for row in rows}
    columns = ["method", *(f"FID {fid:.1f}" for fid in fids), "AGS", "seeds"]
    ranked = sorted(scores.values(), key=lambda s: -(s.mean if s.mean is not None else -1.0))
    body: list[list[Any]] = []
    for score in ranked:
        own = [cells.get((score.method, rung)) for rung in range(len(fids))]
        counts = sorted({row.n for row in own if row is not None})
        body.append(
            [
                score.method,
                *(shown_interval(row) for row in own),
                shown_interval(score),
                "-".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]])),
            ]
        )
    return Table(columns, body)


def shown_interval(cell: SummaryRow | MethodScore | None) -> str:
    """`0.712 ±0.004`: mean and half-width of the 95% interval; `-` for a gap."""
    if cell is None or cell.mean is None:
        return "-"
    if cell.low is None or cell.high is None:
        return f"{cell.mean:.3f}"
    return f"{cell.mean:.3f} ±{(cell.high - cell.low) / 2:.3f}"


def long_table(rows: Sequence[SummaryRow]) -> Table:
    """One row per method and rung, with the interval's ends."""
    columns = ["method", "rung", "split", "fid", "n", "mean", "low", "high"]
    return Table(columns, [[getattr(row, name) for name in columns] for row in rows])


def _notes(ladder: Ladder, scores: dict[str, MethodScore], metric: str) -> list[str]:
    source = ladder.features
    notes = [
        f"{metric} on each rung's test classes, mean ±95% t-interval over seeds; no interval for "
        "a single seed.",
        f"AGS: trapezoid area under {metric} against FID, FID scaled to [0, 1] over the rungs.",
        f"{ladder.fid_label()}, {source.precision}, input: {source.preprocessing}.",
    ]
    return notes + gap_notes(scores.values())


def gap_notes(scores: Iterable[MethodScore]) -> list[str]:
    """One line per method that lacks runs, naming the first of them."""
    notes = []
    for score in scores:
        if score.missing:
            gaps = ", ".join(f"rung {rung} seed {seed}" for rung, seed in score.missing[:4])
            more = f" and {len(score.missing) - 4} more" if len(score.missing) > 4 else ""
            notes.append(f"missing for {score.method}: {gaps}{more}.")
    return notes
