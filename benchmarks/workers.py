"""Two workers against one: a grid of heads on two cores.

    python benchmarks/workers.py [--repeats 3]

A grid of 5 methods x 4 rungs on features of the size of the demo's (900 training classes of 7
samples, 1280 dimensions; 300 steps), done by one worker with one thread and by two workers, in
turns, each time into an empty directory. Both are worker processes, so both pay for their start.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from oodml.features.features import Features, FeatureSource
from oodml.launch import run_grid
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources
from oodml.train.plan import plan

RESULT = Path(__file__).parent / "results" / "workers.md"
METHODS = ("contrastive", "margin", "multi_similarity", "arcface", "proxy_anchor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    pool = features()
    ladder = build_ladder(pool, rungs=4, level="class")
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for workers, own in times.items():
            own.append(seconds(workers, pool, ladder))
    medians = {workers: statistics.median(own) for workers, own in times.items()}
    text = "\n".join(
        [
            "# Two workers against one",
            "",
            " ".join((__doc__ or "").split("\n\n")[2].split()),
            "",
            "| workers | seconds, median | all |",
            "|---:|---:|---|",
            *(
                f"| {workers} | {medians[workers]:.1f} | {', '.join(f'{t:.1f}' for t in own)} |"
                for workers, own in times.items()
            ),
            "",
            f"Two workers take {medians[2] / medians[1]:.2f} of the time of one.",
            "",
        ]
    )
    print(text)
    RESULT.write_text(text)


def features() -> Features:
    random = np.random.default_rng(0)
    means = random.standard_normal((1800, 1280)).astype(np.float32)
    labels = np.repeat(np.arange(1800), 7)
    noise = random.standard_normal((len(labels), 1280)).astype(np.float32)
    names = tuple(f"class {number:04d}" for number in range(1800))
    source = FeatureSource("synthetic", "0" * 16, "none", "0" * 64, "none", "fp32")
    return Features(means[labels] + noise, labels, names, source)


def seconds(workers: int, pool: Features, ladder: Ladder) -> float:
    """How long the grid takes with so many worker processes."""
    specs = plan(ladder, METHODS, [0])
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        # A time limit makes a single worker a process of its own, like two.
        outcome = run_grid(
            specs, ladder, Resources(pool), Store(directory), workers=workers, timeout=3600
        )
        taken = time.perf_counter() - started
    assert outcome.done == len(specs)
    return taken


if __name__ == "__main__":
    main()
