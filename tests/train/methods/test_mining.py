from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_metric_learning import miners
from torch.nn import functional

from oodml.train.methods.parts.mining import DistanceWeighted, OnePairPerClass
from oodml.train.methods.triplets import (
    RULES,
    AllTriplets,
    Spread,
    TripletPerAnchor,
    easy_hard,
    easy_semi_hard,
    hard,
    random,
    semi_hard,
    soft_hard,
)

Batch = tuple[torch.Tensor, torch.Tensor]
Triplet = tuple[int, ...]


def at(*distances: float) -> torch.Tensor:
    """Unit vectors in 3 dimensions: the first, and one at each distance from it."""
    angles = 2 * torch.asin(torch.tensor((0.0, *distances)) / 2)
    return torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], dim=1)


def test_negatives_are_drawn_with_the_inverse_of_their_density() -> None:
    # methods.md 1.2: with d = 3 the weight is 1/D, so negatives at 0.5 and 1.0 are drawn 2 : 1.
    embeddings = torch.cat([at(0.5, 1.0), at(0.1)[1:]])
    labels = torch.tensor([0, 1, 2, 0])
    torch.manual_seed(0)
    counts = np.zeros(4)
    for _ in range(1200):
        anchors, positives, negatives = DistanceWeighted()(embeddings, labels)
        assert anchors.tolist() == [0, 3] and positives.tolist() == [3, 0]
        counts[int(negatives[0])] += 1
    assert counts[1] / counts[2] == pytest.approx(2.0, rel=0.1) and counts[[0, 3]].sum() == 0


def test_distances_drawn_on_a_uniform_sphere_are_flat_between_the_cut_offs() -> None:
    torch.manual_seed(0)
    points = functional.normalize(torch.randn(2000, 4), dim=1)
    labels = torch.arange(1000).repeat_interleave(2)
    anchors, _, negatives = DistanceWeighted()(points, labels)
    distances = (points[anchors] - points[negatives]).norm(dim=1).numpy()
    inside = distances[distances > 0.55]
    counts = np.histogram(inside, bins=5, range=(0.55, 1.4))[0]
    assert counts.min() > 0.85 * counts.mean() and distances.max() < 1.4


def test_one_close_pair_in_many_dimensions_leaves_every_anchor_its_negative() -> None:
    # methods.md 8.2 trap 2: at d = 512 the library's miner keeps 2 anchors of 112.
    torch.manual_seed(0)
    points = functional.normalize(torch.randn(112, 512), dim=1)
    points[1] = functional.normalize(points[0] + 0.015 * torch.randn(512), dim=0)
    labels = torch.arange(56).repeat_interleave(2).roll(1)
    anchors, positives, negatives = DistanceWeighted(upper=1.5)(points, labels)
    assert len(anchors) == 112
    assert (labels[anchors] == labels[positives]).all() and (anchors != positives).all()
    assert (labels[anchors] != labels[negatives]).all()


def test_without_a_pair_there_is_no_triplet() -> None:
    embeddings = torch.randn(4, 8)
    for labels in (torch.arange(4), torch.zeros(4, dtype=torch.long)):
        assert [len(part) for part in DistanceWeighted()(embeddings, labels)] == [0, 0, 0]


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(13, 4, generator=generator), dim=1)
    return embeddings, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4])


def chosen(miner: torch.nn.Module, embeddings: torch.Tensor, labels: torch.Tensor) -> list[Triplet]:
    return [tuple(map(int, triplet)) for triplet in zip(*miner(embeddings, labels), strict=True)]


def sides(i: int, labels: torch.Tensor) -> tuple[list[int], list[int]]:
    positives = [j for j in range(len(labels)) if labels[j] == labels[i] and j != i]
    return positives, [j for j in range(len(labels)) if labels[j] != labels[i]]


