"""Ladders at the size of CUB and of SOP: time, memory and drift, beside scipy's matrix root.

    python benchmarks/ladder.py            # about 15 minutes; --quick: small pools, a minute

Every part is a process of its own on synthetic features with class structure. The peer, a general
square root by scipy.linalg.sqrtm as in the published code, is timed on a few FIDs in the same run
and scaled. Wall and CPU seconds stand side by side, because the machine may be shared. Writes
benchmarks/results/ladder.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from oodml.features.features import Features, FeatureSource
from oodml.fid.class_moments import split_terms
from oodml.parallel import side_by_side
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.construction.state import Pool, Sides, measured
from oodml.splits.construction.walk import by_nearness
from oodml.splits.split import random_split

RESULT = Path(__file__).parent / "results" / "ladder.md"
FIDS = 110
UPDATES = 500
THEMES, RANK, BLOCK = 40, 128, 8192
CUB = {"classes": 200, "images": 11_800, "dimension": 2048}
SOP = {"classes": 22_634, "images": 120_053, "dimension": 2048}
QUICK = (
    {"classes": 60, "images": 1_800, "dimension": 256},
    {"classes": 1_500, "images": 8_000, "dimension": 256},
)
Record = dict[str, Any]


def pool_of_themes(classes: int, images: int, dimension: int) -> Features:
    """Rectified features: themes, classes within them and images within those, plus noise."""
    random = np.random.default_rng(0)
    basis = random.standard_normal((RANK, dimension), dtype=np.float32) / np.sqrt(RANK)
    themes = 1.5 * random.standard_normal((THEMES, RANK), dtype=np.float32)
    centres = themes[random.integers(THEMES, size=classes)]
    centres += random.standard_normal((classes, RANK), dtype=np.float32)
    sizes = np.full(classes, images // classes) + (np.arange(classes) < images % classes)
    labels = np.repeat(np.arange(classes), sizes)
    values = np.empty((images, dimension), dtype=np.float32)
    for start in range(0, images, BLOCK):
        rows = slice(start, start + BLOCK)
        inner = centres[labels[rows]]
        inner = inner + 0.7 * random.standard_normal(inner.shape, dtype=np.float32)
        outer = 0.3 * random.standard_normal((len(inner), dimension), dtype=np.float32)
        values[rows] = np.maximum(inner @ basis + outer, 0)
    names = tuple(f"class {i:05d}" for i in range(classes))
    source = FeatureSource("themes", "0" * 16, "synthetic", "0" * 64, "none", "fp32")
    return Features(values, labels, names, source)


def timed(job: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = job()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def start_of(features: Features, level: str) -> Sides:
    pool = Pool.of(features, level=level)
    split = random_split(features.class_names)
    return Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))


def many_distances(features: Features, level: str) -> Record:
    """110 exact FIDs along swaps of one pair a step, everything counted from the features on.

    Every split is walked through, whether FID rose or not, as the walk itself would if it did.
    """

    def splits() -> Iterator[Sides]:
        sides = start_of(features, level)
        for _ in range(FIDS):
            yield sides
            train, test = by_nearness(sides)
            sides = sides.exchange(train[:1], test[:1])

    def job() -> float:
        with side_by_side():
            return [sides.fid for sides in measured(splits())][-1]

    _, wall, cpu = timed(job)
    return {"wall": wall, "cpu": cpu, "fids": FIDS}


def general_root(features: Features, level: str, times: int) -> Record:
    """The published way: covariances with 1e-8 on the diagonal, scipy's root of their product."""
    from scipy.linalg import sqrtm

    sides = start_of(features, level)
    points = [sides.pool.statistics.points(side) for side in (sides.train, sides.test)]

    def job() -> float:
        ridge = 1e-8 * np.eye(features.values.shape[1])
        first, second = (np.cov(side, rowvar=False) + ridge for side in points)
        difference = points[0].mean(0) - points[1].mean(0)
        trace = float(np.trace(first) + np.trace(second) - 2 * np.trace(sqrtm(first @ second)).real)
        return float(difference @ difference) + trace

    value, wall, cpu = timed(lambda: [job() for _ in range(times)][-1])
    return {"wall": wall / times, "cpu": cpu / times, "difference": abs(value - sides.fid)}


def drift(features: Features) -> Record:
    """How far moments are from recomputed ones after 500 exchanges of one random pair."""
    sides = start_of(features, "sample")
    random = np.random.default_rng(1)
    for _ in range(UPDATES):
        sides = sides.exchange(random.choice(sides.train, 1), random.choice(sides.test, 1))
    fresh = Sides.of(sides.pool, sides.train, sides.test)
    updated, summed = sides.moments, fresh.moments
    assert updated is not None and summed is not None
    return {
        "scatter": float(
            np.linalg.norm(updated[0].scatter - summed[0].scatter)
            / np.linalg.norm(summed[0].scatter)
        ),
        "fid": abs(sides.fid - fresh.fid) / fresh.fid,
    }


