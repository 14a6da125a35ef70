"""RunSpec: everything that defines one run, in the parts that its readers need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from oodml.errors import DataError
from oodml.files import digest
from oodml.records import checked_fields

if TYPE_CHECKING:
    from oodml.features.features import FeatureSource


@dataclass(frozen=True, slots=True)
class DataSpec:
    """The images and the classes of a run.

    `split` is the id of a split, so that inserting a rung into a ladder invalidates nothing.
    `measured_on` says which classes the metrics are those of: "test", or "validation" for a run
    that trains on the fitting classes of the split and never reads its test classes, so that
    settings may be chosen by it.

    `trained_on` is "train", the training classes of the split, for a plain run. The other three
    measure on the two halves of the test classes in turn (see `oodml.splits.reference`): "shifted"
    and "matched" train on equally many of the training classes and of the other half's, "nothing"
    is that of a network as it is. `null_draw`, if not 0, numbers a random split of all classes of
    the rung that takes the place of its own, so that the shift cost is known where there is none.
    """

    dataset: str
    fingerprint: str
    split: str
    measured_on: str = "test"
    trained_on: str = "train"
    null_draw: int = 0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The network, and how much of it is trained.

    `weights` is the SHA-256 of the weights that the backbone starts from, `precision` that of
    frozen features. `train` is "head" (a linear head on frozen features), "all" (the whole network
    on images) or "none" (the backbone's features as they are).
    """

    backbone: str
    weights: str
    preprocessing: str
    precision: str = "fp32"
    train: str = "head"
    embedding_dim: int = 128
    pooling: str = "default"
    freeze_batchnorm: bool = True


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """A method by name, with the hyperparameters that differ from its defaults."""

    name: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """Batches, rates and how long.

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
    """

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
    precision: str = "fp32"
    image_size: int = 0
    crop_scale: float = 0.08
    cached_views: int = 0
    selection: str = "last"
    selection_metric: str = "mean_average_precision_at_r"
    evaluate_every: int = 1
    patience: int = 0
    folds: int = 1
    ensemble: int = 1


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """What is done to embeddings before they are measured, and on how many images.

    Embeddings are summed with those of mirrored images (`flip`), un-normalised embeddings mixed in
    with the share `mix`; `rerank` is k-reciprocal re-ranking, which uses the test images together.
    `gallery_classes` and `gallery_images`, if not 0, are how many of the test classes and of their
    images are evaluated on, drawn by seed: equal numbers make rungs of different sizes comparable.
    Halves of a matched reference have half as many classes, with all their images.
    """

    flip: bool = False
    mix: float = 0.0
    rerank: bool = False
    gallery_classes: int = 0
    gallery_images: int = 0


@dataclass(frozen=True, slots=True)
class FewShotSpec:
    """Adaptation to the support of a rung's episodes.

    `adapt` is "" (nothing), "head" or "all": what the loss of `criterion` adapts, at `rate` times
    the learning rate of the run; 0 stands for what suits what is trained.
    """

    adapt: str = ""
    criterion: str = "margin"
    steps: int = 0
    rate: float = 0.0


# Raised when a change of code changes results.
PROTOCOL = 2


