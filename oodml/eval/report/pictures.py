"""Galleries as JSON: queries and neighbours by number, and their pictures as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from oodml.eval.report.gallery import KINDS, QUERIES, Board, Found
from oodml.eval.report.reference_gallery import CHANGES, SIDES, ReferenceBoard

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.eval.statistics.series import Series

SIDE = 72  # pixels of the longer side
BUDGET = 9_000_000  # characters of all pictures together
_QUALITY = 82
_PROBES = 64
_Samples = dict[tuple[str, str], int]


def gallery_content(
    made: Sequence[Board],
    compared: Sequence[ReferenceBoard],
    dataset: Dataset | None,
    lines: Sequence[Series],
    run_numbers: Mapping[str, int],
) -> tuple[dict[str, Any], list[str]]:
    """Boards, samples and classes by number, and the pictures that samples point to.

    A sample is `[name, class, picture or -1]`; a query `[sample, positives, score]` and what was
    found `[sample, similarity, right]`; of `compared` boards a query has both for matched and for
    shifted. Where the pictures of all queries would be too large, each kind shows fewer of them.
    """
    count, pictures = QUERIES, dict[str, str]()
    if dataset is not None and (made or compared):
        counts = range(QUERIES, 0, -1)
        place, pictures = fitting([_shown(made, compared, count) for count in counts], dataset)
        count = counts[place]
    number = {name: index for index, name in enumerate(pictures)}
    classes: dict[str, int] = {}
    samples: _Samples = {}
    boards = [
        {
            "method": lines.index(board.series),
            "rung": board.rung,
            "run": run_numbers[board.run],
            "candidates": board.candidates,
            "queries": board.queries,
            **{kind: [_row(found, samples) for found in board.chosen[kind][:count]]
               for kind in KINDS},
        }
        for board in made
    ]  # fmt: skip
    pairs = [
        {
            "method": lines.index(board.series),
            "rung": board.rung,
            "runs": {side: run_numbers[run] for side, run in board.runs.items()},
            "candidates": board.candidates,
            "queries": board.queries,
            "nearest": board.nearest,
            "kept": board.kept,
            **{kind: [{side: _row(pair[side], samples) for side in SIDES}
                      for pair in board.chosen[kind][:count]]
               for kind in CHANGES},
        }
        for board in compared
    ]  # fmt: skip
    listed = [
        [name, classes.setdefault(class_name, len(classes)), number.get(name, -1)]
        for name, class_name in samples
    ]
    content = {"boards": boards, "compared": pairs, "samples": listed, "classes": list(classes)}
    return content, list(pictures.values())


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


def _row(found: Found, samples: _Samples) -> dict[str, Any]:
    def place(name: str, class_name: str) -> int:
        return samples.setdefault((name, class_name), len(samples))

    listed = zip(found.names, found.classes, found.similarities, found.right, strict=True)
    return {
        "query": [
            place(found.query, found.query_class),
            found.positives,
            round(found.score, 4),
        ],
        "found": [
            [place(name, class_name), similarity, int(right)]
            for name, class_name, similarity, right in listed
        ],
    }


def _shown(made: Sequence[Board], compared: Sequence[ReferenceBoard], count: int) -> Iterator[str]:
    """The names of all samples, if each kind shows so many queries; once each."""
    shown = [found for board in made for kind in KINDS for found in board.chosen[kind][:count]]
    for pair in (
        pair for board in compared for kind in CHANGES for pair in board.chosen[kind][:count]
    ):
        shown += pair.values()
    yield from {name for found in shown for name in (found.query, *found.names)}


def _estimate(names: Sequence[str], picture: Callable[[str], str]) -> float:
    """The characters of all pictures, extrapolated from some, as reading all takes long."""
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
