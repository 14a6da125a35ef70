"""`oodml status`: how many runs of a directory are done, running, failed and missing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import FOLDER, RETRIES, Number, text_or_json_option
from oodml.commands.results import check_directory
from oodml.commands.tables import echo

if TYPE_CHECKING:
    from oodml.runs.store import Store

# Failed runs that are named; the rest are counted.
_NAMED = 20


@click.command()
@click.argument("directory", type=FOLDER)
@click.option("--watch", is_flag=True, help="Refresh until the grid is finished.")
@click.option("--every", type=Number(0.1), default=5.0, help="Seconds between refreshes.")
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=RETRIES,
    help="Retries after which `oodml run` gives a run up.",
)
@text_or_json_option
def status_command(
    directory: Path, watch: bool, every: float, retries: int, text_format: str
) -> None:
    """Count the runs done, running, failed and missing.

    Works on a directory that is being filled, also from another machine; it writes nothing.
    """
    from oodml.runs.store import Store

    check_directory(directory)
    store = Store(directory)
    while True:
        figures = figures_of(store, retries)
        if watch and text_format == "text":
            click.clear()
        shown = json.dumps(figures) if text_format == "json" else "\n".join(_lines(figures))
        echo(shown)
        if not watch or figures["to_go"] == 0:
            return
        time.sleep(every)


def figures_of(store: Store, retries: int) -> dict[str, Any]:
    """The counts, the throughput in runs a minute, the seconds left, and the failed runs."""
    from oodml.runs.outlook import outlook, throughput

    asked_for = store.asked_for()
    runs = sorted({*asked_for, *store.begun()})
    now = outlook(runs, store, retries)
    rate = throughput(store.done_of(runs).values())
    shown = [*now.given_up, *now.failed]
    return {
        "runs": now.total,
        "done": now.done,
        "running": len(now.held),
        "failed": len(now.failed),
        "given_up": len(now.given_up),
        "missing": len(now.missing),
        "to_go": now.to_go,
        "runs_per_minute": None if rate is None else round(rate * 60, 3),
        "seconds_left": None if rate is None else round(now.to_go / rate, 1),
        "errors": [
            {"run": run, "method": asked_for.get(run, ""), "error": _last_line(store, run)}
            for run in shown[:_NAMED]
        ],
    }


def _last_line(store: Store, run: str) -> str:
    return "".join((store.error(run) or "").strip().splitlines()[-1:])


def _lines(figures: dict[str, Any]) -> Sequence[str]:
    from oodml.runs.outlook import in_words

    given_up = f", {figures['given_up']} given up" if figures["given_up"] else ""
    lines = [
        f"{figures['runs']} runs: {figures['done']} done, {figures['running']} running, "
        f"{figures['failed']} failed{given_up}, {figures['missing']} missing"
    ]
    if figures["to_go"] and figures["runs_per_minute"]:
        lines.append(
            f"{figures['runs_per_minute']:.3g} runs a minute of late; about "
            f"{in_words(figures['seconds_left'])} left at this pace"
        )
    lines += [
        " ".join(filter(None, ["failed", each["run"], each["method"]])) + f": {each['error']}"
        for each in figures["errors"]
    ]
    more = figures["failed"] + figures["given_up"] - len(figures["errors"])
    return [*lines, *([f"and {more} more"] if more > 0 else [])]
