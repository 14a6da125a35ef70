"""Any decoded picture as RGB of 8 bits: what each mode means, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from oodml.data.image import UnreadableImageError

# Pixels composited at a time, so that transparency does not take four copies of a large image.
_BAND = 4_000_000
_BITS, _PHOTOMETRIC = 258, 262  # TIFF 6.0, section 8
_WHITE_IS_ZERO = 0


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB, 8 bits a channel; the same object if it is that already.

    Transparency is composited on white. Grey of 9 to 16 bits is scaled: its highest byte counts.
    Floats run from 0 (black) to 1 (white). CMYK is (1 - ink)(1 - black). Embedded colour profiles
    are not applied: the numbers in the file are taken for sRGB, as the networks' training did.
    Raises `UnreadableImageError` for floats outside 0 to 1 and for integers of 32 bits.
    """
    if image.mode.startswith("I"):
        return _from_deep_grey(image)
    if image.mode == "F":
        return _from_float(image)
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    if image.mode == "I" and image.format == "TIFF":
        raise UnreadableImageError(
            "nothing says which number of its 32-bit or signed integers is white; save it in 8 or "
            "16 bits"
        )
    values = np.asarray(image)
    grey = (values >> (_bits(image) - 8)).clip(0, 255).astype(np.uint8)
    if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return _grey(grey)


def _bits(image: Image.Image) -> int:
    given = _tag(image, _BITS)
    return int(given[0]) if given else 16


def _tag(image: Image.Image, number: int) -> Any:
    return getattr(image, "tag_v2", {}).get(number)


def _from_float(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise UnreadableImageError(
            f"its floats run from {low:.4g} to {high:.4g}, and 0 is read as black, 1 as white; "
            "scale them, or save it in 8 or 16 bits"
        )
    return _grey(np.round(values * 255).astype(np.uint8))


def _grey(values: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        layer = _with_alpha(image.crop(box))
        white = Image.new("RGBA", layer.size, "white")
        canvas.paste(Image.alpha_composite(white, layer).convert("RGB"), box)
    return canvas


def _with_alpha(image: Image.Image) -> Image.Image:
    # Pillow undoes premultiplied grey only as grey.
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
