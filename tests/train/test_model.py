"""The trunk: poolings against closed forms, and BatchNorm that stays as it is or does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from oodml.errors import UsageError
from oodml.features.backbones.registry import Backbone, load_backbone
from oodml.train.model import POOLINGS, FrozenBatchNorm, GeneralizedMeanPool, trunk


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("tiny")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_each_pooling_is_its_formula() -> None:
    maps = drawn(2, 5, 3, 4).abs()
    values = maps.numpy().reshape(2, 5, 12).astype(np.float64)
    expected = {
        "avg": values.mean(axis=2),
        "max": values.max(axis=2),
        "avg+max": values.mean(axis=2) + values.max(axis=2),
        "gem": (values**3).mean(axis=2) ** (1 / 3),
    }
    assert set(expected) == set(POOLINGS)
    for name, numbers in expected.items():
        pooled = POOLINGS[name]()(maps)
        assert pooled.shape == (2, 5, 1, 1)
        np.testing.assert_allclose(pooled.detach().flatten(1), numbers, rtol=1e-5)


def test_generalised_mean_lies_between_mean_and_maximum() -> None:
    maps = drawn(2, 5, 3, 4).abs()
    mean, most = POOLINGS["avg"]()(maps), POOLINGS["max"]()(maps)
    # methods.md 7.2: p = 1 is the mean, p to infinity the maximum.
    assert torch.allclose(GeneralizedMeanPool(power=1.0)(maps), mean)
    scaled = maps / most
    assert torch.allclose(GeneralizedMeanPool(power=1000.0)(scaled), most / most, atol=4e-3)
    assert torch.all(GeneralizedMeanPool()(maps) > mean)
    assert GeneralizedMeanPool()(torch.zeros(1, 1, 2, 2)).item() == pytest.approx(1e-6)


def test_the_power_of_the_generalised_mean_is_trained() -> None:
    pool, maps = GeneralizedMeanPool().double(), drawn(1, 1, 3, 3).abs().double()
    (slope,) = torch.autograd.grad(pool(maps.double()).sum(), pool.power)
    above, below = (GeneralizedMeanPool(3.0 + each).double()(maps).sum() for each in (1e-2, -1e-2))
    assert slope.item() == pytest.approx((above - below).item() / 2e-2, rel=1e-3)


def test_the_default_is_the_backbone_bit_for_bit(backbone: Backbone) -> None:
    images = drawn(2, 3, 32, 32)
    module, dimension = trunk(backbone)
    assert dimension == backbone.dimension
    assert torch.equal(module(images), backbone.module(images))
    assert torch.equal(trunk(backbone, pooling="avg")[0](images), backbone.module(images))


@pytest.mark.parametrize("pooling", ["default", *POOLINGS])
def test_a_trunk_is_a_trainable_copy(backbone: Backbone, pooling: str) -> None:
    before = {key: value.clone() for key, value in backbone.module.state_dict().items()}
    module, dimension = trunk(backbone, pooling=pooling, freeze_batchnorm=False)
    module.train()
    features = module(drawn(4, 3, 32, 32))
    assert features.shape == (4, dimension)
    trained = torch.optim.SGD(module.parameters(), lr=0.1)
    features.square().sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in module.parameters())
    trained.step()
    assert any("power" in name for name, _ in module.named_parameters()) == (pooling == "gem")
    assert all(
        torch.equal(backbone.module.state_dict()[key], value) for key, value in before.items()
    )


def test_the_poolings_give_different_features(backbone: Backbone) -> None:
    images = drawn(2, 3, 32, 32)
    with torch.inference_mode():
        features = [trunk(backbone, pooling=name)[0](images) for name in POOLINGS]
    for position, one in enumerate(features):
        for other in features[position + 1 :]:
            assert (one - other).abs().mean() > 1e-2


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_after_an_epoch(backbone: Backbone, frozen: bool) -> None:
    module, _ = trunk(backbone, freeze_batchnorm=frozen)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    module.eval()
    module.train()
    for step in range(3):
        optimizer.zero_grad()
        module(drawn(4, 3, 32, 32, seed=step)).square().mean().backward()
        optimizer.step()
    same = {key for key, value in module.state_dict().items() if torch.equal(value, before[key])}
    parts = ("running_mean", "running_var", "num_batches_tracked")
    statistics = {key for key in before if key.endswith(parts)}
    assert len(statistics) == 9
    assert same == (statistics if frozen else set())


def test_frozen_batch_norm_is_trained_but_follows_no_train() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    frozen = FrozenBatchNorm(network).train()
    assert [layer.training for layer in network] == [True, False, True]
    assert all(parameter.requires_grad for parameter in frozen.parameters())
    assert all(parameter.requires_grad for parameter in network[0].parameters())
    assert not any(layer.training for layer in frozen.eval().modules())


def test_a_pooling_that_has_no_place_or_no_meaning_is_refused(backbone: Backbone) -> None:
    with pytest.raises(UsageError, match=r"'gam'.*'gem'"):
        trunk(backbone, pooling="gam")
    tokens = replace(backbone, name="vit_b_16", pool=None)
    with pytest.raises(UsageError, match="'vit_b_16'"):
        trunk(tokens, pooling="gem")
    assert trunk(tokens)[1] == backbone.dimension
