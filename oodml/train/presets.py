"""Published protocols as presets: what they set, and where that stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oodml.errors import unknown_name

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Preset:
    """A published protocol: settings for all runs, more for a family of data, more for a method.

    `families` are keyed by family of data (cub200, cars196, sop), `hyperparameters` and `methods`
    by method, then by family, with "" for any.
    """

    source: str
    settings: Settings
    families: Mapping[str, Settings] = field(default_factory=dict)
    hyperparameters: Mapping[str, Mapping[str, Settings]] = field(default_factory=dict)
    methods: Mapping[str, Mapping[str, Settings]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def settings_for(self, method: str, family: str) -> dict[str, Any]:
        """The settings of one method's runs on one family of data."""
        own = self.methods.get(method, {})
        return {
            **self.settings,
            **self.families.get(family, {}),
            **own.get("", {}),
            **own.get(family, {}),
        }

    def hyperparameters_for(self, method: str, family: str) -> dict[str, Any]:
        """The hyperparameters of one method on one family of data."""
        own = self.hyperparameters.get(method, {})
        return {**own.get("", {}), **own.get(family, {})}


_CLASSIFICATION = ("normalized_softmax", "arcface", "cosface", "proxy_nca_pp", "soft_triple")
_TUNED: dict[str, dict[str, Settings]] = {
    "contrastive": {
        "cub200": {"positive_margin": -0.20, "negative_margin": 0.384},
        "cars196": {"positive_margin": 0.265, "negative_margin": 0.541},
        "sop": {"positive_margin": 0.285, "negative_margin": 0.513},
    },
    "margin": {
        "cub200": {"margin": 0.0878, "beta": 0.784},
        "cars196": {"margin": 0.0781, "beta": 1.316},
        "sop": {"margin": 0.0915, "beta": 1.107},
    },
    "multi_similarity": {
        "cub200": {"alpha": 17.97, "beta": 75.66, "base": 0.77, "epsilon": 0.39},
        "cars196": {"alpha": 7.49, "beta": 48.0, "base": 0.63, "epsilon": 0.72},
        "sop": {"alpha": 15.94, "beta": 156.6, "base": 0.72, "epsilon": 0.34},
    },
}

PRESETS: Mapping[str, Preset] = {
    "ooDML": Preset(
        source="arXiv:2107.09562, its scripts",
        settings={
            "train": "all",
            "embedding_dim": 512,
            "epochs": 200,
            "batch_size": 112,
            "samples_per_class": 2,
            "batches": "balanced",
            "optimizer": "adam",
            "learning_rate": 1e-5,
            "criterion_learning_rate": 5e-4,
            "weight_decay": 4e-4,
            "schedule": "constant",
            "warmup_epochs": 0,
            "clip_value": 0.0,
            "pooling": "default",
            "freeze_batchnorm": True,
            "crop_scale": 0.08,
            "selection": "last",
        },
        families={"sop": {"epochs": 150}},
        hyperparameters={
            "margin": {"": {"margin": 0.2, "beta": 1.2}},
            "r_margin": {
                "cub200": {"beta": 0.6, "rho": 0.40},
                "cars196": {"beta": 0.6, "rho": 0.35},
                "sop": {"beta": 0.9, "rho": 0.15},
            },
            "multi_similarity": {"": {"alpha": 2.0, "beta": 40.0, "base": 0.5, "epsilon": 0.1}},
            "arcface": {"": {"scale": 16.0, "margin": 0.5}},
            "proxy_anchor": {"": {"alpha": 32.0, "margin": 0.1}},
        },
        methods={
            "proxy_anchor": {"": {"criterion_learning_rate": 2e-2}, "sop": {"warmup_epochs": 1}}
        },
        notes=(
            "the last epoch is taken; the published numbers took the best epoch on the test set",
            "classes of a batch are drawn without repetition; the published sampler repeats them",
        ),
    ),
    "reality-check": Preset(
        source="arXiv:2003.08505, its configuration files and supplement",
        settings={
            "train": "all",
            "embedding_dim": 128,
            "epochs": 1000,
            "epoch_steps": 100,
            "batch_size": 32,
            "samples_per_class": 4,
            "batches": "balanced",
            "optimizer": "rmsprop",
            "learning_rate": 1e-6,
            "weight_decay": 1e-4,
            "schedule": "constant",
            "warmup_epochs": 0,
            "clip_value": 0.0,
            "pooling": "default",
            "freeze_batchnorm": True,
            "image_size": 227,
            "crop_scale": 0.16,
            "selection": "best_validation",
            "selection_metric": "mean_average_precision_at_r",
            "evaluate_every": 2,
            "patience": 9,
            "folds": 4,
        },
        families={
            "cars196": {"evaluate_every": 5, "patience": 14},
            "sop": {"evaluate_every": 20, "patience": 39},
        },
        hyperparameters=_TUNED,
        methods={name: {"": {"batches": "shuffled"}} for name in _CLASSIFICATION},
        notes=(
            "recall_at_1 is that of the four models' concatenated embeddings (4 x 128 "
            "dimensions), separated_recall_at_1 the mean of the four alone",
            "folds are drawn, not cut from the alphabet; the network is the ladder's",
        ),
    ),
}


def get_preset(name: str) -> Preset:
    """The protocol of that name; `UsageError` with the closest match if there is none."""
    if name not in PRESETS:
        raise unknown_name("protocol", name, PRESETS)
    return PRESETS[name]
