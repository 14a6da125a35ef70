"""Seeded pictures with structure at every scale, as photographs have, and their copies."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def make_picture(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    random = np.random.default_rng(seed)
    layers = [
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for side in (3, 9, 27)
    ]
    return Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.2)


def make_jpeg(image: Image.Image, quality: int = 75) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    return make_picture


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., Image.Image]:
    return make_jpeg


@pytest.fixture(scope="session")
def copies_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of five pictures, with one copy of each kind and two blank images planted.

    Across a and b: a picture at quality 75; across a and c: at half its size, turned and with
    an EXIF note that says so, and as other bytes with equal pixels. Within d: a PNG twice.
    """
    root = tmp_path_factory.mktemp("copies") / "pool"
    for number, name in enumerate("abcd"):
        (root / name).mkdir(parents=True)
        for sample in range(5):
            make_picture(10 * number + sample).save(root / name / f"{sample}.png")
    make_picture(0).save(root / "b" / "again.jpg", quality=75)
    half = make_picture(1)
    half.resize((48, 40), Image.Resampling.BICUBIC).save(root / "c" / "half.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = make_picture(2).transpose(Image.Transpose.ROTATE_90)
    turned.save(root / "c" / "turned.jpg", quality=90, exif=exif)
    make_picture(3).save(root / "c" / "other bytes.bmp")
    make_picture(30).save(root / "d" / "twice.png")
    for name, shade in (("a", "white"), ("b", "white"), ("c", "gray")):
        Image.new("RGB", (64, 64), shade).save(root / name / "blank.png")
    return root
