"""Filters and orders of plans."""

from __future__ import annotations

import pytest

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.splits.ladder import Ladder
from oodml.train.plan import filtered, numbers_in, ordered, plan


@pytest.fixture(scope="module")
def specs(ladder: Ladder) -> list[RunSpec]:
    return plan(ladder, ["margin", "margin:beta=0.6", "arcface"], range(3))


def places(specs: list[RunSpec], ladder: Ladder) -> list[tuple[str, int | None, int]]:
    return [(spec.label, ladder.rung_of(spec.data.split), spec.seed) for spec in specs]


def test_a_filter_leaves_what_it_names(specs: list[RunSpec], ladder: Ladder) -> None:
    left = filtered(specs, ladder, "method=margin,rung=0-1,seed=2")
    assert places(left, ladder) == [
        ("margin", 0, 2),
        ("margin(beta=0.6)", 0, 2),
        ("margin", 1, 2),
        ("margin(beta=0.6)", 1, 2),
    ]
    labelled = filtered(specs, ladder, "method=margin(beta=0.6),arcface,seed=0,rung=2")
    assert places(labelled, ladder) == [("margin(beta=0.6)", 2, 0), ("arcface", 2, 0)]
    several = filtered(specs, ladder, "rung=0,2,seed=0-1,method=arcface")
    assert [(rung, seed) for _, rung, seed in places(several, ladder)] == [
        (0, 0), (2, 0), (0, 1), (2, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods=margin", "method"),
        ("margin", "method=margin"),
        ("rung=last", "'last'"),
        ("rung=9", "rung=9"),
        ("seed=-1", "'-1'"),
    ],
)
def test_a_filter_that_means_nothing_is_one_line(
    text: str, said: str, specs: list[RunSpec], ladder: Ladder
) -> None:
    with pytest.raises(UsageError, match=said) as error:
        filtered(specs, ladder, text)
    assert "\n" not in str(error.value)


def test_orders_bring_whole_curves_or_all_seeds_first(specs: list[RunSpec], ladder: Ladder) -> None:
    curves = places(ordered(specs, "curves"), ladder)
    assert [seed for _, _, seed in curves] == [0] * 9 + [1] * 9 + [2] * 9
    seeds = places(ordered(specs, "seeds"), ladder)
    assert seeds[:4] == [("margin", 0, 0), ("margin", 0, 1), ("margin", 0, 2),
                         ("margin(beta=0.6)", 0, 0)]  # fmt: skip
    assert sorted(seeds) == sorted(curves)
    with pytest.raises(UsageError, match="seed"):
        ordered(specs, "seed")


def test_numbers_are_read_as_they_are_typed() -> None:
    assert numbers_in("3", "x") == [3] and numbers_in("2-4", "x") == [2, 3, 4]
    assert numbers_in("4-2", "x") == []
