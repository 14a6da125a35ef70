"""Small networks and folders of pictures, and Inception with random weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodml.data import load_dataset
from oodml.data.dataset import Dataset
from oodml.features import cache as cache_module
from oodml.features.backbones import inception
from oodml.features.backbones.registry import Backbone
from oodml.features.engine import Embed, Values
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.features.preprocessing import Preprocessing

SHARD = 8


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SHARD", SHARD)


SMALL = Preprocessing(16, None, "bicubic", True, (127.5,) * 3, (127.5,) * 3)


@dataclass
class Counting:
    """A transform that counts the images it saw; `pause` seconds each."""

    pause: float = 0.0
    seen: list[int] = field(default_factory=list)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        self.seen.append(1)
        time.sleep(self.pause)
        return SMALL(image)


def tiny(pause: float = 0.0) -> Backbone:
    draw = torch.Generator().manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 12, 3, bias=False),
        torch.nn.BatchNorm2d(12),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    ).eval()
    for parameter in module.parameters():
        parameter.data.normal_(generator=draw)
    module[1].running_mean.normal_(generator=draw)
    return Backbone("tiny", module, Counting(pause), 12, "0" * 64, SMALL.text, 16)


def make_folder(root: Path, count: int = 36, suffix: str = "png") -> Path:
    draw = np.random.default_rng(0)
    for index in range(count):
        folder = root / f"class_{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (20, 18 + index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.{suffix}")
    return root


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(make_folder(tmp_path_factory.mktemp("images")))


def features_of(embed: Embed, images: torch.Tensor, batch_size: int = 100) -> Values:
    return np.concatenate(list(embed(images.split(batch_size))))


def seen(backbone: Backbone) -> int:
    return len(backbone.transform.seen)  # type: ignore[attr-defined]


def extract(dataset: Dataset, cache: Path, **options: object) -> tuple[Features, int]:
    backbone = tiny()
    features = extract_features(dataset, backbone, cache=cache, **options)  # type: ignore[arg-type]
    return features, seen(backbone)


def shards(cache: Path) -> list[Path]:
    return sorted(cache.glob("features/*/shard-*.npz"))


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights whose features neither vanish nor ignore the image, statistics included."""
    draw = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, generator=draw)
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=draw)
            layer.running_var.uniform_(0.5, 1.5, generator=draw)
            layer.weight.data.uniform_(0.8, 1.2, generator=draw)
            layer.bias.data.normal_(0, 0.1, generator=draw)
    return module.eval()


@pytest.fixture(scope="module")
def fid_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of pt_inception-2015-12-05-6726825d.pth, under a name without a hash."""
    network = lively(inception.Inception("inception_fid"))
    network.fc = torch.nn.Linear(2048, 1008)
    path = tmp_path_factory.mktemp("weights") / "random_inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of pictures of various sizes, as PNG and as JPEG."""
    root, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for shade, name in enumerate(("a", "b")):
        (root / name).mkdir()
        for index, (width, height) in enumerate(SIZES[shade::2]):
            coarse = draw.integers(0, 255 - 100 * shade, (height // 8 + 1, width // 8 + 1, 3))
            picture = Image.fromarray(coarse.astype(np.uint8)).resize((width, height))
            picture.save(root / name / f"{index}.{'png' if index % 2 else 'jpg'}")
    return root


SIZES = [(299, 299), (64, 48), (320, 500), (31, 200)]
