"""Time and error of the Frechet distance against four peers, in one run, as a markdown table.

    python benchmarks/fid_distance.py                 # all sizes, about 10 minutes on 2 cores
    python benchmarks/fid_distance.py --quick         # small sizes, a minute or two
    python benchmarks/fid_distance.py --one-thread    # CPU seconds, for a busy machine

Everybody gets the same float64 features and is timed from features to distance: mean, covariance
and trace term. The reference is a closed form: with y = x T for symmetric positive definite T, the
covariance term is tr((I - T) S (I - T)), without any matrix root. Every method runs in a process of
its own, with a time limit; repeats are interleaved between methods and the median is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SIZES = [(n, d) for d in (512, 2048) for n in (98, 1000, 5000, 20000)]
QUICK_SIZES = [(98, 512), (1000, 512), (98, 2048)]
LADDER_CLASSES, LADDER_FIDS, SAMPLES_PER_CLASS = 200, 110, 59
PACKAGES = {
    "oodml": "oodml",
    "pytorch-fid": "pytorch-fid",
    "clean-fid": "clean-fid",
    "torch-fidelity": "torch-fidelity",
    "torchmetrics": "torchmetrics",
}
ONE_THREAD = "OODML_BENCHMARK_ONE_THREAD"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Distance = Callable[[np.ndarray, np.ndarray], float]


def numpy_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = x.astype(np.float64)
    return x.mean(axis=0), np.cov(x, rowvar=False)


def load_distance(name: str) -> Distance:
    if name == "oodml":
        from oodml.fid.frechet import frechet_distance

        return frechet_distance
    if name in ("pytorch-fid", "clean-fid"):
        if name == "pytorch-fid":
            from pytorch_fid.fid_score import calculate_frechet_distance as distance
        else:
            from cleanfid.fid import frechet_distance as distance
        return lambda a, b: float(distance(*numpy_statistics(a), *numpy_statistics(b)))
    import torch

    if name == "torch-fidelity":
        from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

        def measure(a: np.ndarray, b: np.ndarray) -> float:
            both = [fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
            return float(next(iter(fid_statistics_to_metric(*both, False).values())))

        return measure
    from torchmetrics.image.fid import _compute_fid

    def moments(x: np.ndarray) -> tuple[Any, Any]:
        # What FrechetInceptionDistance.update and compute do with features.
        values = torch.from_numpy(x).double()
        mean = (values.sum(dim=0) / len(values)).unsqueeze(0)
        scatter = values.t().mm(values) - len(values) * mean.t().mm(mean)
        return mean.squeeze(0), scatter / (len(values) - 1)

    return lambda a, b: float(_compute_fid(*moments(a), *moments(b)))


def work(name: str) -> None:
    """Answer every line on standard input, the path of an .npz, with seconds and value as JSON."""
    warnings.simplefilter("ignore")
    distance = load_distance(name)
    clock = time.process_time if ONE_THREAD in os.environ else time.perf_counter
    rng = np.random.default_rng(0)
    distance(rng.standard_normal((20, 8)), rng.standard_normal((20, 8)))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        with np.load(line.strip()) as file:
            a, b = file["a"], file["b"]
        begin = clock()
        value = distance(a, b)
        print(json.dumps([clock() - begin, value]), flush=True)


class Worker:
    """One method in a process of its own, started again after it ran into its time limit."""

    def __init__(self, name: str, limit: float) -> None:
        self.name, self.limit = name, limit
        self.process: subprocess.Popen[str] | None = None
        self.fate = ""

    def measure(self, path: Path) -> tuple[float, float] | None:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--worker", self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._answer(120.0)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answer = self._answer(self.limit)
        return (float(answer[0]), float(answer[1])) if isinstance(answer, list) else None

    def _answer(self, limit: float) -> Any:
        assert self.process is not None and self.process.stdout is not None
        killer = threading.Timer(limit, self.process.kill)
        killer.start()
        begin = time.perf_counter()
        lines = iter(self.process.stdout.readline, "")
        line = next((text for text in lines if text.startswith(("[", '"'))), None)
        killer.cancel()
        if line is None:
            self.close()
            self.fate = f"over {limit:g} s" if time.perf_counter() - begin >= limit else "failed"
            return None
        return json.loads(line)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def mapped_pair(n: int, d: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Two samples with structure, their exact distance and the sum of their two traces."""
    rng = np.random.default_rng([n, d])
    mixing = rng.standard_normal((64, d)) / 4
    a = (rng.standard_normal((n, 64)) @ mixing + rng.standard_normal((n, d)) / 2).astype(np.float32)
    v = rng.standard_normal(d)
    v /= np.linalg.norm(v)
    # T = H diag H with a reflection H: symmetric, positive definite, cheap and not diagonal.
    scale = np.linspace(0.5, 1.5, d)
    reflection = np.eye(d) - 2 * np.outer(v, v)
    transport = (reflection * scale) @ reflection
    exact = a.astype(np.float64)
    b = exact @ transport
    difference = exact - b
    mean = difference.mean(axis=0)
    covariance = np.sum((difference - mean) ** 2) / (n - 1)
    traces = sum(x.var(axis=0, ddof=1).sum() for x in (exact, b))
    return a, b, float(mean @ mean + covariance), float(traces)


