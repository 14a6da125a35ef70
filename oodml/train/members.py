"""Members: the models that one run trains, most often a single one."""

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
    """One model of a run: the seed of its draws, and the classes that it is fitted and chosen on.

    Without `validation_classes` the last state is taken. `name` is its folder in the run's, empty
    for a single model.
    """

    name: str
    seed: int
    fit_classes: tuple[str, ...]
    validation_classes: tuple[str, ...] = ()


def members_of(spec: RunSpec, split: Split, fold: Fold | None = None) -> list[Member]:
    """The models that a run trains on the training classes of a split.

    `fold` holds the rung's own validation classes, where it comes with some; a run that is
    measured on them is not fitted on them. The first model of an ensemble draws from the run's
    seed, so an ensemble of one is the plain run. With folds, all training classes of the run's
    split are dealt out, whatever the seed (arXiv:2003.08505 cuts the sorted classes into blocks;
    here they are drawn, for neighbours in the alphabet are often relatives). Raises `UsageError`
    for folds and an ensemble at once.
    """
    folds, ensemble = spec.training.folds, spec.training.ensemble
    if folds > 1 and ensemble > 1:
        raise UsageError(
            f"{folds} folds and an ensemble of {ensemble}: a run trains one or the other."
        )
    chosen = spec.training.selection == "best_validation"
    validated = spec.data.measured_on == "validation"
    if folds > 1:
        parts = class_folds(split, folds)
        return [_of_fold(f"fold{i}", spec.seed, each, chosen) for i, each in enumerate(parts)]
    held_out = fold or validation_fold(split)
    whole = held_out if chosen or validated else Fold(split.train_classes, ())
    if ensemble > 1:
        seeds = [spec.seed, *(derive_seed(spec.seed, "member", i) for i in range(1, ensemble))]
        return [_of_fold(f"member{i}", seed, whole, chosen) for i, seed in enumerate(seeds)]
    return [_of_fold("", spec.seed, whole, chosen)]


def check_measured_on(spec: RunSpec) -> None:
    """`UsageError` for a run on validation classes that asks for what they cannot give."""
    if spec.data.measured_on not in MEASURED_ON:
        raise unknown_name("side to measure on", spec.data.measured_on, MEASURED_ON)
    if spec.data.measured_on == "test":
        return
    if spec.training.folds > 1:
        raise UsageError(
            f"{spec.training.folds} folds deal out all training classes, which leaves none to "
            "measure on; train a single model or an ensemble."
        )
    if spec.few_shot.adapt or spec.evaluation.gallery_classes or spec.evaluation.gallery_images:
        raise UsageError(
            "few shots and equal galleries are drawn from the test classes; a run measured on "
            "validation classes has neither."
        )


def measured_classes(
    spec: RunSpec, split: Split, fold: Fold | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that a run is given to train on, and those that its metrics are those of."""
    if spec.data.measured_on == "test":
        return split.train_classes, split.test_classes
    held_out = fold or validation_fold(split)
    return held_out.fit_classes, held_out.validation_classes


def _of_fold(name: str, seed: int, fold: Fold, chosen: bool) -> Member:
    return Member(name, seed, fold.fit_classes, fold.validation_classes if chosen else ())
