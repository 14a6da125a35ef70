"""Galleries of the matched reference: queries whose neighbours the shift changed most."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oodml.eval.report.gallery import (
    CANDIDATES,
    QUERIES,
    Found,
    Lists,
    Rows,
    found,
    kept_embeddings,
    search,
)
from oodml.seeding import generator

if TYPE_CHECKING:
    from oodml.eval.statistics.series import Series
    from oodml.features.features import Features
    from oodml.runs.record import RunRecord
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder
    from oodml.splits.split import Split

LOG = logging.getLogger("oodml")
SIDES = ("matched", "shifted")
CHANGES = ("lost", "won", "random")
_HALVES = ("half0", "half1")
_Pair = dict[str, Found]


@dataclass(frozen=True)
class ReferenceBoard:
    """Queries of one rung as a method finds their neighbours after matched and shifted training.

    `chosen` holds up to `QUERIES` of each kind, by side: "lost" found more of their class after
    matched training, "won" after shifted training, "random" are drawn. `nearest` counts the
    candidates whose nearest neighbour is right on both sides, on one alone, or on none; `kept` is
    how many of the nearest the two sides share, on average.
    """

    runs: dict[str, str]
    series: Series
    rung: int
    candidates: int
    queries: int
    nearest: dict[str, int]
    kept: float
    chosen: dict[str, tuple[_Pair, ...]]


def reference_boards(
    records: Sequence[RunRecord], ladder: Ladder, series: Mapping[str, Series], store: Store
) -> list[ReferenceBoard]:
    """One board per method and rung of which a seed kept the embeddings of both sides.

    They are `half0/embeddings.npz` and `half1/embeddings.npz` in the directories of the seed's
    matched and shifted run. `series` are those of `records` by their ids. A file that is damaged
    or not of its run is left out, with a warning.
    """
    pairs: dict[tuple[Series, int, int], dict[str, RunRecord]] = defaultdict(dict)
    for record in records:
        rung, data = ladder.rung_of(record.spec.data.split), record.spec.data
        if rung is not None and data.trained_on in SIDES and not data.null_draw:
            pairs[series[record.id], rung, record.spec.seed][data.trained_on] = record
    made: dict[tuple[Series, int], ReferenceBoard] = {}
    for (own, rung, _), pair in sorted(pairs.items()):
        if (own, rung) in made or set(pair) != set(SIDES):
            continue
        halves = _kept_halves(pair, ladder.rungs[rung], store)
        if halves:
            made[own, rung] = _board(pair, own, rung, halves)
    return list(made.values())


@dataclass(frozen=True, eq=False)
class _Half:
    """Candidates of one half, by side: their embeddings and the neighbours of each."""

    embeddings: dict[str, Features]
    lists: dict[str, Lists]
    queries: int

    @property
    def change(self) -> npt.NDArray[np.float64]:
        """What matched training gains in average precision over shifted training, per candidate."""
        return self.lists["matched"].scores - self.lists["shifted"].scores

    @property
    def shared(self) -> npt.NDArray[np.int64]:
        """How many of the nearest the two sides share, per candidate."""
        one, other = (self.lists[side].near for side in SIDES)
        shared: npt.NDArray[np.int64] = (one[:, :, None] == other[:, None, :]).sum((1, 2))
        return shared

    def pair(self, place: int) -> _Pair:
        return {side: found(self.embeddings[side], self.lists[side], [place])[0] for side in SIDES}


def _kept_halves(
    pair: Mapping[str, RunRecord], split: Split, store: Store
) -> list[dict[str, Features]]:
    """The embeddings of both halves by side; empty where one is not at hand."""
    halves = []
    for half in _HALVES:
        own = {}
        for side in SIDES:
            path = store.run_directory(pair[side].id) / half / "embeddings.npz"
            embeddings = kept_embeddings(path, pair[side], split) if path.exists() else None
            if embeddings is None:
                return []
            own[side] = embeddings
        if not _same_samples(*own.values()):
            LOG.warning(
                "left out of the gallery: %s of runs %s and %s holds different samples",
                half,
                *(pair[side].id for side in SIDES),
            )
            return []
        halves.append(own)
    return halves


def _same_samples(one: Features, other: Features) -> bool:
    return (
        one.class_names == other.class_names
        and one.sample_names == other.sample_names
        and np.array_equal(one.labels, other.labels)
    )


def _board(
    pair: Mapping[str, RunRecord], series: Series, rung: int, halves: Sequence[dict[str, Features]]
) -> ReferenceBoard:
    spec = pair["matched"].spec
    made = [
        _half(embeddings, spec.data.split, spec.seed, name)
        for name, embeddings in zip(_HALVES, halves, strict=True)
    ]
    change, shared = (np.concatenate([getattr(h, name) for h in made]) for name in _MEASURES)
    places = [(half, place) for half in made for place in range(len(half.change))]
    lost, won = np.lexsort((shared, -change)), np.lexsort((shared, change))
    kinds = {
        "lost": [at for at in lost.tolist() if change[at] > 0],
        "won": [at for at in won.tolist() if change[at] < 0],
    }
    chosen = {kind: _one_a_class([places[at] for at in order]) for kind, order in kinds.items()}
    # Candidates are in random order, so the first of both halves in turn are random ones.
    drawn = sorted(places, key=lambda each: (each[1], made.index(each[0])))[:QUERIES]
    right = [np.concatenate([h.lists[side].right[:, 0] for h in made]) for side in SIDES]
    return ReferenceBoard(
        runs={side: pair[side].id for side in SIDES},
        series=series,
        rung=rung,
        candidates=len(places),
        queries=sum(half.queries for half in made),
        nearest={
            "both": int((right[0] & right[1]).sum()),
            "matched": int((right[0] & ~right[1]).sum()),
            "shifted": int((~right[0] & right[1]).sum()),
            "neither": int((~right[0] & ~right[1]).sum()),
        },
        kept=round(float(shared.mean()), 3),
        chosen={
            kind: tuple(half.pair(place) for half, place in own)
            for kind, own in {**chosen, "random": drawn}.items()
        },
    )


_MEASURES = ("change", "shared")


def _half(embeddings: dict[str, Features], split: str, seed: int, name: str) -> _Half:
    labels = embeddings["matched"].labels
    positives = np.bincount(labels)[labels] - 1
    asked = np.flatnonzero(positives > 0)
    draw = generator(seed, "report gallery", split, name).permutation(len(asked))
    drawn: Rows = asked[draw[: CANDIDATES // len(_HALVES)]]
    lists = {side: search(own, drawn, positives[drawn]) for side, own in embeddings.items()}
    return _Half(embeddings, lists, len(asked))


def _one_a_class(order: Sequence[tuple[_Half, int]]) -> list[tuple[_Half, int]]:
    """The first of an order that are of different classes."""
    first: dict[tuple[int, int], tuple[_Half, int]] = {}
    for half, place in order:
        own = half.embeddings["matched"]
        label = int(own.labels[half.lists["matched"].rows[place]])
        first.setdefault((id(half), label), (half, place))
        if len(first) == QUERIES:
            break
    return list(first.values())
