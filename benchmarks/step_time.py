"""Step time and peak memory of every method in the trainer, against bare losses.

    python benchmarks/step_time.py [--methods margin,arcface] [--repeats 5] [--no-networks]

Heads: cached features, 112 x 1280 inputs, 128 dimensions, 900 classes of 7 samples, one thread. The
bare loop is what one would write by hand: index, forward, loss, backward, Adam. Both run in turns
in this process; each figure is the median over the repeats. Memory is what a process of its own
takes on top of data and packages. Methods on a base loss also stand against that loss.

Networks: methods that work on more than a loss, training EfficientNet-Lite0 whole on some 140
emoji of 20 classes at 64 pixels, 28 a batch, one thread, two epochs with all that happens between
them, in turns with the margin loss (both decode and augment the same images). Expected is what the
specification expects for networks; a method above one and a half times of it is explained below.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oodml.data.dataset import chosen
from oodml.features.features import Features, FeatureSource
from oodml.runs.spec import RunSpec
from oodml.train.build import Resources, objective_of
from oodml.train.data import FeatureSamples, ImageSamples
from oodml.train.loop import fit
from oodml.train.objective import Batch, Objective, Training
from oodml.train.registry import all_methods, get_method, parse_method, prescribed
from oodml.train.settings import applying

CLASSES, PER_CLASS, DIMENSION = 900, 7, 1280
STEPS = 60
NETWORKS = "\n## Networks\n"
NETWORK_REPEATS = 1
# Over the bare loss, where a network is trained; "-" where nothing was expected.
EXPECTED = {
    "s2sd": "1.0 to 1.1",
    "xbm": "1.0",
    "uniform_prior": "1.05",
    "group_loss": "-",
    "mpn": "1.0 to 1.1",
    "bier": "1.0 to 1.1",
    "divide_and_conquer": "1.15",
    "hierarchical_divide_and_conquer": "1.15",
    "mic": "1.8",
    "sharing": "-",
    "diva": "1.4 to 2",
    "moco": "1.4 to 2",
    "daml": "1.1",
    "hdml": "1.1",
    "pads": "2 to 3",
}
# What suits networks where the default suits heads.
NETWORK_HYPERPARAMETERS = {"pads": "pads:every=30"}
EXPLAINED = [
    "No network takes more than one and a half times of what was expected of it. `mic` has a "
    "second batch in every step; `moco` and `diva` a second view and a slow copy's forward pass. "
    "`pads` acts every 30 steps and not at all in these ten, so its row does not measure it; on "
    "heads it acts every 4. A ratio below 1 is noise.",
    "",
    "Heads exceed the expectations, which are for networks: beside one linear layer every further "
    "part weighs. `divide_and_conquer` and `mic` cluster all samples between epochs (here every 56 "
    "steps), `mic` also has a second batch; `daml` and `hdml` generate features as wide as the "
    "network's; `diva` has four heads, three regressors and a queue; `bier` three regressors; "
    "`mpn`, `group_loss` and the softmax family classify among all 900 classes; `soft_triple` and "
    "`proxy_gml` among several proxies of each.",
]
RESULT = Path(__file__).parent / "results" / "step_time.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", default="")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--heads", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--networks", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", nargs=2, help="Used by the benchmark itself.")
    arguments = parser.parse_args()
    if arguments.memory:
        torch.set_num_threads(1)
        print(rise(*arguments.memory))
        return
    torch.set_num_threads(1)
    names = arguments.methods.split(",") if arguments.methods else trained_methods()
    parts = RESULT.read_text().split(NETWORKS) if RESULT.exists() else ["", ""]
    rows = [measured(name, features(), arguments.repeats) for name in names if arguments.heads]
    if rows:
        parts[0] = table(rows)
    if arguments.networks:
        parts[1:] = [networks([name for name in names if name in EXPECTED])]
    text = parts[0] + NETWORKS + "".join(parts[1:])
    print(text)
    if not arguments.methods:
        RESULT.write_text(text)
    if rows and not arguments.methods:
        # What the table of methods in the docs shows.
        base = rows_by_name(rows)["contrastive"].bare
        costs = {row.name: round(row.bare / base, 2) for row in rows}
        RESULT.with_suffix(".json").write_text(json.dumps(costs, indent=2, sort_keys=True) + "\n")


@dataclass(frozen=True)
class Row:
    """Milliseconds a step by hand and in the trainer, and MiB on top of data and packages."""

    name: str
    bare: float
    trainer: float
    memory: float


def rows_by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


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


def head_of(name: str, pool: Features) -> tuple[RunSpec, Training]:
    """The run of a method on heads, and its samples, with as many views as it asks for."""
    spec = RunSpec.on(
        pool.source,
        "split",
        name,
        **{**applied(name), "steps": STEPS},
    )
    values = np.broadcast_to(pool.values, (spec.training.cached_views, *pool.values.shape))
    samples = FeatureSamples(
        pool.values, pool.labels, values if spec.training.cached_views else None
    )
    return spec, Training(samples, 0)


def measured(name: str, pool: Features, repeats: int) -> Row:
    """One method on heads."""
    spec, training = head_of(name, pool)

    def objective() -> Objective:
        return objective_of(spec, training.samples, CLASSES, Resources(pool), 0)

    bare_times, times = [], []
    for _ in range(repeats):
        by_hand, in_trainer = objective(), objective()
        bare_times.append(timed(partial(bare, by_hand, training)))
        with tempfile.TemporaryDirectory() as directory:
            times.append(timed(partial(fit, in_trainer, training, Path(directory))))
    row = Row(
        name, statistics.median(bare_times), statistics.median(times), memory_of("head", name)
    )
    print(row, flush=True)
    return row


def applied(name: str) -> dict[str, Any]:
    return applying(prescribed(name), "head")


def memory_of(*what: str) -> float:
    """MiB by which the peak of a process of its own rises while it trains."""
    command = [sys.executable, __file__, "--memory", *what]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rise(what: str, name: str) -> float:
    """What such a process measures: MiB on top of data and packages."""
    if what == "head":
        pool = features()
        spec, training = head_of(name, pool)
        objective = objective_of(spec, training.samples, CLASSES, Resources(pool), 0)
        with tempfile.TemporaryDirectory() as directory:
            return risen(partial(fit, objective, training, Path(directory)))
    torch.set_num_threads(1)
    return risen(partial(Network().milliseconds, name))


def risen(function: Callable[[], object]) -> float:
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _peak()
    function()
    return _peak() - before


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


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
            views = tuple(values[rows] for _ in range(objective.views))
            batch = Batch(views, training.labels[rows], rows, done, done / STEPS)
            loss = objective.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            objective.after_step(training, batch)
            done += 1
            if done == STEPS:
                return
        epoch += 1


def table(rows: list[Row]) -> str:
    known = rows_by_name(rows)
    base = known.get("contrastive", rows[0]).bare
    overhead = statistics.median(row.trainer / row.bare for row in rows)
    lines = [
        "# Step time and memory of every method",
        "",
        _words(2),
        "",
        f"Median over all methods of trainer over bare loop: {overhead:.2f}.",
        "",
        "| method | bare loop, ms a step | trainer, ms a step | trainer / bare | of contrastive "
        "| of its base loss | memory, MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        own = known.get(get_method(row.name).base_name({}) or "")
        of_base = f"{row.bare / own.bare:.2f}" if own else ""
        lines.append(
            f"| {row.name} | {row.bare:.2f} | {row.trainer:.2f} | {row.trainer / row.bare:.2f} "
            f"| {row.bare / base:.2f} | {of_base} | {row.memory:.0f} |"
        )
    return "\n".join(lines) + "\n"


def networks(names: list[str]) -> str:
    """The table of methods that train a whole network, each in turns with margin."""
    torch.set_num_threads(1)
    data = Network()
    lines = [
        "",
        _words(3),
        "",
        "| method | ms a step | margin, ms a step | ratio | expected | memory, MiB | margin, MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    margin_memory = memory_of("network", "margin")
    for name in names:
        if name not in EXPECTED:
            continue
        own, margin = [], []
        for _ in range(NETWORK_REPEATS):
            margin.append(data.milliseconds("margin"))
            own.append(data.milliseconds(name))
        first, second = statistics.median(own), statistics.median(margin)
        lines.append(
            f"| {name} | {first:.0f} | {second:.0f} | {first / second:.2f} | {EXPECTED[name]} "
            f"| {memory_of('network', name):.0f} "
            f"| {margin_memory:.0f} |"
        )
        print(lines[-1], flush=True)
    return "\n".join([*lines, "", *EXPLAINED, ""])


class Network:
    """Images of 20 classes and the backbone that is trained on them."""

    def __init__(self) -> None:
        from oodml.data import load_dataset
        from oodml.features.backbones.registry import load_backbone

        self.dataset = load_dataset("emoji")
        names = self.dataset.class_names[:20]
        self.rows = self.dataset.of_classes(names)
        self.labels = np.searchsorted(
            np.array(names), np.array(self.dataset.class_names)[self.dataset.labels[self.rows]]
        )
        self.backbone = load_backbone("efficientnet_lite0", image_size=64)

    def milliseconds(self, text: str) -> float:
        """A step of a method, over two epochs with all that happens between them."""
        name, hyperparameters = parse_method(NETWORK_HYPERPARAMETERS.get(text, text))
        prescribes = applying(prescribed(name, train="all"), "all")
        settings = {**prescribes, "batch_size": 28, "samples_per_class": 4, "epochs": 2, "steps": 0}
        source = FeatureSource("emoji", "0" * 16, "none", "0" * 64, "none", "fp32")
        spec = RunSpec.on(
            source, "split", name, train="all",
            **{**settings, "learning_rate": 1e-5, "warmup_epochs": 0},
            hyperparameters=hyperparameters,
        )  # fmt: skip
        samples = ImageSamples(
            chosen(self.dataset.paths, self.rows), self.labels, self.backbone.transform
        )
        training = Training(samples, 0)
        names = tuple(f"class {i:02d}" for i in range(20))
        pool = Features(np.zeros((len(self.labels), 1), np.float32), self.labels, names, source)
        resources = Resources(pool, self.dataset, self.backbone)
        objective = objective_of(spec, samples, 20, resources, 0)
        with tempfile.TemporaryDirectory() as directory:
            started = time.perf_counter()
            figures = fit(objective, training, Path(directory))
            return (time.perf_counter() - started) / figures["steps"] * 1000


def _words(paragraph: int) -> str:
    return " ".join((__doc__ or "").split("\n\n")[paragraph].split())


if __name__ == "__main__":
    main()
