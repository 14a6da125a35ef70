"""Closed forms and identities of the losses over triplets."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor
from torch.nn import functional

from oodml.errors import UsageError
from oodml.train.methods.triplets import DynamicSoftMargin
from oodml.train.objective import Criterion, Encoded
from oodml.train.registry import get_method

Batch = tuple[Tensor, Tensor]


@pytest.fixture
def batch() -> Batch:
    random = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(13, 6, generator=random), dim=1)
    return embeddings, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4])


def build(name: str, **hyperparameters: object) -> Criterion:
    built = get_method(name).build(5, 6, **hyperparameters)
    return built if isinstance(built, Criterion) else Criterion(built)


def value(criterion: Criterion, embeddings: Tensor, labels: Tensor) -> Tensor:
    return criterion.of(Encoded(embeddings, embeddings, embeddings), labels)


def number(scalar: Tensor) -> float:
    return float(scalar.detach())


def on_circle(*angles: float) -> Tensor:
    turns = torch.tensor(angles)
    return torch.stack([turns.cos(), turns.sin()], dim=1)


def apart(*distances: float) -> Tensor:
    """The first of unit vectors on a circle, and one at each distance from it."""
    return on_circle(0.0, *(2 * math.asin(distance / 2) for distance in distances))


FIRST = (torch.tensor([0]), torch.tensor([1]), torch.tensor([2]))
LABELS = torch.tensor([0, 0, 1])


def test_a_triplet_pays_for_the_margin_that_is_missing() -> None:
    points = apart(1.0, -1.1)
    for hyperparameters, expected in (
        ({}, 1.0 - 1.1 + 0.2),
        ({"squared": True}, max(1.0 - 1.21 + 0.2, 0)),
        ({"soft": True}, math.log1p(math.exp(1.0 - 1.1))),
        ({"squared": True, "margin": 0.3}, 1.0 - 1.21 + 0.3),
    ):
        loss = build("triplet", **hyperparameters).loss
        assert float(loss(points, LABELS, FIRST)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mining", ["random", "all", "hard", "semihard", "softhard", "distance"])
def test_collapse_shows_as_the_margin_with_no_gradient(mining: str) -> None:
    # methods.md 1.2 (d).
    embeddings = torch.full((8, 6), 6**-0.5, requires_grad=True)
    found = value(build("triplet", mining=mining), embeddings, torch.arange(4).repeat(2))
    found.backward()
    assert float(found.detach()) == pytest.approx(0.2) and float(embeddings.grad.abs().max()) == 0


def test_the_mean_goes_over_violating_triplets_only(batch: Batch) -> None:
    # methods.md 1.2 (c): the reported loss stays near the margin while the mean over all falls.
    embeddings, labels = batch
    distances = torch.cdist(embeddings, embeddings)
    hinges = []
    for i in range(13):
        for p in range(13):
            for n in range(13):
                if i != p and labels[i] == labels[p] and labels[i] != labels[n]:
                    hinges.append(max(float(distances[i, p] - distances[i, n]) + 0.2, 0))
    violating = [hinge for hinge in hinges if hinge > 0]
    found = number(value(build("triplet", mining="all"), embeddings, labels))
    assert found == pytest.approx(sum(violating) / len(violating), rel=1e-4)
    assert found > 1.2 * sum(hinges) / len(hinges)
    assert found == pytest.approx(float(losses.TripletMarginLoss(0.2)(embeddings, labels)))


def test_the_miner_looks_for_the_margin_of_the_loss() -> None:
    # methods.md 1.2 (b): of two negatives only the one within the margin may be drawn.
    points = apart(0.5, -0.6, 1.0)
    labels = torch.tensor([0, 0, 1, 2])
    for margin, negatives in ((0.2, {2}), (0.6, {2, 3})):
        miner = build("triplet", margin=margin).miner
        torch.manual_seed(0)
        assert {int(miner(points, labels)[2][0]) for _ in range(30)} == negatives


def test_an_unknown_way_of_mining_is_named() -> None:
    with pytest.raises(UsageError, match="semihard"):
        build("triplet", mining="semi")
    with pytest.raises(UsageError, match="hard"):
        build("easy_positive", negatives="harder")


def test_easy_positive_is_a_softmax_over_one_positive_and_one_negative(batch: Batch) -> None:
    # methods.md 1.2: -log(e^(s_ap/t) / (e^(s_ap/t) + e^(s_an/t))), as NT-Xent of mined triplets.
    embeddings, labels = batch
    cosines = embeddings @ embeddings.T
    terms = []
    for i in range(12):
        positive = max(float(cosines[i, j]) for j in range(13) if labels[j] == labels[i] and j != i)
        negative = max(float(cosines[i, j]) for j in range(13) if labels[j] != labels[i])
        terms.append(math.log1p(math.exp((negative - positive) / 0.1)))
    found = number(value(build("easy_positive"), embeddings, labels))
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-4)
    mined = miners.BatchEasyHardMiner("easy", "hard")(embeddings, labels)
    library = losses.NTXentLoss(0.1)(embeddings, labels, mined)
    assert found == pytest.approx(float(library), rel=1e-4)


def test_margin_of_one_triplet() -> None:
    # methods.md 1.3: D_ap = 1.3, D_an = 1.1, beta = 1.2, m = .2 gives (.3 + .3) / 2.
    loss = build("margin").loss
    found = loss(apart(1.3, -1.1), LABELS, FIRST)
    assert float(found.detach()) == pytest.approx(0.3, abs=1e-5)


def test_the_boundary_moves_by_active_negatives_less_active_positives() -> None:
    # methods.md 1.3. At D_ap = .5 the positive is inside; both negatives at 1.1 are active.
    points = apart(1.3, -1.1, 0.5)
    labels = torch.tensor([0, 0, 1, 0])
    triplets = tuple(torch.tensor(part) for part in ((0, 0), (1, 3), (2, 2)))
    for per_class in (True, False):
        loss = build("margin", per_class=per_class).loss
        loss(points, labels, triplets).backward()
        assert float(loss.beta.grad[0]) == pytest.approx((2 - 1) / 3)
        assert loss.beta.grad.count_nonzero() == 1
        assert loss.beta.shape == (5 if per_class else 1,)


def test_the_boundaries_are_saved_and_weighed() -> None:
    # methods.md 1.3 and 8.2 trap 15: the library's default is a plain tensor outside of its state.
    loss = build("margin", beta=0.7, nu=0.5).loss
    assert loss.state_dict()["beta"].tolist() == pytest.approx([0.7] * 5)
    without = build("margin", beta=0.7).loss
    points = apart(1.3, -0.6)
    difference = float((loss(points, LABELS, FIRST) - without(points, LABELS, FIRST)).detach())
    assert difference == pytest.approx(0.5 * 0.7 / 2, rel=1e-5)  # Over the two active terms.


def test_without_regularisation_r_margin_is_margin(batch: Batch) -> None:
    # methods.md 9.4: R-margin(rho = 0) = margin.
    own = build("r_margin", rho=0.0, beta=1.2, upper_cutoff=1.4)
    for seed in range(3):
        torch.manual_seed(seed)
        expected = number(value(build("margin"), *batch))
        torch.manual_seed(seed)
        assert number(value(own, *batch)) == expected


def test_full_regularisation_only_drives_classes_apart(batch: Batch) -> None:
    # methods.md 1.8: with rho = 1 a step along the gradient widens distances within classes only.
    embeddings, labels = batch
    outputs = (embeddings / 4 + embeddings[:1]).requires_grad_()
    criterion = build("r_margin", rho=1.0)
    value(criterion, functional.normalize(outputs, dim=1), labels).backward()
    assert torch.isfinite(outputs.grad).all() and outputs.grad[12].abs().max() == 0
    same = (labels[:, None] == labels[None, :]).fill_diagonal_(False)
    moved = functional.normalize(outputs.detach() - 0.1 * outputs.grad, dim=1)
    before = functional.normalize(outputs.detach(), dim=1)
    widened = (torch.cdist(moved, moved) - torch.cdist(before, before))[same]
    assert float(widened.mean()) > 0.01 and float((widened > 0).float().mean()) > 0.9
    grown = criterion.loss.beta.grad
    assert (grown[:4] > 0).all()  # Every push is active and no pull is.


def test_dynamic_soft_margin_weighs_a_triplet_by_the_share_of_easier_ones() -> None:
    # Pairs (0, 1) and (2, 3) at .5 and .2; the negatives closest to either end are as far as the
    # distance between the pairs' nearest ends, on the bin borders of a histogram of 40 bins.
    points = on_circle(0.0, 0.4, 1.4, 1.5)
    labels = torch.tensor([0, 0, 1, 1])
    distances = torch.cdist(points, points)
    nearest = distances[:2, 2:].min()
    differences = [float(distances[0, 1] - nearest), float(distances[2, 3] - nearest)]
    loss = DynamicSoftMargin(5, 6, bins=40, momentum=0.5)
    found = float(loss(points, labels))
    places = [(difference + 2) * 10 for difference in differences]
    histogram = torch.zeros(41)
    for place in places:
        histogram[int(place)] += (1 - place % 1) / 2
        histogram[int(place) + 1] += (place % 1) / 2
    shares = [float(histogram[: int(place) + 1].sum()) for place in places]
    expected = sum(s * d for s, d in zip(shares, differences, strict=True)) / 2
    assert found == pytest.approx(expected, rel=1e-4)
    assert loss.histogram.tolist() == pytest.approx(histogram.tolist(), abs=1e-5)


def test_the_soft_margin_remembers_past_batches_and_saves_them(batch: Batch) -> None:
    loss = DynamicSoftMargin(5, 6, bins=10, momentum=0.25)
    loss(*batch)
    first = loss.histogram.clone()
    loss(batch[0].roll(1, 0), batch[1])
    alone = DynamicSoftMargin(5, 6, bins=10, momentum=0.25)
    alone(batch[0].roll(1, 0), batch[1])
    expected = 0.75 * first + 0.25 * alone.histogram
    assert loss.state_dict()["histogram"].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    loss.eval()
    loss(*batch)
    assert loss.histogram.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
