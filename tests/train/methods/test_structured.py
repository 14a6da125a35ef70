"""Closed forms and identities of the losses that set a pair against all negatives at once."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn import functional

from oodml.train.objective import Criterion, Encoded
from oodml.train.registry import get_method

Batch = tuple[Tensor, Tensor]
# Three unit vectors with all cosines 1/2 and all distances 1; the first two of one class.
EVEN = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]) / math.sqrt(2)
LABELS = torch.tensor([0, 0, 1])


@pytest.fixture
def batch() -> Batch:
    random = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(13, 6, generator=random), dim=1)
    return embeddings, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3])


def value(name: str, outputs: Tensor, labels: Tensor, **hyperparameters: object) -> float:
    built = get_method(name).build(5, outputs.shape[1], **hyperparameters)
    criterion = built if isinstance(built, Criterion) else Criterion(built)
    unit = functional.normalize(outputs, dim=1)
    return float(criterion.of(Encoded(outputs, outputs, unit), labels).detach())


def test_lifted_structure_of_three_points_at_distance_one() -> None:
    # methods.md 1.4: J = 1 + ln 2 = 1.6931, loss J^2 / 2.
    assert value("lifted_structure", EVEN, LABELS) == pytest.approx(1.4334, abs=1e-4)


def test_generalised_lifted_structure_of_three_points_at_distance_one() -> None:
    # log e^1 + log e^(1 - 1) for both samples with a positive; the third has none and drops out.
    assert value("generalized_lifted_structure", EVEN, LABELS) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("lifted_structure", losses.LiftedStructureLoss()),
        ("generalized_lifted_structure", losses.GeneralizedLiftedStructureLoss()),
        ("nt_xent", losses.NTXentLoss()),
        ("tuplet_margin", losses.TupletMarginLoss(math.degrees(0.1))),
        ("neighbourhood_components", losses.NCALoss()),
    ],
)
def test_matrices_give_what_the_library_gives_pair_by_pair(
    name: str, library: torch.nn.Module, batch: Batch
) -> None:
    assert value(name, *batch) == pytest.approx(float(library(*batch)), rel=1e-4)


def test_lifted_structure_refuses_a_memory_whose_pairs_it_does_not_know(batch: Batch) -> None:
    loss = get_method("lifted_structure").build(5, 6)
    with pytest.raises(NotImplementedError, match="one batch"):
        loss(*batch, None, *batch)


def test_generalised_lifted_structure_may_see_lengths_and_weigh_them(batch: Batch) -> None:
    embeddings, labels = batch
    name = "generalized_lifted_structure"
    assert value(name, 3 * embeddings, labels) == pytest.approx(value(name, embeddings, labels))
    raw = value(name, 3 * embeddings, labels, normalized=False)
    assert raw != pytest.approx(value(name, embeddings, labels), rel=0.1)
    weighed = value(name, 3 * embeddings, labels, normalized=False, regularizer=0.005)
    assert weighed - raw == pytest.approx(0.005 * 3, rel=1e-3)


def test_n_pair_of_nothing_is_the_logarithm_of_the_number_of_classes() -> None:
    # methods.md 1.6: all z = 0 gives log N.
    assert value("n_pair", torch.zeros(8, 6), torch.arange(4).repeat(2)) == pytest.approx(
        math.log(4), rel=1e-6
    )


def test_n_pair_is_a_cross_entropy_of_inner_products(batch: Batch) -> None:
    # methods.md 1.6, with the pairs that the miner draws; two samples a class are one pair.
    outputs = 2 * batch[0][:8]
    labels = torch.arange(4).repeat(2)
    criterion = get_method("n_pair").build(5, 6, regularizer=0.01)
    anchors, positives, *_ = tuples = criterion.miner(outputs, labels)
    found = float(criterion(outputs, labels, tuples))
    logits = outputs[anchors] @ outputs[positives].T
    expected = functional.cross_entropy(logits, torch.arange(4)) + 0.01 * 2.0
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_n_pair_weighs_the_mean_length_as_its_source_does() -> None:
    # Code of arXiv:2002.08473: 0.005 weighs the mean of |z|, not of |z|^2. Single samples of a
    # class make no pair, which leaves the regulariser alone: lengths 3 and 5 have the mean 4.
    outputs = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    assert value("n_pair", outputs, torch.tensor([0, 1])) == pytest.approx(0.005 * 4, rel=1e-6)


def test_n_pair_sees_the_length_of_the_outputs(batch: Batch) -> None:
    # methods.md 1.6 and 8.2 trap 3: the library's default gives the same for ten times as long.
    embeddings, labels = batch
    torch.manual_seed(0)
    short = value("n_pair", embeddings, labels, regularizer=0.0)
    torch.manual_seed(0)
    long = value("n_pair", 10 * embeddings, labels, regularizer=0.0)
    assert abs(long - short) > 1
    library = losses.NPairsLoss()
    assert float(library(embeddings, labels)) == pytest.approx(
        float(library(10 * embeddings, labels)), rel=1e-5
    )


def test_a_constant_direction_of_its_own_changes_the_regulariser_alone(batch: Batch) -> None:
    # methods.md 1.6.
    embeddings, labels = batch
    beside = torch.cat([embeddings, torch.full((13, 1), 0.5)], dim=1)
    for regularizer, difference in ((0.0, 0.0), (0.2, 0.2 * (math.sqrt(1.25) - 1))):
        torch.manual_seed(0)
        plain = value("n_pair", embeddings, labels, regularizer=regularizer)
        torch.manual_seed(0)
        found = value("n_pair", beside, labels, regularizer=regularizer)
        assert found - plain == pytest.approx(difference, abs=1e-5)


def angular(outputs: Tensor, labels: Tensor, **hyperparameters: float) -> float:
    """The angular part alone, with weight 1."""
    torch.manual_seed(0)
    both = value("angular", outputs, labels, weight=1.0, regularizer=0.0, **hyperparameters)
    torch.manual_seed(0)
    return both - value("n_pair", outputs, labels, regularizer=0.0)


def test_angular_with_the_negative_orthogonal_and_on_the_anchor() -> None:
    # methods.md 1.7 at 45 degrees: f = -4 gives .018150, f = 4 gives 4.01815.
    right = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert angular(right, LABELS) == pytest.approx(0.018150, abs=1e-5)
    assert angular(right[[0, 0, 0]], LABELS) == pytest.approx(4.01815, abs=1e-4)


def test_angular_counts_every_negative(batch: Batch) -> None:
    embeddings, labels = batch
    tangent = math.tan(math.radians(36)) ** 2
    terms = []
    for a in range(13):
        for p in range(13):
            if a != p and labels[a] == labels[p]:
                own = 2 * (1 + tangent) * float(embeddings[a] @ embeddings[p])
                against = 4 * tangent * embeddings @ (embeddings[a] + embeddings[p]) - own
                terms.append(math.log1p(float(against[labels != labels[a]].exp().sum())))
    assert angular(embeddings, labels, alpha=36.0) == pytest.approx(
        sum(terms) / len(terms), rel=1e-4
    )


def test_angular_sees_directions_alone(batch: Batch) -> None:
    # methods.md 1.7 and 8.2 trap 1: the library leaves negatives as long as they are.
    embeddings, labels = batch
    found = angular(2 * embeddings, labels)
    assert found == pytest.approx(angular(embeddings, labels), rel=1e-4)
    library = losses.AngularLoss(45)
    assert found == pytest.approx(float(library(embeddings, labels)), rel=1e-4)
    assert abs(float(library(2 * embeddings, labels)) - found) > 1


@pytest.mark.parametrize("name", ["nt_xent", "sup_con"])
def test_a_softmax_of_two_equal_similarities_is_a_coin(name: str) -> None:
    assert value(name, EVEN, LABELS) == pytest.approx(math.log(2), rel=1e-5)


def test_sup_con_shares_one_softmax_among_all_positives_where_nt_xent_does_not() -> None:
    four = torch.cat([EVEN, EVEN[:1]])
    labels = torch.tensor([0, 0, 1, 0])
    # Anchor 1: two positives and one negative at 1/2. Anchors 0 and 3: one positive at 1, one at
    # 1/2 and a negative at 1/2, all over a temperature of 1.
    near, even = math.exp(1.0), math.exp(0.5)
    total = near + 2 * even
    shared = [math.log(3), math.log(total) - 0.75, math.log(total) - 0.75]
    found = value("sup_con", four, labels, temperature=1.0)
    assert found == pytest.approx(sum(shared) / 3, rel=1e-5)
    alone = [math.log(2)] * 4 + [math.log1p(even / near)] * 2
    found = value("nt_xent", four, labels, temperature=1.0)
    assert found == pytest.approx(sum(alone) / 6, rel=1e-5)


def test_tuplet_margin_gives_positives_their_slack_angle() -> None:
    # A positive at the slack angle counts as if it were on the anchor.
    turned = torch.tensor([[1.0, 0.0], [math.cos(0.1), math.sin(0.1)], [0.0, 1.0]])
    expected = [math.log1p(math.exp(2.0 * (cosine - 1))) for cosine in (0.0, math.sin(0.1))]
    found = value("tuplet_margin", turned, LABELS, scale=2.0)
    assert found == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_a_soft_neighbour_at_equal_distances_is_a_coin() -> None:
    assert value("neighbourhood_components", EVEN, LABELS) == pytest.approx(math.log(2), rel=1e-5)
