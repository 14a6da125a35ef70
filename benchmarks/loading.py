"""Training images per second: oodml's threads against torchvision's ImageFolder and DataLoader.

    python benchmarks/loading.py --rounds 9

The same JPEG files, the same augmentation (a random resized crop to 224 pixels from 8% of the area
on, a random flip, normalisation), batches of 100. The loaders take turns, one pass each, round
after round, so that a busy machine hurts all alike; the first round warms up and is not counted.
Writes benchmarks/results/loading.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from oodml.data import load_dataset
from oodml.features.preprocessing import Preprocessing
from oodml.train.data import Draw, ImageSamples, prefetched

RESULT = Path(__file__).parent / "results" / "loading.md"
SIZE, BATCH = 224, 100
# Width, height and number of the files: a collection like CUB-200, and photographs as cameras save.
COLLECTIONS = {"500x400": (500, 400, 400), "1600x1200": (1600, 1200, 100)}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PEER = "torchvision, 2 worker processes"

# One pass over the images: `seed` in, batches (100, 3, 224, 224) out.
Pass = Callable[[int], Iterable[torch.Tensor]]
# Images per second, and milliseconds of processor time an image.
Figures = tuple[float, float]


def make_images(folder: Path, width: int, height: int, count: int) -> None:
    """Pictures with coarse and fine structure and noise, in two classes, JPEG at quality 90."""
    draw = np.random.default_rng(0)
    for number in range(count):
        layers = [_layer(draw, width, height, grain) for grain in (80, 12, 2)]
        picture = Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.1)
        path = folder / f"class_{number % 2}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=90)


def _layer(draw: np.random.Generator, width: int, height: int, grain: int) -> Image.Image:
    coarse = draw.integers(0, 256, (height // grain, width // grain, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def torchvision_pass(folder: Path, workers: int) -> Pass:
    steps = [
        transforms.RandomResizedCrop(SIZE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, DEVIATION),
    ]
    images = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    # Workers that live on, as oodml's threads do, so that no pass pays for starting them.
    loader = DataLoader(
        images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda seed: (batch for batch, _ in loader)


def oodml_pass(folder: Path, threads: int) -> Pass:
    dataset = load_dataset(folder)
    scale = [tuple(255 * value for value in values) for values in (MEAN, DEVIATION)]
    preprocessing = Preprocessing(SIZE, 256, "bilinear", True, *scale)
    samples = ImageSamples(dataset.paths, dataset.labels, preprocessing, threads=threads)

    def batches(seed: int) -> Iterable[torch.Tensor]:
        order = np.random.default_rng(seed).permutation(len(dataset))
        parts = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
        return prefetched(((part, Draw(seed, at)) for at, part in enumerate(parts)), samples)

    return batches


def loaders(folder: Path) -> dict[str, Pass]:
    return {
        PEER: torchvision_pass(folder, 2),
        "torchvision, in the main process": torchvision_pass(folder, 0),
        "oodml, 2 threads": oodml_pass(folder, 2),
        "oodml, 1 thread": oodml_pass(folder, 1),
    }


def busy() -> float:
    """Seconds of processor time of this process and its worker processes so far."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def timed(one_pass: Pass, seed: int, count: int) -> Figures:
    """Images per second, and milliseconds of processor time an image, of one pass."""
    start, before = time.perf_counter(), busy()
    loaded = sum(len(batch) for batch in one_pass(seed))
    if loaded != count:
        raise RuntimeError(f"{loaded} of {count} images were loaded")
    return count / (time.perf_counter() - start), 1000 * (busy() - before) / count


def measure(folder: Path, count: int, rounds: int) -> dict[str, list[Figures]]:
    passes = loaders(folder)
    figures: dict[str, list[Figures]] = {name: [] for name in passes}
    for seed in range(rounds + 1):
        for name, one_pass in passes.items():
            rate, cost = timed(one_pass, seed, count)
            if seed:
                figures[name].append((rate, cost))
                print(f"round {seed}: {name}: {rate:.0f} images/s, {cost:.1f} ms", flush=True)
    return figures


def table(results: dict[str, dict[str, list[Figures]]], rounds: int, machine: str) -> str:
    lines = [
        "# Loading training images: images per second",
        "",
        f"{machine}. {rounds} rounds in turn, median (best).",
        f"Batches of {BATCH}, random resized crop to {SIZE} pixels, random flip, normalised "
        "float32;",
        "JPEG of quality 90, made by the script, in the system's cache. CPU ms/image counts all",
        "threads and worker processes, and depends less than the rates on what else runs.",
        "`python benchmarks/loading.py` makes this table.",
        "",
        "| loader |" + "".join(f" {size}: images/s | ratio | CPU ms/image |" for size in results),
        "|---|" + "---:|---:|---:|" * len(results),
    ]
    for name in next(iter(results.values())):
        cells = []
        for figures in results.values():
            middle, cost = (statistics.median(each) for each in zip(*figures[name], strict=True))
            ratio = middle / statistics.median(rate for rate, _ in figures[PEER])
            best = max(rate for rate, _ in figures[name])
            cells += [f"{middle:.0f} ({best:.0f})", f"{ratio:.2f}", f"{cost:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--machine", default=f"{len(os.sched_getaffinity(0))} cores")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name, (width, height, count) in COLLECTIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            make_images(Path(folder), width, height, count)
            results[name] = measure(Path(folder), count, options.rounds)
    text = table(results, options.rounds, options.machine)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
