"""Hierarchical divide and conquer: halves of clusters, masks, and who is frozen when."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn
from torch.nn import functional
from train.methods.conftest import MASKS, batch_of, divided

from oodml.errors import UsageError
from oodml.features.features import Features
from oodml.splits.ladder import Ladder
from oodml.train.loop import fit
from oodml.train.methods import hierarchical_divide_and_conquer
from oodml.train.methods.hierarchical_divide_and_conquer import (
    HierarchicalDivideAndConquer,
    halved,
    halving_masks,
    mean_cosine,
)
from oodml.train.methods.parts.clusters import matched
from oodml.train.objective import Batch, Training


def test_one_cluster_with_a_learned_mask_is_the_baseline_with_a_diagonal_scale(
    pool: Features, pool_ladder: Ladder, pool_training: Training
) -> None:
    one = divided(f"{MASKS}:clusters=1,base=contrastive", pool, pool_ladder)
    one.begin_epoch(pool_training, 0)
    one.loader(pool_training, 0)
    scale = torch.rand(8) - 0.2
    with torch.no_grad():
        one.masks[0].copy_(scale[None])
    batch = batch_of(pool_training, np.arange(24))
    scaled = functional.normalize(one.model(batch.inputs) * scale.clamp(min=0), dim=1)
    expected = one.criterion(scaled, batch.labels)
    value = one.loss(batch)
    assert torch.allclose(value, expected)
    value.backward()
    assert (one.masks[0].grad[0, scale < 0] == 0).all() and one.masks[0].grad.any()


def test_the_hierarchy_doubles_and_children_start_with_their_parents_masks(
    pool: Features, pool_ladder: Ladder, pool_training: Training
) -> None:
    objective = divided(f"{MASKS}:joint=0", pool, pool_ladder)
    assert isinstance(objective, HierarchicalDivideAndConquer)
    parents = None
    for epoch, number in enumerate([1, 2, 4, 4]):
        objective.begin_epoch(pool_training, epoch)
        clusters = objective.clusters
        assert clusters is not None and len(np.unique(clusters)) == number
        masks = objective.masks[int(objective.level)]
        assert masks.shape == (number, 8)
        if epoch == 1:
            assert mean_cosine(masks).item() == pytest.approx(1.0)
        if parents is not None and number == 2 * len(parents):
            assert torch.equal(masks, parents.repeat_interleave(2, dim=0))
        with torch.no_grad():
            masks += torch.rand_like(masks)
        parents = masks.detach().clone()


def test_halves_are_of_the_clusters_of_the_level_above(
    pool: Features, pool_ladder: Ladder, pool_training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = divided(f"{MASKS}:joint=0", pool, pool_ladder)
    flat: list[Any] = []

    def kept(new: Any, old: Any, number: int) -> Any:
        flat.append(matched(new, old, number))
        return flat[-1]

    monkeypatch.setattr("oodml.train.methods.hierarchical_divide_and_conquer.matched", kept)
    for epoch in range(3):
        objective.begin_epoch(pool_training, epoch)
    assert len(flat) == 2 and len(np.unique(flat[1])) == 2
    assert np.array_equal(objective.clusters // 2, flat[1])


def test_fixed_masks_halve_the_embedding_and_do_not_overlap() -> None:
    levels = halving_masks(7, 2)
    assert [tuple(level.shape) for level in levels] == [(1, 7), (2, 7), (4, 7)]
    for parents, children in pairwise(levels):
        assert torch.equal(children.reshape(len(parents), 2, 7).sum(dim=1), parents)
        assert mean_cosine(children).item() == 0.0
    with pytest.raises(UsageError, match=r"8 .* 7"):
        halving_masks(7, 3)


def test_the_overlap_of_masks_is_the_mean_of_their_cosines_and_enters_with_its_weight(
    pool: Features, pool_ladder: Ladder, pool_training: Training
) -> None:
    masks = torch.rand(4, 6)
    pairs = [functional.cosine_similarity(masks[i], masks[j], dim=0)
             for i in range(4) for j in range(4) if i != j]  # fmt: skip
    assert mean_cosine(masks).item() == pytest.approx(float(torch.stack(pairs).mean()))
    values = {}
    for weight in (0.0, 0.5):
        method = f"{MASKS}:orthogonality={weight},base=contrastive,joint=0"
        objective = divided(method, pool, pool_ladder)
        for epoch in range(3):
            objective.begin_epoch(pool_training, epoch)
        with torch.no_grad():
            objective.masks[2].copy_(torch.linspace(-1, 2, 32).reshape(4, 8))
        index = next(iter(objective.loader(pool_training, 2)))
        values[weight] = objective.loss(batch_of(pool_training, index, step=6)).item()
    overlap = mean_cosine(torch.linspace(-1, 2, 32).reshape(4, 8).clamp(min=0)).item()
    assert values[0.5] - values[0.0] == pytest.approx(0.5 * overlap, abs=1e-5)


def weights(objective: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in objective.named_parameters()}


def test_the_trunk_rests_for_an_epoch_after_new_clusters_and_masks_until_their_time(
    pool: Features, pool_ladder: Ladder, pool_training: Training, tmp_path: Path
) -> None:
    objective = divided(
        f"{MASKS}:period=2,freeze=1,joint=0.4,clusters=2", pool, pool_ladder,
        trunk=nn.Linear(8, 8), steps=15,
    )  # fmt: skip
    after_step, before, moved = objective.after_step, weights(objective), []

    def watch(training: Training, batch: Batch) -> None:
        nonlocal before
        after_step(training, batch)
        now = weights(objective)
        names = ("model.trunk.weight", "model.head.weight", "masks.0", "masks.1")
        moved.append([not torch.equal(before[name], now[name]) for name in names])
        before = now

    objective.after_step = watch
    begin_epoch = objective.begin_epoch

    def begin(training: Training, epoch: int) -> None:
        nonlocal before
        begin_epoch(training, epoch)
        before = weights(objective)

    objective.begin_epoch = begin
    fit(objective, pool_training, tmp_path)
    one, resting, two = [True, True, True, False], [False, True, False, True], [True, True, False]
    assert moved[:6] == [one] * 6, "one cluster: the trunk and the mask of the root"
    assert moved[6:9] == [resting] * 3, "the trunk rests after the first halving"
    assert [each[:3] for each in moved[9:]] == [two] * 6, "the joint share has no masks"
    assert [each[3] for each in moved[9:]] == [False] * 6
    assert all(parameter.requires_grad for parameter in objective.parameters())


def test_masks_of_other_levels_are_out_of_sight_during_a_step(
    pool: Features, pool_ladder: Ladder, pool_training: Training
) -> None:
    """Processes that train together would give what is in sight a gradient of zero."""
    objective = divided(f"{MASKS}:joint=0.5", pool, pool_ladder)
    for epoch in range(2):
        objective.begin_epoch(pool_training, epoch)
    objective.loader(pool_training, 1)
    for step, expected in ((3, [False, True, False]), (6, [False, False, False])):
        batch = batch_of(pool_training, np.arange(24), step)
        objective.loss(batch)
        assert [mask.requires_grad for mask in objective.masks] == expected
        objective.after_step(pool_training, batch)


def blobs(count: int, size: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = 10 * np.eye(count, 6)
    values = np.repeat(centres, size, axis=0) + random.normal(size=(count * size, 6))
    return values.astype(np.float32), np.repeat(np.arange(count), size)


def test_merging_the_halves_gives_the_clusters_back() -> None:
    values, groups = blobs(4)
    parents = groups // 2
    halves = halved(values, parents, np.arange(80) % 5, seed=0)
    assert np.array_equal(halves // 2, parents)
    assert adjusted_rand_score(groups, halves) == 1.0


def test_what_cannot_be_split_stays_in_the_first_half() -> None:
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    parents = np.array([0, 0, 0, 2, 0, 0, 0])
    halves = halved(values, parents, np.zeros(7, dtype=np.int64), seed=0)
    assert halves[3] == 4 and set(np.delete(halves, 3)) == {0, 1}


def test_a_cluster_is_split_again_until_both_halves_have_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classes = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    tried = []

    def split(values: np.ndarray, k: int, *, seed: int) -> np.ndarray:
        tried.append(seed)
        return np.arange(8) // (4 if len(tried) == 3 else 6)

    monkeypatch.setattr(hierarchical_divide_and_conquer, "clusters_of", split)
    nothing = np.zeros(8, dtype=np.int64)
    halves = halved(np.zeros((8, 1), np.float32), nothing, classes, seed=0)
    assert halves.tolist() == [0, 0, 0, 0, 1, 1, 1, 1] and len(set(tried)) == 3
    tried += [0] * 9
    halves = halved(np.zeros((8, 1), np.float32), nothing, classes, seed=0)
    assert halves.tolist() == [0, 0, 0, 0, 0, 0, 1, 1] and len(tried) == 22
