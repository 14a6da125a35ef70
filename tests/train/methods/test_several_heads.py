"""Heads that an adversary keeps apart, and triplets across classes: mic, sharing and diva."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from train.methods.conftest import batch, make, training

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.train import checkpoint
from oodml.train.build import Resources
from oodml.train.loop import fit
from oodml.train.methods.parts.several_heads import (
    AcrossClasses,
    Adversary,
    SharedByClasses,
    reverse_gradient,
)
from oodml.train.objective import (
    Batch,
    Criterion,
    Training,
    check_groups,
)
from oodml.train.plan import plan
from oodml.train.registry import get_method, prescribed
from oodml.train.run import train_run

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


def test_the_weight_of_decorrelation_follows_the_dimension() -> None:
    """The mean squared product of two unit vectors falls with 1/d^2; 128 is the published size."""
    assert make("mic", 128, decorrelation=250.0).decorrelation == 250.0
    assert make("mic", 64, decorrelation=250.0).decorrelation == 62.5
    assert make("diva", 512, decorrelation=150.0).decorrelation == 150.0


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
    with pytest.raises(UsageError, match="base=arcface"):
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


def test_values_pass_and_gradients_turn_round() -> None:
    inputs = torch.tensor([1.0, -2.0], requires_grad=True)
    outputs = reverse_gradient(inputs)
    assert torch.equal(outputs, inputs)
    (outputs * torch.tensor([3.0, 5.0])).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.tolist() == [-3.0, -5.0]


def unit(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=random), dim=1)


def identity(size: int) -> Adversary:
    adversary = Adversary(size, size)
    adversary.regressor = nn.Identity()  # type: ignore[assignment]
    return adversary


@pytest.mark.parametrize("size", [4, 16])
def test_two_equal_embeddings_cost_minus_one_over_the_dimension_at_least(size: int) -> None:
    # methods.md 5.5: -1/d^2 where all entries are equal (d = 4: -.0625), -1/d for a basis vector.
    flat, basis = torch.full((3, size), size**-0.5), torch.eye(size)[:3]
    assert identity(size)(flat, flat).item() == pytest.approx(-1 / size**2)
    assert identity(size)(basis, basis).item() == pytest.approx(-1 / size)
    assert identity(4)(torch.full((1, 4), 0.5), torch.full((1, 4), 0.5)).item() == -0.0625


def test_the_regression_is_brought_to_unit_length() -> None:
    target, source = torch.eye(4)[:1], torch.tensor([[3.0, 0.0, 4.0, 0.0]])
    assert identity(4)(target, source).item() == pytest.approx(-(0.6**2) / 4)


def test_one_backward_trains_both_sides_against_each_other() -> None:
    """A step of the regressor makes the loss smaller, one of either embedding makes it larger."""
    torch.manual_seed(0)
    adversary = Adversary(6, 5)
    target, source = unit(8, 5).requires_grad_(), unit(8, 6, seed=1).requires_grad_()
    before = adversary(target, source)
    before.backward()
    with torch.no_grad():
        regressor = adversary.state_dict()
        for parameter in adversary.parameters():
            parameter -= 0.1 * parameter.grad
        assert adversary(target, source) < before - 1e-4
        adversary.load_state_dict(regressor)
    torch.manual_seed(0)
    again = Adversary(6, 5)
    with torch.no_grad():
        assert again(target - 0.1 * target.grad, source) > before
        assert again(target, source - 0.1 * source.grad) > before


def test_the_sizes_of_both_sides_are_free_and_the_regressor_is_512_wide() -> None:
    shapes = [tuple(p.shape) for p in Adversary(6, 5).parameters()]
    assert shapes == [(512, 6), (512,), (5, 512), (5,)]
    assert Adversary(6, 5)(unit(3, 5), unit(3, 6)).shape == ()


def test_embeddings_of_length_zero_have_a_finite_gradient() -> None:
    source = torch.zeros(2, 3, requires_grad=True)
    loss = identity(3)(torch.zeros(2, 3), source)
    loss.backward()
    assert float(loss.detach()) == 0 and source.grad is not None and source.grad.isfinite().all()


LABELS_OF_28 = torch.arange(7).repeat_interleave(4)


def points(number: int = 28, dimension: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return functional.normalize(torch.randn(number, dimension, generator=random), dim=1)


def on_circle(*degrees: float) -> Tensor:
    turns = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([turns.cos(), turns.sin(), torch.zeros(len(degrees))], dim=1)


def seeded_draws(count: int = 30) -> range:
    torch.manual_seed(0)
    return range(count)


def test_the_three_samples_of_a_shared_triplet_are_of_three_classes() -> None:
    # methods.md 5.6.
    for _ in seeded_draws():
        anchors, positives, negatives = AcrossClasses()(points(), LABELS_OF_28)
        a, p, n = LABELS_OF_28[anchors], LABELS_OF_28[positives], LABELS_OF_28[negatives]
        assert anchors.tolist() == list(range(28))
        assert not ((a == p) | (a == n) | (p == n)).any()


def test_permuted_groups_choose_among_true_classes_that_differ() -> None:
    for _ in seeded_draws():
        groups = LABELS_OF_28[torch.randperm(28)]
        anchors, positives, negatives = AcrossClasses()(points(), LABELS_OF_28, groups)
        a, p, n = LABELS_OF_28[anchors], LABELS_OF_28[positives], LABELS_OF_28[negatives]
        assert len(anchors) > 20 and not ((a == p) | (a == n) | (p == n)).any()
        assert torch.equal(groups[anchors], groups[positives])
        assert (groups[anchors] != groups[negatives]).all()


def test_positives_come_from_anywhere_and_negatives_by_their_distance() -> None:
    """In 3 dimensions the weight is 1/D: of two classes at .5 and 1, the near one's comes twice."""
    degrees = [0.0, 28.955, 60.0, 180.0]
    drawn: Counter[tuple[int, int]] = Counter()
    for _ in seeded_draws(600):
        _, positives, negatives = AcrossClasses()(on_circle(*degrees), torch.arange(4))
        drawn[int(positives[0]), int(negatives[0])] += 1
    of_positive = [sum(n for (p, _), n in drawn.items() if p == each) for each in (1, 2, 3)]
    assert min(of_positive) > 165
    assert drawn[3, 1] / drawn[3, 2] == pytest.approx(2.0, rel=0.3)