def test_all_triplets_are_every_one_and_not_those_that_violate_a_margin(batch: Batch) -> None:
    # methods.md 1.2 (a), 8.2 trap 9.
    embeddings, labels = batch
    expected = [
        (i, p, n) for i in range(13) for p in sides(i, labels)[0] for n in sides(i, labels)[1]
    ]
    assert sorted(chosen(AllTriplets(), embeddings, labels)) == sorted(expected)
    library = miners.TripletMarginMiner(margin=0.2, type_of_triplets="all")
    assert len(library(embeddings, labels)[0]) < len(expected)


def test_every_rule_gives_one_triplet_to_every_anchor_with_a_positive(batch: Batch) -> None:
    for rule in (*RULES.values(), semi_hard(0.2)):
        triplets = chosen(TripletPerAnchor(rule), *batch)
        assert [anchor for anchor, _, _ in triplets] == list(range(12))
        for anchor, positive, negative in triplets:
            positives, negatives = sides(anchor, batch[1])
            assert positive in positives and negative in negatives


def test_random_triplets_are_uniform(batch: Batch) -> None:
    torch.manual_seed(0)
    counts = np.zeros((13, 13))
    for _ in range(400):
        for anchor, positive, negative in chosen(TripletPerAnchor(random), *batch):
            counts[anchor, [positive, negative]] += 1
    assert counts[0, 1:4] == pytest.approx(400 / 3, rel=0.2)
    assert counts[0, 4:] == pytest.approx(400 / 9, rel=0.4)


def test_hard_triplets_are_the_farthest_positive_and_the_closest_negative(batch: Batch) -> None:
    embeddings, labels = batch
    distances = torch.cdist(embeddings, embeddings)
    for i, positive, negative in chosen(TripletPerAnchor(hard), embeddings, labels):
        positives, negatives = sides(i, labels)
        assert positive == max(positives, key=lambda j: distances[i, j])
        assert negative == min(negatives, key=lambda j: distances[i, j])


def test_easy_positives_are_the_closest_positive_and_not_the_first_one(batch: Batch) -> None:
    # methods.md 1.2 (f): a published miner indexes a mask with argmin and takes entry 0 or 1.
    embeddings, labels = batch
    distances = torch.cdist(embeddings, embeddings)
    triplets = chosen(TripletPerAnchor(easy_hard), embeddings, labels)
    for i, positive, negative in triplets:
        positives, negatives = sides(i, labels)
        assert positive == min(positives, key=lambda j: distances[i, j])
        assert negative == min(negatives, key=lambda j: distances[i, j])
    library = miners.BatchEasyHardMiner(pos_strategy="easy", neg_strategy="hard")
    first, positives, second, negatives = (part.tolist() for part in library(embeddings, labels))
    assert sorted(zip(first, positives, strict=True)) == [(i, p) for i, p, _ in triplets]
    assert sorted(zip(second, negatives, strict=True))[:12] == [(i, n) for i, _, n in triplets]


def test_easy_semi_hard_negatives_are_the_closest_beyond_the_positive(batch: Batch) -> None:
    embeddings, labels = batch
    distances = torch.cdist(embeddings, embeddings)
    found = {t[0]: t for t in chosen(TripletPerAnchor(easy_semi_hard), embeddings, labels)}
    for i in range(12):
        positives, negatives = sides(i, labels)
        positive = min(positives, key=lambda j: distances[i, j])
        beyond = [j for j in negatives if distances[i, j] > distances[i, positive]]
        if beyond:
            assert found.pop(i) == (i, positive, min(beyond, key=lambda j: distances[i, j]))
    assert not found


def test_semi_hard_negatives_lie_within_the_margin_beyond_the_positive(batch: Batch) -> None:
    embeddings, labels = batch
    for squared in (False, True):
        distances = torch.cdist(embeddings, embeddings) ** (2 if squared else 1)
        torch.manual_seed(0)
        fell_back = 0
        for _ in range(20):
            miner = TripletPerAnchor(semi_hard(0.3), squared)
            for i, positive, negative in chosen(miner, embeddings, labels):
                reach = distances[i, positive]
                wanted = [j for j in sides(i, labels)[1] if 0 < distances[i, j] - reach < 0.3]
                assert not wanted or negative in wanted
                fell_back += not wanted
        assert fell_back  # Any random negative where none lies there.


