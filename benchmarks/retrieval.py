"""Time and memory of the retrieval metrics against pytorch-metric-learning, in one run.

    python benchmarks/retrieval.py --repeats 5           # 20,000 x 512, 3,740 classes
    python benchmarks/retrieval.py --samples 60502       # the test set of SOP, 11,316 classes
    python benchmarks/retrieval.py --one-thread          # CPU seconds, for a busy machine

Both get the same L2-normalised float32 embeddings, drawn around one centre per class with the class
sizes of Stanford Online Products, and the same number of threads. The peer computes
precision at 1, R-precision and MAP@R by its default search (faiss, exact) with k="max_bin_count",
its quickest setting; oodml computes these and recall at 10, 100 and 1,000. Every measurement runs
in a process of its own, for peak memory; repeats are interleaved and the median is shown.
"Separated" classes have their images among the nearest; of "overlapping" ones a tenth of the
images has; in "mixed" ones hardly an image is near its class.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

SAMPLES, CLASSES, DIMENSION = 60_502, 11_316, 512
NOISE = {"separated": 1.5, "overlapping": 3.0, "mixed": 6.0}
RECALLS = ("recall_at_1", "recall_at_10", "recall_at_100", "recall_at_1000")
SHARED = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
RESULTS = Path(__file__).parent / "results" / "retrieval.md"
FIELDS = ("seconds", "cpu_seconds", "peak_gib")
PEER = "pytorch-metric-learning"


def embeddings(samples: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, d) float32 and labels (n,): two samples a class, the rest at random."""
    random = np.random.default_rng(0)
    classes = samples * CLASSES // SAMPLES
    extra = random.integers(0, classes, samples - 2 * classes)
    labels = np.sort(np.concatenate([np.arange(classes), np.arange(classes), extra]))
    values = random.standard_normal((classes, DIMENSION), dtype=np.float32)[labels]
    values += np.float32(noise) * random.standard_normal((samples, DIMENSION), dtype=np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values, labels


def measure_oodml(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    from oodml.eval.retrieval.evaluate import evaluate
    from oodml.features.features import Features, FeatureSource

    source = FeatureSource("synthetic", "0" * 16, "none", "0" * 64, "none", "fp32")
    names = tuple(str(name) for name in range(int(labels.max()) + 1))
    return evaluate(Features(values, labels, names, source), metrics=(*RECALLS, *SHARED))


def measure_peer(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    device = torch.device("cpu")
    calculator = AccuracyCalculator(include=SHARED, k="max_bin_count", device=device)
    scores = calculator.get_accuracy(torch.from_numpy(values), torch.from_numpy(labels))
    return {name: float(scores[name]) for name in SHARED}


def one_measurement(who: str, samples: int, noise: float) -> None:
    """Print one measurement as JSON; importing and drawing the data are not timed."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    values, labels = embeddings(samples, noise)
    measure = measure_oodml if who == "oodml" else measure_peer
    measure(values[:500], labels[:500])
    started, worked = time.perf_counter(), time.process_time()
    scores = measure(values, labels)
    figures = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - worked,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps({**figures, "scores": scores}))


def run(who: str, samples: int, noise: float, threads: int) -> dict:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, __file__, "--one", who, str(samples), str(noise)],
        env={**os.environ, **dict.fromkeys(names, str(threads))},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure_all(options: argparse.Namespace) -> dict[tuple[str, str], dict]:
    """The medians of interleaved measurements, by kind of embedding and program."""
    found: dict[tuple[str, str], list[dict]] = {}
    for _ in range(options.repeats):
        for kind in options.classes:
            for who in ("oodml", PEER):
                result = run(who, options.samples, NOISE[kind], options.threads)
                found.setdefault((kind, who), []).append(result)
                shown = {name: round(result[name], 2) for name in FIELDS}
                print(kind, who, shown, file=sys.stderr, flush=True)
    return {
        key: {
            **{field: statistics.median(result[field] for result in results) for field in FIELDS},
            "scores": results[0]["scores"],
        }
        for key, results in found.items()
    }


def as_markdown(results: dict[tuple[str, str], dict], options: argparse.Namespace) -> str:
    packages = ("oodml", PEER, "faiss-cpu", "torch", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    threads = "one thread" if options.threads == 1 else f"{options.threads} threads"
    lines = [
        "# Retrieval metrics against pytorch-metric-learning",
        "",
        f"`python benchmarks/retrieval.py {' '.join(sys.argv[1:])}`, {threads}, "
        f"Python {platform.python_version()}, {versions}.",
        "",
        f"{options.samples:,} embeddings of {DIMENSION} dimensions in "
        f"{options.samples * CLASSES // SAMPLES:,} classes; median of {options.repeats}. Both: "
        "precision at 1, R-precision, MAP@R; oodml also recall at 10, 100 and 1,000.",
        "",
        "| classes | program | seconds | CPU seconds | peak memory, GiB | "
        "seconds over oodml's | CPU seconds over oodml's |",
        "|---|---|---|---|---|---|---|",
    ]
    for (kind, who), result in results.items():
        ours = results[kind, "oodml"]
        wall, cpu = (result[name] / ours[name] for name in ("seconds", "cpu_seconds"))
        lines.append(
            f"| {kind} | {who} | {result['seconds']:.1f} | {result['cpu_seconds']:.1f} | "
            f"{result['peak_gib']:.2f} | {wall:.1f} | {cpu:.1f} |"
        )
    lines += ["", "The numbers that both compute:", ""]
    lines += ["| classes | metric | oodml | pytorch-metric-learning |", "|---|---|---|---|"]
    for kind in options.classes:
        ours, theirs = (results[kind, who]["scores"] for who in ("oodml", PEER))
        lines += [f"| {kind} | {name} | {ours[name]:.7f} | {theirs[name]:.7f} |" for name in SHARED]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawTextHelpFormatter
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--one-thread", dest="threads", action="store_const", const=1, default=2)
    parser.add_argument("--classes", action="append", choices=NOISE, help="default: all kinds")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_measurement(options.one[0], int(options.one[1]), float(options.one[2]))
        return
    options.classes = options.classes or list(NOISE)
    text = as_markdown(measure_all(options), options)
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