def test_negatives_at_the_cut_off_are_left_out() -> None:
    for _ in seeded_draws():
        anchors, positives, negatives = AcrossClasses(upper=1.5)(
            on_circle(0.0, 80.0, 180.0), torch.arange(3)
        )
        assert (positives[anchors == 0] == 2).all() and (negatives[anchors == 0] == 1).all()


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 0, 1, 1]])
def test_two_classes_have_no_triplet_of_three(labels: list[int]) -> None:
    given = points(4), torch.tensor(labels)
    assert [len(part) for part in AcrossClasses()(*given)] == [0, 0, 0]
    groups = torch.tensor([0, 1, 0, 1])
    assert [len(part) for part in AcrossClasses()(*given, groups)] == [0, 0, 0]


class Watched(Criterion):
    """A loss that keeps what it was called with."""

    def forward(self, embeddings: Tensor, labels: Tensor, triplets: tuple[Tensor, ...]) -> Tensor:
        self.labels, self.triplets = labels, triplets
        return embeddings.sum()


def test_one_permutation_serves_the_miner_and_the_boundaries() -> None:
    # methods.md 5.6, pitfalls: redrawn for every batch, and shared.
    loss, drawn = Watched(), []
    for _ in seeded_draws(8):
        SharedByClasses(loss, permuted=True)(points(), LABELS_OF_28)
        anchors, positives, negatives = loss.triplets
        assert torch.equal(loss.labels[anchors], loss.labels[positives])
        assert (loss.labels[anchors] != loss.labels[negatives]).all()
        assert torch.equal(loss.labels.sort().values, LABELS_OF_28)
        drawn.append(tuple(loss.labels.tolist()))
    assert len(set(drawn)) == 8


def test_without_permutation_a_boundary_is_that_of_the_anchor_s_class() -> None:
    loss = Watched()
    SharedByClasses(loss, permuted=False)(points(), LABELS_OF_28)
    assert torch.equal(loss.labels, LABELS_OF_28)
