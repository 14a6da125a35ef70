"""Few-shot adaptation: a trained model on episodes of its test classes, before and after."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from oodml.errors import UsageError
from oodml.eval.retrieval.evaluate import evaluate
from oodml.eval.retrieval.reranking import evaluate_reranked
from oodml.runs.spec import RunSpec
from oodml.splits.episodes import MIN_QUERIES, SHOTS, Episode, few_shot_episodes
from oodml.train.build import Embed, Resources, by_objective
from oodml.train.few_shot.adapt import adapt, adapt_together, together
from oodml.train.few_shot.losses import episodes_loss, pairs_of_blocks
from oodml.train.few_shot.support import (
    Pooled,
    Shape,
    StartingPoint,
    Task,
    batch_shape,
    batches_of,
    task_of,
)
from oodml.train.loop import seeded
from oodml.train.objective import Criterion, Objective
from oodml.train.registry import get_method, parse_method

if TYPE_CHECKING:
    from oodml.features.features import Features
    from oodml.splits.split import Split

ADAPTED = ("head", "all")
# arXiv:2107.09562: 1,000 iterations for 2 shots, 1,500 for 5, of whole networks. Heads on features
# gain as much in fewer.
STEPS_OF_FEW, STEPS, MANY_SHOTS, SHARE_OF_HEADS = 1000, 1500, 5, 0.3
Figures = dict[str, float]
log = logging.getLogger("oodml")


def few_shot(
    spec: RunSpec,
    split: Split,
    objective: Objective | None,
    embed: Embed,
    resources: Resources,
    *,
    episodes: Sequence[Episode] | None = None,
) -> dict[str, dict[str, Any]]:
    """By shots, the metrics of every episode's queries before and after adaptation.

    `{"2": {"episodes": [{"zero_shot": {...}, "few_shot": {...}}, ...], "left_out": 3}, ...}`, as
    `RunRecord.few_shot` holds it; `left_out` counts test classes that are too small. Shots that no
    class is large enough for are logged and left out. `episodes` index `resources.features`;
    without any the split's own are drawn, the same for every method and seed.

    Every episode starts from a copy of the trained model. With `spec.few_shot` "head" what stands
    behind the trunk is trained on its features of the support, computed once and not augmented;
    with "all" everything is, as in training. Without an objective (frozen features, fitted maps) a
    linear head behind `embed` is adapted, which starts as the identity and so from the very same
    embedding; beyond `spec.embedding_dim` dimensions it moves so many principal directions of the
    support. The loss is that of the method `spec.few_shot_criterion`, built for the support's
    classes, its own parameters trained too; Adam at the rate of `adaptation_rate`, no weight decay.

    Draws follow from the run's seed, the split, the shots and the episode's number. Nothing of a
    query is read before its evaluation. Raises `DataError` where a support has no pairs or weights
    run away, `UsageError` for a criterion that is not a loss.
    """
    _check(spec)
    start = StartingPoint.of(spec, split, objective, embed, resources)
    given = _drawn(spec, split, resources) if episodes is None else episodes
    found: dict[str, dict[str, Any]] = {}
    for shots, same in groupby(sorted(given, key=lambda e: (e.shots, e.number)), lambda e: e.shots):
        own = list(same)
        tasks = [task_of(episode, spec, start.rows, start.labels) for episode in own]
        figures = _adapted(spec, tasks, start)
        found[str(shots)] = {"episodes": figures, "left_out": len(own[0].left_out)}
    return found


def _check(spec: RunSpec) -> None:
    if spec.few_shot.adapt not in ADAPTED:
        raise UsageError(f"few_shot={spec.few_shot.adapt!r}: give 'head' or 'all'.")
    if spec.evaluation.mix:
        raise UsageError("mix scales by the lengths of the training samples, which few_shot moves.")


def _drawn(spec: RunSpec, split: Split, resources: Resources) -> list[Episode]:
    """The episodes of all shots that some test class is large enough for."""
    features = resources.features
    largest = int(np.bincount(features.labels[features.of_classes(split.test_classes)]).max())
    kept = [shots for shots in SHOTS if shots + MIN_QUERIES <= largest]
    for shots in sorted(set(SHOTS) - set(kept)):
        log.warning(
            "%s: %d shots are left out: the largest test class has %d images, %d are needed.",
            spec.label, shots, largest, shots + MIN_QUERIES,
        )  # fmt: skip
    return list(few_shot_episodes(split, features, shots=kept)) if kept else []


def _adapted(
    spec: RunSpec, tasks: Sequence[Task], start: StartingPoint
) -> list[dict[str, Figures]]:
    steps = spec.few_shot.steps or _steps(spec, tasks[0].shots)
    shapes = [batch_shape(task, spec) for task in tasks]
    begun = time.monotonic()
    models = _together(spec, tasks, shapes, steps, start)
    if models is None:
        models = (
            _alone(spec, task, shape, steps, start)
            for task, shape in zip(tasks, shapes, strict=True)
        )
    figures = [
        _figures(spec, task, model, start) for task, model in zip(tasks, models, strict=True)
    ]
    log.info(
        "%s: %d shots: %d episodes of %d steps adapted in %.1f s.",
        spec.label, tasks[0].shots, len(tasks), steps, time.monotonic() - begun,
    )  # fmt: skip
    return figures


def _steps(spec: RunSpec, shots: int) -> int:
    published = STEPS_OF_FEW if shots < MANY_SHOTS else STEPS
    return published if spec.model.train == "all" else round(published * SHARE_OF_HEADS)


def _together(
    spec: RunSpec, tasks: Sequence[Task], shapes: Sequence[Shape], steps: int, start: StartingPoint
) -> Iterable[Objective] | None:
    """All models adapted at once; None where heads, shapes or the loss do not allow it."""
    alike = len({(shape, task.classes) for shape, task in zip(shapes, tasks, strict=True)}) == 1
    if not alike or not isinstance(start.samples, Pooled):
        return None
    models = [start.model(task) for task in tasks]
    heads = together(models)
    if heads is None:
        return None
    dimension, shape = models[0].model.embedding_dim, shapes[0]
    loss = episodes_loss(spec.few_shot.criterion, len(tasks), tasks[0].classes, dimension)
    if loss is None:
        return None
    batches = [batches_of(task, shape, steps) for task in tasks]
    pairs = pairs_of_blocks(*shape)
    inputs = start.samples.values.to(start.device)
    adapt_together(heads, loss, inputs, tasks, batches, pairs, spec)
    return models


def _alone(spec: RunSpec, task: Task, shape: Shape, steps: int, start: StartingPoint) -> Objective:
    model = start.model(task)
    criterion = _criterion(spec, task, start.features.values.shape[1])
    support = start.samples.take(task.support)
    adapt(model, criterion, support, task, batches_of(task, shape, steps), start.device)
    return model


def _criterion(spec: RunSpec, task: Task, dimension: int) -> Criterion:
    name, hyperparameters = parse_method(spec.few_shot.criterion)
    with seeded(task.seed, "criterion"):
        return get_method(name).criterion(task.classes, dimension, hyperparameters)


def _figures(
    spec: RunSpec, task: Task, model: Objective, start: StartingPoint
) -> dict[str, Figures]:
    """The metrics of an episode's queries before and after its adaptation."""
    query = start.samples.take(task.query)
    support = start.samples.take(task.support)
    after = by_objective(model, start.device, support)(query)
    before = start.features.values[task.query]
    return {
        "zero_shot": _measured(spec, start.part(task.query, before), start.device),
        "few_shot": _measured(spec, start.part(task.query, after), start.device),
    }


def _measured(spec: RunSpec, embeddings: Features, device: str) -> Figures:
    if spec.evaluation.rerank:
        return evaluate_reranked(embeddings)
    return evaluate(embeddings, device=device)
