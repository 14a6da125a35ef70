"""Networks of timm: what is read of a file, what is refused; timm itself where it is installed."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.weights import WeightsNotFound


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("bomb-went-off"),))


def fake_timm(create: Any, has_weights: bool = True) -> SimpleNamespace:
    """The functions of timm that are called before a network exists."""
    return SimpleNamespace(
        is_model=lambda name: name.partition(".")[0] == "resnet18",
        list_models=lambda: ["resnet18"],
        list_pretrained=lambda pattern: ["resnet18.a1_in1k", "resnet18.tv_in1k"],
        get_pretrained_cfg=lambda name: SimpleNamespace(has_weights=has_weights),
        create_model=create,
        models=SimpleNamespace(set_pretrained_check_hash=lambda enable: None),
    )


def test_a_pickle_that_timm_would_execute_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    (tmp_path / "bomb.bin").write_bytes(pickle.dumps(Bomb(), protocol=2))

    def create(model: str, **_: object) -> None:
        torch.load(tmp_path / "bomb.bin", weights_only=False)

    monkeypatch.setitem(sys.modules, "timm", fake_timm(create))
    with pytest.raises(WeightsNotFound, match=r"UnpicklingError.*as weights") as caught:
        load_backbone("timm:resnet18")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bomb-went-off").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_network_without_trained_weights_is_not_drawn_at_random(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", fake_timm(pytest.fail, has_weights=False))
    with pytest.raises(WeightsNotFound, match=r"resnet18 .it has none.*as weights"):
        load_backbone("timm:resnet18")


def test_unknown_networks_and_unknown_weights_get_the_closest_match(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", fake_timm(pytest.fail))
    for given, match in (("resnet19", "resnet18"), ("resnet18.a2_in1k", "resnet18.a1_in1k")):
        with pytest.raises(UsageError, match=f"Did you mean 'timm:{match}'"):
            load_backbone(f"timm:{given}")


@pytest.mark.parametrize(
    ("name", "size", "pool"),
    [
        ("resnet10t", 64, "global_pool.pool"),
        ("mobilenetv3_small_050", 64, "global_pool.pool"),
        ("vit_tiny_patch16_224", 96, None),
    ],
)
def test_networks_of_timm_at_another_size(
    name: str, size: int, pool: str | None, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model(name, pretrained=False).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    backbone = load_backbone(f"timm:{name}", weights=tmp_path / "w.pth", image_size=size)
    assert (backbone.pool, backbone.image_size) == (pool, size)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    if pool is None:
        network.set_input_size(img_size=size)
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
        assert torch.allclose(backbone.module(images), expected, atol=1e-5)
