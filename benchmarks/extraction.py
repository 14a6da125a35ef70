"""Images per second and peak memory of Inception features: oodml against four peers.

    python benchmarks/extraction.py --images 48 --rounds 3

Every tool at its defaults (on the CPU), the same JPEG files, the same randomly initialised network
(trained weights change no timing). Each run is a process of its own; the tools take turns, round
after round, so that a busy machine hurts all alike. Writes benchmarks/results/extraction.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "extraction.md"

# A tool gets the folder of images and the weights file; it returns the job that is timed.
Job = Callable[[], object]


def oodml(precision: str) -> Callable[[Path, Path], Job]:
    def prepare(images: Path, weights: Path) -> Job:
        from oodml.data import load_dataset
        from oodml.features.backbones.registry import load_backbone
        from oodml.features.extraction import extract_features

        dataset = load_dataset(images)
        backbone = load_backbone("inception_fid", weights=weights)
        cache = tempfile.mkdtemp(dir=weights.parent)
        return lambda: extract_features(dataset, backbone, precision=precision, cache=cache)

    return prepare


def pytorch_fid(images: Path, weights: Path) -> Job:
    import torch
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
    model = inception.InceptionV3([3])
    files = sorted(images.rglob("*.jpg"))
    workers = min(8, len(os.sched_getaffinity(0)))
    return lambda: fid_score.get_activations(files, model, num_workers=workers)


def clean_fid(images: Path, weights: Path) -> Job:
    # Its own network file is not on the package index; this is the same network and resizing.
    import torch
    from cleanfid import fid, inception_pytorch
    from cleanfid.features import build_feature_extractor

    inception_pytorch.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
    device = torch.device("cpu")
    model = build_feature_extractor("legacy_pytorch", device, use_dataparallel=False)
    return lambda: fid.get_folder_features(
        str(images), model, mode="clean", device=device, verbose=False
    )


def torch_fidelity(images: Path, weights: Path) -> Job:
    from torch_fidelity import utils

    options = {"feature_extractor_weights_path": str(weights), "verbose": False, "cuda": False}
    extractor = utils.create_feature_extractor("inception-v3-compat", ["2048"], **options)
    source = utils.prepare_input_from_id(1, input1=str(images), samples_find_deep=True, **options)
    return lambda: utils.get_featuresdict_from_dataset(source, extractor, 64, False, False, False)


def torchmetrics(images: Path, weights: Path) -> Job:
    # It brings no loader: the plainest one, Pillow and the default DataLoader of torch.
    import numpy as np
    import torch
    from PIL import Image
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature_extractor_weights_path=str(weights))
    files = sorted(images.rglob("*.jpg"))

    def job() -> None:
        for start in range(0, len(files), 64):
            batch = [np.array(Image.open(path)) for path in files[start : start + 64]]
            metric.update(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2), real=True)

    return job


TOOLS: dict[str, tuple[str, Callable[[Path, Path], Job]]] = {
    "pytorch-fid": ("fp32, batch 50", pytorch_fid),
    "clean-fid": ("fp32, batch 128", clean_fid),
    "torch-fidelity": ("fp32, batch 64", torch_fidelity),
    "torchmetrics": ("fp32, batch 64", torchmetrics),
    "oodml fp32": ("folded, channels last, batch 16", oodml("fp32")),
    "oodml bf16": ("the same under autocast", oodml("bf16")),
}


def make_images(folder: Path, count: int) -> None:
    """Smooth random pictures of 500x375, saved as JPEG: about the cost of a photograph."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for index in range(count):
        target = folder / f"class_{index % 2}" / f"{index:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        coarse.resize((500, 375)).save(target, quality=92)


def make_weights(path: Path) -> None:
    import torch

    from oodml.features.backbones.inception import Inception

    torch.manual_seed(0)
    network = Inception("inception_fid")
    network.fc = torch.nn.Linear(2048, 1008)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(network.state_dict(), path)


def measure(tool: str, images: Path, weights: Path) -> None:
    """In a process of its own: print seconds, CPU seconds and peak memory in MiB."""
    job = TOOLS[tool][1](images, weights)
    start, busy = time.perf_counter(), sum(os.times()[:4])
    job()
    seconds, busy = time.perf_counter() - start, sum(os.times()[:4]) - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([seconds, busy, peak]))


def run(tool: str, images: Path, weights: Path) -> list[float]:
    command = [sys.executable, __file__, "--measure", tool, str(images), str(weights)]
    # Multi-threaded waiting would be counted as work on a shared machine.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{tool} failed:\n{done.stderr[-2000:]}")
    return [float(value) for value in json.loads(done.stdout.strip().splitlines()[-1])]


def table(runs: dict[str, list[list[float]]], images: int, rounds: int, machine: str) -> str:
    rates = {tool: statistics.median(images / run[0] for run in runs[tool]) for tool in runs}
    lines = [
        "# Inception features: images per second and peak memory",
        "",
        f"{machine}. {images} JPEG of 500x375, {rounds} rounds in turn, median; random weights of",
        "the FID network; each tool at its defaults on the CPU, model construction not counted.",
        "`python benchmarks/extraction.py` makes this table. CPU ms/image counts all threads and",
        "processes; peak memory is the main process's, worker processes come on top.",
        "",
        "| tool | setting | images/s (best) | against pytorch-fid | CPU ms/image | peak MiB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for tool, results in runs.items():
        best = max(images / run[0] for run in results)
        busy = 1000 * statistics.median(run[1] for run in results) / images
        peak = max(run[2] for run in results)
        lines.append(
            f"| {tool} | {TOOLS[tool][0]} | {rates[tool]:.1f} ({best:.1f}) "
            f"| {rates[tool] / rates['pytorch-fid']:.2f} | {busy:.0f} | {peak:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--machine", default="2 cores, AVX-512 with bf16, no AMX")
    parser.add_argument("--measure", nargs=3, metavar=("TOOL", "IMAGES", "WEIGHTS"))
    options = parser.parse_args()
    if options.measure:
        tool, images, weights = options.measure
        measure(tool, Path(images), Path(weights))
        return
    with tempfile.TemporaryDirectory() as folder:
        images, weights = Path(folder, "images"), Path(folder, "random_inception.pth")
        make_images(images, options.images)
        make_weights(weights)
        runs: dict[str, list[list[float]]] = {tool: [] for tool in TOOLS}
        for index in range(options.rounds):
            for tool, results in runs.items():
                results.append(run(tool, images, weights))
                rate = options.images / results[-1][0]
                print(f"round {index + 1}: {tool}: {rate:.1f} images/s", flush=True)
    text = table(runs, options.images, options.rounds, options.machine)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
