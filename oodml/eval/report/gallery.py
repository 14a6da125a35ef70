"""Retrieval galleries: queries with their nearest neighbours, the best, the worst and a draw."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oodml.errors import DataError
from oodml.eval.report.queries import QUERIES, Found, found, one_a_class, search
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
# The best and the worst of more queries than these are hardly better or worse.
CANDIDATES = 2000


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
    ladder's own `features`. A file that is damaged or not of its run is left out, with a warning.
    """
    made: dict[tuple[str, int], Board] = {}
    for record in sorted(records, key=lambda r: (r.label, r.spec.data.split, r.spec.seed)):
        rung = ladder.rung_of(record.spec.data.split)
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


def _board(record: RunRecord, rung: int, embeddings: Features) -> Board:
    positives = np.bincount(embeddings.labels)[embeddings.labels] - 1
    asked = np.flatnonzero(positives > 0)
    draw = generator(0, "report gallery", record.spec.data.split).permutation(len(asked))
    drawn = asked[draw[:CANDIDATES]]
    lists = search(embeddings, drawn, positives[drawn])
    return Board(
        run=record.id,
        method=record.label,
        rung=rung,
        candidates=len(drawn),
        queries=len(asked),
        chosen={
            "best": found(embeddings, lists, one_a_class(embeddings, lists, lists.best_first())),
            "worst": found(embeddings, lists, one_a_class(embeddings, lists, lists.worst_first())),
            "random": found(embeddings, lists, range(min(QUERIES, len(drawn)))),
        },
    )
