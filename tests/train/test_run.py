from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_features
from torch import nn

from oodml.data import load_dataset
from oodml.errors import DataError
from oodml.fid.backbone import Backbone
from oodml.fid.features import Features, extract_features
from oodml.fid.preprocessing import Preprocessing
from oodml.splits.build import build_ladder
from oodml.splits.ladder import Ladder
from oodml.store import RunSpec
from oodml.train import loop
from oodml.train.loop import fit
from oodml.train.model import EmbeddingModel, FrozenBatchNorm, Standardize
from oodml.train.objective import Criterion, Objective, ParameterGroup, optimizer_groups
from oodml.train.plan import plan
from oodml.train.registry import all_methods, get_method
from oodml.train.run import Resources, train
from oodml.train.samples import FeatureSamples

METHODS = list(all_methods())
TRAINED = [name for name in METHODS if all_methods()[name].trains]


def unit(*degrees: float) -> torch.Tensor:
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def loss_of(
    name: str, embeddings: torch.Tensor, labels: list[int], **hyperparameters: float
) -> float:
    built = get_method(name).build(max(labels) + 1, embeddings.shape[1], **hyperparameters)
    return float(built.loss(embeddings, torch.tensor(labels)))


def test_contrastive_of_four_points_on_a_circle_is_the_root_of_two() -> None:
    assert loss_of("contrastive", unit(0, 90, 180, 270), [0, 0, 1, 1]) == pytest.approx(2**0.5)


def test_multi_similarity_of_one_positive_and_one_negative_at_one_half() -> None:
    # Every anchor has one positive and one negative pair at s = 0.5 (methods.md 1.5); two of the
    # four anchors on a line have their pairs at other similarities, so only the base is used.
    embeddings = unit(0, 60, 120, 180)
    s = (embeddings @ embeddings.T).numpy()
    labels = np.array([0, 0, 1, 1])
    expected = 0.0
    for i in range(4):
        positives = [s[i, j] for j in range(4) if j != i and labels[j] == labels[i]]
        negatives = [s[i, j] for j in range(4) if labels[j] != labels[i]]
        expected += math.log1p(sum(math.exp(-2 * (p - 0.5)) for p in positives)) / 2 / 4
        expected += math.log1p(sum(math.exp(50 * (n - 0.5)) for n in negatives)) / 50 / 4
    assert loss_of("multi_similarity", embeddings, [*labels]) == pytest.approx(expected)


def test_margin_divides_by_the_active_terms_and_its_boundary_learns() -> None:
    built = get_method("margin").build(2, 2)
    # Distances 1.3 and 1.1 on the unit circle, twice over (a single tuple would give 0).
    positive, negative = (2 * math.degrees(math.asin(d / 2)) for d in (1.3, 1.1))
    embeddings = unit(0, positive, negative)
    tuples = tuple(torch.tensor([i, i]) for i in (0, 1, 2))
    loss = built.loss(embeddings, torch.tensor([0, 0, 1]), tuples)
    assert loss.item() == pytest.approx(0.3)
    loss.backward()
    # One active negative and one active positive term a triplet: they cancel.
    assert float(built.loss.beta.grad.abs().sum()) == pytest.approx(0.0)
    assert built.loss.beta.shape == (2,)


def test_arcface_without_margin_is_a_softmax_over_scaled_cosines() -> None:
    built = get_method("arcface").build(3, 2, margin=0.0, scale=4.0)
    embeddings, labels = unit(0, 100, 200).float(), torch.tensor([0, 1, 2])
    weights = nn.functional.normalize(built.loss.W, dim=0)
    expected = nn.functional.cross_entropy(4.0 * embeddings @ weights, labels)
    assert built.loss(embeddings, labels).item() == pytest.approx(expected.item(), rel=1e-5)
    wider = get_method("arcface").build(3, 2, margin=0.5, scale=4.0)
    wider.loss.load_state_dict(built.loss.state_dict())
    assert wider.loss(embeddings, labels).item() > expected.item()