def test_semi_hard_draws_one_triplet_an_anchor_where_the_library_takes_all(batch: Batch) -> None:
    # methods.md 1.2 (a).
    library = miners.TripletMarginMiner(margin=0.3, type_of_triplets="semihard")
    assert len(library(*batch)[0]) > 12 == len(chosen(TripletPerAnchor(semi_hard(0.3)), *batch))


def test_soft_hard_draws_among_violations_where_there_are_any(batch: Batch) -> None:
    embeddings, labels = batch
    # Of the positives of an anchor some are closer than every negative, and some are not.
    embeddings = functional.normalize(embeddings + 0.8 * torch.eye(4)[labels % 4], dim=1)
    distances = torch.cdist(embeddings, embeddings)
    torch.manual_seed(0)
    for _ in range(20):
        for i, positive, negative in chosen(TripletPerAnchor(soft_hard), embeddings, labels):
            positives, negatives = sides(i, labels)
            nearest = min(distances[i, j] for j in negatives)
            widest = max(distances[i, j] for j in positives)
            far = [j for j in positives if distances[i, j] > nearest]
            near = [j for j in negatives if distances[i, j] < widest]
            assert positive in (far or positives) and negative in (near or negatives)


def test_without_regularisation_the_draws_are_those_of_distance_weighting(batch: Batch) -> None:
    # methods.md 1.8: rho = 0 reproduces it draw for draw at a fixed seed.
    for seed in range(5):
        torch.manual_seed(seed)
        expected = chosen(DistanceWeighted(upper=2.0), *batch)
        torch.manual_seed(seed)
        assert chosen(Spread(DistanceWeighted(upper=2.0), 0.0), *batch) == expected


def test_full_regularisation_pushes_pairs_of_one_class_only(batch: Batch) -> None:
    # methods.md 1.8: rho = 1 replaces every (a, p, n) by (a, a, p).
    torch.manual_seed(0)
    before = chosen(DistanceWeighted(upper=2.0), *batch)
    torch.manual_seed(0)
    after = chosen(Spread(DistanceWeighted(upper=2.0), 1.0), *batch)
    assert after == [(anchor, anchor, positive) for anchor, positive, _ in before]


def test_half_regularisation_replaces_half_of_the_triplets() -> None:
    torch.manual_seed(0)
    embeddings, labels = torch.randn(2000, 3), torch.arange(1000).repeat(2)
    anchors, positives, _ = Spread(TripletPerAnchor(random), 0.35)(embeddings, labels)
    assert float((anchors == positives).float().mean()) == pytest.approx(0.35, abs=0.04)


def test_a_pair_of_every_class_meets_the_positives_of_the_others(batch: Batch) -> None:
    embeddings, labels = batch
    torch.manual_seed(0)
    seen = set()
    for _ in range(60):
        anchors, positives, again, negatives = OnePairPerClass()(embeddings, labels)
        assert labels[anchors].tolist() == labels[positives].tolist() == [0, 1, 2, 3]
        assert (anchors != positives).all()
        pairs = set(zip(again.tolist(), negatives.tolist(), strict=True))
        assert pairs == {(int(a), int(p)) for a in anchors for p in positives} - set(
            zip(anchors.tolist(), positives.tolist(), strict=True)
        )
        seen |= set(anchors.tolist())
    assert seen == set(range(12))  # The library takes the first two of a class at every step.


def test_miners_leave_out_what_makes_no_triplet() -> None:
    embeddings = torch.randn(4, 8)
    for labels in (torch.arange(4), torch.zeros(4, dtype=torch.long)):
        for miner in (AllTriplets(), TripletPerAnchor(hard), Spread(TripletPerAnchor(hard), 0.5)):
            assert [len(part) for part in miner(embeddings, labels)] == [0, 0, 0]
        assert len(OnePairPerClass()(embeddings, labels)[2]) == 0
