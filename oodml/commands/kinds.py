"""Kinds of values that click has no type for."""

from __future__ import annotations

import math
from typing import Any

import click


class NamedPath(click.Path):
    """A path that has a name: "" would be the folder one is in, and comes from unset variables."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error for an empty one."""
        if value == "":
            self.fail("the name is empty; give one, or . for this folder.", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number in a range; NaN, which is in none, and infinity are refused."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; a usage error for one that is not finite."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return float(number)


class Draws(click.IntRange):
    """How often something is drawn at random: not at all, or often enough for a deviation."""

    def __init__(self, least: int = 2) -> None:
        super().__init__(0, 1_000_000)
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; a usage error for one that is neither 0 nor enough."""
        number = int(super().convert(value, param, ctx))
        if 0 < number < self.least:
            self.fail(f"{number} is too few; give {self.least} or more, or 0.", param, ctx)
        return number
