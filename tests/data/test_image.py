import io

import numpy as np
import pytest
from PIL import Image

from oodml.data.image import decoding_error, read_image
from oodml.errors import DataError


def noise(size=(40, 30), mode="RGB"):
    channels = len(mode)
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(values.squeeze())


def test_transparency_is_composited_on_white(tmp_path):
    layer = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    layer.putpixel((1, 0), (200, 0, 0, 255))
    layer.save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png")
    assert picture.mode == "RGB"
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 0, 0)]


def test_transparent_palette_is_composited_on_white(tmp_path):
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30])
    palette.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png")
    assert [picture.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    noise().convert(mode).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").mode == "RGB"


def test_camera_rotation_is_carried_out(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise((40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (30, 40)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif"])
def test_truncation_is_seen_by_reading_and_by_checking(tmp_path, suffix):
    whole, half = tmp_path / f"whole.{suffix}", tmp_path / f"half.{suffix}"
    noise().save(whole)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert decoding_error(whole) is None
    assert decoding_error(half)
    with pytest.raises(DataError, match=f"half.{suffix}"):
        read_image(half)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "the file is empty"), (b"hello", "not an image file")]
)
def test_what_is_no_image_is_named(tmp_path, content, reason):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"a.png: {reason}"):
        read_image(path)
    assert decoding_error(path).startswith(reason)
    assert decoding_error(tmp_path / "absent.png") == "there is no such file"


def test_damage_at_any_byte_gives_a_picture_or_one_clear_line(tmp_path):
    path = tmp_path / "a.png"
    buffer = io.BytesIO()
    noise((8, 8), "RGBA").save(buffer, "PNG")
    clean = buffer.getvalue()
    draw = np.random.default_rng(1)
    for position in range(len(clean)):
        damaged = bytearray(clean)
        damaged[position] ^= int(draw.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert read_image(path).mode == "RGB"
        except DataError as error:
            assert "\n" not in str(error)
