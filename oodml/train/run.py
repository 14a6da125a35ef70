"""One run, from its spec to its record: train its models and measure them."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from threadpoolctl import threadpool_limits

from oodml.errors import DataError, UsageError, unknown_name
from oodml.eval.retrieval.evaluate import evaluate
from oodml.eval.retrieval.geometry import geometry
from oodml.eval.retrieval.reranking import evaluate_reranked
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.seeding import derive_seed
from oodml.splits.episodes import Episode, Fold, class_folds, validation_fold
from oodml.splits.equal_size import gallery_of
from oodml.splits.split import Split
from oodml.train.build import (
    Embed,
    Resources,
    as_they_are,
    by_module,
    by_objective,
    concatenated,
    embedded,
    objective_of,
    samples_of,
)
from oodml.train.few_shot.few_shot import few_shot
from oodml.train.loop import Validate, fit, seeded
from oodml.train.objective import Objective, Training
from oodml.train.pair_weights import save_pair_weights
from oodml.train.registry import get_method
from oodml.train.tracking import Curves, tracked

if TYPE_CHECKING:
    from oodml.features.features import Features
    from oodml.train.data import FeatureSamples, Samples

EMBEDDINGS = "embeddings.npz"
MEASURED_ON = ("test", "validation")
Figures = dict[str, float]


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

    With `spec.data.measured_on` "validation" it is trained on the split's fitting classes and
    measured on its validation classes, and no test class is read. `directory` gets the run's logs
    and checkpoints, with `keep_embeddings` the measured embeddings, and with `keep_pair_weights`
    the pair weights of one batch under the trained loss. `fold` holds the rung's validation classes
    and `episodes` its few-shot episodes (as rows of the features), where the ladder has them. The
    test classes are read once, after the last step. `track` names a tracker, such as "tensorboard",
    that shows the run's progress and changes nothing else. The result depends on `spec` only: heads
    are trained on one thread, whole networks on all cores, whatever else is running. Raises
    `DataError` when `resources` are not what the spec names, and `UsageError` for an unknown
    tracker or for settings that need test classes where none may be read.
    """
    _check(spec, split, resources)
    directory = Path(directory)
    if spec.data.measured_on != "test":
        resources = resources.training_part(split)
    trained_on, measured_on = measured_classes(spec, split, fold)
    started = time.monotonic()
    number = torch.get_num_threads() if spec.model.train == "all" else 1
    with tracked(track, spec, split, directory) as run:
        with threads(number):
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
            parts = _embedded(spec, measured_on, models, resources)
            measured = concatenated(parts)
            metrics = _measured(spec, split, measured, resources)
            figures = _mean([model.figures for model in models])
            if len(models) > 1:
                alone = _mean([_measured(spec, split, part, resources) for part in parts])
                metrics |= {f"separated_{name}": value for name, value in alone.items()}
                figures["dimensions"] = float(measured.values.shape[1])
            fitted = concatenated(_embedded(spec, trained_on, models, resources))
            shape = {"train": geometry(fitted), spec.data.measured_on: geometry(measured)}
            first = models[0]
            adapted = (
                few_shot(spec, split, first.objective, first.embed, resources, episodes=episodes)
                if spec.few_shot.adapt
                else {}
            )
        if keep_embeddings:
            measured.save(directory / EMBEDDINGS)
        known = split.shift if spec.data.measured_on == "test" else None
        record = RunRecord(
            spec=spec,
            shift=known.to_json() if known else {},
            metrics=metrics,
            training=figures,
            environment=environment(resources.device),
            seconds=round(time.monotonic() - started, 3),
            geometry=shape,
            few_shot=adapted,
        )
        run.finish(record)
    return record


@dataclass(frozen=True, eq=False)
class Trained:
    """One trained model: its embedding function, the figures of its training, its objective."""

    embed: Embed
    figures: Figures
    objective: Objective | None = None


def train_member(
    spec: RunSpec,
    member: Member,
    resources: Resources,
    directory: Path,
    tracker: Curves | None = None,
    *,
    keep_pair_weights: bool = False,
) -> Trained:
    """One model of a run, trained in `directory` or resumed there; `tracker` gets its epochs."""
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
    validate = _validation(spec, member, samples, resources)
    figures = fit(objective, training, directory, validate=validate, tracker=tracker)
    if keep_pair_weights:
        save_pair_weights(objective, training, directory)
    return Trained(by_objective(objective, device, samples), figures, objective)


@dataclass(frozen=True)
class Member:
    """One model of a run: the seed of its draws, its fitting classes and its validation classes.

    Most runs have one. Without `validation_classes` the last weights are taken. `name` is its
    subfolder of the run's, empty for a single model.
    """

    name: str
    seed: int
    fit_classes: tuple[str, ...]
    validation_classes: tuple[str, ...] = ()


