from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from oodml.train.mining import DistanceWeighted


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
    for _ in range(3000):
        anchors, positives, negatives = DistanceWeighted()(embeddings, labels)
        assert anchors.tolist() == [0, 3] and positives.tolist() == [3, 0]
        counts[int(negatives[0])] += 1
    assert counts[1] / counts[2] == pytest.approx(2.0, rel=0.1) and counts[[0, 3]].sum() == 0


def test_distances_drawn_on_a_uniform_sphere_are_flat_between_the_cut_offs() -> None:
    torch.manual_seed(0)
    points = functional.normalize(torch.randn(3000, 4), dim=1)
    labels = torch.arange(1500).repeat_interleave(2)
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
