"""Step time of every method in the trainer, against a bare loop with the same model and loss.

    python benchmarks/step_time.py [--methods margin,arcface] [--repeats 5]

Head training on cached features, 112 x 1280 inputs, 128 dimensions, 900 classes of 7 samples, one
thread. The bare loop is what one would write by hand: index, forward, loss, backward, Adam. Both
run in turns in this process; each figure is the median over the repeats.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from oodml.fid.features import Features, FeatureSource
from oodml.store import RunSpec
from oodml.train.build import Resources, objective_of
from oodml.train.loop import fit
from oodml.train.objective import Batch, Objective
from oodml.train.registry import all_methods, prescribed
from oodml.train.samples import FeatureSamples
from oodml.train.training import Training

CLASSES, PER_CLASS, DIMENSION = 900, 7, 1280
STEPS = 60
RESULT = Path(__file__).parent / "results" / "step_time.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", default="")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = arguments.methods.split(",") if arguments.methods else trained_methods()
    pool = features()
    rows = [measured(name, pool, arguments.repeats) for name in names]
    text = table(rows)
    print(text)
    if not arguments.methods:
        RESULT.write_text(text)


def trained_methods() -> list[str]:
    return [name for name, entry in all_methods().items() if entry.trains]


def features() -> Features:
    random = np.random.default_rng(0)
    means = random.standard_normal((CLASSES, DIMENSION)).astype(np.float32)
    noise = random.standard_normal((CLASSES * PER_CLASS, DIMENSION)).astype(np.float32)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    names = tuple(f"class {i}" for i in range(CLASSES))
    source = FeatureSource("synthetic", "0" * 16, "none", "0" * 64, "none", "fp32")
    return Features(means[labels] + noise, labels, names, source)


def measured(name: str, pool: Features, repeats: int) -> tuple[str, float, float]:
    """The method's name, and milliseconds a step in the bare loop and in the trainer."""
    spec = RunSpec("d", "f", "s", name, "b", "w", "p", steps=STEPS, **prescribed(name))
    training = Training(FeatureSamples(pool.values, pool.labels), 0)

    def objective() -> Objective:
        return objective_of(spec, training.samples, CLASSES, Resources(pool), 0)

    bare_times, times = [], []
    for _ in range(repeats):
        by_hand, trained = objective(), objective()
        bare_times.append(timed(partial(bare, by_hand, training)))
        with tempfile.TemporaryDirectory() as directory:
            times.append(timed(partial(fit, trained, training, Path(directory))))
    return name, statistics.median(bare_times), statistics.median(times)


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) / STEPS * 1000


def bare(objective: Objective, training: Training) -> None:
    """The same steps by hand: the same batches, the same loss, Adam."""
    values = training.samples.values  # type: ignore[attr-defined]
    groups = [{"params": g.parameters, "lr": g.learning_rate} for g in objective.parameter_groups()]
    optimizer = torch.optim.Adam(groups)
    objective.train()
    objective.begin_epoch(training, 0)
    done = epoch = 0
    while done < STEPS:
        for index in objective.loader(training, epoch):
            rows = torch.from_numpy(index)
            batch = Batch((values[rows],) * objective.views, training.labels[rows], rows)
            loss = objective.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            objective.after_step(training, batch, done)
            done += 1
            if done == STEPS:
                return
        epoch += 1


def table(rows: list[tuple[str, float, float]]) -> str:
    base = next((bare for name, bare, _ in rows if name == "contrastive"), rows[0][1])
    overhead = statistics.median(trainer / bare for _, bare, trainer in rows)
    lines = [
        "# Step time of every method",
        "",
        (__doc__ or "").split("\n\n")[2].replace("\n", " ").strip(),
        "",
        f"Median over all methods of trainer over bare loop: {overhead:.2f}.",
        "",
        "| method | bare loop, ms a step | trainer, ms a step | trainer / bare | of contrastive |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, by_hand, trainer in rows:
        lines.append(
            f"| {name} | {by_hand:.2f} | {trainer:.2f} | {trainer / by_hand:.2f} "
            f"| {by_hand / base:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
