"""Pair weights, how strongly a loss pulls or pushes pairs by their similarity, and their chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.eval.figures.style import GREY, TEST, TRAIN, new_figure, save_figure
from oodml.eval.statistics.series import Series, series_of
from oodml.files import read_json, write_json
from oodml.records import checked_fields, checked_value
from oodml.runs.record import RunRecord
from oodml.runs.store import Store

_COLUMNS = 3
_PANEL = (2.1, 1.5)  # inches
_PULLED = "pairs of one class are pulled together below 0"
_PUSHED = "pairs of two classes are pushed apart above 0"
FILE = "pairs.json"
BINS = 40
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairWeights:
    """Every pair of a batch: its `similarity` (p,), whether it is `positive`, and its `weight`.

    A loss moves its samples as the sum over pairs of `weight` times the gradient of the pair's
    similarity would: below zero a step of descent raises the similarity (pulls the pair together),
    above zero it lowers it. `partner` is "sample" where two samples of the batch make a pair, or
    "proxy" where a sample and a learned vector of a class do.
    """

    similarity: Values
    positive: npt.NDArray[np.bool_]
    weight: Values
    partner: str

    def binned(self) -> BinnedWeights:
        """Mean and extent of the weights in 40 bins of similarity from -1 to 1."""
        place = np.clip(((self.similarity + 1) / 2 * BINS).astype(int), 0, BINS - 1)
        return BinnedWeights(
            self.partner,
            _bins(place[self.positive], self.weight[self.positive]),
            _bins(place[~self.positive], self.weight[~self.positive]),
        )


@dataclass(frozen=True)
class Bin:
    """The weights of the pairs whose similarity lies in [`low`, `low` + 0.05)."""

    low: float
    pairs: int
    mean: float
    least: float
    most: float


@dataclass(frozen=True)
class BinnedWeights:
    """The pair weights of one batch, as the means and extents of 40 bins of similarity."""

    partner: str
    positive: tuple[Bin, ...]
    negative: tuple[Bin, ...]

    def save(self, path: Path) -> None:
        """Write `pairs.json` atomically."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> BinnedWeights:
        """The weights in a file; `DataError` naming it if it is not one of ours."""
        record: dict[str, Any] = read_json(path, "pair weights")
        try:
            sides = [_read(record[side], f"{side} pairs") for side in ("positive", "negative")]
            return cls(checked_value(str, record["partner"], "partner", "pair weights"), *sides)
        except (KeyError, TypeError, DataError) as error:
            raise DataError(f"{path} holds no pair weights ({error}).") from None


def plot_pair_weights(
    weights: Mapping[str, BinnedWeights], path: str | Path, *, title: str = ""
) -> None:
    """Write mean and extent of the pair weights against similarity, a panel for each label.

    Every panel is scaled to its own largest weight, since weights of different losses have
    different units: read the shapes. Equal weights give equal bytes. Raises `UsageError` for a
    suffix other than .png, .svg and .pdf, `DataError` if there is nothing to draw.
    """
    if not weights:
        raise DataError(
            "no run holds pair weights; runs of losses over pairs, triplets and class vectors "
            "record them on request (keep_pair_weights)."
        )
    with save_figure(path) as save:
        save(_figure(weights, title))


def kept_weights(store: Store, records: Sequence[RunRecord]) -> dict[str, BinnedWeights]:
    """By the name of its series, the pair weights kept of the lowest seed that has some."""
    found: dict[Series, BinnedWeights] = {}
    series = series_of(record.spec for record in records)
    for record in sorted(records, key=lambda each: each.spec.seed):
        for path in sorted(store.run_directory(record.id).rglob(FILE)):
            found.setdefault(series[record.id], BinnedWeights.load(path))
    return {each.name: weights for each, weights in sorted(found.items(), key=lambda item: item[0])}


def _figure(weights: Mapping[str, BinnedWeights], title: str) -> Any:
    columns = min(_COLUMNS, len(weights))
    rows = ceil(len(weights) / columns)
    figure = new_figure(max(columns * _PANEL[0], 4.2), rows * _PANEL[1] + 0.75)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, (label, own) in zip(panels, weights.items(), strict=False):
        _draw(axes, label, own)
    for axes in panels[len(weights) :]:
        axes.set_visible(False)
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.42 / figure.get_figwidth(),
        right=0.99,
        bottom=0.42 / height,
        top=1 - 0.55 / height,
        hspace=0.35,
        wspace=0.08,
    )
    figure.supxlabel("cosine similarity of the pair", fontsize=8, y=0.02 / height)
    top = 1 - 0.08 / height
    if title:
        figure.text(0.01, top, title, fontsize=8, va="top")
    figure.text(0.01, top - 0.17 / height, _PULLED, fontsize=7, color=TRAIN, va="top")
    figure.text(0.99, top - 0.17 / height, _PUSHED, fontsize=7, color=TEST, va="top", ha="right")
    return figure


def _draw(axes: Any, label: str, weights: BinnedWeights) -> None:
    both = (*weights.positive, *weights.negative)
    largest = max((abs(value) for b in both for value in (b.least, b.most)), default=0.0) or 1.0
    for side, color in ((weights.negative, TEST), (weights.positive, TRAIN)):
        _draw_side(axes, side, color, largest)
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set(xlim=(-1, 1), ylim=(-1.08, 1.08), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    name = label if weights.partner == "sample" else f"{label} (proxies)"
    axes.set_title(name, fontsize=7.5, loc="left", pad=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


def _draw_side(axes: Any, side: Sequence[Bin], color: str, largest: float) -> None:
    centers = [b.low + 1 / BINS for b in side]
    axes.vlines(
        centers,
        [b.least / largest for b in side],
        [b.most / largest for b in side],
        color=color,
        alpha=0.3,
        linewidth=2.0,
    )
    axes.plot(centers, [b.mean / largest for b in side], ".", color=color, markersize=3)


def _read(bins: Any, what: str) -> tuple[Bin, ...]:
    return tuple(Bin(**checked_fields(Bin, each, what)) for each in bins)


def _bins(place: npt.NDArray[np.int64], weight: Values) -> tuple[Bin, ...]:
    return tuple(
        Bin(
            round(number * 2 / BINS - 1, 6),
            len(own),
            float(own.mean()),
            float(own.min()),
            float(own.max()),
        )
        for number in range(BINS)
        if len(own := weight[place == number])
    )
