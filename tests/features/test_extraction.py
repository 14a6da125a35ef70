"""From images to cached features: order, precision, broken pictures, damage and sudden death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from oodml.data import load_dataset
from oodml.data.dataset import Dataset
from oodml.errors import DataError, UsageError
from oodml.features import cache as cache_module
from oodml.features.backbones.registry import Backbone
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


def seen(backbone: Backbone) -> int:
    return len(backbone.transform.seen)  # type: ignore[attr-defined]


def extract(dataset: Dataset, cache: Path, **options: object) -> tuple[Features, int]:
    backbone = tiny()
    features = extract_features(dataset, backbone, cache=cache, **options)  # type: ignore[arg-type]
    return features, seen(backbone)


def shards(cache: Path) -> list[Path]:
    return sorted(cache.glob("features/*/shard-*.npz"))


def test_rows_are_the_network_applied_to_each_image(dataset: Dataset, tmp_path: Path) -> None:
    backbone = tiny()
    with torch.no_grad():
        expected = [
            backbone.module(backbone.transform(image)[None])[0].numpy() for image, _ in dataset
        ]
    features, decoded = extract(dataset, tmp_path, batch_size=5)
    assert decoded == len(dataset) == 36
    assert np.allclose(features.values, expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(features.labels, dataset.labels)
    assert features.sample_names == dataset.sample_names
    assert features.class_names == dataset.class_names


class Watching(torch.nn.Module):
    """Notes, batch by batch, how many images were decoded so far and how many are in the batch."""

    seen: ClassVar[list[tuple[int, int]]] = []
    decoded: ClassVar[list[int]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        self.seen.append((len(self.decoded), len(images)))
        return images.mean(dim=(2, 3))


def test_decoding_runs_one_batch_ahead_and_no_further(dataset: Dataset, tmp_path: Path) -> None:
    counting = Counting(seen=Watching.decoded)
    backbone = Backbone("watching", Watching(), counting, 3, "0" * 64, SMALL.text, 16)
    extract_features(dataset, backbone, cache=tmp_path, batch_size=4)
    computed = np.cumsum([size for _, size in Watching.seen])
    ahead = np.array([decoded for decoded, _ in Watching.seen]) - computed
    assert computed[-1] == 36
    assert ahead.max() <= 4
    assert ahead[:-1].max() > 0, "decoding overlaps with computing"


def test_a_second_call_reads_the_same_bits_and_decodes_nothing(
    dataset: Dataset, tmp_path: Path
) -> None:
    first, _ = extract(dataset, tmp_path)
    second, decoded = extract(dataset, tmp_path)
    assert decoded == 0
    assert np.array_equal(first.values, second.values)


def test_everything_that_decides_the_values_is_in_the_key(dataset: Dataset, tmp_path: Path) -> None:
    variants = [
        tiny(),
        replace(tiny(), weights="1" * 64),
        replace(tiny(), preprocessing="other"),
        replace(tiny(), name="other"),
    ]
    for backbone in variants:
        extract_features(dataset, backbone, cache=tmp_path)
        assert seen(backbone) == 36
    assert extract(dataset, tmp_path, precision="bf16")[1] == 36
    order = np.arange(36)[::-1]
    backward = replace(
        dataset,
        labels=dataset.labels[order],
        sizes=dataset.sizes[order],
        sample_names=dataset.sample_names[::-1],
        paths=dataset.paths[::-1],
    )
    assert backward.fingerprint == dataset.fingerprint
    mirrored, _ = extract(backward, tmp_path)
    features, decoded = extract(dataset, tmp_path)
    assert decoded == 0, "the two orders lie side by side"
    assert np.allclose(mirrored.values[::-1], features.values, atol=1e-5)


def test_the_cache_follows_the_environment(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "here"))
    extract_features(dataset, tiny())
    assert len(shards(tmp_path / "here")) == 5


def test_a_picture_exchanged_under_its_name_is_computed_anew(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", suffix="bmp")
    before, _ = extract(load_dataset(root), tmp_path / "cache")
    path = load_dataset(root).paths[10]
    content = bytearray(path.read_bytes())
    content[-600:] = bytes(600)
    path.write_bytes(content)
    after, decoded = extract(load_dataset(root), tmp_path / "cache")
    assert before.source == after.source
    assert decoded == SHARD
    changed = np.flatnonzero(np.any(before.values != after.values, axis=1))
    assert changed.tolist() == [10]


def test_files_that_were_only_touched_are_not_computed_again(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    extract(load_dataset(root), tmp_path / "cache")
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))
    assert extract(load_dataset(root), tmp_path / "cache")[1] == 0


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "text", "shape"])
def test_a_damaged_or_foreign_shard_is_refused_by_name(
    dataset: Dataset, tmp_path: Path, damage: str
) -> None:
    extract(dataset, tmp_path)
    target = shards(tmp_path)[2]
    content = bytearray(target.read_bytes())
    if damage == "cut":
        target.write_bytes(content[:-40])
    if damage == "flip":
        content[300] ^= 1
        target.write_bytes(content)
    if damage == "foreign":
        extract_features(dataset, replace(tiny(), name="other"), cache=tmp_path / "b")
        target.write_bytes(shards(tmp_path / "b")[2].read_bytes())
    if damage == "text":
        target.write_text("hello")
    if damage == "shape":
        target.write_bytes(shards(tmp_path)[4].read_bytes())
    with pytest.raises(DataError, match=f"{target.name} is damaged or foreign.*delete") as caught:
        extract(dataset, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_not_what_its_name_says_is_refused(
    dataset: Dataset, tmp_path: Path
) -> None:
    extract(dataset, tmp_path)
    record = shards(tmp_path)[0].parent / "record.json"
    record.write_text(record.read_text().replace("0" * 64, "1" * 64))
    with pytest.raises(DataError, match=record.parent.name):
        extract(dataset, tmp_path)


def test_a_cache_that_cannot_be_written_is_one_line(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the feature cache.*OODML_CACHE"):
        extract(dataset, tmp_path / "file")


def test_all_broken_images_are_counted_and_named_once(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    dataset = load_dataset(root)
    for row in (9, 30):
        content = dataset.paths[row].read_bytes()
        dataset.paths[row].write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as caught:
        extract(dataset, tmp_path / "cache", batch_size=4)
    text = str(caught.value)
    assert "2 of 36" in text and "skip_broken" in text and "\n" not in text
    assert dataset.sample_names[9] in text and dataset.sample_names[30] in text
    assert len(shards(tmp_path / "cache")) == 1


def test_bf16_is_near_and_not_equal_and_says_so(dataset: Dataset, tmp_path: Path) -> None:
    full, _ = extract(dataset, tmp_path)
    half, _ = extract(dataset, tmp_path, precision="bf16")
    assert (full.source.precision, half.source.precision) == ("fp32", "bf16")
    assert half.values.dtype == np.float32
    error = np.linalg.norm(half.values - full.values) / np.linalg.norm(full.values)
    assert 1e-5 < error < 0.05


def test_what_cannot_be_asked_for_is_a_usage_error(dataset: Dataset, tmp_path: Path) -> None:
    for options in (
        {"precision": "fp16"},
        {"batch_size": 0},
        {"device": "gpu"},
        {"image_size": 32},
    ):
        with pytest.raises(UsageError):
            extract(dataset, tmp_path, **options)


def test_progress_goes_to_stderr_only_when_asked(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(dataset, tmp_path / "a")
    assert capsys.readouterr() == ("", "")
    extract(dataset, tmp_path / "b", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "image/s" in err and "36/36" in err


VICTIM = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
import test_extraction as t
torch.set_num_threads(1)
t.cache_module.SHARD = t.SHARD
t.extract_features(t.load_dataset(sys.argv[2]), t.tiny(pause=0.05), cache=sys.argv[3])
"""


