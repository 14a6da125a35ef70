"""Outlook: how far a grid has come, and how long the rest of it will take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from oodml.errors import DataError
from oodml.runs.store import Store

# Finished runs of one method whose times are looked at.
_LOOKED_AT = 5
# Throughput is that of the last minutes before the newest result.
WINDOW_SECONDS = 600.0


@dataclass(frozen=True)
class Outlook:
    """Counts of the runs of a grid, and the ids of those that are not done.

    `failed` runs will be tried again, `given_up` ones will not; `held` ones are being
    done by a live process; `missing` ones were never begun or were interrupted.
    """

    total: int
    done: int
    failed: tuple[str, ...]
    given_up: tuple[str, ...]
    held: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def to_go(self) -> int:
        """The runs that are still to be done."""
        return self.total - self.done - len(self.given_up)


def outlook(run_ids: Sequence[str], store: Store, retries: int) -> Outlook:
    """How far the runs have come, when runs that failed more than `retries` times are given up."""
    done = store.done_of(run_ids)
    begun = set(store.begun())
    failed, given_up, held, missing = [], [], [], []
    for run in run_ids:
        if run in done:
            continue
        tries = store.tries(run) if run in begun else None
        if run in begun and store.is_held(run):
            held.append(run)
        elif tries is None or not tries.count:
            missing.append(run)
        elif tries.count > retries:
            given_up.append(run)
        else:
            failed.append(run)
    return Outlook(
        len(run_ids), len(done), tuple(failed), tuple(given_up), tuple(held), tuple(missing)
    )


@dataclass(frozen=True)
class Cost:
    """Seconds of one worker for the runs to go, by the mean times of `known` finished runs.

    `unknown` methods have none yet and count as the mean of the others.
    """

    seconds: float
    known: int
    unknown: tuple[str, ...]


def cost_of(to_go: Iterable[str], labels: Mapping[str, str], store: Store) -> Cost | None:
    """What the runs to go will take; None before the first finished run.

    `labels` names the method, and the model where there are several, of every run by id.
    """
    times = _times(labels, store)
    means = {label: sum(own) / len(own) for label, own in times.items() if own}
    if not means:
        return None
    typical = sum(means.values()) / len(means)
    wanted = [labels[run] for run in to_go]
    return Cost(
        sum(means.get(label, typical) for label in wanted),
        sum(len(own) for own in times.values()),
        tuple(sorted(set(wanted) - set(means))),
    )


def _times(labels: Mapping[str, str], store: Store) -> dict[str, list[float]]:
    """The seconds of a few finished runs of every method."""
    by_label: dict[str, list[str]] = {label: [] for label in labels.values()}
    for run in store.done_of(labels):
        by_label[labels[run]].append(run)
    found: dict[str, list[float]] = {}
    for label, runs in by_label.items():
        seconds = (_seconds(run, store) for run in runs[:_LOOKED_AT])
        found[label] = [value for value in seconds if value is not None]
    return found


def _seconds(run: str, store: Store) -> float | None:
    try:
        record = store.record(run)
    except DataError:
        return None
    return record.seconds if record else None


def throughput(ended: Iterable[float]) -> float | None:
    """Runs a second over the last minutes, from the times at which runs ended; None for too few."""
    times = sorted(ended)
    recent = [time for time in times if time > times[-1] - WINDOW_SECONDS]
    if len(recent) < 2 or recent[-1] == recent[0]:
        return None
    return (len(recent) - 1) / (recent[-1] - recent[0])


def in_words(seconds: float) -> str:
    """A duration in rounded units: 40 s, 28 min, 3.5 h, 2.1 days."""
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= size * 1.5:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
