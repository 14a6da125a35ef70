"""Group Loss and Group Loss++: replicator steps, anchors, and each strategy by itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_features
from torch import Tensor
from torch.nn import functional

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources, Values
from oodml.train.methods.group_loss import GroupLoss, correlations, drawn_anchors, replicated
from oodml.train.plan import plan
from oodml.train.run import train_run

CLASSES, PER_CLASS, DIMENSION = 12, 6, 8

LABELS = torch.arange(4).repeat_interleave(3)


@pytest.fixture(scope="module")
def pool() -> Features:
    return make_features(CLASSES, PER_CLASS, DIMENSION)


@pytest.fixture(scope="module")
def small_ladder(pool: Features) -> Ladder:
    return build_ladder(pool, rungs=2)


def vectors(rows: int, size: int = DIMENSION, seed: int = 0) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def soft(rows: int, classes: int, seed: int = 0) -> Tensor:
    return functional.softmax(vectors(rows, classes, seed), dim=1)


@pytest.mark.parametrize(("similarity", "after"), [(0.0, 0.5), (0.5, 2 / 3), (1.0, 0.75)])
def test_one_step_pulls_a_sample_to_its_anchor(similarity: float, after: float) -> None:
    # methods.md 4.1: (w + 1/2) / 2 over itself plus 1/4.
    start = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    between = torch.tensor([[1.0, similarity], [similarity, 1.0]])
    end = replicated(start, between, 1)
    assert end[1].tolist() == pytest.approx([after, 1 - after])
    assert end[0].tolist() == [1.0, 0.0]


def test_samples_alone_square_and_renormalise_their_labels() -> None:
    start = torch.tensor([[0.6, 0.4], [0.5, 0.5]])
    end = replicated(start, torch.eye(2), 1)
    assert end[0, 0].item() == pytest.approx(0.6923, abs=1e-4)
    assert end[1].tolist() == [0.5, 0.5]


def test_rows_sum_to_1_and_anchors_stay_after_many_steps() -> None:
    start = soft(12, 5)
    start[::3] = functional.one_hot(torch.tensor([0, 1, 2, 3]), 5).float()
    end = replicated(start, correlations(vectors(12)), 7)
    assert torch.allclose(end.sum(dim=1), torch.ones(12))
    assert torch.equal(end[::3], start[::3])
    assert not torch.allclose(end[1::3], start[1::3], atol=0.05)


def test_a_row_without_mass_keeps_its_labels_and_a_finite_gradient() -> None:
    start = torch.tensor([[1.0, 0.0], [0.3, 0.7]], requires_grad=True)
    similarity = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    end = replicated(start, similarity, 2)
    assert torch.equal(end, start)
    end.square().sum().backward()
    assert start.grad is not None and start.grad.isfinite().all()
    assert similarity.grad is not None and similarity.grad.isfinite().all()


def test_similarities_are_correlations_above_0() -> None:
    given = vectors(6)
    expected = np.corrcoef(given.numpy()).clip(min=0)
    assert np.allclose(correlations(given).numpy(), expected, atol=1e-6)
    assert (np.corrcoef(given.numpy()) < -0.1).any()


def test_vectors_of_equal_entries_correlate_with_themselves_only() -> None:
    given = torch.cat([vectors(2), torch.full((2, DIMENSION), 3.0)]).requires_grad_()
    similarity = correlations(given)
    assert torch.equal(similarity[2:, 2:], torch.eye(2)) and not similarity[:2, 2:].any()
    similarity.sum().backward()
    assert given.grad is not None and given.grad.isfinite().all()


def test_anchors_are_drawn_in_every_class_and_leave_one_sample() -> None:
    labels = torch.tensor([4, 0, 4, 4, 0, 4, 2, 4, 0])
    for most, expected in ((2, {0: 2, 4: 2}), (9, {0: 2, 4: 4}), (0, {})):
        assert Counter(labels[drawn_anchors(labels, most)].tolist()) == expected
    torch.manual_seed(0)
    drawn = torch.stack([drawn_anchors(labels, 2) for _ in range(200)]).float().mean(dim=0)
    assert drawn[6] == 0
    assert drawn[labels == 4].tolist() == pytest.approx([2 / 5] * 5, abs=0.12)
    assert drawn[labels == 0].tolist() == pytest.approx([2 / 3] * 3, abs=0.12)


def group(**own: Any) -> GroupLoss:
    torch.manual_seed(0)
    chosen = {"anchors": 2, "temperature": 24.0, "iterations": 1, "auxiliary_weight": 1.0, **own}
    return GroupLoss(6, DIMENSION, **chosen)


def test_without_steps_and_anchors_it_is_softmax_at_a_temperature() -> None:
    loss = group(anchors=0, iterations=0, auxiliary_weight=0.0, temperature=7.0)
    logits = loss.classifier(vectors(12))
    expected = functional.cross_entropy(logits / 7.0, LABELS)
    assert torch.allclose(loss(vectors(12), LABELS), expected, atol=1e-6)


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_loss_is_that_of_its_formula(iterations: int) -> None:
    loss, outputs = group(iterations=iterations, auxiliary_weight=0.5, temperature=3.0), vectors(12)
    torch.manual_seed(5)
    anchors = drawn_anchors(LABELS, 2).numpy()
    logits = loss.classifier(outputs).detach().double().numpy()
    chances = np.exp(logits / 3) / np.exp(logits / 3).sum(axis=1, keepdims=True)
    chances[anchors] = np.eye(6)[LABELS[anchors]]
    similarity = np.corrcoef(outputs.numpy()).clip(min=0)
    for _ in range(iterations):
        chances = chances * (similarity @ chances)
        chances /= chances.sum(axis=1, keepdims=True)
    own = np.arange(12), LABELS.numpy()
    plain = np.log(np.exp(logits).sum(axis=1)) - logits[own]
    torch.manual_seed(5)
    expected = -np.log(chances[own] + 1e-12).mean() + 0.5 * plain.mean()
    assert loss(outputs, LABELS).item() == pytest.approx(expected, rel=1e-5)


def test_classes_outside_the_batch_take_part() -> None:
    loss = group(auxiliary_weight=0.0)
    torch.manual_seed(1)
    before = loss(vectors(12), LABELS)
    with torch.no_grad():
        loss.classifier.bias[5] += 100.0
    torch.manual_seed(1)
    assert loss(vectors(12), LABELS) > before + 0.1


def test_similarities_alone_move_the_embeddings() -> None:
    loss = group(auxiliary_weight=0.0)
    torch.nn.init.zeros_(loss.classifier.weight)
    outputs = vectors(12).requires_grad_()
    loss(outputs, LABELS).backward()
    assert outputs.grad is not None and outputs.grad.abs().max() > 1e-3


def run(name: str, ladder: Ladder, resources: Resources, at: Path, **given: Any) -> RunRecord:
    chosen = {"batch_size": 12, "embedding_dim": 6, "steps": 6, **given}
    (spec,) = plan(ladder, [name], [3], rungs=[0], **chosen)
    return train_run(spec, ladder.rungs[0], resources, at, keep_embeddings=True)


def kept(at: Path) -> Values:
    return Features.load(at / "embeddings.npz").values


def test_all_flags_off_it_is_group_loss_to_the_last_bit(
    pool: Features, small_ladder: Ladder, tmp_path: Path
) -> None:
    resources = Resources(pool)
    plain = run("group_loss", small_ladder, resources, tmp_path / "plain")
    off = run("group_loss_pp", small_ladder, resources, tmp_path / "off", mix=0.0)
    mixed = run("group_loss_pp", small_ladder, resources, tmp_path / "mixed")
    assert off.metrics == plain.metrics and off.training == plain.training == mixed.training
    assert np.array_equal(kept(tmp_path / "off"), kept(tmp_path / "plain"))
    assert mixed.label == "group_loss_pp +mix 0.5" and plain.label == "group_loss"
    assert np.allclose(kept(tmp_path / "mixed")[:, :6], 0.5 * kept(tmp_path / "plain"), atol=1e-6)
    by_hand = run("group_loss", small_ladder, resources, tmp_path / "by_hand", mix=0.5)
    assert by_hand.metrics == mixed.metrics


def test_each_strategy_is_prescribed_where_it_can_be_and_can_be_switched_off(
    small_ladder: Ladder,
) -> None:
    def tricks(**given: Any) -> list[str]:
        (spec,) = plan(small_ladder, ["group_loss_pp"], [0], rungs=[0], **given)
        return spec.tricks

    assert tricks() == ["mix 0.5"]
    assert tricks(train="all") == ["flip", "mix 0.5"]
    assert tricks(train="all", flip=False) == ["mix 0.5"]
    assert tricks(train="all", mix=0.0) == ["flip"]
    assert tricks(train="all", mix=0.0, flip=False) == []
    assert tricks(rerank=True) == ["mix 0.5", "re-ranking"]
    assert tricks(few_shot="head") == []
    with pytest.raises(UsageError, match=r"mix .* few_shot"):
        tricks(few_shot="head", mix=0.5)


@pytest.mark.parametrize(
    ("method", "family", "batch", "hyperparameters"),
    [
        ("group_loss", "cub200", (54, 9, 1.56e-4), {}),
        ("group_loss_pp", "cars196", (35, 7, 2e-4), {"anchors": 3, "temperature": 79.0}),
        ("group_loss", "sop", (60, 6, 6.08e-4), {"temperature": 54.0}),
        ("mpn", "cub200", (54, 9, 1.56e-4), {"redraw": True}),
        (
            "mpn",
            "cars196",
            (70, 7, 3.67e-4),
            {"layers": 2, "heads": 8, "concatenated": True, "temperature": 0.111},
        ),
        ("mpn", "sop", (90, 6, 2.47e-4), {"heads": 8, "temperature": 0.605}),
    ],
)
def test_whole_networks_take_the_papers_settings(
    small_ladder: Ladder,
    method: str,
    family: str,
    batch: tuple[int, int, float],
    hyperparameters: dict[str, Any],
) -> None:
    (spec,) = plan(small_ladder, [method], [0], rungs=[0], train="all", recipe=family)
    assert (
        spec.training.batch_size,
        spec.training.samples_per_class,
        spec.training.learning_rate,
    ) == batch
    assert spec.training.criterion_learning_rate == spec.training.learning_rate
    assert spec.method.hyperparameters == hyperparameters


@pytest.fixture(scope="module")
def pictures(
    image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Resources, Ladder]:
    dataset, backbone = load_dataset(image_folder), load_backbone("tiny")
    cached = extract_features(dataset, backbone, cache=tmp_path_factory.mktemp("cache"))
    return Resources(cached, dataset, backbone), build_ladder(cached, rungs=2)


IMAGES = {"train": "all", "image_size": 32, "steps": 3, "samples_per_class": 4}


def test_whole_networks_train_and_all_flags_off_is_group_loss(
    pictures: tuple[Resources, Ladder], tmp_path: Path
) -> None:
    resources, ladder = pictures
    plain = run("group_loss", ladder, resources, tmp_path / "plain", **IMAGES)
    off = run("group_loss_pp", ladder, resources, tmp_path / "off", **IMAGES, mix=0.0, flip=False)
    on = run("group_loss_pp", ladder, resources, tmp_path / "on", **IMAGES)
    assert plain.metrics == off.metrics and plain.training == off.training == on.training
    assert np.array_equal(kept(tmp_path / "off"), kept(tmp_path / "plain"))
    assert on.label == "group_loss_pp +flip +mix 0.5"
    assert not np.allclose(kept(tmp_path / "on")[:, :6], 0.5 * kept(tmp_path / "plain"))
