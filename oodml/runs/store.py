"""Store: a directory of runs that is the queue, the cache and the database at once."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oodml.errors import DataError
from oodml.files import (
    atomic_write,
    canonical_json,
    digest,
    locked,
    read_file,
    read_json,
    write_json,
)
from oodml.records import checked_value
from oodml.runs.claim import Claim, ClaimWatch
from oodml.runs.networks import Network, network_of, run_names
from oodml.runs.record import SCHEMA, RunRecord
from oodml.runs.spec import RunSpec

_RUN_ID = re.compile("[0-9a-f]{12}")
_TRY = re.compile(r"^== try \d+: (failed|killed) ==$", re.MULTILINE)
log = logging.getLogger("oodml")


@dataclass(frozen=True)
class Tries:
    """How often a run has failed; `killed` if its process ended under it the last time."""

    count: int = 0
    killed: bool = False


class Store:
    """A directory of runs; several processes may work in it at the same time."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._watch = ClaimWatch()

    def run_directory(self, run_id: str) -> Path:
        """Where one run keeps its record, log, checkpoint, claim and traceback."""
        return self.directory / "runs" / run_id

    def record(self, run_id: str) -> RunRecord | None:
        """The finished run with this id, or None; `DataError` naming a broken record."""
        path = self.run_directory(run_id) / "run.json"
        if not path.exists():
            return None
        found = read_json(path, "run record")
        try:
            record = RunRecord.from_json(found)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        if record.id != run_id:
            raise DataError(f"{path} is the record of run {record.id}; name its folder so.")
        return record

    def records(self) -> list[RunRecord]:
        """All finished runs, by id; broken records are logged by name and left out."""
        found = []
        for path in sorted((self.directory / "runs").glob("*/run.json")):
            try:
                record = self.record(path.parent.name)
            except DataError as error:
                log.warning("left out: %s Remove it, and `oodml run` does the run again.", error)
                continue
            if record is not None:
                found.append(record)
        return found

    def is_done(self, run_id: str) -> bool:
        """Whether a run has its whole record; one that was cut off is written again."""
        return bool(self.done_of([run_id]))

    def done_of(self, run_ids: Iterable[str]) -> dict[str, float]:
        """The finished ones of these runs, and when they ended, in seconds of the file system."""
        runs = str(self.directory / "runs")
        ended = {run_id: _ended(f"{runs}/{run_id}/run.json") for run_id in run_ids}
        return {run_id: time for run_id, time in ended.items() if time is not None}

    def begun(self) -> list[str]:
        """The ids of all runs that have a folder, in order."""
        try:
            return sorted(entry.name for entry in os.scandir(self.directory / "runs"))
        except FileNotFoundError:
            return []

    def error(self, run_id: str) -> str | None:
        """The tracebacks of the failed tries, or None."""
        try:
            path = self.run_directory(run_id) / "error.txt"
            return read_file(path).decode(errors="replace")
        except FileNotFoundError:
            return None
        except DataError as error:
            return str(error)

    def tries(self, run_id: str) -> Tries:
        """How often a run has failed, and whether its process was killed the last time."""
        kinds = _TRY.findall(self.error(run_id) or "")
        return Tries(len(kinds), kinds[-1] == "killed" if kinds else False)

    def is_held(self, run_id: str) -> bool:
        """Whether a live process works on a run, as far as this store has seen so far."""
        return self._watch.is_held(self.run_directory(run_id) / "claim")

    def claim(self, run_id: str) -> Claim | None:
        """The right to work on a run, or None while another live process holds it.

        A claim whose process is gone is taken over: at once on the same boot of the same host,
        elsewhere after it was seen without a heartbeat for a minute of our own clock.
        """
        path = self.run_directory(run_id) / "claim"
        with locked(self.directory / ".lock"):
            # In this order: a run that ends in between has let go of its claim after its record.
            if self._watch.is_held(path) or self.is_done(run_id):
                return None
            self._own_directory(run_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            return Claim.take(path)

    def finish(self, record: RunRecord) -> None:
        """Write `run.json`; then drop the checkpoints and the tracebacks of earlier tries.

        A run ends once: a record that another process wrote meanwhile stays.
        """
        directory = self._own_directory(record.id)
        with locked(self.directory / ".lock"):
            if not self.is_done(record.id):
                write_json(directory / "run.json", record.to_json())
        for path in (*directory.rglob("last.pt"), *directory.rglob("best.pt")):
            path.unlink(missing_ok=True)
        (directory / "error.txt").unlink(missing_ok=True)

    def renew(self, record: RunRecord) -> None:
        """Write a finished run again with what was measured since, such as more metrics."""
        write_json(self._own_directory(record.id) / "run.json", record.to_json())

    def fail(self, run_id: str, traceback: str, *, killed: bool = False) -> None:
        """Keep the traceback of a failed try; a failure is not a result.

        `killed` says that the process ended under the run, which may not be the run's fault; if it
        ended just after the record was written, nothing has failed.
        """
        earlier = self.error(run_id) or ""
        number, kind = self.tries(run_id).count + 1, "killed" if killed else "failed"
        text = f"{earlier}== try {number}: {kind} ==\n{traceback.rstrip()}\n"
        with locked(self.directory / ".lock"):
            if not self.is_done(run_id):
                with atomic_write(self._own_directory(run_id) / "error.txt") as file:
                    file.write(text.encode(errors="backslashreplace"))

    def note_grid(self, specs: Sequence[RunSpec]) -> None:
        """Remember which runs were asked for, so that `status` knows what is missing."""
        named = {spec.id: (spec.label, network_of(spec.model)) for spec in specs}
        lines = {line: at for at, line in enumerate(sorted(set(named.values())))}
        runs = sorted([run, lines[line]] for run, line in named.items())
        self._check_own("grids")
        path = self.directory / "grids" / f"{digest(runs)}.json"
        if not path.exists():
            labels, networks = [label for label, _ in lines], [network for _, network in lines]
            text = canonical_json(
                {"schema": SCHEMA, "labels": labels, "networks": networks, "runs": runs}
            )
            with atomic_write(path) as file:
                file.write(text.encode())

    def asked_for(self, specs: Iterable[RunSpec] = ()) -> dict[str, str]:
        """The names of all runs that were ever asked for, and of `specs`, by id.

        A name is the label, and that of the network where there are several. Broken files are
        named in a warning.
        """
        found: dict[str, tuple[str, Network | None]] = {}
        for path in sorted((self.directory / "grids").glob("*.json")):
            try:
                grid = read_json(path, "list of runs")
                found |= grid_from_json(grid)
            except DataError as error:
                log.warning("left out: %s is no list of runs (%s).", path, error)
        found |= {spec.id: (spec.label, network_of(spec.model)) for spec in specs}
        return run_names(found)

    def _own_directory(self, run_id: str) -> Path:
        """The folder of a run, to write into."""
        self._check_own("runs")
        self._check_own(f"runs/{run_id}")
        return self.run_directory(run_id)

    def _check_own(self, name: str) -> None:
        # A store may be a stranger's: its links must not lead what is written out of it.
        if (self.directory / name).is_symlink():
            raise DataError(
                f"{self.directory / name} is a link, and nothing is written through links of a "
                "store; put the folder itself there."
            )


def _ended(path: str) -> float | None:
    """When a record was written; None if there is none, or not its end.

    Only the last bytes are read, for a grid may have a hundred thousand runs: `write_json` indents
    every bracket but the outermost ones.
    """
    try:
        # A pipe would keep who opens it waiting for its writer.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        state = os.fstat(file)
        whole = os.pread(file, 3, max(0, state.st_size - 3)) == b"\n}\n"
    except OSError:
        return None
    finally:
        os.close(file)
    return state.st_mtime if whole else None


def grid_from_json(grid: dict[str, Any]) -> dict[str, tuple[str, Network | None]]:
    """Label and network of the runs in a list that `Store.note_grid` wrote, by id.

    The network is None in a list that holds none. Raises `DataError` for another schema, a label
    that is not there, and an id that is none: ids are the names of folders.
    """
    if type(grid.get("schema")) is not int or grid["schema"] != SCHEMA:
        raise DataError(f"schema {grid.get('schema')!r}; this oodml reads {SCHEMA}.")
    what = "a list of runs"
    labels = checked_value(tuple[str, ...], grid.get("labels"), "labels", what)
    networks: tuple[Network | None, ...] = (None,) * len(labels)
    if "networks" in grid:
        networks = checked_value(tuple[Network, ...], grid["networks"], "networks", what)
    if len(networks) != len(labels):
        raise DataError(f"{len(labels)} labels and {len(networks)} networks.")
    runs = checked_value(tuple[tuple[str, int], ...], grid.get("runs"), "runs", what)
    for run_id, label in runs:
        if _RUN_ID.fullmatch(run_id) is None or not 0 <= label < len(labels):
            raise DataError(f"{run_id[:20]!r} is no run's id, or its label {label} is not listed")
    return {run_id: (labels[at], networks[at]) for run_id, at in runs}
