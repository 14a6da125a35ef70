"""Folding batch normalisation changes nothing but rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from features.conftest import features_of, lively
from torchvision import models

from oodml.features import engine
from oodml.features.backbones import inception
from oodml.features.backbones.registry import load_backbone
from oodml.features.engine import fold_batch_norm


def test_the_module_stays_trainable_after_folding_a_copy(fid_weights: Path) -> None:
    backbone = load_backbone("inception_fid", weights=fid_weights, image_size=75)
    images = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(0))
    frozen = features_of(engine.frozen(backbone, "fp32", "cpu"), images)
    assert all(parameter.requires_grad for parameter in backbone.module.parameters())
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.module.modules()) == 94
    live = backbone.module(images)
    assert np.allclose(
        frozen, live.detach().numpy(), rtol=1e-3, atol=1e-4 * live.abs().max().item()
    )
    live.sum().backward()
    assert backbone.module.Conv2d_1a_3x3.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("build", "folded"), [(models.resnet18, 20), (lambda: inception.Inception("inception_fid"), 94)]
)
def test_every_batch_norm_that_can_be_is_folded(
    build: Callable[[], torch.nn.Module], folded: int
) -> None:
    network = lively(build())
    images = torch.randn(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(images)
        assert fold_batch_norm(network) == folded
        after = network(images)
    assert torch.norm(after - before) < 1e-4 * torch.norm(before)


class Shared(torch.nn.Module):
    """A convolution that a second reader uses without the normalisation must not be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        return maps + self.norm(maps)


class Untraceable(Shared):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(images)) if images.sum() > 0 else images


@pytest.mark.parametrize("kind", [Shared, Untraceable])
def test_what_cannot_be_folded_is_left_alone(kind: type[Shared]) -> None:
    network, images = lively(kind()), torch.ones(1, 3, 8, 8)
    before = network(images)
    assert fold_batch_norm(network) == 0
    assert torch.equal(network(images), before)


def test_fp32_is_float32_whatever_the_process_has_set() -> None:
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)
    seen: list[list[str]] = []

    def state() -> list[str]:
        return [place.fp32_precision for place in places]

    class Watching(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(state())
            return images.mean(dim=(2, 3))

    before = state()
    try:
        for place in places:
            place.fp32_precision = "tf32"
        backbone = replace(load_backbone("tiny"), module=Watching())
        embed = engine.frozen(backbone, "fp32", "cpu", images=1)
        seen.clear()  # tracing ran the network too
        for _ in embed(torch.zeros(6, 3, 8, 8).split(3)):
            assert state() == ["tf32"] * 3
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
    assert seen == [["ieee"] * 3] * 2