@dataclass(frozen=True)
class RunSpec:
    """Everything that defines the result of one run, and nothing else.

    No path, device or number of workers stands here. `preset` names the published protocol that
    the settings were taken from. Settings have one flat name space for users, see `SETTING_NAMES`.
    """

    data: DataSpec
    model: ModelSpec
    method: MethodSpec
    training: TrainingSpec = field(default_factory=TrainingSpec)
    evaluation: EvaluationSpec = field(default_factory=EvaluationSpec)
    few_shot: FewShotSpec = field(default_factory=FewShotSpec)
    seed: int = 0
    preset: str = ""
    protocol: int = PROTOCOL

    @classmethod
    def on(cls, source: FeatureSource, split: str, method: str, **settings: Any) -> RunSpec:
        """The spec of a method on one split of the data and the network of `source`."""
        own = {name: getattr(source, name) for name in _OF_SOURCE}
        return cls.from_settings(**{**own, "split": split, "method": method, **settings})

    @classmethod
    def from_settings(cls, **settings: Any) -> RunSpec:
        """The spec with these values, by their flat names; `TypeError` for an unknown one."""
        own, parts = _by_part(settings)
        return cls(**own, **{part: _PARTS[part](**given) for part, given in parts.items()})

    def with_settings(self, **settings: Any) -> RunSpec:
        """The same run with other values, by their flat names: `spec.with_settings(steps=100)`."""
        own, parts = _by_part(settings)
        changed = {part: replace(getattr(self, part), **given) for part, given in parts.items()}
        return replace(self, **own, **changed)

    def setting(self, name: str) -> Any:
        """The value with that flat name."""
        part, own = SETTING_NAMES[name]
        return getattr(getattr(self, part) if part else self, own)

    def settings(self) -> dict[str, Any]:
        """All values by their flat names."""
        return {name: self.setting(name) for name in SETTING_NAMES}

    @cached_property
    def id(self) -> str:
        """12 hex digits over the fields that differ from their defaults."""
        return digest(self.to_json())

    @property
    def label(self) -> str:
        """The method with the hyperparameters that were set, as charts and tables name it."""
        given = sorted(self.method.hyperparameters.items())
        changed = ", ".join(f"{key}={value}" for key, value in given)
        name = f"{self.method.name}({changed})" if changed else self.method.name
        return "".join([name, *(f" +{trick}" for trick in self.tricks)])

    @property
    def tricks(self) -> list[str]:
        """What the evaluation adds to a plain run, in the words that charts and tables show."""
        data, training, evaluation = self.data, self.training, self.evaluation
        return [
            *([f"{training.folds} folds"] if training.folds > 1 else []),
            *([f"ensemble of {training.ensemble}"] if training.ensemble > 1 else []),
            *(["flip"] if evaluation.flip else []),
            *([f"mix {evaluation.mix:g}"] if evaluation.mix else []),
            *(["re-ranking"] if evaluation.rerank else []),
            *(["validation classes"] if data.measured_on == "validation" else []),
            *([_HALVES.get(data.trained_on, data.trained_on)] if self.is_reference else []),
            *([f"null {data.null_draw}"] if data.null_draw else []),
        ]

    @property
    def is_reference(self) -> bool:
        """Whether the run is part of a matched reference, so measured on halves."""
        return self.data.trained_on != "train"

    @property
    def plain(self) -> RunSpec:
        """The run of which this one is a reference; a plain run itself."""
        return self.with_settings(trained_on="train", null_draw=0) if self.is_reference else self

    def to_json(self) -> dict[str, Any]:
        """A plain dict, nested by part, without what has its default value.

        The protocol is always stated, so that raising it gives every run another id.
        """
        parts = {part: _changed(getattr(self, part)) for part in _PARTS}
        stated = {part: values for part, values in parts.items() if values}
        own = {"seed": self.seed, "preset": self.preset}
        return {**stated, **{k: v for k, v in own.items() if v}, "protocol": self.protocol}

    @classmethod
    def from_json(cls, record: Any) -> RunSpec:
        """The spec in a JSON dict; `DataError` for unknown, missing and misplaced values."""
        values = checked_fields(cls, record, "a run's spec", tuple(_PARTS))
        for part in _PARTS.keys() & values.keys():
            given = checked_fields(_PARTS[part], values[part], f"{part} of a run's spec")
            values[part] = _PARTS[part](**given)
        if not values["method"].name.strip():
            raise DataError("a run's spec names no method.")
        return cls(**values)


# What a label adds for a run that is measured on halves.
_HALVES = {"matched": "matched", "shifted": "shifted", "nothing": "on halves"}
_OF_SOURCE = ("dataset", "fingerprint", "backbone", "weights", "preprocessing", "precision")
_PARTS: Mapping[str, type[Any]] = {
    "data": DataSpec,
    "model": ModelSpec,
    "method": MethodSpec,
    "training": TrainingSpec,
    "evaluation": EvaluationSpec,
    "few_shot": FewShotSpec,
}
# Where the name within its part would say too little, or another thing, without the part.
_FLAT = {
    ("method", "name"): "method",
    ("training", "precision"): "training_precision",
    ("few_shot", "adapt"): "few_shot",
    ("few_shot", "criterion"): "few_shot_criterion",
    ("few_shot", "steps"): "few_shot_steps",
    ("few_shot", "rate"): "few_shot_rate",
}
# Every value of a spec by its flat name: the part that it stands in ("" for the spec itself), and
# its name there.
SETTING_NAMES: Mapping[str, tuple[str, str]] = {
    **{
        _FLAT.get((part, f.name), f.name): (part, f.name)
        for part, kind in _PARTS.items()
        for f in fields(kind)
    },
    **{name: ("", name) for name in ("seed", "preset", "protocol")},
}
_DEFAULTS: Mapping[type[Any], dict[str, Any]] = {
    kind: {
        f.name: f.default_factory() if f.default_factory is not MISSING else f.default
        for f in fields(kind)
    }
    for kind in (*_PARTS.values(), RunSpec)
}


def default_of(name: str) -> Any:
    """The default of a setting, by its flat name."""
    part, own = SETTING_NAMES[name]
    return _DEFAULTS[_PARTS[part] if part else RunSpec][own]


def _by_part(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Flat settings, those of the spec itself first, then by part."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        if name not in SETTING_NAMES:
            raise TypeError(f"a run has no setting {name!r}")
        part, own = SETTING_NAMES[name]
        parts.setdefault(part, {})[own] = value
    return parts.pop("", {}), parts


def _changed(part: Any) -> dict[str, Any]:
    """What differs from its default; a value without a default always does."""
    defaults = _DEFAULTS[type(part)]
    values = {name: getattr(part, name) for name in defaults}
    return {name: value for name, value in values.items() if value != defaults[name]}
