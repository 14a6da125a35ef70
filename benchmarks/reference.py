"""What a matched reference costs: a matched or a shifted run against the plain run of its method.

    python benchmarks/reference.py [--methods margin,arcface] [--repeats 3]

Features of the size of the demo's (1,795 classes of 6 or 7 samples, 1280 dimensions), linear heads
of 128 dimensions, 300 steps, one thread. A plain run trains one head and measures it on the whole
test side; a reference run trains a head for each half of the test side and measures each on its
half. `frozen` trains nothing. The runs of a method are done in turns in this process, after one
that is not counted; figures are medians of processor seconds, and the ratio is the median of the
rounds' own ratios. Writes benchmarks/results/reference.md.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from oodml.features.features import Features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources
from oodml.train.plan import plan
from oodml.train.run import train_run

RESULT = Path(__file__).parent / "results" / "reference.md"
METHODS = "margin,multi_similarity,arcface,proxy_anchor"
CLASSES, DIMENSION = 1795, 1280


def made_features() -> Features:
    """Gaussian classes, six or seven samples each, as the demo's collection has."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), random.integers(6, 8, CLASSES))
    means = random.standard_normal((CLASSES, DIMENSION))
    values = means[labels] + 2 * random.standard_normal((len(labels), DIMENSION))
    names = [f"class {number:04d}" for number in range(CLASSES)]
    return Features.from_arrays(values.astype(np.float32), labels, names)


def seconds_of(ladder: Ladder, resources: Resources, method: str) -> list[float]:
    """Processor seconds of the plain, the shifted and the matched run; of the frozen one both."""
    specs = plan(ladder, [method], [0], rungs=[0], reference=True)
    specs = [spec for spec in specs if method == "frozen" or spec.method.name == method]
    taken = []
    for spec in specs:
        with tempfile.TemporaryDirectory() as directory:
            started = time.process_time()
            train_run(spec, ladder.rungs[0], resources, directory)
            taken.append(time.process_time() - started)
    return taken


def row(ladder: Ladder, resources: Resources, method: str, repeats: int) -> str:
    seconds_of(ladder, resources, method)
    rounds = [seconds_of(ladder, resources, method) for _ in range(repeats)]
    plain, *others = (statistics.median(column) for column in zip(*rounds, strict=True))
    one = statistics.median(statistics.mean(own[1:]) / own[0] for own in rounds)
    both = statistics.median(sum(own[1:]) / own[0] for own in rounds)
    shown = [f"{plain:.2f}", " / ".join(f"{other:.2f}" for other in others)]
    return f"| {method} | {' | '.join(shown)} | {one:.2f} | {both:.2f} |"


def processor() -> str:
    """The processor's name, and the instructions that torch uses."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    features = made_features()
    ladder = build_ladder(features, rungs=2, null=0, easier=False)
    resources = Resources(features)
    rows = []
    for method in ["frozen", *given.methods.split(",")]:
        rows.append(row(ladder, resources, method, given.repeats))
        print(rows[-1], flush=True)
    RESULT.write_text(
        "\n".join(
            [
                "# What a matched reference costs",
                "",
                (__doc__ or "").split("\n\n")[2].replace("\n", " ").partition(" Writes")[0],
                "",
                f"Processor: {processor()}.",
                "",
                "| method | plain, s | shifted / matched, s | one of them / plain | both / plain |",
                "|---|---:|---:|---:|---:|",
                *rows,
                "",
            ]
        )
    )


if __name__ == "__main__":
    main()
