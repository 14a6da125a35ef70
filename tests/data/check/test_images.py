from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from oodml.data.check.duplicates import MAX_DISTANCE
from oodml.data.check.images import is_blank, perceptual_hash

Picture = Callable[..., Image.Image]


def distance(one: Image.Image, other: Image.Image) -> int:
    hashes = [np.frombuffer(perceptual_hash(each) or b"", np.uint8) for each in (one, other)]
    return int(np.unpackbits(hashes[0] ^ hashes[1]).sum())


def test_the_hash_is_that_of_scipys_transform(picture: Picture) -> None:
    image = picture(5)
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    spectrum = dctn(grey, norm="ortho")
    places = sorted(
        ((row, column) for row in range(32) for column in range(32) if row + column),
        key=lambda place: (place[0] + place[1], place[0]),
    )[:256]
    lowest = np.array([spectrum[place] for place in places])
    bits = lowest > 0.1 * np.sqrt((lowest**2).mean())
    assert perceptual_hash(image) == np.packbits(bits).tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_copies_are_near_and_other_pictures_are_far(
    picture: Picture, jpeg: Picture, seed: int
) -> None:
    image = picture(seed)
    half = image.resize((48, 40), Image.Resampling.BICUBIC)
    assert distance(image, jpeg(image)) <= MAX_DISTANCE
    assert distance(image, half) <= MAX_DISTANCE
    assert distance(image, picture(seed + 100)) > 64


def test_a_symmetric_drawing_keeps_its_hash(jpeg: Picture) -> None:
    # Half of its frequencies are zero; a hash that splits at the median tosses a coin for each.
    across, down = np.mgrid[-1:1:96j, -1:1:96j]
    disc = np.where(across**2 + down**2 < 0.5, 40, 255).astype(np.uint8)
    drawing = Image.fromarray(disc).convert("RGB")
    assert distance(drawing, jpeg(drawing)) <= MAX_DISTANCE


def test_flat_pictures_have_no_hash_and_only_one_colour_is_blank(jpeg: Picture) -> None:
    flat = Image.new("RGB", (50, 40), (90, 120, 30))
    assert is_blank(flat) and is_blank(jpeg(flat)) and perceptual_hash(flat) is None
    # Two colours of one grey: something to see, but not for a hash of grey.
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:] = (200, 0, 0), (0, 102, 0)
    halves = Image.fromarray(pixels)
    assert not is_blank(halves)
    assert perceptual_hash(halves) is None


def test_one_pixel_has_no_hash() -> None:
    assert perceptual_hash(Image.new("RGB", (1, 1), "red")) is None
