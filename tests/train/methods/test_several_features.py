"""MIC, sharing and DiVA: identities with their base, their batches, and whom gradients reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from conftest import make_spec
from torch import Tensor, nn
from torch.nn import functional

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.features import extract_features
from oodml.splits.build import build_ladder
from oodml.train import checkpoint
from oodml.train.build import Resources
from oodml.train.data import FeatureSamples
from oodml.train.loop import fit, seeded
from oodml.train.methods.diva import DiVA, WithinClasses, distance_weighted_contrast
from oodml.train.methods.mic import InterclassMining
from oodml.train.methods.parts.several_heads import AcrossClasses, Adversary
from oodml.train.methods.sharing import Sharing
from oodml.train.mining import DistanceWeighted
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Encoded, Objective, Training, check_groups, make_objective
from oodml.train.plan import plan
from oodml.train.registry import get_method, prescribed
from oodml.train.run import train_run

CLASSES, PER_CLASS, SIZE, DIMENSION = 6, 8, 10, 8
LABELS = np.arange(CLASSES).repeat(PER_CLASS)
Kind = TypeVar("Kind", bound=Objective)


def make(method: str, dimension: int = DIMENSION, steps: int = 9, **own: Any) -> Objective:
    """A method over 10 features; the same seed for every one of them."""
    spec = make_spec(method, batch_size=12, samples_per_class=3, steps=steps,
        learning_rate=0.01, criterion_learning_rate=0.01, embedding_dim=dimension,
    )  # fmt: skip
    with seeded(0, "init"):
        model = EmbeddingModel(nn.Identity(), SIZE, dimension)
        built = get_method(method).build_with(CLASSES, dimension, own)
        return make_objective(built, spec, model)


def of(kind: type[Kind], method: str, **own: Any) -> Kind:
    made = make(method, **own)
    assert isinstance(made, kind)
    return made


def samples() -> FeatureSamples:
    random = np.random.default_rng(0)
    values = random.standard_normal((4, len(LABELS), SIZE)).astype(np.float32)
    values += np.eye(CLASSES, SIZE, dtype=np.float32)[LABELS]
    return FeatureSamples(values[0], LABELS, values)


def training() -> Training:
    return Training(samples(), 0)


def batch(seed: int = 0, rows: int = 12) -> Batch:
    random = torch.Generator().manual_seed(seed)
    views = tuple(torch.randn(rows, SIZE, generator=random) for _ in range(2))
    labels = torch.arange(rows) // 3 % CLASSES
    return Batch(views, labels, torch.arange(rows))


def value(objective: Objective, given: Batch, seed: int = 0) -> Tensor:
    with seeded(seed, "value"):
        return objective.loss(given)


NOTHING = {
    "mic": {"auxiliary": 0.0, "decorrelation": 0.0},
    "sharing": {"alpha": 0.0, "decorrelation": 0.0},
    "diva": {"alpha": 0.0, "decorrelation": 0.0},
}


@pytest.mark.parametrize("method", ["mic", "sharing"])
def test_without_weights_a_run_is_that_of_the_margin_loss(method: str, tmp_path: Path) -> None:
    """methods.md 9.4: the same seed gives the same weights and embeddings, bit for bit."""
    ours, margin = make(method, **NOTHING[method]), make("margin")
    for name, objective in (("ours", ours), ("margin", margin)):
        (tmp_path / name).mkdir()
        fit(objective, training(), tmp_path / name)
    assert torch.equal(ours.model.head.weight, margin.model.head.weight)
    assert torch.equal(ours.criterion.loss.beta, margin.criterion.loss.beta)
    inputs = batch().inputs
    assert torch.equal(ours.embed(inputs), margin.embed(inputs))


class First(nn.Module):
    """The first 8 of what a layer of 32 gives: products of one shape round alike."""

    def forward(self, output: Tensor) -> Tensor:
        return output[:, :8]


def test_diva_without_weights_trains_its_first_slice_as_the_margin_loss_does(
    tmp_path: Path,
) -> None:
    """Bit for bit, as a head of its own; the other three slices stay as they were."""
    ours, margin = make("diva", 32, **NOTHING["diva"]), make("margin", 32)
    assert torch.equal(ours.model.head.weight, margin.model.head.weight)
    others = ours.model.head.weight[8:].detach().clone()
    margin.model.head = nn.Sequential(margin.model.head, First())  # type: ignore[assignment]
    for name, objective in (("ours", ours), ("margin", margin)):
        (tmp_path / name).mkdir()
        fit(objective, training(), tmp_path / name)
    assert torch.equal(ours.model.head.weight[:8], margin.model.head[0].weight[:8])
    assert torch.equal(ours.model.head.weight[8:], others)
    assert torch.equal(ours.criterion.loss.beta, margin.criterion.loss.beta)
    inputs = batch().inputs
    first = functional.normalize(ours.embed(inputs)[:, :8], dim=1)
    assert torch.allclose(first, margin.embed(inputs), atol=1e-6)


def test_the_weight_of_decorrelation_follows_the_dimension() -> None:
    """The mean squared product of two unit vectors falls with 1/d^2; 128 is the published size."""
    assert make("mic", 128, decorrelation=250.0).decorrelation == 250.0
    assert make("mic", 64, decorrelation=250.0).decorrelation == 62.5
    assert make("diva", 512, decorrelation=150.0).decorrelation == 150.0


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


def test_diva_adds_three_losses_and_three_adversaries() -> None:
    ours = of(DiVA, "diva", dimension=32, alpha=0.3, decorrelation=500.0)
    ours.begin_epoch(training(), 0)
    ours.loader(training(), 0)
    given = batch()
    own, similar, shared, intra = (
        functional.normalize(part, dim=1) for part in ours.output(given.inputs).split(8, dim=1)
    )
    keys = functional.normalize(ours.output(given.views[1])[:, 8:16], dim=1)
    with seeded(0, "value"):
        classes = ours.criterion.of(Encoded(own, own, own), given.labels)
        groups = given.labels[torch.randperm(12)]
        triplets = AcrossClasses()(shared.detach(), given.labels, groups)
        across = ours.others[0].base(shared, groups, triplets)
        triplets = WithinClasses()(intra.detach(), given.labels)
        within = ours.others[1].loss(intra, given.labels, triplets)
    queue = ours.queue.held()[0]
    itself = distance_weighted_contrast(similar, keys, queue, temperature=0.01)
    weight = 500.0 * (8 / 128) ** 2
    apart = [
        adversary(own, other)
        for adversary, other in zip(ours.adversaries, (similar, shared, intra), strict=True)
    ]
    expected = classes + 0.3 * (itself + across + within) + weight * sum(apart)
    assert torch.allclose(value(ours, given), expected)
    assert min(float(each.detach()) for each in (itself, across, within)) > 0


def test_the_losses_of_diva_reach_their_own_slices_only() -> None:
    ours = of(DiVA, "diva", dimension=32, decorrelation=0.0)
    ours.begin_epoch(training(), 0)
    bare = make("diva", 32, **NOTHING["diva"])
    for objective in (ours, bare):
        value(objective, batch()).backward()
    whole, of_classes = ours.model.head.weight.grad, bare.model.head.weight.grad
    assert torch.equal(whole[:8], of_classes[:8]) and not of_classes[8:].any()
    assert all(whole[8 * i : 8 * i + 8].any() for i in (1, 2, 3))


def test_adversaries_reach_all_slices_and_no_boundary() -> None:
    ours = of(DiVA, "diva", dimension=32, alpha=0.0, decorrelation=500.0)
    value(ours, batch()).backward()
    assert all(ours.model.head.weight.grad[8 * i : 8 * i + 8].any() for i in range(4))
    assert all(loss.grad is None for loss in ours.other_criteria.parameters())
    assert all(p.grad is not None for p in ours.adversaries.parameters())


def test_diva_retrieves_by_four_unit_embeddings_with_fixed_weights() -> None:
    ours = make("diva", 32, class_weight=0.5)
    inputs = batch().inputs
    parts = [functional.normalize(part, dim=1) for part in ours.output(inputs).split(8, dim=1)]
    squares = (0.25, 1.0, 1.0, 1.0)
    expected = sum(s * part @ part.T for s, part in zip(squares, parts, strict=True)) / sum(squares)
    found = ours.embed(inputs)
    assert found.shape == (12, 32) and torch.allclose(found @ found.T, expected, atol=1e-6)


def test_the_heads_of_diva_share_the_dimensions() -> None:
    assert of(DiVA, "diva", dimension=512).sizes == [128] * 4
    assert sorted(of(DiVA, "diva", dimension=6).sizes) == [1, 1, 2, 2]
    with pytest.raises(UsageError, match="--embedding-dim"):
        make("diva", 3)


def test_the_queue_of_diva_starts_with_training_samples_and_takes_the_keys_of_every_step() -> None:
    ours = of(DiVA, "diva", dimension=32, queue_batches=3, momentum=0.5)
    ours.begin_epoch(training(), 0)
    held = ours.queue.held()[0].clone()
    everything = functional.normalize(ours.output(samples().values)[:, 8:16], dim=1)
    assert held.shape == (36, 8) and torch.cdist(held, everything).amin(1).max() < 1e-3
    keys = functional.normalize(ours.output(batch().views[1])[:, 8:16], dim=1)
    value(ours, batch())
    assert torch.equal(ours.queue.held()[0], held)
    before = ours.slow.model.head.weight.clone()
    with torch.no_grad():
        ours.model.head.weight += 1
    ours.after_step(training(), batch())
    assert torch.allclose(ours.queue.held()[0][:12], keys, atol=1e-6)
    assert torch.equal(ours.queue.held()[0][12:], held[12:])
    pushed = ours.queue.pushed.clone()
    ours.begin_epoch(training(), 1)
    assert torch.equal(ours.queue.pushed, pushed)
    assert torch.allclose(ours.slow.model.head.weight, before + 0.5)


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


class KilledError(Exception):
    """Stands for a process that ends between two steps."""


@pytest.mark.parametrize("method", ["mic", "diva"])
def test_a_run_resumes_with_its_clusters_its_queue_and_its_slow_copy(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the fourth of five epochs of 4 steps, after clusterings at 0 and 2."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    own = {"mic": {"clusters": 5, "update_every": 2}, "diva": {"queue_batches": 2}}[method]
    straight, broken, resumed = (make(method, steps=18, **own) for _ in range(3))
    for directory in ("straight", "resumed"):
        (tmp_path / directory).mkdir()
    figures = fit(straight, training(), tmp_path / "straight")
    after_step = broken.after_step

    def die(given: Training, batch: Batch) -> None:
        after_step(given, batch)
        if batch.step == 14:
            raise KilledError

    monkeypatch.setattr(broken, "after_step", die)
    with pytest.raises(KilledError):
        fit(broken, training(), tmp_path / "resumed")
    assert fit(resumed, training(), tmp_path / "resumed") == figures
    state = resumed.state_dict()
    assert all(torch.equal(each, state[key]) for key, each in straight.state_dict().items())


@pytest.mark.parametrize("method", ["sharing", "diva"])
def test_a_base_without_triplets_is_refused(method: str) -> None:
    with pytest.raises(UsageError, match="base=arcface takes no triplets"):
        make(method, base="arcface")
    for base in ("triplet", "contrastive", "multi_similarity", "r_margin"):
        make(method, base=base)
    make("mic", base="proxy_anchor")


@pytest.mark.parametrize("method", ["mic", "sharing", "diva"])
def test_every_parameter_has_a_rate(method: str) -> None:
    objective = make(method)
    check_groups(objective)
    decays = {group.weight_decay for group in objective.parameter_groups()}
    assert 1e-6 in decays


def test_recipes_are_those_of_the_papers() -> None:
    diva, mic = get_method("diva").recipes, get_method("mic").recipes
    weights = {
        family: (each.hyperparameters["alpha"], each.hyperparameters["decorrelation"])
        for family, each in diva.items()
    }
    assert weights == {"cub200": (0.3, 1500.0), "cars196": (0.15, 100.0), "sop": (0.2, 150.0)}
    assert prescribed("diva", train="all", recipe="sop")["batch_size"] == 108
    assert prescribed("mic", train="all")["criterion_learning_rate"] == 5e-4
    assert [mic[family].hyperparameters["clusters"] for family in mic] == [30, 150, 50]


@pytest.mark.parametrize("method", ["mic", "sharing", "diva"])
def test_whole_networks_are_trained_on_images(
    method: str, image_folder: Path, tmp_path: Path
) -> None:
    dataset, backbone = load_dataset(image_folder), load_backbone("tiny")
    pool = extract_features(dataset, backbone, cache=tmp_path)
    ladder = build_ladder(pool, rungs=2)
    (spec,) = plan(
        ladder, [method], [0], rungs=[0], train="all", batch_size=8, samples_per_class=2,
        embedding_dim=8, steps=3, image_size=32,
    )  # fmt: skip
    record = train_run(spec, ladder.rungs[0], Resources(pool, dataset, backbone), tmp_path / "run")
    assert np.isfinite(list(record.metrics.values())).all()
