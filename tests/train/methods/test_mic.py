"""MIC: clusters without class means, auxiliary batches, and the loss of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from train.methods.conftest import (
    CLASSES,
    DIMENSION,
    LABELS,
    SIZE,
    batch,
    make,
    of,
    samples,
    training,
    value,
)

from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.train.loop import seeded
from oodml.train.methods.mic import InterclassMining, minus_class_means, stage_features
from oodml.train.methods.parts.mining import DistanceWeighted
from oodml.train.methods.parts.several_heads import Adversary
from oodml.train.model import Standardize, trunk


def test_the_first_clusters_are_of_features_without_their_class_means(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Tensor] = []

    def watched(values: Any, k: int, *, seed: int) -> Any:
        seen.append(torch.from_numpy(values))
        return np.arange(len(values)) % k

    monkeypatch.setattr("oodml.train.methods.mic.clusters_of", watched)
    ours = of(InterclassMining, "mic", clusters=4, update_every=2)
    given = training()
    for epoch in range(4):
        ours.begin_epoch(given, epoch)
    first, second = seen
    # methods.md 5.5: centred features have zero mean in every class.
    for each in range(CLASSES):
        assert torch.allclose(
            first[torch.from_numpy(LABELS) == each].mean(0), torch.zeros(SIZE), atol=1e-6
        )
    unit = functional.normalize(samples().values, dim=1)
    assert torch.allclose(first[0] - first[1], unit[0] - unit[1], atol=1e-6)
    expected = functional.normalize(ours.second(samples().values), dim=1)
    assert torch.allclose(second, expected, atol=1e-6)


def test_a_cluster_keeps_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([np.arange(48) % 4, (np.arange(48) + 1) % 4])
    monkeypatch.setattr("oodml.train.methods.mic.clusters_of", lambda *_, **__: next(found))
    ours = of(InterclassMining, "mic", clusters=4)
    for epoch in range(2):
        ours.begin_epoch(training(), epoch)
        assert torch.equal(ours.clusters, torch.arange(48) % 4)


def test_an_auxiliary_batch_stands_behind_the_class_batch() -> None:
    ours = of(InterclassMining, "mic", clusters=4, auxiliary=0.5, substitution=0.0)
    given = training()
    ours.begin_epoch(given, 0)
    ours.clusters = torch.arange(48) % 4
    joined = 0
    for epoch in range(10):
        plain = list(make("margin").loader(given, epoch))
        for own, alone in zip(ours.loader(given, epoch), plain, strict=True):
            assert np.array_equal(own[:12], alone)
            joined += len(own) > 12
            assert len(own) == 12 or np.bincount(ours.clusters[own[12:]]).tolist().count(4) == 3
    assert 10 < joined < 30


def test_samples_are_substituted_within_their_cluster() -> None:
    drawn = {}
    for substitution in (0.0, 0.2, 1.0):
        ours = of(InterclassMining, "mic", clusters=4, auxiliary=1.0, substitution=substitution)
        ours.begin_epoch(training(), 0)
        ours.clusters = torch.arange(48) % 4
        epochs = [index for epoch in range(20) for index in ours.loader(training(), epoch)]
        drawn[substitution] = np.stack(epochs)[:, 12:]
    assert all(np.array_equal(each % 4, drawn[0.0] % 4) for each in drawn.values())
    # A substitute is the sample itself once in 12.
    for substitution, each in drawn.items():
        changed = (each != drawn[0.0]).mean()
        assert changed == pytest.approx(substitution * 11 / 12, abs=0.04)


def test_the_loss_of_mic_is_that_of_both_batches() -> None:
    ours = of(InterclassMining, "mic", clusters=4, auxiliary=1.0, decorrelation=500.0)
    ours.begin_epoch(training(), 0)
    ours.loader(training(), 0)
    given = batch(rows=24)
    encoded = ours.encode(given.inputs)
    second = functional.normalize(ours.second(given.inputs), dim=1)
    clusters = ours.clusters[given.index][12:]
    with seeded(0, "value"):
        own = encoded.embedding[:12]
        triplets = DistanceWeighted()(own.detach(), given.labels[:12])
        classes = ours.criterion.loss(own, given.labels[:12], triplets)
        triplets = DistanceWeighted()(second[12:].detach(), clusters)
        auxiliary = ours.others[0].loss(second[12:], clusters, triplets)
    adversary = ours.adversaries[0]
    assert isinstance(adversary, Adversary)
    apart = [adversary(encoded.embedding[part], second[part]) for part in HALVES]
    expected = classes + auxiliary + 500.0 * (DIMENSION / 128) ** 2 * sum(apart)
    assert torch.allclose(value(ours, given), expected)
    assert len(ours.others[0].loss.beta) == 4


HALVES = (slice(0, 12), slice(12, 24))


def test_fewer_samples_have_fewer_clusters() -> None:
    ours = of(InterclassMining, "mic", clusters=30)
    ours.begin_epoch(training(), 0)
    assert ours.clusters.unique().tolist() == list(range(12))
    with pytest.raises(UsageError, match="clusters=1"):
        make("mic", clusters=1)


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