def trajectory(features: Features) -> Record:
    """A full ladder at sample level, and how far its last FID is from one summed up afresh."""
    ladder, wall, cpu = timed(lambda: build_ladder(features, rungs=8, null=0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    pool, last = Pool.of(features), ladder.rungs[-1]
    fresh = split_terms(
        pool.statistics, pool.units(last.train_classes), pool.units(last.test_classes)
    ).value
    kinds = [step.kind for step in ladder.trajectory]
    return {
        "wall": wall, "cpu": cpu, "peak": peak, "steps": len(kinds),
        "kinds": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "fids": [ladder.rungs[0].fid, last.fid], "error": abs(fresh - last.fid) / fresh,
        "stopped": ladder.stopped,
    }  # fmt: skip


def step_costs(features: Features) -> Record:
    """CPU seconds of an update against the images moved, in the whole pool and in a quarter."""
    quarter = features.subset(features.class_names[: len(features.class_names) // 4])
    costs: Record = {}
    for name, pool in (("whole pool", features), ("a quarter of it", quarter)):
        sides = start_of(pool, "sample")
        costs[name] = []
        for part in (1, 2, 4, 8):
            size = max(1, len(quarter.class_names) * part // 100)
            leave, come = sides.train[:size], sides.test[:size]
            moved = int(sides.pool.sizes[leave].sum() + sides.pool.sizes[come].sum())
            best = min(timed(lambda: sides.exchange(leave, come))[2] for _ in range(3))  # noqa: B023
            costs[name].append([moved, best])
    return costs


def part(name: str, quick: bool) -> Record:
    cub, sop = QUICK if quick else (CUB, SOP)
    times = 3 if quick else 2
    if name == "cub":
        features = pool_of_themes(**cub)
        return {
            "class": many_distances(features, "class"),
            "root": general_root(features, "class", times),
            "sample": many_distances(features, "sample"),
            "sample root": general_root(features, "sample", 1),
            "drift": drift(features),
        }
    features = pool_of_themes(**sop)
    return trajectory(features) if name == "sop" else step_costs(features)


def report(parts: dict[str, Record], quick: bool) -> str:
    cub, sop, costs = parts["cub"], parts["sop"], parts["costs"]
    sizes = QUICK if quick else (CUB, SOP)
    rows = []
    for level, root in (("class", "root"), ("sample", "sample root")):
        ours, peer = cub[level], cub[root]
        rows.append(
            f"| {level} | {ours['wall']:.2f} | {ours['cpu']:.2f} | {peer['wall']:.2f} | "
            f"{FIDS * peer['wall']:.0f} | {FIDS * peer['wall'] / ours['wall']:.0f} | "
            f"{FIDS * peer['cpu'] / ours['cpu']:.0f} | {peer['difference']:.1e} |"
        )
    moved = [
        f"| {name} | " + " | ".join(f"{n}: {seconds:.3f}" for n, seconds in values) + " |"
        for name, values in costs.items()
    ]
    cores = len(os.sched_getaffinity(0))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sop["kinds"].items())
    return f"""# Ladders: time, memory, drift

Written by `python benchmarks/ladder.py{" --quick" if quick else ""}`: NumPy {np.__version__},
FIDs side by side on {cores} cores with one BLAS thread each, load average
{os.getloadavg()[0]:.1f}.

## {sizes[0]["classes"]} classes, {sizes[0]["images"]} images, {sizes[0]["dimension"]} dimensions

{FIDS} exact FIDs along a trajectory, statistics included, against scipy.linalg.sqrtm (timed on
one or a few FIDs, scaled). The last column is how far the peer's FID is from the exact one.

| level | oodml: s | CPU s | sqrtm: s a FID | x {FIDS} | ratio | ratio of CPU | error |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

After {UPDATES} updates the accumulated scatter differs from a recomputed one by
{cub["drift"]["scatter"]:.1e}, the FID by {cub["drift"]["fid"]:.1e} (relative).

## {sizes[1]["classes"]} classes, {sizes[1]["images"]} images, {sizes[1]["dimension"]} dimensions

Full trajectory at sample level: {sop["steps"]} splits ({kinds}),
FID {sop["fids"][0]:.4g} to {sop["fids"][1]:.4g}, {sop["stopped"]}:
{sop["wall"]:.0f} s wall, {sop["cpu"]:.0f} s CPU, peak memory {sop["peak"]:.2f} GiB.
The last FID differs from one summed up afresh by {sop["error"]:.1e} (relative).

CPU seconds of one update of the moments, by images moved:

| | {" | ".join("images: s" for _ in costs["whole pool"])} |
|---|{"---|" * len(costs["whole pool"])}
{chr(10).join(moved)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small pools")
    parser.add_argument("--part", choices=["cub", "sop", "costs"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(part(given.part, given.quick)))
        return
    parts = {}
    for name in ("cub", "sop", "costs"):
        command = [sys.executable, __file__, "--part", name, *["--quick"] * given.quick]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        parts[name] = json.loads(output)
        print(name, parts[name], file=sys.stderr)
    text = report(parts, given.quick)
    if not given.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
