"""A device is seen to be there before any work is done."""

from __future__ import annotations

import pytest
import torch

from oodml.device import usable_device
from oodml.errors import UsageError


def test_the_default_is_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_device("cpu") == torch.device("cpu")
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: int(there))
        assert usable_device().type == ("cuda" if there else "cpu")


def test_a_gpu_is_counted_and_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", None)
    assert usable_device("cuda:1").index == 1
    with pytest.raises(UsageError, match=r"'cuda:2' cannot be used here \(CUDA devices: 2\)"):
        usable_device("cuda:2")


def test_names_that_torch_does_not_know_are_usage_errors() -> None:
    for name in ("gpu", "cuda:x", "hpu"):
        with pytest.raises(UsageError, match="try cpu") as error:
            usable_device(name)
        assert "\n" not in str(error.value)
