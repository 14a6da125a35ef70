"""What the runner itself costs: a run's claim, record and turn, and plan and status of many runs.

    python benchmarks/scheduling.py [--runs 10000] [--records 100000]

Runs take no time here: in the place of training stands a ready record, so that all that is
measured is the runner. The peer is a bare loop that writes the same records with the same atomic
write and nothing else: no claim, no lock, no look for what is done. Both do their runs in turns,
1,000 at a time, in this process. Plan and status are measured in processes of their own, whose
peak memory is the operating system's figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from oodml.features.features import Features, FeatureSource
from oodml.files import write_json
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.ladder import BuildSettings, Ladder
from oodml.splits.split import Split

RESULT = Path(__file__).parent / "results" / "scheduling.md"
SOURCE = FeatureSource("synthetic", "0" * 16, "none", "0" * 64, "none", "fp32")
# As many metrics as a run of ours has.
METRICS = {f"metric_{number}": 0.5 + number / 1000 for number in range(16)}
METHODS = tuple(
    f"margin:beta={1 + number / 100}" for number in range(1, 51)
)  # 50 labels, as many as there are methods


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--measure", nargs=2, help="Used by the benchmark itself.")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(*arguments.measure)))
        return
    text = page(arguments.runs, arguments.records)
    print(text)
    RESULT.write_text(text)


def ladder_of(rungs: int) -> Ladder:
    """A ladder without data: only the ids of its splits matter here."""
    names = [(f"a{i}", f"b{i}") for i in range(rungs)]
    splits = tuple(
        Split((a,), (b,), published_fid=float(number)) for number, (a, b) in enumerate(names)
    )
    sizes = {name: 1 for pair in names for name in pair}
    settings = BuildSettings(rungs, 0, "class", 0.5, 1, 1)
    return Ladder(SOURCE, "", sizes, settings, (), "", tuple(range(rungs)), splits)


def specs_of(number: int, first_seed: int = 0) -> tuple[Ladder, list[RunSpec]]:
    """At least `number` runs of 50 methods on 100 rungs (5 for few runs), cut to it."""
    from oodml.train.plan import plan

    ladder = ladder_of(100 if number > 10_000 else 5)
    each = len(METHODS) * len(ladder.rungs)
    seeds = range(first_seed, first_seed + -(-number // each))
    return ladder, plan(ladder, METHODS, seeds)[:number]


def record_of(spec: RunSpec) -> RunRecord:
    return RunRecord(spec, {"fid": 1.0}, METRICS, {"loss": 0.1}, {"torch": "0"}, 1.0)


def fill(store: Store, specs: Sequence[RunSpec]) -> None:
    """Finished records, written without the care that a kill asks for."""
    for spec in specs:
        directory = store.run_directory(spec.id)
        directory.mkdir(parents=True)
        (directory / "run.json").write_text(json.dumps(record_of(spec).to_json()))
    store.note_grid(specs)


def by_runner(ladder: Ladder, specs: Sequence[RunSpec], store: Store) -> None:
    """The runner, with a ready record in the place of training."""
    from oodml.launch import Grid, grid
    from oodml.launch.grid import do_open_runs
    from oodml.train.build import Resources

    features = Features(np.zeros((2, 1), np.float32), np.arange(2), ("a", "b"), SOURCE)
    grid.train_run = lambda spec, *rest, **more: record_of(spec)  # type: ignore[assignment]
    do_open_runs(Grid(specs, ladder), Resources(features), store, lambda ended: None)


def by_hand(specs: Sequence[RunSpec], directory: Path) -> None:
    """The bare loop."""
    for spec in specs:
        write_json(directory / "runs" / spec.id / "run.json", record_of(spec).to_json())


def milliseconds(function: Callable[[], object], runs: int) -> float:
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) / runs * 1000


def overhead(runs: int, folder: Path) -> tuple[float, float]:
    """Milliseconds a run, by the runner and by hand, medians over turns of up to 1,000 runs."""
    ladder, specs = specs_of(runs)
    store, bare, ours = Store(folder / "ours"), [], []
    turns = [specs[start : start + 1000] for start in range(0, runs, 1000)]
    for turn in turns:
        ours.append(milliseconds(lambda turn=turn: by_runner(ladder, turn, store), len(turn)))
        bare.append(milliseconds(lambda turn=turn: by_hand(turn, folder / "bare"), len(turn)))
    assert len(store.done_of(spec.id for spec in specs)) == runs
    return statistics.median(ours), statistics.median(bare)


def beside(existing: int, folder: Path) -> tuple[float, float]:
    """Milliseconds a run for 300 new runs in a store that holds `existing` records; by hand too."""
    store = Store(folder / f"store{existing}")
    if existing:
        fill(store, specs_of(existing)[1])
    ladder, new = specs_of(300, first_seed=1000)
    ours = milliseconds(lambda: by_runner(ladder, new, store), len(new))
    return ours, milliseconds(lambda: by_hand(new, folder / f"bare{existing}"), len(new))


def measured(what: str, directory: str) -> dict[str, float]:
    """Seconds and peak MiB of one look at a store, in this process."""
    from oodml.commands.grid import print_plan
    from oodml.commands.status import figures_of

    store = Store(directory)
    number = len(store.begun())
    if what == "plan":
        specs_of(1)
    before = peak()
    started = time.perf_counter()
    if what == "plan":
        print_plan(specs_of(number)[1], store)
    else:
        figures_of(store, 2)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak": peak(), "before": before}


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def look(what: str, directory: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", what, str(directory)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def page(runs: int, records: int) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, bare = overhead(runs, folder)
        sizes = [100, records // 10, records]
        flat = [(size, *beside(size, folder)) for size in sizes]
        looks = {
            what: [look(what, folder / f"store{size}") for size in sizes]
            for what in ("plan", "status")
        }
    lines = [
        "# What the runner costs",
        "",
        " ".join((__doc__ or "").split("\n\n")[2].split()),
        "",
        f"{runs:,} runs without training: {ours:.2f} ms a run, {bare:.2f} ms by hand "
        f"({ours / bare:.2f} times).",
        "",
        "| records in the store | ms a run | by hand | ratio |",
        "|---:|---:|---:|---:|",
        *(f"| {size:,} | {a:.2f} | {b:.2f} | {a / b:.2f} |" for size, a, b in flat),
        "",
        "| records | plan, s | status, s | plan, peak MiB | status, peak MiB |",
        "|---:|---:|---:|---:|---:|",
        *(
            f"| {size:,} | {a['seconds']:.2f} | {b['seconds']:.2f} | {a['peak']:.0f} "
            f"| {b['peak']:.0f} |"
            for size, a, b in zip(sizes, looks["plan"], looks["status"], strict=True)
        ),
        "",
        f"Neither imports torch: a plan starts from {looks['plan'][0]['before']:.0f} MiB with the "
        f"methods imported, status from {looks['status'][0]['before']:.0f} MiB.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
