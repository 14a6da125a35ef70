"""One run, from its spec to its record."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from threadpoolctl import threadpool_limits

from oodml.errors import DataError
from oodml.eval.figures.pair_weights import FILE as PAIRS
from oodml.eval.retrieval.evaluate import evaluate
from oodml.eval.retrieval.geometry import geometry
from oodml.eval.retrieval.reranking import evaluate_reranked
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.splits.equal_size import gallery_of
from oodml.train.build import Resources, objective_of, samples_of
from oodml.train.distributed import rank
from oodml.train.embed import (
    Embed,
    as_they_are,
    by_module,
    by_objective,
    concatenated,
    with_embeddings,
)
from oodml.train.embed import embedded as embedded_classes
from oodml.train.few_shot.evaluate import few_shot
from oodml.train.loop import Validate, fit, seeded
from oodml.train.members import Member, check_measured_on, measured_classes, members_of
from oodml.train.objective import Objective, Training
from oodml.train.pair_weights import pair_weights
from oodml.train.registry import get_method
from oodml.train.tracking import Curves, Tracked, tracked

if TYPE_CHECKING:
    from oodml.splits.episodes import Episode, Fold
    from oodml.splits.split import Split
    from oodml.train.data import FeatureSamples, Samples

EMBEDDINGS = "embeddings.npz"
# Samples whose pairs are looked at: enough for a curve.
PAIRS_OF = 64
log = logging.getLogger("oodml")
Figures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Trained:
    """One trained model: how it embeds samples, the figures of its training, its objective."""

    embed: Embed
    figures: Figures
    objective: Objective | None = None


def train_run(
    spec: RunSpec,
    split: Split,
    resources: Resources,
    directory: str | Path,
    *,
    fold: Fold | None = None,
    episodes: Sequence[Episode] | None = None,
    keep_embeddings: bool = False,
    keep_pair_weights: bool = False,
    track: str = "",
) -> RunRecord:
    """The finished record of one run: trained (or resumed) and measured on the test classes.

    With `spec.measured_on` "validation" it is trained on the split's fitting classes, measured on
    its validation classes, and no test class is read.
    `directory` takes the run's logs and checkpoints, and the embeddings measured and the weights
    that the loss gives the pairs of one batch in the end if they are kept.
    `fold` holds the rung's own validation classes and `episodes` its few-shot episodes (rows of the
    features that take part), if it came with some. The test classes are read once,
    after the last step. `track` names a tracker, such as "tensorboard", that is told of the run
    while it goes on; it changes nothing else. The result depends on `spec` only: heads are trained
    on one thread, whole networks on all cores, whatever else runs beside. Raises `DataError` when
    `resources` are not what the spec names, `UsageError` when it asks for what only test classes
    have, or when there is no such tracker.
    """
    _check(spec, split, resources)
    keep = Path(directory) / EMBEDDINGS if keep_embeddings else None
    with tracked(track, spec, split, Path(directory)) as run:
        record = _trained(
            spec, split, resources, Path(directory), fold, episodes, keep, keep_pair_weights, run
        )
        run.finish(record)
    return record


def _trained(
    spec: RunSpec,
    split: Split,
    resources: Resources,
    directory: Path,
    fold: Fold | None,
    episodes: Sequence[Episode] | None,
    keep: Path | None,
    keep_pair_weights: bool,
    run: Tracked,
) -> RunRecord:
    """What `train_run` returns; the embeddings measured are saved as `keep`."""
    on_test = spec.data.measured_on == "test"
    resources = resources if on_test else resources.training_part(split)
    trained_on, measured_on = measured_classes(spec, split, fold)
    started = time.monotonic()
    with threads(1 if spec.model.train != "all" else torch.get_num_threads()):
        models = [
            train_member(
                spec,
                member,
                resources,
                directory / member.name,
                run.curves(member.name),
                keep_pair_weights=keep_pair_weights,
            )
            for member in members_of(spec, split, fold)
        ]
        parts = [embedded_classes(spec, measured_on, model.embed, resources) for model in models]
        measured = concatenated(parts)
        metrics = _measured(spec, split, measured, resources)
        figures = _mean([model.figures for model in models])
        if len(parts) > 1:
            alone = _mean([_measured(spec, split, part, resources) for part in parts])
            metrics |= {f"separated_{name}": value for name, value in alone.items()}
            figures["dimensions"] = float(measured.values.shape[1])
        shape = {"train": _training_geometry(spec, trained_on, models, resources)}
        shape[spec.data.measured_on] = geometry(measured)
        adapted: dict[str, dict[str, Any]] = {}
        if spec.few_shot.adapt:
            first = models[0]
            adapted = few_shot(
                spec, split, first.objective, first.embed, resources, episodes=episodes
            )
    if keep is not None:
        measured.save(keep)
    return RunRecord(
        spec=spec,
        shift=_shift(spec, split),
        metrics=metrics,
        training=figures,
        environment=environment(resources.device),
        seconds=round(time.monotonic() - started, 3),
        geometry=shape,
        few_shot=adapted,
    )


def train_member(
    spec: RunSpec,
    member: Member,
    resources: Resources,
    directory: Path,
    tracker: Curves | None = None,
    *,
    keep_pair_weights: bool = False,
) -> Trained:
    """One model of a run, trained in `directory`, or resumed there; `tracker` gets its epochs."""
    way = get_method(spec.method.name).training if spec.model.train != "none" else "none"
    if way == "none":
        return Trained(as_they_are, {})
    samples = samples_of(spec, member.fit_classes, resources, views=True)
    if way == "fit":
        return Trained(by_module(_fitted(spec, member, samples)), {})
    directory.mkdir(parents=True, exist_ok=True)
    device = resources.device
    objective = objective_of(spec, samples, len(member.fit_classes), resources, member.seed)
    training = Training(samples, member.seed, device)
    figures = fit(
        objective,
        training,
        directory,
        validate=_validation(spec, member, samples, resources),
        tracker=tracker,
    )
    if keep_pair_weights:
        _keep_pairs(objective, training, directory)
    return Trained(by_objective(objective, device, samples), figures, objective)


def _validation(
    spec: RunSpec, member: Member, fitting: Samples, resources: Resources
) -> Validate | None:
    """What measures an objective on the validation classes: it holds their rows, and no others.

    It is the loop's alone; nothing that a hook is given leads to it.
    """
    if not member.validation_classes:
        return None
    held_out = samples_of(spec, member.validation_classes, resources)
    labelled = resources.features.subset(member.validation_classes)
    metric, memory, device = spec.training.selection_metric, resources.memory, resources.device

    def validate(objective: Objective) -> float:
        values = by_objective(objective, device, fitting)(held_out)
        found = with_embeddings(spec, labelled, values)
        return evaluate(found, metrics=(metric,), memory=memory, device=device)[metric]

    return validate


def _keep_pairs(objective: Objective, training: Training, directory: Path) -> None:
    """Save the weights that the loss gives the pairs of one batch in the end."""
    if type(objective) is not Objective or rank():
        return
    with seeded(training.seed, "pairs"):
        index = next(iter(objective.loader(training, 0)))[:PAIRS_OF]
        output = training.encode(objective, "output", index)
        labels = training.labels[torch.from_numpy(index)]
        try:
            weights = pair_weights(
                objective.criterion, output, labels, int(training.labels.max()) + 1
            )
        except DataError as error:
            log.info("%s: no pair weights: %s", objective.spec.label, error)
            return
    weights.binned().save(directory / PAIRS)


def _fitted(spec: RunSpec, member: Member, samples: Samples) -> torch.nn.Module:
    features = cast("FeatureSamples", samples)
    with seeded(member.seed, "fit"):
        fit_features = get_method(spec.method.name).build_with(
            len(member.fit_classes), spec.model.embedding_dim, spec.method.hyperparameters
        )
        module: torch.nn.Module = fit_features(features.values.numpy(), features.labels.numpy())
    return module


def environment(device: str) -> dict[str, str]:
    """Versions and hardware that a result was made with."""
    packages = ("oodml", "torch", "torchvision", "numpy", "pytorch-metric-learning")
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


def _check(spec: RunSpec, split: Split, resources: Resources) -> None:
    source = resources.features.source
    if spec.data.fingerprint != source.fingerprint:
        raise DataError(
            f"the run is for dataset {spec.data.dataset!r} with fingerprint "
            f"{spec.data.fingerprint}, the data given has {source.fingerprint}."
        )
    if spec.data.split != split.id:
        raise DataError(f"the run is for split {spec.data.split}, the split given is {split.id}.")
    check_measured_on(spec)


def _shift(spec: RunSpec, split: Split) -> dict[str, Any]:
    """The shift that the metrics were measured under: a split's is that of its test classes."""
    return split.shift.to_json() if split.shift and spec.data.measured_on == "test" else {}


def _training_geometry(
    spec: RunSpec, class_names: Sequence[str], models: Sequence[Trained], resources: Resources
) -> Figures:
    parts = [embedded_classes(spec, class_names, model.embed, resources) for model in models]
    return geometry(concatenated(parts))


def _measured(spec: RunSpec, split: Split, embeddings: Features, resources: Resources) -> Figures:
    """The metrics on all classes measured, or on as many of them and images as the spec says."""
    gallery = gallery_of(
        embeddings,
        split,
        spec.evaluation.gallery_classes,
        spec.evaluation.gallery_images,
        spec.seed,
    )
    if spec.evaluation.rerank:
        return evaluate_reranked(gallery, memory=resources.memory)
    return evaluate(gallery, memory=resources.memory, device=resources.device)


def _mean(figures: Sequence[Figures]) -> Figures:
    """The mean of every figure over the models that have it."""
    names = dict.fromkeys(name for each in figures for name in each)
    return {
        name: sum(each[name] for each in figures if name in each)
        / sum(name in each for each in figures)
        for name in names
    }


@contextmanager
def threads(number: int) -> Iterator[None]:
    """The threads of torch and NumPy for one run: sums of floats depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
