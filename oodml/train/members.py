"""Which models a run trains: their seeds, fitting classes and validation classes."""

from __future__ import annotations

from dataclasses import dataclass

from oodml.errors import UsageError, unknown_name
from oodml.runs.spec import RunSpec
from oodml.seeding import derive_seed
from oodml.splits.episodes import Fold, class_folds, validation_fold
from oodml.splits.split import Split

MEASURED_ON = ("test", "validation")


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
    if spec.is_reference:
        raise UsageError(
            "a matched reference divides the test classes; a run measured on validation classes "
            "has none."
        )
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
