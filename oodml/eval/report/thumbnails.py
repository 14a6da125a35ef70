"""Small pictures of the samples that a report shows, each once, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset

SIDE = 72  # pixels of the longer side
BUDGET = 9_000_000  # characters of all pictures together
_QUALITY = 82
_PROBES = 64


def fitting(
    choices: Sequence[Iterable[str]], dataset: Dataset, budget: int = BUDGET
) -> tuple[int, dict[str, str]]:
    """The first of several sets of samples whose pictures fit the budget, and its pictures.

    Returned are the set's place in `choices` and a JPEG data URI per sample name; samples that
    the dataset does not have get none. If no set fits: of the last one as many as do.
    """
    number = {name: index for index, name in enumerate(dataset.sample_names)}

    @cache
    def picture(name: str) -> str:
        return thumbnail(dataset[number[name]][0])

    wanted = [sorted(name for name in choice if name in number) for choice in choices]
    for place, names in enumerate(wanted):
        if _estimate(names, picture) <= budget:
            pictures = _as_many(names, picture, budget)
            if len(pictures) == len(names):
                return place, pictures
    return len(choices) - 1, _as_many(wanted[-1], picture, budget)


def thumbnail(image: Image.Image, side: int = SIDE) -> str:
    """The image, at most `side` pixels high and wide, as a JPEG data URI."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _estimate(names: Sequence[str], picture: Callable[[str], str]) -> float:
    """The characters of all pictures, from a few: reading all takes long where they do not fit."""
    probes = names[:: max(1, len(names) // _PROBES)]
    return sum(len(picture(name)) for name in probes) * len(names) / max(1, len(probes))


def _as_many(names: Sequence[str], picture: Callable[[str], str], budget: int) -> dict[str, str]:
    pictures: dict[str, str] = {}
    for name in names:
        budget -= len(picture(name))
        if budget < 0:
            break
        pictures[name] = picture(name)
    return pictures
