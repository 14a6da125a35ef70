"""Pair weights: how strongly a loss pulls or pushes pairs, by their similarity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.files import read_json, write_json
from oodml.records import checked_fields, checked_value

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
    """The pair weights of one batch, small enough to be kept with every run."""

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
