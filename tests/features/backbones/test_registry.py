"""Names of backbones: the listing, unknown names, missing packages and weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision import models

from oodml.errors import DataError, UsageError
from oodml.features import weights
from oodml.features.backbones.registry import backbone_names, load_backbone
from oodml.features.extraction import extract_features


def test_unknown_names_get_the_closest_match() -> None:
    for given, match in (
        ("inception_fit", "inception_fid"),
        ("efficientnet", "efficientnet_lite0"),
        ("efficientnet_b9", "efficientnet_b"),
        ("resnet51", "resnet50"),
        ("convnext_tinny", "convnext_tiny"),
    ):
        with pytest.raises(UsageError, match=f"Did you mean '{match}") as caught:
            load_backbone(given)
        assert "NAME" not in str(caught.value)
    with pytest.raises(UsageError, match="torch-fidelity"):
        load_backbone("inception_fid", resize="torchfidelity")
    with pytest.raises(UsageError, match="inception_fid only"):
        load_backbone("resnet50", resize="clean-fid")
    with pytest.raises(UsageError, match="a side of 16 to 4096 pixels"):
        load_backbone("resnet50", image_size=3)


def test_timm_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UsageError, match=r"oodml\[timm\]"):
        load_backbone("timm:resnet18")


def test_no_backbone_falls_back_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(weights, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.delenv("OODML_WEIGHTS_DIR", raising=False)
    for name in ("inception_v3", "inception_fid", "resnet50"):
        with pytest.raises(weights.WeightsNotFound, match=f"no weights for {name} .*https://"):
            load_backbone(name)
    dataset = SimpleNamespace(name="x", fingerprint="y")
    with pytest.raises(weights.WeightsNotFound, match="inception_v3"):
        extract_features(dataset)  # type: ignore[arg-type]


def test_the_listing_names_each_backbone_once() -> None:
    names = [name for name, _ in backbone_names()]
    assert len(set(names)) == len(names)
    own = {"inception_v3", "inception_fid", "resnet50", "efficientnet_lite0", "tiny"}
    assert own <= set(names)


def test_the_weights_of_another_network_are_named_by_their_keys(tmp_path: Path) -> None:
    state = models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    for name in ("inception_fid", "resnet50", "efficientnet_lite0"):
        with pytest.raises(
            DataError, match=rf"another network than {name} \(missing: .* (foreign|wrong shape): "
        ):
            load_backbone(name, weights=tmp_path / "resnet18.pth")
