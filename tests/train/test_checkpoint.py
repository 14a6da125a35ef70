"""The copy of a state that is written while training goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from oodml.files import atomic_write
from oodml.train.checkpoint import copied


def state(value: float, size: int = 4) -> dict[str, object]:
    moments = (torch.full((size,), value), torch.full((2, 2), -value))
    return {"weight": torch.full((3,), value), "moments": moments, "groups": [{"lr": value}]}


def test_a_copy_does_not_change_with_what_it_was_made_of() -> None:
    original = state(1.0)
    copy = copied(original)
    original["weight"].mul_(5)  # type: ignore[attr-defined]
    assert torch.equal(copy["weight"], torch.ones(3)) and copy["groups"] == [{"lr": 1.0}]


def test_a_second_copy_takes_the_memory_of_the_first_where_it_fits() -> None:
    first = copied(state(1.0))
    second = copied(state(2.0, size=5), first)
    assert second["weight"] is first["weight"]
    assert second["moments"][1] is first["moments"][1]
    assert second["moments"][0] is not first["moments"][0]
    expected = state(2.0, size=5)
    assert torch.equal(second["weight"], expected["weight"])  # type: ignore[arg-type]
    for got, wanted in zip(second["moments"], expected["moments"], strict=True):  # type: ignore[call-overload]
        assert torch.equal(got, wanted)
    assert second["groups"] == [{"lr": 2.0}]


def test_a_copy_into_another_kind_of_state_is_a_copy_of_its_own() -> None:
    earlier = {"a": torch.ones(2, dtype=torch.int64), "b": [torch.ones(1)], "c": 1}
    now = {"a": torch.zeros(2), "b": {"x": torch.ones(2)}, "c": torch.ones(1)}
    copy = copied(now, earlier)
    assert copy["a"].dtype == torch.float32 and torch.equal(earlier["a"], torch.ones(2))
    assert torch.equal(copy["b"]["x"], torch.ones(2)) and torch.equal(copy["c"], torch.ones(1))


@pytest.mark.parametrize("durable", [True, False])
def test_only_a_durable_write_waits_for_the_disk(
    durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    with atomic_write(tmp_path / "file", durable=durable) as file:
        file.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole" and bool(waited) is durable
