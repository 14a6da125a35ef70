"""What a kill costs: seconds of training that are done again.

    python benchmarks/lost_work.py [--kills 8]

A process trains a head and notes when every step ended; it is killed (SIGKILL) at a random moment
between 5 and 14 seconds after its first step. Lost is the time from the end of the last step that
`last.pt` holds to the kill. The small head has 1280 x 128 weights (2 MiB of state), the large one
8192 x 3072 (300 MiB of state, that of a ResNet-50 with Adam).
"""

from __future__ import annotations

import argparse
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

RESULT = Path(__file__).parent / "results" / "lost_work.md"
SIZES = {"small": (1280, 128), "large": (8192, 3072)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--train", nargs=2, help="Used by the benchmark itself.")
    arguments = parser.parse_args()
    if arguments.train:
        train(*arguments.train)
        return
    random = np.random.default_rng(0)
    lines = [
        "# What a kill costs",
        "",
        " ".join((__doc__ or "").split("\n\n")[2].split()),
        "",
        "| state | kills | lost, median s | lost, most s |",
        "|---|---:|---:|---:|",
    ]
    for size in SIZES:
        lost = [lost_by_kill(size, float(random.uniform(5, 14))) for _ in range(arguments.kills)]
        lines.append(f"| {size} | {len(lost)} | {np.median(lost):.2f} | {max(lost):.2f} |")
        print(lines[-1], flush=True)
    text = "\n".join([*lines, ""])
    print(text)
    RESULT.write_text(text)


def lost_by_kill(size: str, after: float) -> float:
    """Seconds of training lost by a kill `after` seconds from the first step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = subprocess.Popen([sys.executable, __file__, "--train", size, name])
        while not (folder / "steps").exists() or not (folder / "steps").stat().st_size:
            time.sleep(0.05)
        time.sleep(after)
        killed = time.monotonic()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        times = [value for (value,) in struct.iter_unpack("d", whole(folder / "steps"))]
        kept = folder / "last.pt"
        if not kept.exists():
            return killed - times[0]
        done = torch.load(kept, weights_only=True, mmap=True)["progress"]["steps"]
        return killed - times[done - 1]


def whole(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: len(data) // 8 * 8]


def train(size: str, directory: str) -> None:
    """Train without an end; the file `steps` gets the time of every step."""
    from oodml.features.features import Features, FeatureSource
    from oodml.runs.spec import RunSpec
    from oodml.train.build import Resources, objective_of
    from oodml.train.data import FeatureSamples
    from oodml.train.loop import fit
    from oodml.train.objective import Batch, Training

    torch.set_num_threads(1)
    dimension, embedding_dim = SIZES[size]
    random = np.random.default_rng(0)
    values = random.standard_normal((500, dimension)).astype(np.float32)
    labels = np.repeat(np.arange(50), 10)
    source = FeatureSource("synthetic", "0" * 16, "none", "0" * 64, "none", "fp32")
    pool = Features(values, labels, tuple(f"class {i:02d}" for i in range(50)), source)
    spec = RunSpec.on(
        source,
        "split",
        "contrastive",
        steps=10**7,
        embedding_dim=embedding_dim,
    )
    training = Training(FeatureSamples(values, labels), 0)
    objective = objective_of(spec, training.samples, 50, Resources(pool), 0)
    with (Path(directory) / "steps").open("ab", buffering=0) as file:

        def note(training: Training, batch: Batch) -> None:
            file.write(struct.pack("d", time.monotonic()))

        objective.after_step = note  # type: ignore[method-assign]
        fit(objective, training, Path(directory))


if __name__ == "__main__":
    main()
