"""Retrieval galleries: the best, the worst and random queries with their nearest neighbours."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from oodml.errors import DataError
from oodml.eval.retrieval.nearest import nearest_neighbors
from oodml.eval.statistics.series import Series, series_of
from oodml.features.features import Features
from oodml.seeding import generator
from oodml.splits.equal_size import gallery_classes_of, subsample

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder
    from oodml.splits.split import Split

LOG = logging.getLogger("oodml")
KINDS = ("best", "worst", "random")
# Best and worst are looked for among at most so many queries, drawn by seed.
CANDIDATES = 2000
Rows = npt.NDArray[np.int64]
NEIGHBORS = 8
QUERIES = 6  # of each kind


@dataclass(frozen=True)
class Board:
    """The chosen queries of one run: per kind (best, worst, random) up to `QUERIES`."""

    run: str
    series: Series
    rung: int
    candidates: int
    queries: int
    chosen: dict[str, tuple[Found, ...]]


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
    """The neighbours of q queries: `near`, `similarity` and `right` are (q, k), nearest first.

    `rows` (q,) are the queries' indices, `positives` (q,) how many there are to be found.
    """

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
        """By score; ties by positives, then by the nearness of the last right neighbour."""
        last = np.where(self.right, self.similarity, 2.0).min(axis=1)
        length = np.minimum(self.positives, NEIGHBORS)
        return np.lexsort((-last, -length, -self.scores))

    def worst_first(self) -> Rows:
        """By score; ties by how near the first neighbour is, the most confident mistake first."""
        return np.lexsort((-self.similarity[:, 0], self.scores))


def boards(
    records: Sequence[RunRecord], ladder: Ladder, store: Store, features: Features | None
) -> list[Board]:
    """One board per method and rung whose embeddings are at hand, of the lowest such seed.

    Embeddings are `embeddings.npz` in a run's directory; those of a run without training are the
    ladder's own `features`. A file that is damaged or not of its run is left out, with a warning.
    """
    made: dict[tuple[Series, int], Board] = {}
    series = series_of(record.spec for record in records)
    for record in sorted(records, key=lambda record: record.spec.seed):
        rung, own = ladder.rung_of(record.spec.data.split), series[record.id]
        if rung is None or (own, rung) in made:
            continue
        path, split = store.run_directory(record.id) / "embeddings.npz", ladder.rungs[rung]
        embeddings = (
            kept_embeddings(path, record, split)
            if path.exists()
            else _frozen(record, split, features)
        )
        if embeddings is not None:
            made[own, rung] = _board(record, own, rung, embeddings)
    return [board for _, board in sorted(made.items())]


def search(embeddings: Features, rows: Rows, positives: Rows) -> Lists:
    """The nearest of all samples for those in `rows`, each query left out by its index.

    `rows` and `positives` are (q,) int64.
    """
    values = torch.from_numpy(embeddings.values)
    # One more, for the query finds itself.
    k = min(NEIGHBORS + 1, len(values))
    blocks = list(nearest_neighbors(values[rows], values, k=k))
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


def kept_embeddings(path: Path, record: RunRecord, split: Split) -> Features | None:
    """The embeddings that a run kept of test classes of its split; None, with a warning, if not."""
    try:
        embeddings = Features.load(path)
    except DataError as error:
        LOG.warning("left out of the gallery: %s", error)
        return None
    ours = embeddings.source.fingerprint == record.spec.data.fingerprint
    if not ours or not set(embeddings.class_names) <= set(split.test_classes):
        LOG.warning("left out of the gallery: %s does not hold test classes of its run", path)
        return None
    if np.bincount(embeddings.labels).max() < 2:
        LOG.warning("left out of the gallery: %s has no class with two samples", path)
        return None
    return embeddings


def _frozen(record: RunRecord, split: Split, features: Features | None) -> Features | None:
    """The features that a run without training was evaluated on."""
    if features is None or not _is_frozen(record, features):
        return None
    spec = record.spec
    chosen = features.subset(gallery_classes_of(split, spec.evaluation.gallery_classes, spec.seed))
    rows = subsample(chosen.labels, spec.evaluation.gallery_images, spec.seed, "gallery", split.id)
    names = chosen.sample_names
    return Features(
        chosen.values[rows],
        chosen.labels[rows],
        chosen.class_names,
        chosen.source,
        tuple(names[row] for row in rows) if names else (),
    )


def _is_frozen(record: RunRecord, features: Features) -> bool:
    """Whether a run was evaluated on these very features, with nothing added."""
    spec, source = record.spec, features.source
    network = source.backbone, source.weights, source.preprocessing, source.precision
    same = (
        spec.model.backbone,
        spec.model.weights,
        spec.model.preprocessing,
        spec.model.precision,
    ) == network
    return same and spec.model.train == "none" and not spec.tricks


def _board(record: RunRecord, series: Series, rung: int, embeddings: Features) -> Board:
    positives = np.bincount(embeddings.labels)[embeddings.labels] - 1
    asked = np.flatnonzero(positives > 0)
    draw = generator(0, "report gallery", record.spec.data.split).permutation(len(asked))
    drawn = asked[draw[:CANDIDATES]]
    lists = search(embeddings, drawn, positives[drawn])
    return Board(
        run=record.id,
        series=series,
        rung=rung,
        candidates=len(drawn),
        queries=len(asked),
        chosen={
            "best": found(embeddings, lists, one_a_class(embeddings, lists, lists.best_first())),
            "worst": found(embeddings, lists, one_a_class(embeddings, lists, lists.worst_first())),
            "random": found(embeddings, lists, range(min(QUERIES, len(drawn)))),
        },
    )


def _sample(embeddings: Features, row: np.int64) -> str:
    return embeddings.sample_names[row] if embeddings.sample_names else f"sample {row}"
