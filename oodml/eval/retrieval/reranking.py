"""k-reciprocal re-ranking: mutual neighbours count as nearer. Transductive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from oodml.errors import UsageError
from oodml.eval.retrieval.clustering import CLUSTERING_METRICS
from oodml.eval.retrieval.evaluate import DEFAULT_METRICS, mean_scores, retrieval_task
from oodml.eval.retrieval.exact_ranks import positive_ranks, runs
from oodml.eval.retrieval.metrics import Ranking
from oodml.eval.retrieval.nearest import nearest_neighbors, normalized
from oodml.features.features import Features

Index = npt.NDArray[np.int64]
Distance = npt.NDArray[np.float64]

_PAIRS = 1 << 16


@dataclass(frozen=True, eq=False)
class Reranked:
    """Every sample's nearest others in their new order.

    `index` (n, c) int64; `distance` (n, c) float64 rises along each row, the old order deciding
    where it ties.
    """

    index: Index
    distance: Distance


def rerank(
    features: Features,
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    candidates: int = 200,
    memory: int = 1 << 30,
    device: torch.device | str | None = None,
) -> Reranked:
    """The `candidates` nearest of every sample, ordered anew by k-reciprocal re-ranking.

    arXiv:1701.08398. With d = 1 - cos and N(i, k) the sample i and its k nearest: R(i, k) are the
    j of N(i, k) with i in N(j, k); R*(i) is R(i, k1) and every R(j, k1 / 2), j of R(i, k1), that
    has more than two thirds in R(i, k1), strictly as in the authors' code. V(i) is exp(-d) on
    R*(i) and 0 elsewhere, divided by its sum, then averaged over i and its `k2` - 1 nearest. With
    s the sum of min(V(i), V(j)), the Jaccard distance is 1 - s / (2 - s), and the new distance is
    `weight` d + (1 - `weight`) Jaccard.
    Numbers of neighbours above n - 1 mean n - 1. Samples beyond the candidates keep their ranks.
    A sample's order depends on other test samples (it is transductive), so it is reported apart
    from plain retrieval. Memory grows with n, not n squared; `memory` bounds the search alone.
    Raises `UsageError` for settings out of range.
    """
    _check(k1, k2, weight, candidates)
    unit = normalized(torch.from_numpy(features.values))
    most = len(unit) - 1
    k1 = min(k1, most)
    depth = min(max(candidates, k1, k2 - 1), most)
    index = np.empty((len(unit), depth), np.int64)
    distance = np.empty((len(unit), depth))
    for found in nearest_neighbors(unit, k=depth, memory=memory, device=device):
        rows = slice(found.first, found.first + len(found.index))
        index[rows], distance[rows] = found.index.cpu(), 1 - found.similarity.cpu().double()
    weights = _averaged(_memberships(index, unit.numpy(), k1), index, k2)
    index, distance = index[:, :candidates], distance[:, :candidates]
    jaccard = np.stack([_jaccard(weights, row, index[row]) for row in range(len(index))])
    mixed = weight * distance + (1 - weight) * jaccard
    order = np.argsort(mixed, axis=1, kind="stable")
    return Reranked(np.take_along_axis(index, order, 1), np.take_along_axis(mixed, order, 1))


def evaluate_reranked(
    features: Features,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    candidates: int = 200,
    memory: int = 1 << 30,
    device: torch.device | str | None = None,
) -> dict[str, float]:
    """The retrieval metrics of `evaluate` after `rerank`, every sample a query against the others.

    Samples beyond the candidates keep the ranks they had. The numbers are transductive: report
    them under a name of their own. Raises what `evaluate` and `rerank` raise, and `UsageError`
    for nmi and f1, which use no ranking.
    """
    if set(metrics) & set(CLUSTERING_METRICS):
        raise UsageError("nmi and f1 use no ranking; evaluate them without re-ranking.")
    task = retrieval_task(features, None, metrics)
    reranked = rerank(
        features,
        k1=k1,
        k2=k2,
        weight=weight,
        candidates=candidates,
        memory=memory,
        device=device,
    )
    blocks = positive_ranks(task.query, depth=task.depth, memory=memory, device=device)
    return mean_scores(_replaced(blocks, reranked, task.query.labels), task)


def _check(k1: int, k2: int, weight: float, candidates: int) -> None:
    if min(k1, k2, candidates) < 1 or not 0 <= weight <= 1:
        raise UsageError(
            f"re-ranking with k1 {k1}, k2 {k2}, weight {weight} and {candidates} candidates: "
            "give numbers of at least 1 and a weight from 0 to 1."
        )


def _nearest(index: Index, k: int) -> csr_array:
    """The matrix (n, n) with ones at each sample and its k nearest."""
    count = len(index)
    columns = np.concatenate((np.arange(count)[:, None], index[:, :k]), 1)
    starts = np.arange(count + 1) * columns.shape[1]
    return csr_array((np.ones(columns.size), columns.ravel(), starts), shape=(count, count))


def _memberships(index: Index, unit: npt.NDArray[np.float32], k1: int) -> csr_array:
    """V before averaging: the weights (n, n) of every sample's expanded reciprocal set."""
    forward = _nearest(index, k1)
    reciprocal = forward.multiply(forward.T).tocsr()
    near = _nearest(index, max(round(k1 / 2), 1))
    small = near.multiply(near.T).tocsr()
    # Both are sums of ones; of every small set with more than two thirds inside, all is taken in.
    inside = (reciprocal @ small.T).multiply(reciprocal).tocoo()
    sizes = small.sum(1)
    kept = 3 * inside.data > 2 * sizes[inside.col]
    taken = csr_array((inside.data[kept], (inside.row[kept], inside.col[kept])), shape=inside.shape)
    expanded = (reciprocal + taken @ small).tocoo()
    products = np.concatenate(
        [
            np.einsum("nd,nd->n", unit[rows], unit[columns], dtype=np.float64)
            for rows, columns in _slices(expanded.row, expanded.col)
        ]
    )
    weights = csr_array((np.exp(products - 1), (expanded.row, expanded.col)), shape=inside.shape)
    scale = np.repeat(weights.sum(1), np.diff(weights.indptr))
    weights.data /= scale
    return weights


