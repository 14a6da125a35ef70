"""The galleries as the report holds them: every class, sample and picture once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from oodml.eval.report.gallery import KINDS, Board
from oodml.eval.report.queries import QUERIES, Found
from oodml.eval.report.thumbnails import fitting

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset


def gallery_content(
    made: Sequence[Board],
    dataset: Dataset | None,
    methods: Sequence[str],
    run_numbers: dict[str, int],
) -> tuple[dict[str, Any], list[str]]:
    """Boards, samples and classes by number, and the pictures that samples point to.

    A sample is `[name, class, picture or -1]`; a query `[sample, positives, score]` and what was
    found `[sample, similarity, right]`. Where the pictures of all queries would be too large,
    each kind shows fewer of them.
    """
    count, pictures = QUERIES, dict[str, str]()
    if dataset is not None and made:
        counts = range(QUERIES, 0, -1)
        place, pictures = fitting([_shown(made, count) for count in counts], dataset)
        count = counts[place]
    number = {name: index for index, name in enumerate(pictures)}
    classes: dict[str, int] = {}
    samples: dict[tuple[str, str], int] = {}
    content = [
        {
            "method": methods.index(board.method),
            "rung": board.rung,
            "run": run_numbers[board.run],
            "candidates": board.candidates,
            "queries": board.queries,
            **{kind: [_row(found, samples) for found in board.chosen[kind][:count]]
               for kind in KINDS},
        }
        for board in made
    ]  # fmt: skip
    listed = [
        [name, classes.setdefault(class_name, len(classes)), number.get(name, -1)]
        for name, class_name in samples
    ]
    return {"boards": content, "samples": listed, "classes": list(classes)}, list(pictures.values())


def _row(found: Found, samples: dict[tuple[str, str], int]) -> dict[str, Any]:
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


def _shown(made: Sequence[Board], count: int) -> Iterator[str]:
    """The names of all samples, if each kind shows so many queries; once each."""
    seen = {
        name
        for board in made
        for kind in KINDS
        for found in board.chosen[kind][:count]
        for name in (found.query, *found.names)
    }
    yield from seen