def members_of(spec: RunSpec, split: Split, fold: Fold | None = None) -> list[Member]:
    """The models that a run trains on the training classes of a split.

    `fold` holds the rung's own validation classes, where it has them; a run that is measured on
    them is not fitted on them. The first model of an ensemble uses the run's seed, so an ensemble
    of one is the plain run. With folds, all training classes are divided at random, the same for
    all seeds (arXiv:2003.08505 cuts the sorted classes into blocks; here they are drawn, as
    alphabetical neighbours are often related). Raises `UsageError` for folds and an ensemble at
    once.
    """
    folds, ensemble = spec.training.folds, spec.training.ensemble
    if folds > 1 and ensemble > 1:
        raise UsageError(
            f"{folds} folds and an ensemble of {ensemble}: a run trains one or the other."
        )
    chosen = spec.training.selection == "best_validation"

    def member(name: str, seed: int, classes: Fold) -> Member:
        held_out = classes.validation_classes if chosen else ()
        return Member(name, seed, classes.fit_classes, held_out)

    if folds > 1:
        parts = class_folds(split, folds)
        return [member(f"fold{i}", spec.seed, part) for i, part in enumerate(parts)]
    validated = chosen or spec.data.measured_on == "validation"
    whole = fold or validation_fold(split) if validated else Fold(split.train_classes, ())
    if ensemble > 1:
        seeds = [spec.seed, *(derive_seed(spec.seed, "member", i) for i in range(1, ensemble))]
        return [member(f"member{i}", seed, whole) for i, seed in enumerate(seeds)]
    return [member("", spec.seed, whole)]


def measured_classes(
    spec: RunSpec, split: Split, fold: Fold | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that a run may be trained on, and those that it is measured on."""
    if spec.data.measured_on == "test":
        return split.train_classes, split.test_classes
    held_out = fold or validation_fold(split)
    return held_out.fit_classes, held_out.validation_classes


def check_measured_on(spec: RunSpec) -> None:
    """Raise `UsageError` for a run on validation classes with settings that they cannot serve."""
    if spec.data.measured_on not in MEASURED_ON:
        raise unknown_name("side to measure on", spec.data.measured_on, MEASURED_ON)
    if spec.data.measured_on == "test":
        return
    if spec.training.folds > 1:
        raise UsageError(
            f"{spec.training.folds} folds use all training classes, which leaves none to measure "
            "on; train a single model or an ensemble."
        )
    if spec.few_shot.adapt or spec.evaluation.gallery_classes or spec.evaluation.gallery_images:
        raise UsageError(
            "few shots and equal galleries are drawn from the test classes; a run measured on "
            "validation classes has neither."
        )


def environment(device: str) -> dict[str, str]:
    """Versions of packages and hardware, for a result's record."""
    packages = ("oodml", "torch", "torchvision", "numpy", "pytorch-metric-learning")
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Limit torch and NumPy to a number of threads: sums of floats depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


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


def _validation(
    spec: RunSpec, member: Member, fitting: Samples, resources: Resources
) -> Validate | None:
    """A function that measures an objective on the validation classes, whose rows it alone holds.

    It is given to the loop only; no hook of a method can reach it.
    """
    if not member.validation_classes:
        return None
    held_out = resources.features.subset(member.validation_classes)
    samples = samples_of(spec, member.validation_classes, resources)
    metric, memory, device = spec.training.selection_metric, resources.memory, resources.device

    def validate(objective: Objective) -> float:
        values = by_objective(objective, device, fitting)(samples)
        found = replace(held_out, values=values)
        return evaluate(found, metrics=(metric,), memory=memory, device=device)[metric]

    return validate


def _fitted(spec: RunSpec, member: Member, samples: Samples) -> torch.nn.Module:
    features = cast("FeatureSamples", samples)
    with seeded(member.seed, "fit"):
        fit_features = get_method(spec.method.name).build_with(
            len(member.fit_classes), spec.model.embedding_dim, spec.method.hyperparameters
        )
        module: torch.nn.Module = fit_features(features.values.numpy(), features.labels.numpy())
    return module


def _embedded(
    spec: RunSpec, class_names: Sequence[str], models: Sequence[Trained], resources: Resources
) -> list[Features]:
    return [embedded(spec, class_names, model.embed, resources) for model in models]


def _measured(spec: RunSpec, split: Split, embeddings: Features, resources: Resources) -> Figures:
    """The metrics on all measured classes, or on equally many classes and images if asked."""
    asked = spec.evaluation
    gallery = gallery_of(embeddings, split, asked.gallery_classes, asked.gallery_images, spec.seed)
    if asked.rerank:
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
