"""Suggestions for wrong names: the closest first, five at most, and short lists whole."""

from __future__ import annotations

from oodml.errors import closest_names, suggestion, unknown_name
from oodml.train.registry import all_methods

MANY = [f"{word}_{number}" for word in ("margin", "proxy") for number in range(6)]


def test_a_short_list_is_printed_whole_closest_first() -> None:
    message = str(unknown_name("method", "margn", ["arcface", "margin", "zoo"]))
    assert message.endswith("Did you mean 'margin'? Known: margin, arcface, zoo.")
    assert suggestion("zzzzzz", ["margin"]) == " Known: margin."
    assert suggestion("x", []) == ""


def test_of_a_long_list_only_the_five_closest_are_named() -> None:
    message = suggestion("margin", MANY)
    assert [name for name in MANY if name in message] == MANY[:5] and "Known" not in message
    assert all(name in suggestion("qqqqqq", MANY) for name in MANY)
    methods = [name for name in all_methods() if f"'{name}'" in suggestion("margn", all_methods())]
    assert "margin" in methods and len(methods) <= 5


def test_names_that_begin_as_typed_come_before_names_spelt_alike() -> None:
    assert closest_names("seed", ["speed", "seeds", "need", "seed_of_data"])[:2] == [
        "seeds",
        "seed_of_data",
    ]
    assert closest_names("MARGIN", ["margins"]) == ["margins"]
