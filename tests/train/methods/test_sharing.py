"""Sharing matters: the loss of both heads and what retrieval sees."""

from __future__ import annotations

import torch
from torch.nn import functional
from train.methods.conftest import (
    DIMENSION,
    batch,
    make,
    of,
    value,
)

from oodml.train.loop import seeded
from oodml.train.methods.parts.several_heads import AcrossClasses
from oodml.train.methods.sharing import Sharing


def test_sharing_adds_the_shared_loss_and_the_adversary_s() -> None:
    ours = of(Sharing, "sharing", alpha=0.3, decorrelation=500.0)
    given = batch()
    encoded = ours.encode(given.inputs)
    shared = functional.normalize(ours.second(given.inputs), dim=1)
    with seeded(0, "value"):
        own = ours.criterion.of(encoded, given.labels)
        triplets = AcrossClasses()(shared.detach(), given.labels)
        across = ours.others[0].base(shared, given.labels, triplets)
    (adversary,) = ours.adversaries
    weight = 500.0 * (DIMENSION / 128) ** 2
    expected = own + 0.3 * across + weight * adversary(encoded.embedding, shared)
    assert torch.allclose(value(ours, given), expected)
    assert float(across.detach()) > 0


def test_retrieval_may_weigh_the_shared_embedding_in() -> None:
    alone, both = make("sharing"), of(Sharing, "sharing", shared_weight=0.5)
    inputs = batch().inputs
    first, second = alone.embed(inputs), functional.normalize(both.second(inputs), dim=1)
    assert alone.embed(inputs).shape == (12, 8) and both.embed(inputs).shape == (12, 16)
    expected = (first @ first.T + 0.25 * second @ second.T) / 1.25
    assert torch.allclose(both.embed(inputs) @ both.embed(inputs).T, expected, atol=1e-6)
