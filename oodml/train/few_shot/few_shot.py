"""Few-shot adaptation: a trained model on episodes of its test classes, before and after."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
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
from oodml.train.objective import Objective
from oodml.train.registry import get_method, parse_method

if TYPE_CHECKING:
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

    Every episode starts from a copy of the trained model. With `spec.few_shot.adapt` "head" what
    stands behind the trunk is trained on its features of the support, computed once and not
    augmented; with "all" everything is, as in training. Without an objective (frozen features,
    fitted maps) a linear head behind `embed` is adapted, which starts as the identity and so from
    the very same embedding; above `spec.model.embedding_dim` dimensions it moves that many
    principal directions of the support. The loss is that of the method in
    `spec.few_shot.criterion`, built for the support's classes, its own parameters trained too, by
    Adam at the rate of `adaptation_rate` without weight decay.

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
        figures = _adapted(start, tasks)
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


def _adapted(start: StartingPoint, tasks: Sequence[Task]) -> list[dict[str, Figures]]:
    """The figures of all tasks of one number of shots, adapted at once where that is possible."""
    spec, shots = start.spec, tasks[0].shots
    steps = spec.few_shot.steps or _steps(shots, whole=spec.model.train == "all")
    shapes = [batch_shape(task, spec) for task in tasks]
    begun = time.monotonic()
    models = _at_once(start, tasks, shapes, steps) or (
        _alone(start, task, shape, steps) for task, shape in zip(tasks, shapes, strict=True)
    )
    figures = [_figures(start, task, model) for task, model in zip(tasks, models, strict=True)]
    log.info(
        "%s: %d shots: %d episodes of %d steps adapted in %.1f s.",
        spec.label, shots, len(tasks), steps, time.monotonic() - begun,
    )  # fmt: skip
    return figures


def _steps(shots: int, *, whole: bool) -> int:
    """The published number of steps for whole networks, and a share of it for heads."""
    published = STEPS_OF_FEW if shots < MANY_SHOTS else STEPS
    return published if whole else round(published * SHARE_OF_HEADS)


def _at_once(
    start: StartingPoint, tasks: Sequence[Task], shapes: Sequence[Shape], steps: int
) -> list[Objective] | None:
    """All models adapted at once; None where heads, shapes or the loss do not allow it."""
    alike = len({(shape, task.classes) for shape, task in zip(shapes, tasks, strict=True)}) == 1
    if not alike or not isinstance(start.samples, Pooled):
        return None
    models = [start.model(task) for task in tasks]
    heads = together(models)
    if heads is None:
        return None
    dimension, shape = models[0].model.embedding_dim, shapes[0]
    criterion = start.spec.few_shot.criterion
    loss = episodes_loss(criterion, len(tasks), tasks[0].classes, dimension)
    if loss is None:
        return None
    batches = [batches_of(task, shape, steps) for task in tasks]
    inputs = start.samples.values.to(start.device)
    adapt_together(heads, loss, inputs, tasks, batches, pairs_of_blocks(*shape), start.spec)
    return models


def _alone(start: StartingPoint, task: Task, shape: Shape, steps: int) -> Objective:
    """The model of one episode, adapted by itself."""
    model = start.model(task)
    name, hyperparameters = parse_method(start.spec.few_shot.criterion)
    with seeded(task.seed, "criterion"):
        dimension = start.features.values.shape[1]
        criterion = get_method(name).criterion(task.classes, dimension, hyperparameters)
    support = start.samples.take(task.support)
    adapt(model, criterion, support, task, batches_of(task, shape, steps), start.device)
    return model


def _figures(start: StartingPoint, task: Task, model: Objective) -> dict[str, Figures]:
    """The metrics of an episode's queries before and after its adaptation."""
    query = start.samples.take(task.query)
    support = start.samples.take(task.support)
    after = by_objective(model, start.device, support)(query)
    before = start.features.values[task.query]
    found = {}
    for name, values in (("zero_shot", before), ("few_shot", after)):
        embeddings = start.part(task.query, values)
        found[name] = (
            evaluate_reranked(embeddings)
            if start.spec.evaluation.rerank
            else evaluate(embeddings, device=start.device)
        )
    return found