def test_proxy_anchor_at_right_angles_has_its_closed_form() -> None:
    classes = 3
    built = get_method("proxy_anchor").build(classes, 4)
    with torch.no_grad():
        built.loss.proxies.copy_(torch.eye(4)[1:])
    value = built.loss(torch.eye(4)[:1], torch.tensor([0]))
    one = math.log1p(math.exp(32 * 0.1))
    assert float(value.detach()) == pytest.approx(one + (classes - 1) / classes * one, rel=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_trains_every_declared_parameter(name: str, tmp_path: Path) -> None:
    features = make_features(12, 6, 8)
    spec = RunSpec("d", "f", "s", name, "b", "w", "p", embedding_dim=4, batch_size=24)
    samples = FeatureSamples(features.values, features.labels)
    built = get_method(name).build(12, 4)
    objective = Objective(spec, EmbeddingModel(Standardize(samples.values), 8, 4), built)
    before = {key: value.clone() for key, value in objective.named_parameters()}
    optimizer_groups(objective)
    figures = fit(objective, samples, tmp_path)
    assert math.isfinite(figures["loss"]) and figures["steps"] == spec.steps
    assert all(not torch.equal(before[key], value) for key, value in objective.named_parameters())


def test_a_parameter_outside_the_groups_or_in_two_is_named() -> None:
    spec = RunSpec("d", "f", "s", "margin", "b", "w", "p", embedding_dim=4)

    more: list[ParameterGroup] = []

    class Forgetful(Objective):
        def parameter_groups(self) -> list[ParameterGroup]:
            return [*super().parameter_groups()[:1], *more]

    model = EmbeddingModel(nn.Identity(), 8, 4)
    objective = Forgetful(spec, model, get_method("margin").build(3, 4))
    with pytest.raises(ValueError, match=r"criterion\.beta stands in 0 groups"):
        optimizer_groups(objective)
    more.append(ParameterGroup(list(objective.parameters()), 1.0, 0.0))
    with pytest.raises(ValueError, match="stands in 2 groups"):
        optimizer_groups(objective)


class KilledError(Exception):
    """Stands for a process that ends between two steps."""


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("stop", [1, 7, 12])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    name: str, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = make_features(12, 6, 8)
    spec = RunSpec("d", "f", "s", name, "b", "w", "p", embedding_dim=4, batch_size=24, steps=13)
    samples = FeatureSamples(features.values, features.labels)

    def objective() -> Objective:
        with loop.seeded(0, "init"):
            model = EmbeddingModel(Standardize(samples.values), 8, 4)
            return Objective(spec, model, get_method(name).build(12, 4))

    def weights(whole: Objective) -> dict[str, torch.Tensor]:
        return whole.state_dict()

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    straight = objective()
    figures = fit(straight, samples, tmp_path / "straight")

    broken = objective()
    steps = iter(range(stop))

    def die(batch: object, step: int) -> None:
        if next(steps, None) is None:
            raise KilledError

    monkeypatch.setattr(broken, "after_step", die)
    with pytest.raises(KilledError):
        fit(broken, samples, tmp_path / "resumed")
    (tmp_path / "resumed" / "epochs.jsonl").open("a").write('{"torn')
    torch.manual_seed(12345)  # global state must not matter
    resumed = objective()
    assert fit(resumed, samples, tmp_path / "resumed") == figures
    for key, value in weights(straight).items():
        assert torch.equal(value, weights(resumed)[key]), key
    logs = [(tmp_path / d / "epochs.jsonl").read_text() for d in ("straight", "resumed")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 5


@pytest.mark.parametrize("damage", [b"", b"junk\n", b"PK\x03\x04 half a file"])
def test_a_damaged_checkpoint_starts_the_run_again(
    damage: bytes,
    tmp_path: Path,
    features: Features,
    ladder: Ladder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (spec,) = plan(ladder, ["margin"], [0], rungs=[0], steps=5, batch_size=24)
    expected = train(spec, ladder.rungs[0], Resources(features), tmp_path / "a").metrics
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "last.pt").write_bytes(damage)
    assert train(spec, ladder.rungs[0], Resources(features), tmp_path / "b").metrics == expected
    assert "damaged" in caplog.text


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    class Nan(nn.Module):
        def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return embeddings.sum() * float("nan")

    features = make_features(12, 6, 8)
    spec = RunSpec("d", "f", "s", "margin", "b", "w", "p", embedding_dim=4, batch_size=24)
    samples = FeatureSamples(features.values, features.labels)
    objective = Objective(spec, EmbeddingModel(nn.Identity(), 8, 4), Criterion(Nan()))
    with pytest.raises(DataError, match="loss is nan at step 0"):
        fit(objective, samples, tmp_path)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_measures_the_test_classes_and_repeats_itself(
    name: str, features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    (spec,) = plan(ladder, [name], [0], rungs=[1], steps=20, batch_size=24, embedding_dim=8)
    split = ladder.rungs[1]
    torch.manual_seed(1)
    one = train(spec, split, Resources(features), tmp_path / "one")
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    other = train(spec, split, Resources(features), tmp_path / "other")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.metrics == other.metrics and one.training == other.training
    assert one.metrics["queries"] == len(features.of_classes(split.test_classes))
    assert one.shift["fid"] == split.fid
    assert one.to_json() == json.loads(json.dumps(one.to_json()))


@pytest.mark.parametrize("name", TRAINED)
def test_training_helps_on_held_out_classes(name: str, tmp_path: Path) -> None:
    """methods.md 9.4: classes that differ in few of many dimensions, half of them held out."""
    random = np.random.default_rng(0)
    means = np.concatenate([random.standard_normal((40, 6)), np.zeros((40, 10))], axis=1)
    scale = np.array([0.5] * 6 + [1.0] * 10)
    values = np.repeat(means, 12, axis=0) + scale * random.standard_normal((480, 16))
    base = make_features(40, 12, 2)
    pool = replace(base, values=values.astype(np.float32))
    ladder = build_ladder(pool, rungs=2)
    metrics = {}
    for method, steps in [("untrained", 0), (name, 400)]:
        spec = plan(ladder, [name], [0], rungs=[0], steps=steps, batch_size=48, embedding_dim=16)[0]
        record = train(spec, ladder.rungs[0], Resources(pool), tmp_path / method)
        metrics[method] = record.metrics["mean_average_precision_at_r"]
    assert metrics[name] > metrics["untrained"] + 0.02


def test_a_run_refuses_other_data_and_other_splits(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    (spec,) = plan(ladder, ["margin"], [0], rungs=[0])
    with pytest.raises(DataError, match="the split given"):
        train(spec, ladder.rungs[1], Resources(features), tmp_path)
    other = replace(features, source=replace(features.source, fingerprint="f" * 16))
    with pytest.raises(DataError, match="fingerprint"):
        train(spec, ladder.rungs[0], Resources(other), tmp_path)
    (whole,) = plan(ladder, ["margin"], [0], rungs=[0], train="all")
    with pytest.raises(DataError, match="needs the images"):
        train(whole, ladder.rungs[0], Resources(features), tmp_path)


class TinyNetwork(nn.Module):
    """Two convolutions with BatchNorm: (B, 3, H, W) -> (B, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3),
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.body(images)
        return features


def tiny_backbone() -> Backbone:
    with loop.seeded(0, "tiny"):
        module = TinyNetwork().eval()
    preprocessing = Preprocessing(32, 32, "bilinear", True, (127.0,) * 3, (64.0,) * 3)
    return Backbone("tiny", module, preprocessing, 8, "1" * 64, preprocessing.text, 32)


def test_the_whole_network_trains_on_images(image_folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset(image_folder)
    backbone = tiny_backbone()
    pool = extract_features(dataset, backbone, cache=tmp_path / "cache")
    ladder = build_ladder(pool, rungs=2)
    original = {key: value.clone() for key, value in backbone.module.state_dict().items()}
    resources = Resources(pool, dataset, backbone)

    def run(steps: int, directory: str) -> dict[str, float]:
        (spec,) = plan(
            ladder, ["multi_similarity"], [0], rungs=[0], train="all", steps=steps,
            batch_size=12, learning_rate=1e-2, embedding_dim=8,
        )  # fmt: skip
        return train(spec, ladder.rungs[0], resources, tmp_path / directory).metrics

    untrained, trained = run(0, "none"), run(40, "some")
    assert run(40, "again") == trained
    assert trained != untrained
    assert trained["mean_average_precision_at_r"] > untrained["mean_average_precision_at_r"]
    # The next run must start from the same weights.
    for key, value in backbone.module.state_dict().items():
        assert torch.equal(value, original[key])


def test_frozen_batch_norm_stays_frozen_in_training() -> None:
    network = FrozenBatchNorm(TinyNetwork())
    before = {k: v.clone() for k, v in network.state_dict().items() if ".1." in k}
    network.train()
    network(torch.randn(4, 3, 32, 32)).sum().backward()
    assert len(before) == 5
    assert all(torch.equal(network.state_dict()[k], v) for k, v in before.items())
    normalization = network.backbone.body[1]
    assert not any(p.requires_grad for p in normalization.parameters())
    assert network.backbone.body[0].weight.grad is not None