def test_a_killed_extraction_goes_on_where_it_stood_bit_for_bit(
    dataset: Dataset, tmp_path: Path
) -> None:
    root, cache = dataset.paths[0].parent.parent, tmp_path / "cache"
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(Path(__file__).parent), str(root), str(cache)]
    )
    deadline = time.monotonic() + 120
    while len(shards(cache)) < 2 and time.monotonic() < deadline:
        assert victim.poll() is None, "the extraction ended before it could be killed"
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    finished = {path: path.stat().st_mtime_ns for path in shards(cache)}
    assert 2 <= len(finished) < 5

    resumed, decoded = extract(dataset, cache)
    assert decoded == 36 - SHARD * len(finished)
    assert all(path.stat().st_mtime_ns == written for path, written in finished.items())
    whole, _ = extract(dataset, tmp_path / "other")
    assert np.array_equal(resumed.values, whole.values)


def test_two_processes_at_once_share_the_work(dataset: Dataset, tmp_path: Path) -> None:
    root = dataset.paths[0].parent.parent
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(Path(__file__).parent), str(root), str(tmp_path)]
    )
    while not shards(tmp_path):
        assert victim.poll() is None
        time.sleep(0.01)
    features, decoded = extract(dataset, tmp_path)
    assert victim.wait() == 0
    assert decoded == 0
    assert np.isfinite(features.values).all()
