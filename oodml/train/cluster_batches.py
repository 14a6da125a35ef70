"""Batches that each come from one cluster of the training samples, the clusters taking turns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import numpy as np

from oodml.runs.spec import RunSpec
from oodml.seeding import derive_seed
from oodml.train.batches import Batches, batches_for
from oodml.train.clusters import Labels, has_pairs, with_company
from oodml.train.distributed import world_size


def members_by_cluster(classes: Labels, clusters: Labels) -> list[Labels]:
    """The samples of every cluster that can make a batch, in the order of the clusters.

    Samples alone in their class and cluster are left out; of what is left, a cluster needs two
    classes. `classes` and `clusters` are (n,) int64.
    """
    kept = with_company(classes, clusters)
    members = [np.flatnonzero(kept & (clusters == each)) for each in np.unique(clusters)]
    return [each for each in members if has_pairs(classes[each])]


def batches_in_turn(
    spec: RunSpec, classes: Labels, clusters: Labels, *, batches: int, seed: int, epoch: int
) -> Iterator[Labels]:
    """The index arrays of an epoch, the clusters taking turns for as long as they are asked for.

    The settings are the run's. A cluster with fewer classes than a batch needs gives more samples
    of each, up to what they have on average; if that is not enough, its batches are smaller.
    Processes that train together get equally many samples of every batch; the last ones of a batch
    that does not divide are left out. `classes` and `clusters` are (n,) int64.
    """
    members = members_by_cluster(classes, clusters)
    sources = [
        (each, _batches(spec, classes[each], batches, derive_seed(seed, "cluster", place)))
        for place, each in enumerate(members)
    ]
    turns = cycle([(each, source.epoch(epoch)) for each, source in sources])
    for each, drawn in turns:
        index = each[next(drawn)]
        yield index[: len(index) // world_size() * world_size()]


def _batches(spec: RunSpec, classes: Labels, batches: int, seed: int) -> Batches:
    number = len(np.unique(classes))
    fill = min(spec.batch_size, len(classes)) // number
    # In multiples, so that what divides among processes still does.
    samples_per_class = max(1, fill // spec.samples_per_class) * spec.samples_per_class
    return batches_for(
        spec.batches, classes, spec.batch_size, samples_per_class, seed=seed, batches=batches
    )
