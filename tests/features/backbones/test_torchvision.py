"""Networks of torchvision: their input transforms and the features before the classifier."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.preprocessing import Preprocessing


def load_transform(name: str) -> Preprocessing:
    families = importlib.import_module("oodml.features.backbones.torchvision")
    return families._torchvision_weights(name)[0]


def test_the_preset_of_torchvision_is_repeated() -> None:
    preset = models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    transform = load_transform("resnet50")
    for width, height in [(300, 201), (201, 300), (224, 224), (97, 640)]:
        pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        assert torch.allclose(transform(image), preset(image), atol=1e-5)


def test_googlenet_sees_pixels_as_its_weights_expect() -> None:
    preset = models.GoogLeNet_Weights.IMAGENET1K_V1.transforms()
    peer = models.GoogLeNet(transform_input=True, init_weights=False, aux_logits=False)
    pixels = np.random.default_rng(2).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    theirs = peer._transform_input(preset(Image.fromarray(pixels))[None])[0]
    ours = load_transform("googlenet")(Image.fromarray(pixels))
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small"])
def test_any_torchvision_network_gives_what_its_classifier_reads(name: str, tmp_path: Path) -> None:
    network = models.get_model(name, weights=None).eval()
    # Densenet files carry names from before torch 0.4, norm.1 for norm1.
    state = {
        re.sub(r"(norm|conv)([12])\.", r"\1.\2.", k) if "denselayer" in k else k: v
        for k, v in network.state_dict().items()
    }
    torch.save(state, tmp_path / "w.pth")
    backbone = load_backbone(name, weights=tmp_path / "w.pth", image_size=64)
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)][-1]
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(last(backbone.module(images)), network(images), atol=1e-4)
    if name == "densenet121":
        with pytest.raises(UsageError, match="images of 16 pixels"):
            load_backbone(name, weights=tmp_path / "w.pth", image_size=16)


def test_a_network_without_a_linear_classifier_is_refused(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_1(weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no linear classifier"):
        load_backbone("squeezenet1_1", weights=tmp_path / "w.pth")
