"""Queries and their nearest neighbours, from the best found to the worst."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from oodml.eval.retrieval.nearest import nearest_neighbors
from oodml.features.features import Features

Rows = npt.NDArray[np.int64]
NEIGHBORS = 8
QUERIES = 6  # of each kind


@dataclass(frozen=True)
class Found:
    """A query and its nearest samples, by their names; `right` says which have its class.

    `positives` is how many there are to be found, `score` the average precision over the first
    min(positives, 8) ranks.
    """

    query: str
    query_class: str
    positives: int
    score: float
    names: tuple[str, ...]
    classes: tuple[str, ...]
    similarities: tuple[float, ...]
    right: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Lists:
    """What was found for q queries: `near` (q, k) sample indices, nearest first, and the like."""

    rows: Rows
    positives: Rows
    near: Rows
    similarity: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]

    @cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """Average precision over the first min(positives, k) ranks, (q,)."""
        ranks = np.arange(1, self.right.shape[1] + 1)
        depth = np.minimum(self.positives, len(ranks))[:, None]
        precision = np.cumsum(self.right, axis=1) / ranks
        total: npt.NDArray[np.float64] = (precision * self.right * (ranks <= depth)).sum(1)
        return total / depth[:, 0]

    def best_first(self) -> Rows:
        """Among equals the longer list, then the one whose last right neighbour is nearer."""
        last = np.where(self.right, self.similarity, 2.0).min(axis=1)
        length = np.minimum(self.positives, NEIGHBORS)
        return np.lexsort((-last, -length, -self.scores))

    def worst_first(self) -> Rows:
        """Among equals the surest mistake."""
        return np.lexsort((-self.similarity[:, 0], self.scores))


def search(embeddings: Features, rows: Rows, positives: Rows) -> Lists:
    """The nearest of all samples for those in `rows`, each query left out by its index.

    `rows` and `positives` are (q,) int64.
    """
    values, labels = torch.from_numpy(embeddings.values), torch.from_numpy(embeddings.labels)
    # One more, for the query finds itself.
    k = min(NEIGHBORS + 1, len(labels))
    blocks = list(nearest_neighbors(values[rows], labels[rows], values, labels, k=k))
    index = torch.cat([block.index for block in blocks]).numpy()
    similarity = torch.cat([block.similarity for block in blocks]).numpy()
    others = np.argsort(index == rows[:, None], axis=1, kind="stable")[:, : k - 1]
    near = np.take_along_axis(index, others, axis=1)
    right = embeddings.labels[near] == embeddings.labels[rows][:, None]
    return Lists(rows, positives, near, np.take_along_axis(similarity, others, axis=1), right)


def found(embeddings: Features, lists: Lists, places: Iterable[int]) -> tuple[Found, ...]:
    """The queries at these places of the lists, by the names of their samples."""
    classes, labels = embeddings.class_names, embeddings.labels
    return tuple(
        Found(
            query=_sample(embeddings, lists.rows[place]),
            query_class=classes[labels[lists.rows[place]]],
            positives=int(lists.positives[place]),
            score=float(lists.scores[place]),
            names=tuple(_sample(embeddings, row) for row in lists.near[place]),
            classes=tuple(classes[labels[row]] for row in lists.near[place]),
            similarities=tuple(round(float(value), 4) for value in lists.similarity[place]),
            right=tuple(bool(each) for each in lists.right[place]),
        )
        for place in places
    )


def _sample(embeddings: Features, row: np.int64) -> str:
    return embeddings.sample_names[row] if embeddings.sample_names else f"sample {row}"


def one_a_class(embeddings: Features, lists: Lists, order: Rows) -> list[int]:
    """The first places of an order whose queries are of different classes.

    `order` is (q,) int64.
    """
    first: dict[int, int] = {}
    for place in order.tolist():
        first.setdefault(int(embeddings.labels[lists.rows[place]]), place)
        if len(first) == QUERIES:
            break
    return list(first.values())