def _slices(*arrays: Index) -> Iterator[tuple[Index, ...]]:
    for start in range(0, len(arrays[0]), _PAIRS):
        yield tuple(array[start : start + _PAIRS] for array in arrays)


def _averaged(weights: csr_array, index: Index, k2: int) -> csr_array:
    return (_nearest(index, k2 - 1) @ weights / min(k2, index.shape[1] + 1)).tocsr()


def _jaccard(weights: csr_array, row: int, others: Index) -> Distance:
    """The Jaccard distances of sample `row` to the `others` (c,)."""
    own = np.zeros(weights.shape[1])
    span = slice(weights.indptr[row], weights.indptr[row + 1])
    own[weights.indices[span]] = weights.data[span]
    rows = weights[others]
    smaller = np.minimum(rows.data, own[rows.indices])
    shared: Distance = np.add.reduceat(smaller, rows.indptr[:-1])
    return 1 - shared / (2 - shared)


def _replaced(blocks: Iterator[Ranking], reranked: Reranked, labels: Tensor) -> Iterator[Ranking]:
    """The rankings with the places of the positives among the candidates taken anew."""
    for ranking in blocks:
        rows = ranking.query.cpu()
        distance = torch.from_numpy(reranked.distance)[rows]
        same = labels[torch.from_numpy(reranked.index)[rows]] == labels[rows, None]
        yield _with_list(ranking, distance, same)


def _with_list(ranking: Ranking, distance: Tensor, same: Tensor) -> Ranking:
    before, size = runs(distance)
    total = torch.cat((torch.zeros_like(distance[:, :1]), same.double().cumsum(1)), 1)
    hits_before = total.gather(1, before)
    hits = total.gather(1, before + size) - hits_before
    # The listed positives come first, for nobody beyond the list is nearer than they.
    listed = same.sum(1, keepdim=True)
    order = same.int().argsort(dim=1, descending=True, stable=True)[:, : max(int(listed.max()), 1)]
    width = max(order.shape[1], ranking.before.shape[1])
    taken = torch.arange(width) < listed
    new = {"before": before, "hits_before": hits_before, "size": size, "hits": hits}
    blank = {"before": float("inf"), "hits_before": 0.0, "size": 1.0, "hits": 1.0}

    def column(name: str) -> Tensor:
        values = _padded(new[name].gather(1, order).double(), width, blank[name])
        old = _padded(getattr(ranking, name).cpu(), width, blank[name])
        return torch.where(taken, values, old)

    return Ranking(
        query=ranking.query.cpu(),
        positives=ranking.positives.cpu(),
        before=column("before"),
        hits_before=column("hits_before"),
        size=column("size"),
        hits=column("hits"),
    )


def _padded(values: Tensor, width: int, value: float) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[1]), value=value)
