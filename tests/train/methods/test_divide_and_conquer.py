"""Divide and conquer, and what every divided training does: who is trained when, on what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from train.methods.conftest import (
    MASKS,
    POOL_CLASSES,
    POOL_SETTINGS,
    SLICES,
    batch_of,
    divided,
    planned,
)

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.train import checkpoint
from oodml.train.build import Resources
from oodml.train.data import FeatureSamples
from oodml.train.loop import fit
from oodml.train.methods.divide_and_conquer import same_shapes
from oodml.train.objective import Batch, Training, check_groups
from oodml.train.plan import plan
from oodml.train.registry import get_method
from oodml.train.run import train_run


@pytest.mark.parametrize("base", ["margin", "proxy_anchor", "contrastive"])
@pytest.mark.parametrize("method", [f"{SLICES}:clusters=1", f"{MASKS}:clusters=1,masks=fixed"])
def test_one_cluster_is_the_baseline_bit_for_bit(
    method: str,
    base: str,
    pool: Features,
    pool_ladder: Ladder,
    pool_training: Training,
    tmp_path: Path,
) -> None:
    plain, one = (
        planned(base, pool, pool_ladder),
        planned(f"{method},base={base}", pool, pool_ladder),
    )
    for objective in (plain, one):
        directory = tmp_path / objective.spec.method.name
        directory.mkdir()
        fit(objective, pool_training, directory)
    state = one.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, state[name]), name
    inputs = torch.from_numpy(pool.values)
    with torch.no_grad():
        assert torch.equal(one.embed(inputs), plain.embed(inputs))


@pytest.mark.parametrize("base", ["margin", "proxy_anchor"])
def test_other_slices_get_a_gradient_of_exactly_0_until_the_joint_share(
    base: str, pool: Features, pool_ladder: Ladder, pool_training: Training
) -> None:
    objective = divided(f"{SLICES}:base={base}", pool, pool_ladder)
    objective.begin_epoch(pool_training, 0)
    for index in objective.loader(pool_training, 0):
        objective.zero_grad()
        torch.manual_seed(0)
        objective.loss(batch_of(pool_training, index)).backward()
        (cluster,) = set(objective.clusters[index])
        for gradient in (objective.model.head.weight.grad, objective.model.head.bias.grad):
            moved = gradient.reshape(4, -1).ne(0).any(dim=1)
            assert moved.tolist() == [each == cluster for each in range(4)]
    objective.zero_grad()
    objective.loss(batch_of(pool_training, np.arange(24), step=6)).backward()
    assert objective.model.head.weight.grad.ne(0).any(dim=1).all()


@pytest.mark.parametrize("method", [SLICES, MASKS])
def test_batches_come_from_one_cluster_each_and_from_all_in_the_joint_share(
    method: str, pool: Features, pool_ladder: Ladder, pool_training: Training
) -> None:
    # The share begins within epoch 2, that is between steps 6 and 9.
    objective = divided(f"{method}:period=1,joint=0.4", pool, pool_ladder)
    usual = planned("margin", pool, pool_ladder)
    owners = []
    for epoch in range(4):
        objective.begin_epoch(pool_training, epoch)
        batches = list(objective.loader(pool_training, epoch))
        assert len(batches) == 3
        for index, plain in zip(batches, usual.loader(pool_training, epoch), strict=True):
            owners.append(len(set(objective.clusters[index])))
            assert len(owners) <= 7 or np.array_equal(index, plain)
    assert objective.joint_from == 7
    assert owners[:7] == [1] * 7 and min(owners[7:]) > 1


def test_clusters_are_made_every_period_and_keep_their_names(
    pool: Features, pool_ladder: Ladder
) -> None:
    # Well apart, the clusters are the same each time, up to their names.
    far = replace(pool, values=np.eye(2, 8, dtype=np.float32)[pool.labels % 2] + pool.values / 99)
    training = Training(FeatureSamples(far.values, far.labels), 0)
    objective = divided(f"{SLICES}:clusters=2,period=2,joint=0", far, pool_ladder, steps=30)
    objective.model.trunk = nn.Identity()
    objective.begin_epoch(training, 0)
    first = objective.clusters
    for names in ([0, 1], [1, 0]):
        objective.clusters = np.array(names)[first]
        objective.begin_epoch(training, 1)
        assert np.array_equal(objective.clusters, np.array(names)[first])
        objective.begin_epoch(training, 2)
        assert np.array_equal(objective.clusters, np.array(names)[first])
    objective.clusters = np.zeros_like(first)
    objective.begin_epoch(training, 3)
    assert not objective.clusters.any(), "no new clusters between the periods"
    objective.begin_epoch(training, 4)
    assert objective.clusters.any()


def test_clusters_are_of_pooled_directions_without_augmentation(
    pool: Features, pool_ladder: Ladder, pool_training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    objective = divided(SLICES, pool, pool_ladder)

    def watched(values: Any, number: int, *, seed: int) -> Any:
        seen.append(values)
        return np.arange(len(values)) % number

    monkeypatch.setattr("oodml.train.methods.divide_and_conquer.clusters_of", watched)
    monkeypatch.setattr(FeatureSamples, "training", None)
    objective.begin_epoch(pool_training, 0)
    with torch.no_grad():
        expected = functional.normalize(objective.model.trunk(torch.from_numpy(pool.values)), dim=1)
    assert np.allclose(seen[0], expected)


def test_where_no_cluster_makes_a_batch_all_is_trained_together(
    pool: Features, pool_ladder: Ladder, pool_training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = divided(SLICES, pool, pool_ladder)
    monkeypatch.setattr(
        "oodml.train.methods.divide_and_conquer.clusters_of",
        lambda values, number, *, seed: pool.labels,
    )
    objective.begin_epoch(pool_training, 0)
    plain = planned("margin", pool, pool_ladder)
    for index, usual in zip(
        objective.loader(pool_training, 0), plain.loader(pool_training, 0), strict=True
    ):
        assert np.array_equal(index, usual)
    objective.loss(batch_of(pool_training, index)).backward()
    assert objective.model.head.weight.grad.ne(0).any(dim=1).all()


def test_retrieval_sees_the_mean_of_the_slices_cosines(pool: Features, pool_ladder: Ladder) -> None:
    objective = divided(SLICES, pool, pool_ladder)
    inputs = torch.from_numpy(pool.values[:9])
    with torch.no_grad():
        embedding, output = objective.embed(inputs), objective.model(inputs)
    units = [functional.normalize(part, dim=1) for part in output.split(2, dim=1)]
    mean = sum(unit @ unit.T for unit in units) / 4
    assert torch.allclose(embedding @ embedding.T, mean, atol=1e-6)


def test_slices_share_a_loss_that_knows_no_dimension_and_have_their_own_otherwise(
    pool: Features, pool_ladder: Ladder
) -> None:
    shared = divided(SLICES, pool, pool_ladder)
    assert all(each is shared.criterion for each in shared.criteria) and not shared.slice_criteria
    own = divided(f"{SLICES}:base=proxy_anchor", pool, pool_ladder)
    shapes = [tuple(p.shape) for p in own.slice_criteria.parameters()]
    assert shapes == [(POOL_CLASSES, 2)] * 4
    encoded = own.encode(torch.from_numpy(pool.values))
    own.learner_loss(encoded, torch.from_numpy(pool.labels), 2).backward()
    moved = [next(iter(each.parameters())).grad is not None for each in own.slice_criteria]
    assert moved == [False, False, True, False]
    check_groups(own)
    assert same_shapes(own.criteria[0].loss, own.criteria[1].loss)


class KilledError(Exception):
    """Stands for a process that ends between two steps."""


@pytest.mark.parametrize("killed", [1, 4, 7, 10])
@pytest.mark.parametrize(
    "method", [f"{SLICES}:period=1,joint=0.2", f"{MASKS}:period=1,freeze=1,joint=0.2"]
)
def test_a_run_resumed_anywhere_has_the_same_clusters_masks_and_weights(
    method: str,
    killed: int,
    pool: Features,
    pool_ladder: Ladder,
    pool_training: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    objectives = []
    for _ in range(3):
        torch.manual_seed(0)
        objectives.append(divided(method, pool, pool_ladder, trunk=nn.Linear(8, 8)))
    straight, broken, resumed = objectives
    (tmp_path / "straight").mkdir()
    fit(straight, pool_training, tmp_path / "straight")
    after_step = broken.after_step

    def die(training: Training, batch: Batch) -> None:
        after_step(training, batch)
        if batch.step == killed:
            raise KilledError

    monkeypatch.setattr(broken, "after_step", die)
    with pytest.raises(KilledError):
        fit(broken, pool_training, tmp_path)
    fit(resumed, pool_training, tmp_path)
    assert np.array_equal(straight.clusters, resumed.clusters)
    state = resumed.state_dict()
    for name, value in straight.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("method", [SLICES, MASKS])
def test_test_classes_reach_no_cluster(
    method: str, pool: Features, pool_ladder: Ladder, tmp_path: Path
) -> None:
    split = pool_ladder.rungs[0]
    (spec,) = plan(pool_ladder, [method], [0], rungs=[0], **{**POOL_SETTINGS, "steps": 6})
    values = pool.values.copy()
    values[pool.of_classes(split.test_classes)] *= -3
    records = [
        train_run(spec, split, Resources(each), tmp_path / name)
        for name, each in (("one", pool), ("other", replace(pool, values=values)))
    ]
    assert records[0].training == records[1].training
    assert records[0].geometry["train"] == records[1].geometry["train"]
    assert records[0].metrics != records[1].metrics


@pytest.mark.parametrize("method", [f"{SLICES}:period=1", f"{MASKS}:freeze=1", "bier"])
def test_whole_networks_train_on_images(method: str, image_folder: Path, tmp_path: Path) -> None:
    dataset, backbone = load_dataset(image_folder), load_backbone("tiny")
    features = extract_features(dataset, backbone, cache=tmp_path)
    images = build_ladder(features, rungs=2)
    (spec,) = plan(
        images, [method], [0], rungs=[0], train="all", steps=4, batch_size=12,
        learning_rate=3e-3, embedding_dim=8, image_size=32, samples_per_class=2,
    )  # fmt: skip
    record = train_run(
        spec, images.rungs[0], Resources(features, dataset, backbone), tmp_path / "run"
    )
    assert np.isfinite(record.training["loss"]) and 0 < record.metrics["recall_at_1"] <= 1


@pytest.mark.parametrize(
    ("method", "given"),
    [
        (f"{MASKS}:clusters=6", "4 or 8"),
        (f"{MASKS}:clusters=0", "clusters=0"),
        (f"{MASKS}:masks=fix", "'fixed'"),
        (f"{SLICES}:clusters=0", "clusters=0"),
        (f"{SLICES}:period=0", "period=0"),
        (f"{SLICES}:joint=1.5", "joint=1.5"),
        (f"{SLICES}:clusters=9", "9 heads"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    method: str, given: str, pool: Features, pool_ladder: Ladder
) -> None:
    with pytest.raises(UsageError, match=given):
        planned(method, pool, pool_ladder)


def test_recipes_hold_what_the_published_code_sets() -> None:
    assert get_method(MASKS).recipes["sop"].hyperparameters["clusters"] == 32
    assert get_method(SLICES).recipes["sop"].hyperparameters == {"clusters": 8}
