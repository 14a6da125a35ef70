"""The recall curves of the published study, as reference data to draw and score beside one's own.

`published_curves.json` holds Recall@1 read off the study's figure (arXiv:2107.09562, zero-shot
generalization) and the FIDs of its split files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from oodml.errors import unknown_name
from oodml.eval.statistics.curves import SummaryRow
from oodml.eval.statistics.series import Series


@dataclass(frozen=True)
class PublishedCurve:
    """The Recall@1 of one method on every published rung; None where its marker is hidden.

    `method` is its name here. Values that were computed from the study's lower panel (deviation
    from the mean) and not read off are marked in the file, under `reconstructed_rungs`.
    """

    method: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class PublishedStudy:
    """The published curves of one dataset over `fids`; `default` is the rung of its default split.

    `mean` is the study's mean of its methods per rung. Every value may be off by `reading_error`.
    The FIDs are between class means in ResNet-50 features, so they stand on no axis with FIDs that
    were measured otherwise.
    """

    name: str
    source: str
    reading_error: float
    fids: tuple[float, ...]
    default: int
    curves: tuple[PublishedCurve, ...]
    mean: tuple[float | None, ...]

    def rows(self) -> list[SummaryRow]:
        """The curves as the rows of a summary, hidden markers as gaps, by method, then rung."""
        return [
            SummaryRow(
                Series(curve.method), rung, self.name, fid, 1, value, None, None, (value,), (0,)
            )
            for curve in sorted(self.curves, key=lambda curve: curve.method)
            for rung, (fid, value) in enumerate(zip(self.fids, curve.values, strict=True))
            if value is not None
        ]

    def means(self) -> dict[int, float]:
        """The study's mean of the methods by rung, where it is known."""
        return {rung: mean for rung, mean in enumerate(self.mean) if mean is not None}


def published_study(name: str) -> PublishedStudy:
    """The published curves of "cub200", "cars196" or "sop"; `UsageError` for another name."""
    content = _content()
    if name not in content["datasets"]:
        raise unknown_name("published study", name, content["datasets"])
    found = content["datasets"][name]
    return PublishedStudy(
        name=name,
        source=content["source"],
        reading_error=content["reading_error"],
        fids=tuple(found["fids"]),
        default=found["default_rung"],
        curves=tuple(
            PublishedCurve(method, tuple(curve["recall_at_1"]))
            for method, curve in found["curves"].items()
        ),
        mean=tuple(found["mean"]),
    )


def published_names() -> list[str]:
    """The datasets whose published curves are at hand."""
    return sorted(_content()["datasets"])


@cache
def _content() -> dict[str, Any]:
    text = (
        files("oodml.eval.statistics").joinpath("published_curves.json").read_text(encoding="utf-8")
    )
    content: dict[str, Any] = json.loads(text)
    return content
