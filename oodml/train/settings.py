"""The settings of a run that a user may choose: ranges, allowed words, and where they apply."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oodml.errors import UsageError, unknown_name
from oodml.features.backbones.registry import MOST_SIDE
from oodml.runs.spec import default_of

IMAGES, FEATURES, TRAINING, EVALUATION = "images", "features", "training", "evaluation"


@dataclass(frozen=True)
class Setting:
    """One field of `RunSpec` that is set for a whole grid.

    `scope` says which runs it applies to: "images" for whole networks, "features" for heads on
    cached features, "training" for both, "evaluation" for every run. Numbers lie between `least`
    (excluded if `above`) and `most`; words are one of `choices`.
    """

    name: str
    help: str
    scope: str = TRAINING
    least: float = 0
    above: bool = False
    most: float = math.inf
    choices: tuple[str, ...] = ()
    option: str = ""

    @property
    def flag(self) -> str:
        """Its command-line flag: --train-batch-size."""
        return "--" + (self.option or self.name.replace("_", "-"))

    @property
    def parameter(self) -> str:
        """Its name in a configuration file: train_batch_size."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def default(self) -> Any:
        """Its default in `RunSpec`."""
        return default_of(self.name)

    def check(self, value: Any) -> None:
        """Raise `UsageError` for a value that is out of range."""
        if self.choices:
            if value not in self.choices:
                raise unknown_name(f"value of {self.name}", str(value), self.choices)
        elif not isinstance(value, bool | str):
            enough = value > self.least if self.above else value >= self.least
            if not (enough and value <= self.most and math.isfinite(value)):
                least = f"above {self.least:g}" if self.above else f"of at least {self.least:g}"
                most = f" and at most {self.most:g}" if math.isfinite(self.most) else ""
                raise UsageError(
                    f"{self.name}={value} is out of range; give a number {least}{most}."
                )


_LIST = (
    Setting("embedding_dim", "Dimensions of the embedding.", above=True, most=65_536),
    Setting("steps", "Training steps."),
    Setting("epochs", "Epochs in place of steps."),
    Setting("epoch_steps", "Steps an epoch; 0 for one pass over the samples."),
    Setting("batch_size", "Samples a step.", least=2, option="train-batch-size"),
    Setting("samples_per_class", "Samples of each class in a balanced batch.", above=True),
    Setting("batches", "Class-balanced or plain batches.", choices=("balanced", "shuffled")),
    Setting("accumulation", "Parts that a batch is divided into, for a sample-wise loss.", least=1),
    Setting("learning_rate", "Rate of the network and its head.", above=True),
    Setting("criterion_learning_rate", "Rate of a loss's own parameters.", above=True),
    Setting("weight_decay", "Weight decay of the network and its head."),
    Setting("optimizer", "Optimiser.", choices=("adam", "adamw", "rmsprop", "sgd")),
    Setting("optimizer_epsilon", "Epsilon of the optimiser.", above=True),
    Setting("schedule", "Learning rates over time.", choices=("constant", "cosine", "step")),
    Setting("decay", "Factor of schedule `step`.", above=True, most=1),
    Setting("decay_every", "Epochs between two of its steps."),
    Setting("warmup_epochs", "Epochs in which only new parameters are trained.", scope=IMAGES),
    Setting("clip_value", "Largest entry of a gradient; 0 for any."),
    Setting("clip_norm", "Largest norm of all gradients; 0 for any."),
    Setting("training_precision", "Precision of training.", choices=("fp32", "bf16")),
    Setting(
        "pooling",
        "Pooling of the feature map.",
        scope=IMAGES,
        choices=("default", "avg", "max", "avg+max", "gem"),
    ),
    Setting("freeze_batchnorm", "Keep the statistics of BatchNorm.", scope=IMAGES),
    Setting(
        "image_size",
        "Side of the network's input in training; 0: its own.",
        scope=IMAGES,
        most=MOST_SIDE,
    ),
    Setting(
        "crop_scale", "Smallest share of an image in a crop.", scope=IMAGES, above=True, most=1
    ),
    Setting(
        "cached_views", "Augmented versions of an image that heads are trained on.", scope=FEATURES
    ),
    Setting(
        "selection",
        "Which state of the run is taken.",
        choices=("last", "best_validation"),
    ),
    Setting("selection_metric", "Metric on the validation classes that decides it."),
    Setting("evaluate_every", "Epochs between two validations.", least=1),
    Setting("patience", "Epochs without a better validation that end a run; 0: never."),
    Setting("folds", "Models on class-disjoint folds, concatenated.", least=1),
    Setting("ensemble", "Models with seeds of their own, concatenated.", least=1),
    Setting("flip", "Sum the embeddings of an image and its mirror image.", scope=IMAGES),
    Setting("mix", "Share of un-normalised embeddings mixed in.", most=1),
    Setting("rerank", "k-reciprocal re-ranking; transductive.", scope=EVALUATION),
    Setting(
        "few_shot",
        "What is adapted to the rung's episodes.",
        scope=EVALUATION,
        choices=("", "head", "all"),
    ),
    Setting("few_shot_criterion", "Method whose loss adapts.", scope=EVALUATION),
    Setting(
        "few_shot_steps",
        "Steps an episode; 0: 1000 (5 shots or more 1500), 300 (450) for heads on features.",
        scope=EVALUATION,
    ),
    Setting(
        "few_shot_rate",
        "Its learning rate over the run's own; 0: 10 for networks, 0.1 for heads on features.",
        scope=EVALUATION,
    ),
    Setting("gallery_classes", "Test classes to evaluate on; 0: all.", scope=EVALUATION),
    Setting("gallery_images", "Their images to evaluate on; 0: all.", scope=EVALUATION),
)
SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _LIST}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a setting that is unknown or out of range."""
    for name, value in settings.items():
        if name not in SETTINGS:
            raise unknown_name("setting", name, SETTINGS)
        SETTINGS[name].check(value)


def check_scope(settings: Mapping[str, Any], train: str) -> None:
    """Raise `UsageError` for a setting that does not apply where "head" or "all" is trained."""
    scope, reason = {
        "head": (IMAGES, "needs images: cached features are what they are; give train='all'."),
        "all": (
            FEATURES,
            "is for heads on cached features: networks see new crops anyway; give train='head'.",
        ),
    }[train]
    for name, value in settings.items():
        if SETTINGS[name].scope == scope and value != SETTINGS[name].default:
            raise UsageError(f"{name} {reason}")


def applying(settings: Mapping[str, Any], train: str) -> dict[str, Any]:
    """The settings that apply to runs that train "head", "all" or "none"."""
    scopes = {
        "all": (IMAGES, TRAINING, EVALUATION),
        "head": (FEATURES, TRAINING, EVALUATION),
        "none": (EVALUATION,),
    }[train]
    return {name: value for name, value in settings.items() if SETTINGS[name].scope in scopes}
