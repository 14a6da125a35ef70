"""`oodml status`, `table` and `plot`: what a directory of runs says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.cli.options import FILE, FOLDER, format_option, together
from oodml.cli.tables import Table
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.eval.summary import MethodScore, SummaryRow
    from oodml.splits.ladder import Ladder
    from oodml.store import RunRecord

metric_option = click.option(
    "--metric",
    default="recall_at_1",
    show_default=True,
    help="Metric of the runs; `oodml list metrics` names them.",
)
directory_argument = together(click.argument("directory", type=FOLDER), metric_option)


@click.command()
@click.argument("directory", type=FOLDER)
def status_command(directory: Path) -> None:
    """Say how many runs of DIRECTORY are done and which have failed."""
    from oodml.store import Store

    _check_directory(directory)
    store = Store(directory)
    runs = sorted(path.name for path in (directory / "runs").glob("*") if path.is_dir())
    done = [run for run in runs if store.is_done(run)]
    failed = [run for run in runs if run not in done and store.error(run) is not None]
    begun = len(runs) - len(done) - len(failed)
    click.echo(f"{len(done)} done, {len(failed)} failed, {begun} begun and not finished")
    for run in failed:
        last = (store.error(run) or "").strip().splitlines()[-1:]
        click.echo(f"failed {run}: {''.join(last)}")


@click.command()
@directory_argument
@format_option
def table_command(directory: Path, metric: str, table_format: str) -> None:
    """Print METRIC of every method and rung: mean and 95% interval over seeds."""
    ladder, records = open_results(directory)
    print_table(ladder, records, metric, table_format)


@click.command()
@directory_argument
@click.option(
    "-o",
    "--output",
    type=FILE,
    multiple=True,
    help="Chart to write, .png or .svg; repeatable  [default: DIRECTORY/METRIC.png and .svg]",
)
def plot_command(directory: Path, metric: str, output: tuple[Path, ...]) -> None:
    """Draw METRIC against FID, one line per method."""
    ladder, records = open_results(directory)
    paths = output or (directory / f"{metric}.png", directory / f"{metric}.svg")
    draw(ladder, records, metric, paths)
    for path in paths:
        click.echo(f"written to {path}")


def open_results(directory: Path) -> tuple[Ladder, list[RunRecord]]:
    """The ladder and the finished runs of a directory; `DataError` if either is missing."""
    from oodml.splits.ladder import Ladder
    from oodml.store import Store

    _check_directory(directory)
    records = Store(directory).records()
    if not records:
        raise DataError(f"{directory} holds no finished run yet; make some with `oodml run`.")
    return Ladder.load(directory / "ladder.json"), records


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise DataError(f"no directory {directory}; `oodml run LADDER -m METHOD -o DIR` makes one.")


def draw(ladder: Ladder, records: list[RunRecord], metric: str, paths: tuple[Path, ...]) -> None:
    """Write the chart of a metric against FID."""
    from oodml.eval.figures import plot_curves
    from oodml.eval.summary import summarize

    for path in paths:
        if path.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise UsageError(f"{path}: a chart's name ends in .png, .svg or .pdf.")
    rows = summarize(records, ladder, metric)
    controls = summarize(records, ladder, metric, controls=True) if ladder.controls else ()
    for path in paths:
        plot_curves(rows, path, metric=metric, fid_label=ladder.fid_label(), controls=controls)


def print_table(ladder: Ladder, records: list[RunRecord], metric: str, table_format: str) -> None:
    """Print a metric per method and rung, and each method's aggregated score."""
    from oodml.eval.summary import score_methods, summarize

    rows = summarize(records, ladder, metric)
    scores = {score.method: score for score in score_methods(rows, ladder)}
    controls = summarize(records, ladder, metric, controls=True) if ladder.controls else []
    if table_format in ("csv", "json"):
        click.echo(_long_table(rows, controls).render(table_format))
        return
    click.echo(_wide_table(ladder, rows, scores).render(table_format))
    if controls:
        click.echo("\nsize-matched controls: random splits of the rung's own classes, no shift\n")
        click.echo(_control_table(ladder, controls).render(table_format))
    click.echo()
    for line in _notes(ladder, scores, metric):
        click.echo(line)


def _wide_table(ladder: Ladder, rows: list[SummaryRow], scores: dict[str, MethodScore]) -> Table:
    cells = {(row.method, row.rung): row for row in rows}
    columns = ["method", *(f"FID {rung.fid:.1f}" for rung in ladder.rungs), "AGS", "seeds"]
    ranked = sorted(scores.values(), key=lambda s: -(s.mean if s.mean is not None else -1.0))
    body: list[list[Any]] = []
    for score in ranked:
        own = [cells.get((score.method, rung)) for rung in range(len(ladder.rungs))]
        counts = sorted({row.n for row in own if row is not None})
        body.append(
            [
                score.method,
                *(_interval(row) for row in own),
                _interval(score),
                "-".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]])),
            ]
        )
    return Table(columns, body)


def _control_table(ladder: Ladder, controls: list[SummaryRow]) -> Table:
    cells = {(row.method, row.rung): row for row in controls}
    columns = ["method", *(f"rung {rung}" for rung in range(len(ladder.rungs)))]
    return Table(
        columns,
        [
            [method, *(_interval(cells.get((method, rung))) for rung in range(len(ladder.rungs)))]
            for method in sorted({row.method for row in controls})
        ],
    )


def _interval(cell: SummaryRow | MethodScore | None) -> str:
    """`.712 ±.004`: mean and half-width of the 95% interval; `-` for a gap."""
    if cell is None or cell.mean is None:
        return "-"
    if cell.low is None or cell.high is None:
        return f"{cell.mean:.3f}"
    return f"{cell.mean:.3f} ±{(cell.high - cell.low) / 2:.3f}"


def _long_table(rows: list[SummaryRow], controls: list[SummaryRow]) -> Table:
    columns = ["method", "rung", "split", "fid", "n", "mean", "low", "high"]
    return Table(
        [*columns, "control"],
        [
            [*(getattr(row, name) for name in columns), row in controls]
            for row in [*rows, *controls]
        ],
    )


def _notes(ladder: Ladder, scores: dict[str, MethodScore], metric: str) -> list[str]:
    source = ladder.features
    notes = [
        f"{metric} on each rung's test classes, mean ±95% t-interval over seeds; no interval for "
        "a single seed.",
        f"AGS: trapezoid area under {metric} against FID, FID scaled to [0, 1] over the rungs.",
        f"{ladder.fid_label()}, {source.precision}, input: {source.preprocessing}.",
    ]
    for score in scores.values():
        if score.missing:
            gaps = ", ".join(f"rung {rung} seed {seed}" for rung, seed in score.missing[:4])
            more = f" and {len(score.missing) - 4} more" if len(score.missing) > 4 else ""
            notes.append(f"missing for {score.method}: {gaps}{more}.")
    return notes
