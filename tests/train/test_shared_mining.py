"""Triplets across classes and within one."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from oodml.train.methods.diva import WithinClasses
from oodml.train.methods.parts.several_heads import AcrossClasses, SharedByClasses
from oodml.train.objective import Criterion

LABELS = torch.arange(7).repeat_interleave(4)


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
        anchors, positives, negatives = AcrossClasses()(points(), LABELS)
        a, p, n = LABELS[anchors], LABELS[positives], LABELS[negatives]
        assert anchors.tolist() == list(range(28))
        assert not ((a == p) | (a == n) | (p == n)).any()


def test_permuted_groups_choose_among_true_classes_that_differ() -> None:
    for _ in seeded_draws():
        groups = LABELS[torch.randperm(28)]
        anchors, positives, negatives = AcrossClasses()(points(), LABELS, groups)
        a, p, n = LABELS[anchors], LABELS[positives], LABELS[negatives]
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


def test_triplets_within_a_class_are_of_three_different_samples() -> None:
    # methods.md 5.7 (a): drawn with replacement, most of them would have a sample twice.
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
    seen = set()
    for _ in seeded_draws():
        anchors, positives, negatives = WithinClasses()(points(10), labels)
        assert anchors.tolist() == [0, 1, 2, 6, 7, 8, 9]
        assert torch.equal(labels[anchors], labels[positives])
        assert torch.equal(labels[anchors], labels[negatives])
        assert not ((anchors == positives) | (anchors == negatives)).any()
        assert not (positives == negatives).any()
        seen |= set(zip(anchors.tolist(), positives.tolist(), strict=True))
    assert len(seen) == 3 * 2 + 4 * 3


def test_two_samples_a_class_have_no_triplet_within() -> None:
    found = WithinClasses()(points(6), torch.arange(3).repeat_interleave(2))
    assert [len(part) for part in found] == [0, 0, 0]


class Watched(Criterion):
    """A loss that keeps what it was called with."""

    def forward(self, embeddings: Tensor, labels: Tensor, triplets: tuple[Tensor, ...]) -> Tensor:
        self.labels, self.triplets = labels, triplets
        return embeddings.sum()


def test_one_permutation_serves_the_miner_and_the_boundaries() -> None:
    # methods.md 5.6, pitfalls: redrawn for every batch, and shared.
    loss, drawn = Watched(), []
    for _ in seeded_draws(8):
        SharedByClasses(loss, permuted=True)(points(), LABELS)
        anchors, positives, negatives = loss.triplets
        assert torch.equal(loss.labels[anchors], loss.labels[positives])
        assert (loss.labels[anchors] != loss.labels[negatives]).all()
        assert torch.equal(loss.labels.sort().values, LABELS)
        drawn.append(tuple(loss.labels.tolist()))
    assert len(set(drawn)) == 8


def test_without_permutation_a_boundary_is_that_of_the_anchor_s_class() -> None:
    loss = Watched()
    SharedByClasses(loss, permuted=False)(points(), LABELS)
    assert torch.equal(loss.labels, LABELS)
