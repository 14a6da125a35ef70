"""Image files as they come: damaged, mislabelled, huge, rotated, and of every mode."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from oodml.data.image import (
    MOST_PIXELS,
    UnreadableImageError,
    decoding_error,
    open_image,
    read_image,
    to_rgb,
)
from oodml.errors import DataError

FORMATS = ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm")


def noise(size=(24, 16), seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def encoded(image, suffix, **options):
    buffer = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def written(path, content):
    path.write_bytes(content)
    return path


def pixels(path):
    picture = read_image(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def png_header(width, height):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


def resized_header(jpeg, width, height):
    """The JPEG with another size in its header, as a bomb has it."""
    place = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: place + 5] + struct.pack(">HH", height, width) + jpeg[place + 9 :]


ORIENTED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_all_eight_camera_orientations(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = written(tmp_path / "plain", encoded(noise(), suffix))
    turned = written(tmp_path / "turned", encoded(noise(), suffix, exif=exif))
    assert np.array_equal(pixels(turned), ORIENTED[orientation](pixels(plain)))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_leaves_the_picture_as_it_lies(tmp_path):
    content = encoded(noise(), "png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9)
    assert np.array_equal(pixels(written(tmp_path / "a.png", content)), np.asarray(noise()))
    for suffix in ("jpg", "png", "webp"):
        content = encoded(noise(), suffix, exif=b"Exif\0\0garbage without a header")
        path = written(tmp_path / "a", content)
        assert pixels(path).shape == (16, 24, 3)
        assert decoding_error(path) is None


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.txt"])
def test_the_content_decides_not_the_suffix(tmp_path, suffix, name):
    path = written(tmp_path / name, encoded(noise(), suffix))
    assert pixels(path).shape == (16, 24, 3)
    assert decoding_error(path) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0" * 5000, "it begins with zeros, as a half written file does"),
        (b"a text file", "not an image file of a format that is read here"),
        (b"\n<!DOCTYPE html><title>404</title>", "not an image file: it holds a web page or XML"),
        (b"<HTML>not found", "not an image file: it holds a web page or XML"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "it holds a web page or XML"),
        (b"\x89PNG\r\n\x1a\n", "."),
        (b"\xff\xd8\xff", "."),
        (b"P6 0 0 255\n", "."),
    ],
)
def test_what_is_no_image_is_one_clear_line(tmp_path, content, reason):
    path = written(tmp_path / "a.jpg", content)
    with pytest.raises(DataError, match=f"a.jpg: .*{reason}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert f"a.jpg: {decoding_error(path)}. Mend or remove it, or" in str(caught.value)


def test_postscript_is_not_handed_to_another_program(tmp_path, monkeypatch):
    marker = tmp_path / "executed"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    path = written(tmp_path / "a.png", content)
    assert decoding_error(path) == "not an image file of a format that is read here"
    assert not marker.exists()


def test_a_pipe_or_a_folder_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    for name in ("a.png", "b.png"):
        with pytest.raises(DataError, match=f"{name}: it is no regular file"):
            read_image(tmp_path / name)


def test_a_name_that_is_no_text_is_named_in_one_printable_line(tmp_path):
    path = tmp_path / os.fsdecode("two\nlines \xe9 caf".encode() + b"\xe9.png")
    path.write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert r"two\nlines é caf\xe9.png" in str(caught.value)
    str(caught.value).encode()
    path.write_bytes(encoded(noise(), "png"))
    assert pixels(path).shape == (16, 24, 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_file_is_an_error_or_loses_nothing(tmp_path, suffix):
    content = encoded(noise(), suffix)
    whole = pixels(written(tmp_path / "whole", content))
    path = tmp_path / "cut"
    errors = 0
    for length in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:length])
        reason = decoding_error(path)
        errors += reason is not None
        if reason is None:
            assert np.array_equal(pixels(path), whole), length
        else:
            with pytest.raises(DataError):
                read_image(path)
    assert errors > 50


# Not BMP, PPM and TIFF without compression, where zeros are black pixels as good as any.
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_a_file_whose_end_was_never_written_is_never_silently_grey(tmp_path, suffix):
    content = encoded(noise((64, 64)), suffix)
    whole = pixels(written(tmp_path / "whole", content))
    for share in (0.3, 0.6, 0.9):
        length = int(len(content) * share)
        path = written(tmp_path / "half", content[:length] + bytes(len(content) - length))
        assert decoding_error(path), share
        with pytest.raises(DataError):
            read_image(path)
    path = written(tmp_path / "padded", content + bytes(3000))
    assert np.array_equal(pixels(path), whole)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_compressed_tiff_whose_end_was_never_written_is_told(tmp_path, compression):
    content = encoded(noise((64, 64)), "tif", compression=compression)
    for share in (0.3, 0.6, 0.9):
        length = int(len(content) * share)
        path = written(tmp_path / "half", content[:length] + bytes(len(content) - length))
        assert decoding_error(path), share


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", FORMATS)
def test_damage_gives_a_picture_or_one_clear_line_and_both_readers_agree(tmp_path, suffix):
    clean = encoded(noise(), suffix)
    path = tmp_path / "a"
    draw = np.random.default_rng(2)
    for _ in range(150):
        damaged = bytearray(clean)
        # Headers are where the damage tells.
        for place in draw.integers(0, [len(clean), min(len(clean), 80)]):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged)
        reason = decoding_error(path)
        try:
            assert read_image(path).mode == "RGB"
            assert reason is None
        except DataError as error:
            assert reason is not None and "\n" not in str(error)


@pytest.mark.parametrize("suffix", FORMATS)
def test_one_pixel_is_an_image(tmp_path, suffix):
    image = Image.new("RGB", (1, 1), (255, 255, 255))
    assert pixels(written(tmp_path / "a", encoded(image, suffix))).tolist() == [[[255] * 3]]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_an_animation_or_a_document_the_first_frame_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if suffix == "webp" else {}
    content = encoded(frames[0], suffix, save_all=True, append_images=frames[1:], **lossless)
    path = written(tmp_path / "a", content)
    assert Image.open(path).n_frames == 3
    assert np.unique(pixels(path).reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]


def test_grey_of_16_bits_keeps_its_high_byte(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.repeat((values // 256).astype(np.uint8)[..., None], 3, axis=2)
    image = Image.fromarray(values)
    for suffix in ("png", "tif", "ppm"):
        assert np.array_equal(pixels(written(tmp_path / "a", encoded(image, suffix))), expected)
    big_endian = tiff({258: 16, 262: 1}, values.astype(">u2").tobytes(), (256, 256), ">")
    assert np.array_equal(pixels(written(tmp_path / "b", big_endian)), expected)


def tiff(tags, data, size, order="<"):
    """A TIFF of one strip, from its tags (values in an unsigned short each)."""
    tags = {256: size[0], 257: size[1], 259: 1, 273: 0, 277: 1, 278: size[1], 279: 0} | tags
    start = 8 + 2 + 12 * len(tags) + 4
    long_tags = {273: start, 279: len(data)}
    body = struct.pack(order + "H", len(tags))
    for tag in sorted(tags):
        if tag in long_tags:
            body += struct.pack(order + "HHII", tag, 4, 1, long_tags[tag])
        else:
            body += struct.pack(order + "HHIHH", tag, 3, 1, tags[tag], 0)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + body + bytes(4) + data


def test_grey_where_white_is_zero_and_grey_of_12_bits(tmp_path):
    values = np.array([[0, 1 << 8, 65535]], np.uint16)
    path = written(tmp_path / "a", tiff({258: 16, 262: 0}, values.tobytes(), (3, 1)))
    assert pixels(path)[0, :, 0].tolist() == [255, 254, 0]
    packed = bytes([0xFF, 0xF8, 0x00, 0x01, 0x00, 0x00])  # 4095, 2048, 16, 0
    path = written(tmp_path / "b", tiff({258: 12, 262: 1}, packed, (4, 1)))
    assert pixels(path)[0, :, 0].tolist() == [255, 128, 1, 0]


def test_a_transparent_grey_of_16_bits_is_white(tmp_path):
    image = Image.fromarray(np.array([[0, 700, 65535]], np.uint16))
    path = written(tmp_path / "a", encoded(image, "png", transparency=700))
    assert pixels(path)[0, :, 0].tolist() == [0, 255, 255]


def test_floats_run_from_0_black_to_1_white_or_are_refused(tmp_path):
    values = np.array([[0, 0.25, 0.5, 1]], np.float32)
    path = written(tmp_path / "a", encoded(Image.fromarray(values), "tif"))
    assert pixels(path)[0, :, 1].tolist() == [0, 64, 128, 255]
    for wrong, shown in (([[0, 255]], "0 to 255"), ([[-0.1, 1]], "-0.1 to 1"), ([[0, np.nan]], "")):
        path.write_bytes(encoded(Image.fromarray(np.array(wrong, np.float32)), "tif"))
        with pytest.raises(DataError, match=f"its floats run from .*{shown}.* 8 or 16 bits"):
            read_image(path)
        assert decoding_error(path)


def test_integers_without_a_white_are_refused(tmp_path):
    path = written(tmp_path / "a", encoded(Image.new("I", (2, 2), 70000), "tif"))
    with pytest.raises(DataError, match="32-bit or signed integers is white"):
        read_image(path)


@pytest.mark.parametrize("mode", ["CMYK", "1", "L", "P", "LA", "RGBA", "YCbCr"])
def test_every_mode_has_its_closed_form(tmp_path, mode):
    image = noise().convert("RGBA")
    image.putalpha(noise(seed=1).convert("L"))
    image = (image if mode.endswith("A") else noise()).convert(mode)
    suffix = {"CMYK": "tif", "YCbCr": "tif"}.get(mode, "png")
    shown = pixels(written(tmp_path / "a", encoded(image, suffix))).astype(float)
    stored = np.asarray(image.convert("L") if mode == "1" else image).astype(float)
    assert np.abs(shown - closed_form(mode, stored, image)).max() <= 1.01


def closed_form(mode, stored, image):
    if mode == "CMYK":
        return 255 * (1 - stored[..., :3] / 255) * (1 - stored[..., 3:] / 255)
    if mode == "P":
        return np.array(image.getpalette()).reshape(-1, 3)[stored.astype(int)]
    if mode == "YCbCr":  # ITU-T T.871, section 7
        y, cb, cr = stored[..., 0], stored[..., 1] - 128, stored[..., 2] - 128
        rgb = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
        return np.stack(rgb, axis=-1).clip(0, 255)
    if mode.endswith("A"):
        alpha = stored[..., -1:] / 255
        return np.broadcast_to(stored[..., :-1] * alpha + 255 * (1 - alpha), (*alpha.shape[:2], 3))
    return np.repeat(stored[..., None], 3, axis=2)


def test_a_palette_with_partial_transparency_is_composited_on_white(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 0])
    image.putdata([0, 1, 2])
    content = encoded(image, "png", transparency=bytes([0, 128, 255]))
    shown = pixels(written(tmp_path / "a", content))[0]
    assert shown.tolist()[0] == [255, 255, 255]
    assert np.abs(shown[1] - (np.array([200, 0, 0]) * 128 + 255 * 127) / 255).max() <= 1
    assert shown.tolist()[2] == [0, 0, 0]


def test_premultiplied_colours_are_undone():
    layer = Image.frombytes("RGBa", (1, 1), bytes([100, 0, 50, 128]))
    expected = np.array([100, 0, 50]) + 255 * (1 - 128 / 255)
    assert np.abs(np.array(to_rgb(layer).getpixel((0, 0))) - expected).max() <= 1
    grey = Image.frombytes("La", (1, 1), bytes([100, 128]))
    assert abs(to_rgb(grey).getpixel((0, 0))[0] - expected[0]) <= 1


def test_bands_of_transparency_equal_the_whole(monkeypatch):
    image = noise((30, 20)).convert("RGBA")
    image.putalpha(noise((30, 20), seed=1).convert("L"))
    whole = to_rgb(image)
    monkeypatch.setattr("oodml.data.image._BAND", 70)
    assert np.array_equal(np.asarray(to_rgb(image)), np.asarray(whole))


def test_colour_profiles_are_not_applied_and_a_broken_one_does_no_harm(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain = pixels(written(tmp_path / "a", encoded(noise(), "png")))
    for given in (profile, b"no profile at all"):
        path = written(tmp_path / "b", encoded(noise(), "png", icc_profile=given))
        assert np.array_equal(pixels(path), plain)


def test_a_bomb_is_refused_from_its_header(tmp_path, recwarn):
    path = written(tmp_path / "a.png", png_header(20_000, 20_000) + encoded(noise(), "png")[33:])
    message = "20000 x 20000 pixels large, and read are up to 100,000,000 pixels"
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert message in decoding_error(path)
    assert not recwarn.list


def test_a_large_jpeg_is_reduced_to_what_is_decoded(tmp_path):
    jpeg = encoded(noise(), "jpg")
    for side, decoded in ((10_000, 10_000), (20_000, 10_000), (40_000, 10_000), (65_500, 8188)):
        with open_image(written(tmp_path / "a", resized_header(jpeg, side, side))) as image:
            assert image.size == (decoded, decoded)
    with open_image(written(tmp_path / "a", resized_header(jpeg, 12_000, 9_000))) as image:
        assert image.size == (6_000, 4_500)


@pytest.mark.parametrize("kind", ["progressive", "one component a scan"])
def test_a_large_jpeg_of_several_scans_is_refused(tmp_path, kind):
    jpeg = encoded(noise(), "jpg", progressive=kind == "progressive")
    place = jpeg.find(b"\xff\xda") + 4  # components of the first scan
    if kind != "progressive":
        assert jpeg[place] == 3
        jpeg = jpeg[:place] + b"\1" + jpeg[place + 1 :]
    path = written(tmp_path / "a", resized_header(jpeg, 20_000, 20_000))
    with (
        pytest.raises(UnreadableImageError, match="JPEG that is not progressive"),
        open_image(path),
    ):
        pass


def test_webp_has_a_limit_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("oodml.data.image.MOST_PIXELS_OF_WEBP", 383)
    path = written(tmp_path / "a", encoded(noise(), "webp"))
    assert "24 x 16 pixels large, and read are up to 383 pixels" in decoding_error(path)


def test_a_hair_is_refused_before_it_is_scaled_to_gigabytes(tmp_path):
    path = written(tmp_path / "a", encoded(Image.new("L", (1, 1001)), "png"))
    with pytest.raises(DataError, match="1 x 1001 pixels large, and read are shapes up to 1000:1"):
        read_image(path)
    assert pixels(written(tmp_path / "b", encoded(Image.new("L", (1, 1000)), "png"))).size == 3000


def test_pillows_own_limit_stays_as_the_user_has_set_it():
    assert Image.MAX_IMAGE_PIXELS is not None and MOST_PIXELS > Image.MAX_IMAGE_PIXELS


PEAK = """
import sys
from oodml.data.image import read_image
def high_water():  # kilobytes; ru_maxrss counts the parent's too
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = high_water()
print(*read_image(sys.argv[1]).size, high_water() - before)
"""


def peak(path):
    """Width, height, and by how many megabytes reading the picture made its process grow."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )
    width, height, kilobytes = map(int, done.stdout.split())
    return width, height, kilobytes / 1000


@pytest.mark.long
@pytest.mark.parametrize(
    ("suffix", "mode", "size", "options"),
    [
        ("jpg", "RGB", (10_000, 8_000), {}),
        ("jpg", "RGB", (10_000, 10_000), {"progressive": True, "subsampling": 0}),
        ("jpg", "CMYK", (10_000, 10_000), {"progressive": True}),
        ("jpg", "RGB", (20_000, 20_000), {}),
        ("png", "RGBA", (10_000, 10_000), {"compress_level": 1}),
        ("webp", "RGBA", (10_000, 8_000), {"lossless": True, "method": 0}),
        ("png", "I;16", (10_000, 10_000), {"compress_level": 1}),
    ],
)
def test_the_largest_images_take_the_memory_that_is_stated(tmp_path, suffix, mode, size, options):
    image = Image.new(mode, size, 77 if mode in ("P", "I;16") else (7,) * len(mode))
    if suffix == "jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {**options, "exif": exif}
    path = written(tmp_path / "a", encoded(image, suffix, **options))
    del image
    width, height, megabytes = peak(path)
    print(suffix, mode, width, height, f"{megabytes:.0f} MB")
    assert sorted((width, height), reverse=True) == [10_000, min(size[1], 10_000)]
    assert megabytes < 1330
