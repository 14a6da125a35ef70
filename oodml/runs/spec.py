"""RunSpec: everything that defines one run, and the id that is its hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from operator import attrgetter
from typing import Any

from oodml.errors import DataError
from oodml.files import digest
from oodml.records import checked_fields


class _Named:
    """Room for what is worked out once: plans hold a hundred thousand specs."""

    __slots__ = ("_id", "_stated")


@dataclass(frozen=True, slots=True)
class RunSpec(_Named):
    """Everything that defines the result of one run, and nothing else.

    No path, device or number of workers stands here. `split` is the id of a split, so that
    inserting a rung into a ladder invalidates nothing. `weights` is the SHA-256 of the weights
    that the backbone starts from. `train` is "head" (a linear head on frozen features), "all"
    (the whole network on images) or "none" (the backbone's features as they are).

    `epochs`, if not 0, stand in place of `steps`; an epoch is `epoch_steps` batches, or
    n // batch_size if that is 0. `warmup_epochs` train new parameters only; `decay` is applied
    every `decay_every` epochs of schedule "step". `cached_views`, if not 0, is how many augmented
    versions of every image heads on frozen features are trained on, in place of the image as it is;
    a method that compares two views of an image needs two or more. `selection` is "last", or
    "best_validation": the state with the highest `selection_metric` on the split's validation
    classes, measured every `evaluate_every` epochs, the run ending after `patience` epochs without
    a better one.
    With `folds` or `ensemble` above 1 several models are trained (on the folds of the training
    classes, or with seeds of their own) and their unit embeddings concatenated.

    `measured_on` says which classes the metrics are those of: "test", or "validation" for a run
    that trains on the fitting classes of the split and never reads its test classes, so that
    settings may be chosen by it.

    `flip`, `mix` and `rerank` are tricks of the evaluation: embeddings summed with those of
    mirrored images, un-normalised embeddings mixed in with this share, and k-reciprocal
    re-ranking, which uses the test images together. `few_shot` is "" or what is adapted to the
    support of the rung's episodes: "head" or "all", by the loss of `few_shot_criterion`, at
    `few_shot_rate` times the learning rate; 0 stands for what suits what is trained.
    `gallery_classes` and `gallery_images`, if not 0, are how many of the test classes and of their
    images are evaluated on, drawn by seed: equal numbers make rungs of different sizes comparable.
    `preset` names the published protocol that the settings were taken from. `protocol` goes up
    when a change of code changes results.
    """

    dataset: str
    fingerprint: str
    split: str
    method: str
    backbone: str
    weights: str
    preprocessing: str
    precision: str = "fp32"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    train: str = "head"
    embedding_dim: int = 128
    steps: int = 300
    batch_size: int = 112
    samples_per_class: int = 4
    learning_rate: float = 1e-3
    criterion_learning_rate: float = 1e-2
    weight_decay: float = 0.0
    epochs: int = 0
    epoch_steps: int = 0
    batches: str = "balanced"
    accumulation: int = 1
    optimizer: str = "adam"
    optimizer_epsilon: float = 1e-8
    schedule: str = "constant"
    decay: float = 0.1
    decay_every: int = 0
    warmup_epochs: int = 0
    clip_value: float = 0.0
    clip_norm: float = 0.0
    training_precision: str = "fp32"
    pooling: str = "default"
    freeze_batchnorm: bool = True
    image_size: int = 0
    crop_scale: float = 0.08
    cached_views: int = 0
    selection: str = "last"
    selection_metric: str = "mean_average_precision_at_r"
    evaluate_every: int = 1
    patience: int = 0
    folds: int = 1
    ensemble: int = 1
    flip: bool = False
    mix: float = 0.0
    rerank: bool = False
    few_shot: str = ""
    few_shot_criterion: str = "margin"
    few_shot_steps: int = 0
    few_shot_rate: float = 0.0
    preset: str = ""
    gallery_classes: int = 0
    gallery_images: int = 0
    measured_on: str = "test"
    protocol: int = 1

    @property
    def id(self) -> str:
        """12 hex digits over the fields that differ from their defaults."""
        known: str | None = getattr(self, "_id", None)
        if known is None:
            known = digest(self.to_json())
            object.__setattr__(self, "_id", known)
        return known

    @property
    def label(self) -> str:
        """The method with the hyperparameters that were set, as charts and tables name it."""
        changed = ", ".join(f"{key}={value}" for key, value in sorted(self.hyperparameters.items()))
        name = f"{self.method}({changed})" if changed else self.method
        return "".join([name, *(f" +{trick}" for trick in self.tricks)])

    @property
    def tricks(self) -> list[str]:
        """What the evaluation adds to a plain run, in the words that charts and tables show."""
        return [
            *([f"{self.folds} folds"] if self.folds > 1 else []),
            *([f"ensemble of {self.ensemble}"] if self.ensemble > 1 else []),
            *(["flip"] if self.flip else []),
            *([f"mix {self.mix:g}"] if self.mix else []),
            *(["re-ranking"] if self.rerank else []),
            *(["validation classes"] if self.measured_on == "validation" else []),
        ]

    def to_json(self) -> dict[str, Any]:
        """A plain dict without the fields that have their default value."""
        own = zip(_defaults().items(), _values(self), strict=True)
        return {name: value for (name, default), value in own if value != default}

    def placed(self, split: str, seed: int) -> RunSpec:
        """The same run on another split and with another seed; far quicker than `replace`."""
        spec = object.__new__(RunSpec)
        for place, value in zip(_setters(), _values(self), strict=True):
            place(spec, value)
        object.__setattr__(spec, "split", split)
        object.__setattr__(spec, "seed", seed)
        stated: dict[str, Any] | None = getattr(self, "_stated", None)
        if stated is None:
            stated = replace(self, seed=0).to_json()
            object.__setattr__(self, "_stated", stated)
        own = {**stated, "split": split, "seed": seed} if seed else {**stated, "split": split}
        object.__setattr__(spec, "_id", digest(own))
        return spec

    @classmethod
    def from_json(cls, record: Any) -> RunSpec:
        """The spec in a JSON dict; `DataError` for unknown, missing and misplaced values."""
        values = checked_fields(cls, record, "a run's spec")
        if not values["method"].strip():
            raise DataError("a run's spec names no method.")
        return cls(**values)


@cache
def _defaults() -> dict[str, Any]:
    """The default of every field of a spec; a field without one differs from it always."""
    return {f.name: _default(f) for f in fields(RunSpec)}


def _default(f: Any) -> Any:
    return f.default_factory() if f.default_factory is not MISSING else f.default


def _values(spec: RunSpec) -> tuple[Any, ...]:
    """The values of all fields, in the order of the fields."""
    values: tuple[Any, ...] = _reader()(spec)
    return values


@cache
def _setters() -> list[Callable[[RunSpec, Any], None]]:
    """What sets each field of a new spec, in the order of the fields."""
    return [RunSpec.__dict__[name].__set__ for name in _defaults()]


@cache
def _reader() -> attrgetter[tuple[Any, ...]]:
    return attrgetter(*_defaults())
