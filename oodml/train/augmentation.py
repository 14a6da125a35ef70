"""Augmentation: a random resized crop and a random flip, every draw from one generator."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from oodml.data.image import open_image, read_image

# Aspect ratios and number of tries of torchvision's RandomResizedCrop (arXiv:1409.4842).
RATIOS = (3 / 4, 4 / 3)
TRIES = 10
# JPEG is decoded at a half, a quarter or an eighth where the crop keeps this many times the pixels
# asked for, along each side: then the resampling hides the difference (Pillow's `reducing_gap`).
SPARE = 2.0
_ORIENTATION = 0x0112

log = logging.getLogger("oodml")

Box = tuple[float, float, float, float]


def random_crop(random: np.random.Generator, width: int, height: int, scale: float) -> Box:
    """A box (left, top, right, bottom) in whole pixels of a random area, shape and place.

    The area is uniform between `scale` and 1 of the image's, the aspect ratio log-uniform between
    3/4 and 4/3. After ten boxes that do not fit, the largest centred one of an allowed ratio.
    """
    low, high = np.log(RATIOS)
    for _ in range(TRIES):
        area = width * height * random.uniform(scale, 1.0)
        ratio = math.exp(random.uniform(low, high))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left = int(random.integers(width - across + 1))
            top = int(random.integers(height - down + 1))
            return left, top, left + across, top + down
    return _central(width, height)


def _central(width: int, height: int) -> Box:
    ratio = min(max(width / height, RATIOS[0]), RATIOS[1])
    across, down = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def augmented(
    path: Path,
    random: np.random.Generator,
    *,
    size: int,
    scale: float,
    resample: Image.Resampling,
) -> Image.Image:
    """The image in `path`, cropped at random, `size` x `size` pixels, mirrored half of the time.

    Raises `DataError` naming the file where it cannot be read.
    """
    image, box = _decoded(path, random, size, scale)
    crop = image.resize((size, size), resample, box=box, reducing_gap=SPARE)
    mirrored = random.integers(2) == 1
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop


def _decoded(
    path: Path, random: np.random.Generator, size: int, scale: float
) -> tuple[Image.Image, Box]:
    """RGB pixels and the box of the crop in them; JPEG no larger than the crop needs."""
    try:
        with open_image(path) as file:
            if isinstance(file, JpegImagePlugin.JpegImageFile) and _upright(file):
                return _at_least(file, random_crop(random, *file.size, scale), SPARE * size)
    except Exception as error:  # whatever is wrong with the file, the reader says it in one line
        log.debug("%s is read without shortcuts: %s", path, error)
    image = read_image(path)
    return image, random_crop(random, *image.size, scale)


def _upright(image: Image.Image) -> bool:
    return image.mode == "RGB" and image.getexif().get(_ORIENTATION, 1) == 1


def _at_least(image: Image.Image, box: Box, side: float) -> tuple[Image.Image, Box]:
    """The image decoded so that no side of the box falls below `side` pixels or its own."""
    width, height = image.size
    left, top, right, bottom = box
    wanted = width * side / (right - left), height * side / (bottom - top)
    image.draft(None, (math.ceil(wanted[0]), math.ceil(wanted[1])))
    image.load()
    across, down = image.width / width, image.height / height
    right, bottom = min(right * across, image.width), min(bottom * down, image.height)
    return image, (left * across, top * down, right, bottom)
