"""Networks without their classifier: where they pool, and what they do while they are trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from oodml.errors import UsageError
from oodml.features.backbones.network import (
    assembled,
    at_size,
    checked,
    pool_layer,
    without_classifier,
)
from oodml.features.backbones.registry import Backbone, load_backbone
from oodml.features.preprocessing import Preprocessing

SMALL = Preprocessing(16, 16, "bilinear", True, (0.0,) * 3, (255.0,) * 3)
POOLED = {
    "resnet18": "avgpool",
    "mobilenet_v3_small": "avgpool",
    "mobilenet_v2": "pool",
    "mnasnet0_5": "pool",
    "shufflenet_v2_x0_5": "pool",
    "googlenet": "avgpool",
}


def drawn(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def lively(network: nn.Module) -> nn.Module:
    """Statistics under which the features neither vanish nor ignore the image."""
    draw = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=draw)
            layer.running_var.uniform_(0.01, 0.03, generator=draw)
    return network.eval()


@pytest.mark.parametrize("name", POOLED)
def test_the_pooling_layer_reads_a_map_whose_mean_the_classifier_reads(
    name: str, tmp_path: Path
) -> None:
    options = {"init_weights": False, "aux_logits": True} if name == "googlenet" else {}
    network = lively(models.get_model(name, weights=None, **options))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    backbone = load_backbone(name, weights=tmp_path / "w.pth", image_size=64)
    assert backbone.pool == POOLED[name]
    maps: list[torch.Tensor] = []
    layer = backbone.module.get_submodule(backbone.pool)
    layer.register_forward_hook(lambda _, inputs, output: maps.extend([inputs[0], output]))
    images = drawn(2, 64)
    with torch.inference_mode():
        values = backbone.module(images)
        last = [each for each in network.modules() if isinstance(each, nn.Linear)][-1]
        expected = network(images)
        assert torch.norm(last(values) - expected) < 1e-4 * torch.norm(expected[0] - expected[1])
    assert torch.allclose(maps[0].mean(dim=(2, 3), keepdim=True), maps[1], rtol=1e-4)
    # The mode for training must give a plain tensor, without auxiliary outputs.
    assert backbone.module.train()(images).shape == (2, backbone.dimension)


def test_the_classifiers_dropout_goes_with_the_classifier() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.Dropout(0.9), nn.Linear(4, 2))
    assert without_classifier(network, "two layers") == 4
    kinds = [type(layer).__name__ for layer in network]
    assert kinds == ["Dropout", "Linear", "Identity", "Identity"]


def test_a_pooling_inside_a_block_is_not_the_networks() -> None:
    excitation = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), excitation)
    assert pool_layer(network) is None
    network.append(nn.AdaptiveAvgPool2d(1))
    assert pool_layer(network) == "2"


@pytest.mark.parametrize(("positions", "pool"), [(1, "1"), (2, None)])
def test_a_pooling_that_keeps_positions_cannot_be_exchanged(
    positions: int, pool: str | None
) -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(positions), nn.Flatten()]
    backbone = assembled("net", nn.Sequential(*layers), SMALL, 4 * positions**2, "0" * 64, "1")
    assert checked(backbone).pool == pool


def tiny(**options: int) -> Backbone:
    return load_backbone("tiny", **options)


def test_the_tiny_network_has_the_same_weights_everywhere() -> None:
    torch.manual_seed(1)
    one = tiny()
    assert one.weights == "a23ed1b404fac483868839caa86a12eb8f256f4ff5ac16f8e4f59332aded60ca"
    assert sum(parameter.numel() for parameter in one.module.parameters()) == 19_056
    torch.manual_seed(2)
    other = tiny(image_size=64)
    assert (one.weights, one.dimension) == (other.weights, other.dimension)
    assert (one.image_size, other.image_size) == (32, 64)
    for size, backbone in ((32, one), (64, other)):
        features = backbone.module(drawn(2, size))
        assert features.shape == (2, 48)
        assert features.std(dim=0).mean() > 0.01, "the features must depend on the image"


def test_another_size_changes_the_transform_and_nothing_else() -> None:
    one = tiny()
    other = at_size(one, 48)
    assert at_size(one, 32) is one
    assert other.module is one.module and other.pool == "pool"
    assert (other.image_size, other.preprocessing) == (48, tiny(image_size=48).preprocessing)
    with pytest.raises(UsageError, match="'tiny' does not take images of 2 pixels"):
        at_size(one, 2)


def test_the_tiny_network_takes_weights_from_a_file(tmp_path: Path) -> None:
    state = {key: value + 1 for key, value in tiny().module.state_dict().items()}
    torch.save(state, tmp_path / "mine.pth")
    loaded = load_backbone("tiny", weights=tmp_path / "mine.pth")
    assert loaded.weights != tiny().weights
    assert all(torch.equal(loaded.module.state_dict()[key], value) for key, value in state.items())