def multiple(ratio: float) -> str:
    return f"x{ratio:.1f}" if ratio < 10 else f"x{ratio:,.0f}"


def compare(sizes: list[tuple[int, int]], repeats: int, limit: float, folder: Path) -> list[str]:
    names = list(PACKAGES)
    lines = [
        "| n a side | d | " + " | ".join(f"{name}: seconds (error)" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    workers = [Worker(name, limit) for name in names]
    for n, d in sizes:
        a, b, exact, traces = mapped_pair(n, d)
        path = folder / f"{n}-{d}.npz"
        np.savez(path, a=a.astype(np.float64), b=b)
        times: dict[str, list[float]] = {name: [] for name in names}
        errors: dict[str, float] = {}
        for repeat in range(repeats):
            for worker in workers:
                name = worker.name
                if repeat and (not times[name] or times[name][0] > limit / 10):
                    continue
                measured = worker.measure(path)
                if measured is not None:
                    times[name].append(measured[0])
                    errors[name] = abs(measured[1] - exact) / traces
        own = statistics.median(times["oodml"])
        cells = []
        for name, worker in zip(names, workers, strict=True):
            if not times[name]:
                cells.append(worker.fate)
                continue
            middle = statistics.median(times[name])
            ratio = "" if name == "oodml" else f", {multiple(middle / own)}"
            cells.append(f"{middle:.3g} ({errors[name]:.0e}{ratio})")
        lines.append(f"| {n:,} | {d} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
        path.unlink()
    for worker in workers:
        worker.close()
    return lines


def ladder_rows(dimension: int, limit: float, quick: bool, folder: Path) -> list[str]:

    from oodml.features.features import Features, FeatureSource
    from oodml.fid.class_moments import ClassMoments, PooledGram, split_terms

    clock = time.process_time if ONE_THREAD in os.environ else time.perf_counter
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(LADDER_CLASSES), SAMPLES_PER_CLASS)
    centres = rng.standard_normal((LADDER_CLASSES, dimension))
    values = (centres[labels] + rng.standard_normal((len(labels), dimension))).astype(np.float32)
    names = tuple(f"{index:03d}" for index in range(LADDER_CLASSES))
    source = FeatureSource("made", "0" * 16, "none", "0" * 64, "none", "fp32")
    features = Features(values, labels, names, source)
    orders = [rng.permutation(LADDER_CLASSES) for _ in range(LADDER_FIDS)]
    half = LADDER_CLASSES // 2
    rows = []
    for level in ("class", "sample") if not quick else ("class",):
        begin = clock()
        moments = ClassMoments.from_features(features, level)
        if level == "class":
            gram = PooledGram.of(moments)
            for order in orders:
                gram.terms(order[:half], order[half:])
            own = clock() - begin
        else:
            own = _walk(moments, split_terms, orders[0][:half], orders[0][half:])
        cells = [f"{own:.3g}"]
        points = [moments.points(side) for side in (orders[0][:half], orders[0][half:])]
        path = folder / f"{level}.npz"
        np.savez(path, a=points[0], b=points[1])
        for name in list(PACKAGES)[1:]:
            worker = Worker(name, limit)
            measured = worker.measure(path)
            worker.close()
            if measured is None:
                cells.append(f"{worker.fate} each")
                continue
            total = measured[0] * LADDER_FIDS
            cells.append(f"{total:,.0f} ({multiple(total / own)})")
        rows.append(f"| {level} | {dimension} | " + " | ".join(cells) + " |")
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _walk(moments: Any, split_terms: Any, train: np.ndarray, test: np.ndarray) -> float:
    # 110 steps that exchange two classes each; the moments follow by the classes that move.
    train, test = train.copy(), test.copy()
    clock = time.process_time if ONE_THREAD in os.environ else time.perf_counter
    begin = clock()
    a, b = moments.of(train), moments.of(test)
    for step in range(LADDER_FIDS):
        places = np.array([2 * step, 2 * step + 1]) % len(train)
        leaving, entering = moments.of(train[places]), moments.of(test[places])
        a, b = a - leaving + entering, b - entering + leaving
        train[places], test[places] = test[places].copy(), train[places].copy()
        split_terms(moments, train, test, train_moments=a, test_moments=b)
    return clock() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat")
    parser.add_argument("--one-thread", action="store_true", help="CPU seconds of one thread")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one distance")
    parser.add_argument("--machine", default="", help="how to call this machine in the table")
    parser.add_argument("-o", "--output", type=Path, help="also write the table to this file")
    parser.add_argument("--worker", choices=list(PACKAGES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker)
        return
    if arguments.one_thread and ONE_THREAD not in os.environ:
        # Thread counts are read when the libraries load, so everything starts again under them.
        os.environ |= {ONE_THREAD: "1", **dict.fromkeys(THREADS, "1")}
        os.execv(sys.executable, [sys.executable, *sys.argv])
    repeats = 1 if arguments.quick else arguments.repeats
    libraries = [*PACKAGES.values(), "numpy", "scipy", "torch"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = QUICK_SIZES if arguments.quick else SIZES
        table = compare(sizes, repeats, arguments.limit, folder)
        ladder = ladder_rows(2048, arguments.limit, arguments.quick, folder)
    text = "\n".join(
        [
            "# The Frechet distance against four peers",
            "",
            f"`python benchmarks/fid_distance.py{' --quick' if arguments.quick else ''}"
            f"{' --one-thread' if arguments.one_thread else ''}` on "
            f"{arguments.machine or 'this machine'}, Python {platform.python_version()}, "
            + ", ".join(f"{library} {version(library)}" for library in libraries)
            + ".",
            "",
            f"{'CPU seconds of one thread' if arguments.one_thread else 'Seconds'} from features"
            " to the distance, "
            + (
                "measured once"
                if repeats == 1
                else f"median of up to {repeats} interleaved repeats"
            )
            + "; in parentheses the error against the closed form, as a "
            "part of the two traces, and the time as a multiple of oodml's.",
            "",
            *table,
            "",
            f"## {LADDER_FIDS} distances along a ladder of {LADDER_CLASSES} classes with "
            f"{SAMPLES_PER_CLASS} samples each",
            "",
            "Seconds; oodml's are measured in full, the peers' are one distance times "
            f"{LADDER_FIDS}.",
            "",
            "| level | d | " + " | ".join(PACKAGES) + " |",
            "|---|---|" + "---|" * len(PACKAGES),
            *ladder,
            "",
        ]
    )
    print(text)
    if arguments.output:
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
