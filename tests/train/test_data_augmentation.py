"""Crops of training images: their distribution, their pixels, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import v2

from oodml.data.image import read_image
from oodml.errors import DataError
from oodml.train import data as augmentation
from oodml.train.data import augmented, random_crop

BILINEAR = Image.Resampling.BILINEAR


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def smooth(width: int, height: int, detail: int = 16) -> Image.Image:
    """A picture without detail finer than so many pixels."""
    coarse = random().integers(0, 256, (height // detail, width // detail, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def crop(path: Path, seed: int = 0, size: int = 32, scale: float = 0.5) -> np.ndarray:
    image = augmented(path, random(seed), size=size, scale=scale, resample=BILINEAR)
    assert image.mode == "RGB" and image.size == (size, size)
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("low", [0.08, 0.5])
def test_boxes_are_distributed_as_torchvisions(low: float) -> None:
    width, height, draws = 150, 120, random(1)
    ours = np.array([random_crop(draws, width, height, low) for _ in range(4000)])
    torch.manual_seed(0)
    peer = v2.RandomResizedCrop(8, scale=(low, 1))
    image = torch.zeros(3, height, width)
    made = [peer.make_params([image]) for _ in range(4000)]
    theirs = np.array(
        [[p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]] for p in made]
    )
    assert ours.min() >= 0 and (ours[:, 2] <= width).all() and (ours[:, 3] <= height).all()
    for measure in (lambda boxes: boxes[:, 0], lambda boxes: boxes[:, 1], area, ratio):
        assert ks_2samp(measure(ours), measure(theirs)).pvalue > 1e-3
    assert area(ours).min() >= 0.95 * low * width * height


def ratio(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])


def area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


@pytest.mark.parametrize(
    ("size", "box"), [((400, 20), (186, 0, 213, 20)), ((20, 400), (0, 186, 20, 213))]
)
def test_an_image_that_no_box_fits_is_cropped_in_the_middle(
    size: tuple[int, int], box: tuple[int, ...]
) -> None:
    assert random_crop(random(), *size, 0.9) == box


def test_a_crop_is_the_resized_box_and_mirrored_half_of_the_time(tmp_path: Path) -> None:
    smooth(96, 80).save(tmp_path / "a.jpg", quality=95)
    image, mirrored = read_image(tmp_path / "a.jpg"), 0
    for seed in range(40):
        box = random_crop(random(seed), *image.size, 0.5)
        plain = np.asarray(image.resize((64, 64), BILINEAR, box=box)).astype(int)
        given = crop(tmp_path / "a.jpg", seed, size=64)
        flipped = not np.array_equal(given, plain)
        assert np.array_equal(given, plain[:, ::-1] if flipped else plain)
        mirrored += flipped
    assert 10 <= mirrored <= 30


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smooth(800, 640, 80).save(tmp_path / "a.jpg", quality=95)
    sizes: list[tuple[int, int]] = []
    decoded = augmentation._at_least

    def noted(*arguments: object) -> tuple[Image.Image, augmentation.Box]:
        result = decoded(*arguments)  # type: ignore[arg-type]
        sizes.append(result[0].size)
        return result

    monkeypatch.setattr(augmentation, "_at_least", noted)
    small = [crop(tmp_path / "a.jpg", seed) for seed in range(8)]
    assert set(sizes) <= {(100, 80), (200, 160), (400, 320)} and len(set(sizes)) > 1
    monkeypatch.setattr(augmentation, "SPARE", 1e9)
    full = [crop(tmp_path / "a.jpg", seed) for seed in range(8)]
    assert sizes[8:] == [(800, 640)] * 8
    for one, other in zip(small, full, strict=True):
        assert np.abs(one - other).mean() < 1.0
        assert np.abs(one - other[:, ::-1]).mean() > 10


def test_every_kind_of_file_is_cropped_alike(tmp_path: Path) -> None:
    picture = smooth(96, 80)
    picture.save(tmp_path / "a.png")
    expected = crop(tmp_path / "a.png")
    picture.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to view
    turned.save(tmp_path / "turned.jpg", quality=98, subsampling=0, exif=exif)
    picture.convert("RGBA").save(tmp_path / "a.webp", lossless=True)
    for name in ("a.jpg", "turned.jpg", "a.webp"):
        assert np.abs(crop(tmp_path / name) - expected).mean() < 2, name
    grey = picture.convert("L")
    grey.save(tmp_path / "grey.jpg")
    assert np.ptp(crop(tmp_path / "grey.jpg"), axis=2).max() == 0


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    smooth(96, 80).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    for name in ("cut.jpg", "text.jpg", "gone.jpg"):
        with pytest.raises(DataError, match=f"cannot read the image .*{name}"):
            crop(tmp_path / name)
