"""Retrieval galleries: queries with their nearest neighbours, the best, the worst and a draw."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from oodml.errors import DataError
from oodml.eval.neighbors import nearest_neighbors
from oodml.fid.features import Features
from oodml.seeding import generator
from oodml.splits.equal import split_features
from oodml.splits.gallery import gallery_classes_of, subsample

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder
    from oodml.splits.split import Split
    from oodml.store import RunRecord, Store

LOG = logging.getLogger("oodml")
NEIGHBORS = 8
KINDS = ("best", "worst", "random")
QUERIES = 6  # of each kind
# The best and the worst of more queries than these are hardly better or worse.
CANDIDATES = 2000


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


@dataclass(frozen=True)
class Board:
    """The chosen queries of one run: per kind (best, worst, random) up to `QUERIES`."""

    run: str
    method: str
    rung: int
    candidates: int
    queries: int
    chosen: dict[str, tuple[Found, ...]]


def boards(
    records: Sequence[RunRecord], ladder: Ladder, store: Store, features: Features | None
) -> list[Board]:
    """One board per method and rung whose embeddings are at hand, of the lowest such seed.

    Embeddings are `embeddings.npz` in a run's directory; those of a run without training are the
    ladder's own `features`. A file that is damaged or not of its run is left out, aloud.
    """
    made: dict[tuple[str, int], Board] = {}
    for record in sorted(records, key=lambda r: (r.label, r.spec.split, r.spec.seed)):
        rung = ladder.rung_of(record.spec.split)
        if rung is None or (record.label, rung) in made:
            continue
        embeddings = _embeddings(record, ladder.rungs[rung], store, features)
        if embeddings is not None:
            made[record.label, rung] = _board(record, rung, embeddings)
    return [board for _, board in sorted(made.items())]


def _embeddings(
    record: RunRecord, split: Split, store: Store, features: Features | None
) -> Features | None:
    path = store.run_directory(record.id) / "embeddings.npz"
    if not path.exists():
        return _frozen(record, split, features)
    try:
        embeddings = Features.load(path)
    except DataError as error:
        LOG.warning("left out of the gallery: %s", error)
        return None
    if embeddings.source.fingerprint != record.spec.fingerprint or not set(
        embeddings.class_names
    ) <= set(split.test_classes):
        LOG.warning("left out of the gallery: %s does not hold test classes of its run", path)
        return None
    return embeddings


def _frozen(record: RunRecord, split: Split, features: Features | None) -> Features | None:
    """The features that a run without training was evaluated on."""
    if features is None or not _is_frozen(record, features):
        return None
    if split.images_kept:
        features = split_features(split, features)
    spec = record.spec
    chosen = features.subset(gallery_classes_of(split, spec.gallery_classes, spec.seed))
    rows = subsample(chosen.labels, spec.gallery_images, spec.seed, "gallery", split.id)
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
    same = (spec.backbone, spec.weights, spec.preprocessing, spec.precision) == network
    return same and spec.train == "none" and not spec.tricks


def _board(record: RunRecord, rung: int, embeddings: Features) -> Board:
    positives = np.bincount(embeddings.labels)[embeddings.labels] - 1
    asked = np.flatnonzero(positives > 0)
    draw = generator(0, "report gallery", record.spec.split).permutation(len(asked))
    drawn = asked[draw[:CANDIDATES]]
    found = list(_search(embeddings, drawn, positives))
    return Board(
        run=record.id,
        method=record.label,
        rung=rung,
        candidates=len(drawn),
        queries=len(asked),
        chosen={
            "best": _one_a_class(sorted(found, key=_goodness)),
            "worst": _one_a_class(sorted(found, key=_badness)),
            "random": tuple(found[:QUERIES]),
        },
    )


def _search(
    embeddings: Features, rows: npt.NDArray[np.int64], positives: npt.NDArray[np.int64]
) -> Iterator[Found]:
    values, labels = torch.from_numpy(embeddings.values), torch.from_numpy(embeddings.labels)
    # One more, for the query finds itself.
    k = min(NEIGHBORS + 1, len(labels))
    blocks = nearest_neighbors(values[rows], labels[rows], values, labels, k=k)
    index = torch.cat([block.index for block in blocks]).numpy()
    unit = embeddings.values / np.linalg.norm(embeddings.values, axis=1, keepdims=True).clip(1e-30)
    for row, near in zip(rows, index, strict=True):
        others = near[near != row][:NEIGHBORS]
        yield _found(embeddings, row, others, unit[others] @ unit[row], int(positives[row]))


def _found(
    embeddings: Features,
    row: np.int64,
    others: npt.NDArray[np.int64],
    similarities: npt.NDArray[np.float32],
    positives: int,
) -> Found:
    classes, labels = embeddings.class_names, embeddings.labels
    right = labels[others] == labels[row]
    depth = min(positives, len(others))
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return Found(
        query=_sample(embeddings, row),
        query_class=classes[labels[row]],
        positives=positives,
        score=float((precision * right)[:depth].sum() / depth),
        names=tuple(_sample(embeddings, other) for other in others),
        classes=tuple(classes[labels[other]] for other in others),
        similarities=tuple(round(float(value), 4) for value in similarities),
        right=tuple(bool(each) for each in right),
    )


def _sample(embeddings: Features, row: np.int64) -> str:
    return embeddings.sample_names[row] if embeddings.sample_names else f"sample {row}"


def _goodness(found: Found) -> tuple[float, int, float]:
    """Best first; among equals the longer list, then the nearer to its last right neighbour."""
    right = [s for s, is_right in zip(found.similarities, found.right, strict=True) if is_right]
    return -found.score, -min(found.positives, NEIGHBORS), -min(right, default=0.0)


def _badness(found: Found) -> tuple[float, float]:
    """Worst first; among equals the surest mistake."""
    return found.score, -found.similarities[0]


def _one_a_class(ranked: Sequence[Found]) -> tuple[Found, ...]:
    first: dict[str, Found] = {}
    for found in ranked:
        first.setdefault(found.query_class, found)
        if len(first) == QUERIES:
            break
    return tuple(first.values())
