"""Embeddings made elsewhere, evaluated on the rungs of a ladder as runs without training."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from oodml.errors import DataError, unknown_name
from oodml.eval.retrieval.clustering import CLUSTERING_METRICS
from oodml.eval.retrieval.evaluate import DEFAULT_METRICS, evaluate, metric_names
from oodml.eval.retrieval.geometry import geometry
from oodml.eval.retrieval.metrics import find_metric
from oodml.eval.statistics.series import EMBEDDINGS
from oodml.features.features import Features, are_constant
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.splits.equal_size import gallery_of
from oodml.splits.exchange import match_classes
from oodml.splits.ladder import Ladder
from oodml.splits.reference import halves_of
from oodml.splits.split import Split

LOG = logging.getLogger("oodml")


def for_ladder(features: Features, ladder: Ladder) -> Features:
    """The embeddings under the class names of a ladder, checked to be of its data.

    Names are matched as they are, or by their letters and digits. Raises `DataError` if a
    fingerprint or the number of samples of a class is another, or if a test class of a rung is
    missing; classes that only train need not be there. The log says if all embeddings are the same.
    """
    if are_constant(features):
        LOG.warning(
            "all %d embeddings are the same vector: every score is that of chance", len(features)
        )
    known = features.source.fingerprint
    if known and ladder.features.fingerprint and known != ladder.features.fingerprint:
        raise DataError(
            f"the embeddings are of dataset {features.source.dataset!r} with fingerprint {known}, "
            f"the ladder's is {ladder.features.fingerprint}."
        )
    match = match_classes(ladder.class_sizes, features.class_names)
    theirs = {ours: name for name, ours in match.matched.items()}
    names = [theirs.get(name, name) for name in features.class_names]
    renamed = replace(features, class_names=tuple(names))
    _check_test_classes(renamed, ladder)
    _check_sizes(renamed, ladder)
    return renamed


def evaluation_spec(
    features: Features, ladder: Ladder, split: Split, name: str, *, halves: int | None = None
) -> RunSpec:
    """The spec of evaluating the embeddings `name` on one split; `weights` is their digest.

    With `halves`, a seed, it is on the halves of the test classes that reference runs of this seed
    are measured on (see `oodml.splits.reference`).
    """
    source = features.source
    spec = RunSpec.on(
        ladder.features,
        split.id,
        name,
        backbone=EMBEDDINGS,
        weights=source.weights,
        preprocessing=source.preprocessing,
        precision="fp32",
        train="none",
        embedding_dim=features.values.shape[1],
    )
    return spec if halves is None else spec.with_settings(trained_on="nothing", seed=halves)


def check_metrics(names: Sequence[str]) -> None:
    """`UsageError` for the first of the names that `evaluate` does not know."""
    for name in names:
        if find_metric(name) is None and name not in CLUSTERING_METRICS:
            raise unknown_name("metric", name, [known for known, _ in metric_names()])


def evaluate_split(
    spec: RunSpec,
    split: Split,
    features: Features,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    memory: int = 1 << 30,
    device: str | None = None,
    environment: Mapping[str, str] | None = None,
    ruler: str = "",
) -> RunRecord:
    """The record of one split: metrics of the test classes, geometry of both sides.

    The geometry of the training classes is measured if all of them are there. A spec on halves gets
    the means of both, and no geometry. `ruler` names the network that measured the split's shift.
    Raises `UsageError` for an unknown metric.
    """
    started = time.monotonic()
    chosen = spec.evaluation.gallery_classes, spec.evaluation.gallery_images, spec.seed
    parts = halves_of(split, spec.seed, "nothing") if spec.is_reference else [split]
    measured = []
    for part in parts:
        gallery = gallery_of(features.subset(part.test_classes), part, *chosen)
        measured.append(evaluate(gallery, metrics=metrics, memory=memory, device=device))
    return RunRecord(
        spec=spec,
        shift=split.shift.to_json() if split.shift else {},
        metrics={name: sum(each[name] for each in measured) / len(parts) for name in measured[0]},
        training={},
        environment=dict(environment or {}),
        seconds=round(time.monotonic() - started, 3),
        geometry={} if spec.is_reference else _geometry(features, split),
        ruler=ruler if split.shift else "",
    )


def _geometry(features: Features, split: Split) -> dict[str, dict[str, float]]:
    sides = {"train": split.train_classes, "test": split.test_classes}
    here = set(features.class_names)
    return {
        side: geometry(features.subset(names)) for side, names in sides.items() if here >= {*names}
    }


def _check_test_classes(features: Features, ladder: Ladder) -> None:
    here = {features.class_names[label] for label in set(features.labels.tolist())}
    for number, rung in enumerate(ladder.rungs):
        missing = sorted(set(rung.test_classes) - here)
        if missing:
            shown = ", ".join(repr(name) for name in missing[:3])
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise DataError(
                f"rung {number} tests on {len(missing)} of {len(rung.test_classes)} classes that "
                f"the embeddings lack: {shown}{more}. Embed every class of the dataset."
            )


def _check_sizes(features: Features, ladder: Ladder) -> None:
    counts = dict.fromkeys(features.class_names, 0)
    for label in features.labels.tolist():
        counts[features.class_names[label]] += 1
    for name, size in sorted(ladder.class_sizes.items()):
        if size and counts.get(name, size) not in (0, size):
            raise DataError(
                f"class {name!r} has {counts[name]} embeddings and {size} images in the ladder's "
                f"dataset {ladder.features.dataset!r}; embed the same images."
            )
