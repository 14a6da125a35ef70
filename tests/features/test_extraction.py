"""From images to features: order, precision, broken pictures and progress."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from features.conftest import SMALL, Counting, extract, make_folder, shards, tiny

from oodml.data import load_dataset
from oodml.data.dataset import Dataset
from oodml.errors import DataError, UsageError
from oodml.features.backbones.registry import Backbone
from oodml.features.extraction import extract_features


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
        {"precision": "fp8"},
        {"precision": "fp16", "device": "cpu"},
        {"batch_size": 0},
        {"device": "gpu"},
        {"image_size": 32},
    ):
        with pytest.raises(UsageError):
            extract(dataset, tmp_path, **options)


def test_progress_goes_to_stderr_only_when_asked(
    dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    extract(dataset, tmp_path / "a")
    assert capsys.readouterr() == ("", "")
    extract(dataset, tmp_path / "b", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "image/s" in err and "36/36" in err


def test_a_network_that_gives_every_image_the_same_features_is_refused(
    dataset: Dataset, tmp_path: Path
) -> None:
    backbone = tiny()
    for parameter in backbone.module.parameters():
        parameter.data.zero_()
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError, match=r"tiny gives all 36 images the same.*zero") as caught:
            extract_features(dataset, backbone, cache=tmp_path)
        assert "\n" not in str(caught.value)


def test_a_network_that_gives_nothing_finite_is_named(dataset: Dataset, tmp_path: Path) -> None:
    backbone = tiny()
    backbone.module[0].weight.data.fill_(torch.nan)
    with pytest.raises(DataError, match="tiny gives NaN or infinity for all 36 images") as caught:
        extract_features(dataset, backbone, cache=tmp_path)
    assert "\n" not in str(caught.value)
