"""From image files to features: oodml against four peers, and against eager torch's network alone.

    python benchmarks/extraction.py --rounds 3
    python benchmarks/extraction.py --photographs 101_ObjectCategories --images 256

Inception: every tool at its defaults on the CPU, the same JPEG files, the same random weights
(trained ones change no timing). EfficientNet-Lite0 at 112 pixels, as in the demo: oodml's whole
path against a loop that only runs the network, on images decoded before. Each run is a process of
its own; the tools take turns, round after round, so that a busy machine hurts all alike. Writes
benchmarks/results/extraction.md.
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
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "extraction.md"
SIZE = (500, 375)  # of the JPEG files; one size, since pytorch-fid and torchmetrics take no two
PACKAGES = ("torch", "openvino", "pytorch-fid", "clean-fid", "torch-fidelity", "torchmetrics")
# What limits the instructions of torch, of oneDNN in torch and OpenVINO, and of OpenBLAS.
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE")

MOST = 1024  # images that eager torch gets, whose rate does not depend on their number

# A tool gets the folder of images and the weights file; it returns the job that is timed. A job may
# return the number of images that it did, if not all.
Job = Callable[[], object]
Tool = Callable[[Path, Path], Job]


def oodml(images: Path, weights: Path, *, backbone: str, engine: bool = True) -> Job:
    from oodml.data import load_dataset
    from oodml.features.backbones.registry import load_backbone
    from oodml.features.extraction import extract_features

    if not engine:
        sys.modules["openvino"] = None  # type: ignore[assignment]
    dataset = load_dataset(images)
    if backbone == "inception_fid":
        network = load_backbone(backbone, weights=weights)
    else:
        network = load_backbone(backbone, image_size=112)
    cache = tempfile.mkdtemp(dir=weights.parent)
    return lambda: extract_features(dataset, network, cache=cache)


def pytorch_fid(images: Path, weights: Path) -> Job:
    import torch
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
    model = inception.InceptionV3([3])
    files = sorted(images.rglob("*.jpg"))
    workers = min(8, len(os.sched_getaffinity(0)))
    return lambda: fid_score.get_activations(files, model, num_workers=workers)


def clean_fid(images: Path, weights: Path) -> Job:
    # Its own network is a TorchScript file to download; this is the same one, with its resizing.
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
    # It brings no loader: the plainest one, Pillow in the same process.
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


def eager(images: Path, weights: Path, *, folded: bool) -> Job:
    """The network alone, on images decoded before the clock starts; returns their number."""
    import torch

    from oodml.data import load_dataset
    from oodml.features.backbones.registry import load_backbone
    from oodml.features.engine import fold_batch_norm

    dataset = load_dataset(images)
    backbone = load_backbone("efficientnet_lite0", image_size=112)
    rows = range(min(len(dataset), MOST))
    inputs = torch.stack([backbone.transform(dataset[row][0]) for row in rows])
    network = backbone.module.eval()
    if folded:
        fold_batch_norm(network)
        network.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)

    def job() -> int:
        with torch.inference_mode():
            for batch in inputs.split(64):
                network(batch)
        return len(inputs)

    return job


PEER = "pytorch-fid"
INCEPTION: dict[str, tuple[str, Tool]] = {
    PEER: ("batch 50", pytorch_fid),
    "clean-fid": ("batch 128, the network of pytorch-fid", clean_fid),
    "torch-fidelity": ("batch 64", torch_fidelity),
    "torchmetrics": ("batch 64", torchmetrics),
    "oodml": ("OpenVINO", partial(oodml, backbone="inception_fid")),
    "oodml in torch": (
        "where OpenVINO is not installed",
        partial(oodml, backbone="inception_fid", engine=False),
    ),
}
EAGER = "eager torch, network alone"
LITE: dict[str, tuple[str, Tool]] = {
    EAGER: ("batch 64", partial(eager, folded=False)),
    f"{EAGER}, prepared": ("folded, channels last, batch 64", partial(eager, folded=True)),
    "oodml, from the files": ("OpenVINO", partial(oodml, backbone="efficientnet_lite0")),
}
TOOLS = INCEPTION | LITE


def make_images(folder: Path, count: int, photographs: Path | None) -> None:
    """JPEG files of 500x375: photographs scaled to that, or smooth random pictures."""
    import numpy as np
    from PIL import Image

    found = sorted(photographs.rglob("*.jpg")) if photographs else []
    draw = np.random.default_rng(0)
    for index in range(count):
        if photographs:
            picture = Image.open(found[index * len(found) // count]).convert("RGB")
        else:
            picture = Image.fromarray(draw.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        picture.resize(SIZE).save(_target(folder, index, ".jpg"), quality=92)


def link_emoji(folder: Path) -> int:
    """Links to the emoji of the demo; how many."""
    from oodml.data import load_dataset

    paths = load_dataset("emoji").paths
    for index, path in enumerate(paths):
        _target(folder, index, Path(path).suffix).symlink_to(path)
    return len(paths)


def _target(folder: Path, index: int, suffix: str) -> Path:
    path = folder / f"class_{index % 2}" / f"{index:05d}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


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
    """In a process of its own: print seconds and CPU seconds an image, and peak memory in MiB."""
    job = TOOLS[tool][1](images, weights)
    start, busy = time.perf_counter(), sum(os.times()[:4])
    done = job()
    seconds, busy = time.perf_counter() - start, sum(os.times()[:4]) - busy
    count = done if isinstance(done, int) else sum(path.is_file() for path in images.rglob("*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([seconds / count, busy / count, peak]))


def run(tool: str, images: Path, weights: Path) -> list[float]:
    command = [sys.executable, __file__, "--measure", tool, str(images), str(weights)]
    # Multi-threaded waiting would be counted as work on a shared machine.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{tool} failed:\n{done.stderr[-2000:]}")
    return [float(value) for value in json.loads(done.stdout.strip().splitlines()[-1])]


def in_turn(tools: list[str], images: Path, weights: Path, rounds: int) -> dict[str, list]:
    runs: dict[str, list[list[float]]] = {tool: [] for tool in tools}
    for index in range(rounds):
        for tool, results in runs.items():
            results.append(run(tool, images, weights))
            seconds, busy, _ = results[-1]
            print(
                f"round {index + 1}: {tool}: {1 / seconds:.1f} images/s, CPU {1000 * busy:.1f} ms",
                flush=True,
            )
    return runs


def table(runs: dict[str, list[list[float]]], peer: str) -> list[str]:
    middle = {
        tool: [statistics.median(run[place] for run in results) for place in (0, 1)]
        for tool, results in runs.items()
    }
    lines = [
        "| tool | setting | images/s (best) | faster | CPU ms/image | less CPU | peak MiB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for tool, results in runs.items():
        seconds, busy = middle[tool]
        best = 1 / min(run[0] for run in results)
        peak = max(run[2] for run in results)
        lines.append(
            f"| {tool} | {TOOLS[tool][0]} | {1 / seconds:.1f} ({best:.1f}) "
            f"| {middle[peer][0] / seconds:.2f} | {1000 * busy:.1f} "
            f"| {middle[peer][1] / busy:.2f} | {peak:.0f} |"
        )
    return lines


def machine() -> str:
    """The processor's name, the cores that may be used and the instructions in use."""
    import torch

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        fields = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines())
        name = next((field[1].strip() for field in fields if "model name" in field[0]), name)
    limits = [f"{limit}={os.environ[limit]}" for limit in LIMITS if limit in os.environ]
    text = f"{name}, {len(os.sched_getaffinity(0))} cores, "
    text += f"{torch.backends.cpu.get_cpu_capability()} in torch"
    if limits:
        text += f", limited by `{' '.join(limits)}`"
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        text += " (in OpenVINO this holds for convolutions and products, not for the rest)"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="JPEG files for Inception")
    parser.add_argument("--more-images", type=int, default=2048, help="for EfficientNet-Lite0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photographs", type=Path, help="folder with .jpg files; else made ones")
    parser.add_argument("--machine", default="", help="how to call this machine in the table")
    parser.add_argument("--measure", nargs=3, metavar=("TOOL", "IMAGES", "WEIGHTS"))
    options = parser.parse_args()
    if options.measure:
        tool, images, weights = options.measure
        measure(tool, Path(images), Path(weights))
        return
    print(machine(), flush=True)
    kind = "photographs" if options.photographs else "made pictures"
    with tempfile.TemporaryDirectory() as name:
        folder, weights = Path(name), Path(name, "random_inception.pth")
        make_images(folder / "few", options.images, options.photographs)
        make_images(folder / "more", options.more_images, options.photographs)
        emoji = link_emoji(folder / "emoji")
        make_weights(weights)
        inception = in_turn(list(INCEPTION), folder / "few", weights, options.rounds)
        lite = {
            what: in_turn(list(LITE), folder / where, weights, options.rounds)
            for what, where in (
                (f"the demo's {emoji} emoji", "emoji"),
                (f"{options.more_images} JPEG {kind} of 500x375", "more"),
            )
        }
    lines = [
        "# From image files to features",
        "",
        f"{options.machine or machine()}. Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in PACKAGES)
        + ".",
        f"`python benchmarks/extraction.py` makes these tables: fp32, {options.rounds} rounds in "
        "turn, median; *faster* and *less CPU* are multiples of the first row. Building the "
        "network is not counted; oodml's conversion by OpenVINO is. CPU ms/image counts all "
        "threads and processes, and depends less than the rates on what else runs; peak memory is "
        "the main process's, worker processes come on top.",
        "",
        f"## Inception, {options.images} JPEG {kind} of 500x375",
        "",
        "Random weights of the FID network; each tool at its defaults.",
        "",
        *table(inception, PEER),
    ]
    for what, runs in lite.items():
        lines += [
            "",
            f"## EfficientNet-Lite0 at 112 pixels, {what}",
            "",
            f"The network alone gets at most {MOST} of them, decoded before.",
            "",
            *table(runs, EAGER),
        ]
    text = "\n".join(lines) + "\n"
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
