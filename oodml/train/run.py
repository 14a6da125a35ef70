"""One run, from its spec to its record: train its models and measure them."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from threadpoolctl import threadpool_limits

from oodml.errors import DataError, UsageError
from oodml.eval.retrieval.evaluate import evaluate
from oodml.eval.retrieval.geometry import geometry
from oodml.eval.retrieval.reranking import evaluate_reranked
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.splits.episodes import Episode, Fold
from oodml.splits.equal_size import gallery_of
from oodml.splits.reference import halves_of
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
from oodml.train.members import Member, check_measured_on, measured_classes, members_of
from oodml.train.models import is_of
from oodml.train.objective import Objective, Training
from oodml.train.pair_weights import save_pair_weights
from oodml.train.registry import get_method
from oodml.train.tracking import Curves, Tracked, tracked

if TYPE_CHECKING:
    from oodml.features.features import Features
    from oodml.train.data import FeatureSamples, Samples

EMBEDDINGS = "embeddings.npz"
# The folders of a reference run, one for each half of the test classes.
HALVES = ("half0", "half1")
Figures = dict[str, float]


def train_run(
    spec: RunSpec,
    split: Split,
    resources: Resources,
    directory: str | Path,
    *,
    fold: Fold | None = None,
    episodes: Sequence[Episode] | None = None,
    groups: Mapping[str, str] | None = None,
    ruler: str = "",
    keep_embeddings: bool = False,
    keep_pair_weights: bool = False,
    track: str = "",
) -> RunRecord:
    """The finished record of one run: trained (or resumed) and measured on the test classes.

    A reference run (`spec.is_reference`) does this on both halves of the test classes in turn, see
    `halves_of`, and its record holds the means over the two; `groups` is the group of every class
    where groups stay whole. With `spec.data.measured_on` "validation" a run is trained on the
    split's fitting classes and measured on its validation classes, and no test class is read.

    `directory` gets the run's logs and checkpoints, with `keep_embeddings` the measured embeddings,
    and with `keep_pair_weights` the pair weights of one batch under the trained loss. `fold` holds
    the rung's validation classes and `episodes` its few-shot episodes (as rows of the features),
    where the ladder has them. The test classes are read once, after the last step. `ruler` names
    the network that measured the split's shift, for the record. `track` names a tracker, such as
    "tensorboard", that shows the run's progress and changes nothing else. The result depends on
    `spec` only: heads are trained on one thread, whole networks on all cores, whatever else is
    running. Raises `DataError` when `resources` are not what the spec names, and `UsageError` for
    an unknown tracker or for settings that need test classes where none may be read.
    """
    _check(spec, split, resources)
    directory = Path(directory)
    if spec.data.measured_on != "test":
        resources = resources.training_part(split)
    parts = {"": split}
    if spec.is_reference:
        if fold is not None or episodes is not None:
            raise UsageError("a fold and episodes of a whole rung do not fit the halves of it.")
        parts = dict(zip(HALVES, _halves(spec, split, groups), strict=True))
    started = time.monotonic()
    number = torch.get_num_threads() if spec.model.train == "all" else 1
    with tracked(track, spec, split, directory) as run:
        with threads(number):
            measured = [
                _on_split(
                    spec,
                    part,
                    resources,
                    directory,
                    run,
                    half=half,
                    fold=fold,
                    episodes=episodes,
                    keep_embeddings=keep_embeddings,
                    keep_pair_weights=keep_pair_weights,
                )
                for half, part in parts.items()
            ]
        known = split.shift if spec.data.measured_on == "test" else None
        record = RunRecord(
            spec=spec,
            shift=known.to_json() if known else {},
            metrics=_mean([each.metrics for each in measured]),
            training=_mean([each.figures for each in measured]),
            environment=environment(resources.device),
            seconds=round(time.monotonic() - started, 3),
            geometry={
                side: _mean([each.geometry[side] for each in measured])
                for side in measured[0].geometry
            },
            few_shot=_joined([each.few_shot for each in measured]),
            ruler=ruler if known else "",
        )
        run.finish(record)
    return record


@dataclass(frozen=True, eq=False)
class Measured:
    """What training on one split, and measuring on its test classes, gave; see `RunRecord`."""

    metrics: Figures
    figures: Figures
    geometry: dict[str, Figures]
    few_shot: dict[str, dict[str, Any]]


def _on_split(
    spec: RunSpec,
    split: Split,
    resources: Resources,
    directory: Path,
    run: Tracked,
    *,
    half: str,
    fold: Fold | None,
    episodes: Sequence[Episode] | None,
    keep_embeddings: bool,
    keep_pair_weights: bool,
) -> Measured:
    """Train the models of a run on a split, the run's or a half of it, and measure them."""
    trained_on, measured_on = measured_classes(spec, split, fold)
    models = []
    for member in members_of(spec, split, fold):
        name = "/".join(filter(None, (half, member.name)))
        models.append(
            train_member(
                spec,
                member,
                resources,
                directory / name,
                run.curves(name),
                keep_pair_weights=keep_pair_weights,
            )
        )
    parts = _embedded(spec, measured_on, models, resources)
    measured = concatenated(parts)
    metrics = _measured(spec, split, measured, resources)
    figures = _mean([model.figures for model in models])
    if len(models) > 1:
        alone = _mean([_measured(spec, split, part, resources) for part in parts])
        metrics |= {f"separated_{name}": value for name, value in alone.items()}
        figures["dimensions"] = float(measured.values.shape[1])
    shape = {}
    # Nobody reads the shape of an embedding on halves, which would take a tenth of their time.
    if not spec.is_reference:
        fitted = concatenated(_embedded(spec, trained_on, models, resources))
        shape = {"train": geometry(fitted), spec.data.measured_on: geometry(measured)}
    first = models[0]
    adapted = (
        few_shot(spec, split, first.objective, first.embed, resources, episodes=episodes)
        if spec.few_shot.adapt
        else {}
    )
    if keep_embeddings:
        (directory / half).mkdir(parents=True, exist_ok=True)
        measured.save(directory / half / EMBEDDINGS)
    return Measured(metrics, figures, shape, adapted)


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
    if spec.model.train != "all" and not is_of(spec.model, source):
        raise DataError(
            f"the run is for features of {spec.model.backbone} ({spec.model.weights[:16]}, "
            f"{spec.model.preprocessing}, {spec.model.precision}), those given are of "
            f"{source.network}."
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
    """The metrics on all measured classes, or on equally many classes and images if asked.

    A half has half as many classes, with all of their images.
    """
    asked = spec.evaluation
    wanted = asked.gallery_classes, asked.gallery_images
    if spec.is_reference:
        wanted = asked.gallery_classes // 2, 0
    gallery = gallery_of(embeddings, split, *wanted, spec.seed)
    if asked.rerank:
        return evaluate_reranked(gallery, memory=resources.memory)
    return evaluate(gallery, memory=resources.memory, device=resources.device)


def _halves(spec: RunSpec, split: Split, groups: Mapping[str, str] | None) -> tuple[Split, Split]:
    data = spec.data
    return halves_of(split, spec.seed, data.trained_on, null_draw=data.null_draw, groups=groups)


def _joined(adapted: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The few-shot episodes of all halves, for the shots that each of them has."""
    shared = [shots for shots in adapted[0] if all(shots in each for each in adapted)]
    return {
        shots: {
            **adapted[0][shots],
            "episodes": [entry for each in adapted for entry in each[shots]["episodes"]],
            "left_out": sum(each[shots].get("left_out", 0) for each in adapted),
        }
        for shots in shared
    }


def _mean(figures: Sequence[Figures]) -> Figures:
    """The mean of every figure over the models that have it."""
    names = dict.fromkeys(name for each in figures for name in each)
    return {
        name: sum(each[name] for each in figures if name in each)
        / sum(name in each for each in figures)
        for name in names
    }
