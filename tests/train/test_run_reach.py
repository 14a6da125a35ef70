"""What training code can reach: the fitting rows, and no row of a validation or a test class."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_features

from oodml.data import load_dataset
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.runs.spec import RunSpec
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.episodes import validation_fold
from oodml.splits.ladder import Ladder
from oodml.splits.reference import halves_of
from oodml.splits.split import random_split
from oodml.train import run as run_module
from oodml.train.build import Resources
from oodml.train.data import Draw
from oodml.train.loop import fit
from oodml.train.objective import Batch, Objective, Training
from oodml.train.plan import plan
from oodml.train.run import train_run

# Features of a class outside the fitting classes; no other number comes near them.
MARK = 777.25
QUICK: dict[str, Any] = {"steps": 2, "batch_size": 20, "embedding_dim": 8}
CASES = {
    "head": ("margin", {}),
    "cached views": ("margin", {"cached_views": 2}),
    "two views": ("moco", {"hyperparameters": "memory_size=40"}),
    "hold-out": ("pads", {}),
    "clusters": ("divide_and_conquer", {}),
    "ensemble": ("margin", {"ensemble": 2}),
    "selected": ("margin", {"selection": "best_validation"}),
    "mixed": ("margin", {"selection": "best_validation", "mix": 0.3}),
}
Reached = list[tuple[Objective, Training, Batch]]


def reachable(*roots: object) -> Iterator[object]:
    """Every object that attributes, containers and closures lead to; not through modules."""
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, ModuleType | type | logging.Logger):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, FunctionType):
            cells = [cell.cell_contents for cell in one.__closure__ or ()]
            waiting += [*cells, one.__defaults__, one.__kwdefaults__]
        elif isinstance(one, MethodType):
            waiting += [one.__self__, one.__func__]
        elif isinstance(one, np.ndarray):
            waiting.append(one.base)
        else:
            waiting += gc.get_referents(one)


def held(one: object) -> np.ndarray | None:
    """All that stands in the memory of an array or a tensor, also what a view leaves out."""
    if isinstance(one, np.ndarray):
        return one
    if isinstance(one, torch.Tensor):
        return torch.empty(0, dtype=one.dtype).set_(one.detach().untyped_storage()).numpy()
    return None


def out_of_bounds(roots: tuple[object, ...], names: set[str], counts: set[int]) -> list[str]:
    """What the roots lead to of the marked features, of samples called so, of labels so many."""
    found = []
    for one in reachable(*roots):
        array = held(one)
        if array is not None and array.dtype.kind == "f" and np.isclose(array, MARK).any():
            found.append(f"features {array.shape}")
        if array is not None and array.dtype.kind == "i" and array.size in counts:
            found.append(f"labels {array.shape}")
        if isinstance(one, str | Path) and any(name in str(one) for name in names):
            found.append(f"name {one}")
    return found


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Reached:
    """Fills with what the hooks of a run get, a model each."""
    seen: Reached = []

    def watched(objective: Objective, training: Training, *given: Any, **more: Any) -> Any:
        after_step = objective.after_step

        def note(training: Training, batch: Batch) -> None:
            after_step(training, batch)
            seen.append((objective, training, batch))
            # Only the first step is noted; and through this function the walk would find `seen`.
            del objective.after_step

        objective.after_step = note  # type: ignore[method-assign]
        return fit(objective, training, *given, **more)

    monkeypatch.setattr(run_module, "fit", watched)
    return seen


def one_run(ladder: Ladder, name: str, **settings: Any) -> RunSpec:
    given = settings.pop("hyperparameters", "")
    method = f"{name}:{given}" if given else name
    (spec,) = plan(ladder, [method], [0], rungs=[0], **{**QUICK, **settings})
    return spec


@pytest.mark.parametrize("measured_on", ["test", "validation"])
@pytest.mark.parametrize("case", CASES)
def test_the_hooks_of_heads_reach_fitting_rows_alone(
    case: str, measured_on: str, reached: Reached, tmp_path: Path
) -> None:
    pool = make_features(12, 13, 8)
    split = random_split(pool.class_names, train_fraction=2 / 3)
    method, settings = CASES[case]
    planned = one_run(build_ladder(pool, rungs=2), method, **settings)
    spec = planned.with_settings(split=split.id, measured_on=measured_on)
    fold = validation_fold(split)
    validated = measured_on == "validation" or spec.training.selection == "best_validation"
    fitting = fold.fit_classes if validated else split.train_classes
    counts = {len(pool), len(pool.of_classes(split.test_classes))}
    resources = marked(pool, fitting)
    train_run(spec, split, resources, tmp_path)
    assert len(reached) == max(spec.training.ensemble, 1)
    check_reached(reached, resources, len(pool.of_classes(fitting)), counts)


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("trained_on", ["matched", "shifted"])
@pytest.mark.parametrize("case", CASES)
def test_the_hooks_of_a_reference_reach_no_row_of_the_half_that_is_tested(
    case: str, trained_on: str, half: int, reached: Reached, tmp_path: Path
) -> None:
    pool = make_features(24, 13, 8)
    split = random_split(pool.class_names)
    method, settings = CASES[case]
    planned = one_run(build_ladder(pool, rungs=2), method, **{"batch_size": 16, **settings})
    spec = planned.with_settings(split=split.id, trained_on=trained_on)
    own = halves_of(split, spec.seed, trained_on)[half]
    selected = spec.training.selection == "best_validation"
    fitting = validation_fold(own).fit_classes if selected else own.train_classes
    resources = marked(pool, fitting)
    train_run(spec, split, resources, tmp_path)
    models = max(spec.training.ensemble, 1)
    assert len(reached) == 2 * models
    # The other half is trained on marked rows: each half is checked in a run of its own.
    part = reached[half * models : (half + 1) * models]
    check_reached(part, resources, len(pool.of_classes(fitting)), {len(pool)})


def marked(pool: Features, fitting: Sequence[str]) -> Resources:
    """The features and views of the pool, marked in all rows but those of the fitting classes."""
    values = pool.values.copy()
    values[np.setdiff1d(np.arange(len(pool)), pool.of_classes(fitting))] = MARK
    return Resources(
        replace(pool, values=values, sample_names=tuple(sorted(names_in(pool)))),
        views=np.stack([values] * 4),
    )


def names_in(pool: Features) -> set[str]:
    return {f"sample {row} of {len(pool)}" for row in range(len(pool))}


def check_reached(reached: Reached, resources: Resources, rows: int, counts: set[int]) -> None:
    """Whether what hooks were given leads to `rows` fitting rows and to nothing marked."""
    names = names_in(resources.features)
    for objective, training, batch in reached:
        roots = (objective, training, batch, objective.batches(training))
        assert out_of_bounds(roots, names, counts) == []
        for read in readers(training):
            with pytest.raises(IndexError):
                read(np.array([rows]))
    assert out_of_bounds((lambda: resources,), names, counts), "the walk finds what is there"


def readers(training: Training) -> list[Callable[[np.ndarray], object]]:
    samples = training.samples
    return [
        samples.evaluation,
        lambda index: samples.training(index, Draw(0, 0)),
        lambda index: samples.take(index),
        lambda index: training.labels[torch.from_numpy(index)],
    ]


@pytest.mark.parametrize("measured_on", ["test", "validation"])
def test_the_hooks_of_networks_reach_fitting_images_alone(
    measured_on: str, image_folder: Path, reached: Reached, tmp_path: Path
) -> None:
    dataset, backbone = load_dataset(image_folder), load_backbone("tiny")
    pool = extract_features(dataset, backbone, cache=tmp_path / "cache")
    ladder = build_ladder(pool, rungs=2)
    split = ladder.rungs[0]
    spec = one_run(ladder, "margin", train="all", image_size=32, selection="best_validation")
    spec = spec.with_settings(measured_on=measured_on)
    fitting = dataset.of_classes(validation_fold(split).fit_classes)
    outside = np.setdiff1d(np.arange(len(dataset)), fitting)
    names = {dataset.sample_names[row] for row in outside}
    train_run(spec, split, Resources(pool, dataset, backbone), tmp_path)
    ((objective, training, batch),) = reached
    roots = (objective, training, batch, objective.batches(training))
    assert out_of_bounds(roots, names, {len(dataset)}) == []
    for read in readers(training):
        with pytest.raises(IndexError):
            read(np.array([len(fitting)]))
    assert out_of_bounds((dataset,), names, {len(dataset)}), "the walk finds what is there"
