"""The break-even: where along a ladder what is trained falls to what it started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oodml.eval.statistics.intervals import Array, interval_zeros, t_estimate

# Rounding of a mean that is zero where all seeds are equal.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class BreakEven:
    """Where the gain falls to zero, in rungs: 2.5 is halfway between the third and the fourth.

    `place` is where the mean gain first does, by straight lines between rungs; None where it stays
    above (`above`) on all rungs, or is not above on the first one. `crossings` counts all its
    crossings, of either direction.

    The interval holds every place at which the gain's own 95% t-interval over seeds holds zero, so
    it ends where a chart's band meets zero. Up to `pays_to` the interval lies above zero on all of
    the way from the first rung (None: not even there); from `costs_from` on it lies below zero to
    the last rung (None: not even there). Both are None for one seed.
    """

    rungs: int
    above: bool
    place: float | None
    crossings: int
    pays_to: float | None
    costs_from: float | None

    @property
    def kind(self) -> str:
        """ "within" the ladder, "beyond" its last rung, or "before" its first one."""
        if self.place is not None:
            return "within"
        return "beyond" if self.above else "before"

    def on(self, places: Sequence[float]) -> tuple[float | None, float | None, float | None]:
        """`place`, `pays_to` and `costs_from` on an axis on which the rungs lie at `places`."""
        along = range(self.rungs)
        value, low, high = (
            None if at is None else float(np.interp(at, along, places))
            for at in (self.place, self.pays_to, self.costs_from)
        )
        return value, low, high


def break_even(gains: Array) -> BreakEven:
    """The break-even of gains (seeds, rungs); the interval needs two seeds."""
    seeds, rungs = gains.shape
    crossed = _crossings(gains.mean(0))
    above = bool(gains[:, 0].mean() > 0)
    first = crossed[0] if above and crossed else None
    pays_to, costs_from = _told(gains) if seeds > 1 else (None, None)
    return BreakEven(rungs, above, first, len(crossed), pays_to, costs_from)


def _crossings(means: Array) -> list[float]:
    """Where the broken line through the means changes between above zero and not above."""
    steps = enumerate(zip(means[:-1].tolist(), means[1:].tolist(), strict=True))
    return [
        number + one / (one - other) for number, (one, other) in steps if (one > 0) != (other > 0)
    ]


def _told(gains: Array) -> tuple[float | None, float | None]:
    """The end of the way on which the interval lies above zero, and the start of that below."""
    lower, upper = _interval_zeros(gains)
    last = float(gains.shape[1] - 1)
    first_sign, last_sign = (t_estimate(gains[:, end].tolist()).sign for end in (0, -1))
    return (
        min(lower, default=last) if first_sign == 1 else None,
        max(upper, default=0.0) if last_sign == -1 else None,
    )


def _interval_zeros(gains: Array) -> tuple[list[float], list[float]]:
    """Where the lower end of the gain's interval is zero, and where its upper end is."""
    lower, upper = [], []
    for number in range(gains.shape[1] - 1):
        base, slope = gains[:, number], gains[:, number + 1] - gains[:, number]
        for part in interval_zeros(base, slope):
            if 0 <= part <= 1:
                mean = float((base + part * slope).mean())
                if mean >= -_ROUNDING:
                    lower.append(number + part)
                if mean <= _ROUNDING:
                    upper.append(number + part)
    return lower, upper
