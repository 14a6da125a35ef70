"""Features of a network's first stage, and what class means leave over."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.features.backbones.registry import load_backbone
from oodml.train.methods.mic import minus_class_means, stage_features
from oodml.train.model import Standardize, trunk


class Residual(nn.Module):
    """A small network in the shape of a residual one: maps of 1/2, 1/4, 1/8 of the side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.stage1 = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.stage2 = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stage2(self.stage1(self.stem(images)))
        return self.pool(maps).flatten(1)


def test_the_first_stage_is_the_last_map_of_a_quarter_of_the_side() -> None:
    torch.manual_seed(0)
    network, images = Residual(), torch.randn(2, 3, 32, 32)
    maps = network.stage1(network.stem(images))
    quarters = [maps[:, :, i : i + 4, j : j + 4].mean((2, 3)) for i in (0, 4) for j in (0, 4)]
    expected = functional.normalize(torch.stack(quarters, dim=2).flatten(1), dim=1)
    found = stage_features(network, images)
    assert found.shape == (2, 20) and torch.allclose(found, expected, atol=1e-6)
    assert not any(module._forward_hooks for module in network.modules())


def test_the_trunks_of_backbones_have_a_stage() -> None:
    body, _ = trunk(load_backbone("tiny"))
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        found = stage_features(body, images)
    assert found.shape == (3, 4 * 48) and torch.allclose(found.norm(dim=1), torch.ones(3))


def test_without_a_map_the_trunk_s_own_features_are_taken() -> None:
    features = torch.randn(5, 7)
    body = Standardize(features)
    assert torch.equal(stage_features(body, features), functional.normalize(body(features), dim=1))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 6))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(stage_features(flat, images), functional.normalize(flat(images), dim=1))


def test_what_class_means_leave_has_mean_zero_in_every_class() -> None:
    # methods.md 5.5, check.
    torch.manual_seed(0)
    labels = torch.tensor([0, 2, 2, 1, 0, 2, 0])
    values = 5 + torch.randn(7, 4)
    centred = minus_class_means(values, labels)
    for each in range(3):
        assert torch.allclose(centred[labels == each].mean(0), torch.zeros(4), atol=1e-6)
    assert torch.allclose(centred[1] - centred[2], values[1] - values[2], atol=1e-6)
