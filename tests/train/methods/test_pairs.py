"""Closed forms and identities of the losses over single pairs."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from pytorch_metric_learning import distances, losses
from torch import Tensor
from torch.nn import functional

from oodml.errors import UsageError
from oodml.train.methods.parts.over_pairs import OverPairs, cosines
from oodml.train.objective import Criterion, Encoded
from oodml.train.registry import get_method


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(13, 6, generator=random), dim=1)
    return embeddings, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4])


def build(name: str, **hyperparameters: object) -> torch.nn.Module:
    return get_method(name).build(5, 6, **hyperparameters)


def value(built: torch.nn.Module | Criterion, embeddings: Tensor, labels: Tensor) -> Tensor:
    if isinstance(built, Criterion):
        unit = functional.normalize(embeddings, dim=1)
        return built.of(Encoded(embeddings, embeddings, unit), labels)
    return built(embeddings, labels)


CROSS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
PAIRED = torch.tensor([0, 0, 1, 1])
# Three unit vectors with all cosines 1/2 and all distances 1.
EVEN = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]) / math.sqrt(2)


def test_contrastive_of_four_vectors_at_right_angles_is_the_root_of_two() -> None:
    # methods.md 1.1: positives at sqrt 2, negatives at sqrt 2 or 2, beyond the margin of 1.
    assert float(value(build("contrastive"), CROSS, PAIRED)) == pytest.approx(1.41421, abs=1e-5)


def test_the_reductions_of_the_contrastive_loss_divide_by_what_they_say() -> None:
    # Of 8 negative pairs 4 stand at sqrt 2 and 4 at 2; of 4 positive pairs all at sqrt 2.
    root = math.sqrt(2)
    at = {"positive_margin": 1.0, "negative_margin": 1.75}
    pull, push = root - 1, 1.75 - root
    expected = {
        "violating": pull + push,
        "pairs": pull + 4 * push / 8,
        "anchors": (4 * pull + 4 * push) / 4,
    }
    for reduction, wanted in expected.items():
        built = build("contrastive", reduction=reduction, **at)
        assert float(value(built, CROSS, PAIRED)) == pytest.approx(wanted, rel=1e-5), reduction
    with pytest.raises(UsageError, match="violating"):
        build("contrastive", reduction="violate")


def test_a_negative_positive_margin_adds_a_constant_only(batch: tuple[Tensor, Tensor]) -> None:
    # methods.md 1.1 (c): no distance lies below 0, so that the hinge is always open.
    zero, below = (build("contrastive", positive_margin=margin) for margin in (0.0, -0.2))
    difference = value(below, *batch) - value(zero, *batch)
    assert float(difference) == pytest.approx(0.2, rel=1e-5)


def test_contrastive_equals_the_library(batch: tuple[Tensor, Tensor]) -> None:
    for margins in ((0.0, 1.0), (0.2652, 0.5409)):
        own = build("contrastive", positive_margin=margins[0], negative_margin=margins[1])
        expected = losses.ContrastiveLoss(*margins)(*batch)
        assert float(value(own, *batch)) == pytest.approx(float(expected), rel=1e-5)


def test_snr_is_the_variance_of_the_difference_over_that_of_the_anchor(
    batch: tuple[Tensor, Tensor],
) -> None:
    own = build("snr_contrastive", positive_margin=0.1, negative_margin=2.0)
    library = losses.SignalToNoiseRatioContrastiveLoss(pos_margin=0.1, neg_margin=2.0)
    assert float(value(own, *batch)) == pytest.approx(float(library(*batch)), rel=1e-4)


def test_multi_similarity_of_one_positive_and_one_negative_at_a_half() -> None:
    # methods.md 1.5: ln(2)/2 + ln(2)/50 an anchor; two of the three samples are anchors, and the
    # loss divides by all.
    loss = build("multi_similarity").loss
    tuples = tuple(torch.tensor(part) for part in ((0, 1), (1, 0), (0, 1), (2, 2)))
    found = float(loss(EVEN, torch.tensor([0, 0, 1]), tuples)) * 3 / 2
    assert found == pytest.approx(0.36044, abs=1e-5)


def test_the_multi_similarity_miner_keeps_pairs_within_epsilon_of_the_hardest(
    batch: tuple[Tensor, Tensor],
) -> None:
    embeddings, labels = batch
    first, positives, second, negatives = build("multi_similarity").miner(embeddings, labels)
    similar, same = embeddings @ embeddings.T, labels[:, None] == labels[None, :]
    kept: set[tuple[int, int]] = set()
    for i in range(13):
        own = [j for j in range(13) if same[i, j] and j != i]
        others = [j for j in range(13) if not same[i, j]]
        if own:
            top = max(similar[i, j] for j in others)
            low = min(similar[i, j] for j in own)
            kept |= {(i, j) for j in own if similar[i, j] - 0.1 < top}
            kept |= {(i, j) for j in others if similar[i, j] + 0.1 > low}
    mined = set(zip(first.tolist(), positives.tolist(), strict=True))
    mined |= set(zip(second.tolist(), negatives.tolist(), strict=True))
    assert mined == kept
    assert set(first.tolist()) == set(second.tolist())  # An anchor is fully in or fully out.


def test_multi_similarity_does_not_depend_on_the_order_of_the_batch(
    batch: tuple[Tensor, Tensor],
) -> None:
    embeddings, labels = batch
    order = torch.randperm(13, generator=torch.Generator().manual_seed(1))
    built = build("multi_similarity")
    expected = float(value(built, embeddings, labels))
    assert float(value(built, embeddings[order], labels[order])) == pytest.approx(expected)


class Difference(OverPairs):
    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return values[negative].sum() - values[positive].sum()


def test_one_mined_pair_of_each_kind_is_enough_for_a_loss_over_pairs() -> None:
    # methods.md 8.2 trap 5: the library's pair losses return 0 here.
    labels = torch.tensor([0, 0, 1])
    tuples = tuple(torch.tensor([index]) for index in (0, 1, 0, 2))
    own = Difference(cosines)
    opposite = CROSS[[0, 2, 0]]
    assert float(own(opposite, labels, tuples)) == pytest.approx(2.0)
    assert float(losses.ContrastiveLoss()(opposite, labels, tuples)) == 0.0


def test_references_stand_on_the_other_side_of_every_pair(batch: tuple[Tensor, Tensor]) -> None:
    embeddings, labels = batch
    built = build("contrastive")
    expected = losses.ContrastiveLoss()(
        embeddings[:5], labels[:5], None, embeddings[5:], labels[5:]
    )
    found = built(embeddings[:5], labels[:5], None, embeddings[5:], labels[5:])
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_circle_at_equal_similarities() -> None:
    # Positive logit -80 * (1.4 - .5) * (.5 - .6), negative 80 * (.5 + .4) * (.5 - .4): both 7.2;
    # the third sample has no positive and does not count.
    expected = math.log1p(math.exp(14.4))
    found = float(value(build("circle"), EVEN, torch.tensor([0, 0, 1])))
    assert found == pytest.approx(expected, rel=1e-4)


def test_ranked_list_weighs_violations_by_their_exponentials() -> None:
    # Positives inside alpha - margin = .8 from 0 at distance 1; negatives inside alpha = 1.2.
    labels = torch.tensor([0, 0, 1])
    # Anchors 0 and 1: .5 * .2 + .5 * .2; the third has two negatives of one weight: .5 * .2.
    found = float(value(build("ranked_list"), EVEN, labels))
    assert found == pytest.approx((0.2 + 0.2 + 0.1) / 3, rel=1e-4)


def test_ranked_list_equals_the_library(batch: tuple[Tensor, Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That a temperature of 10 may overflow; in theirs.
        library = losses.RankedListLoss(margin=0.4, Tn=10, Tp=1.0)
    own = build("ranked_list", positive_temperature=1.0)
    # Theirs adds 1e-5 for every pair to the sum of the weights.
    assert float(value(own, *batch)) == pytest.approx(float(library(*batch)), rel=1e-3)


def test_threshold_consistent_margins_are_the_contrastive_loss_of_cosines(
    batch: tuple[Tensor, Tensor],
) -> None:
    built = build("threshold_consistent_margin", weight=0.7)
    library = losses.ContrastiveLoss(0.9, 0.5, distance=distances.CosineSimilarity())
    base = value(build("multi_similarity"), *batch)
    expected = float(base + 0.7 * library(*batch))
    assert float(value(built, *batch)) == pytest.approx(expected, rel=1e-5)
    theirs = losses.ThresholdConsistentMarginLoss()(*batch)
    assert float(library(*batch)) == pytest.approx(float(theirs), rel=1e-5)


def test_intra_pair_variance_is_added_to_the_tuplet_margin_loss(
    batch: tuple[Tensor, Tensor],
) -> None:
    built = build("intra_pair_variance")
    expected = value(build("tuplet_margin"), *batch)
    expected = expected + 0.5 * losses.IntraPairVarianceLoss()(*batch)
    assert float(value(built, *batch)) == pytest.approx(float(expected), rel=1e-5)


def test_a_regulariser_takes_its_base_as_it_is(batch: tuple[Tensor, Tensor]) -> None:
    embeddings, labels = batch
    torch.manual_seed(0)
    built = get_method("intra_pair_variance").build_with(5, 6, {"base": "n_pair", "weight": 0.0})
    found = float(value(built, 3 * embeddings, labels))
    torch.manual_seed(0)
    assert built.miner is not None and not built.normalized
    assert found == pytest.approx(float(value(build("n_pair"), 3 * embeddings, labels)))
