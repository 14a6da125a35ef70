"""Protocols of papers that compare methods, as data: settings and tuned hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import radians
from typing import Any

from oodml.errors import unknown_name

Settings = Mapping[str, Any]
ByFamily = Mapping[str, Settings]
# Families of data that papers have settings for, by the start of a collection's name.
FAMILIES = ("cub200", "cars196", "sop")
# Characterizing generalization under out-of-distribution shifts: the study of ladders itself.
STUDY = "arXiv:2107.09562, scripts of the published study"
# Revisiting training strategies: the source of the study's networks and losses.
REVISITING = "arXiv:2002.08473"
REALITY_CHECK = "arXiv:2003.08505 supplement, tuned by cross-validation on the training classes"


@dataclass(frozen=True)
class Preset:
    """A published protocol: settings for all runs, for a family of data, and for a method.

    `settings` name every setting that a recipe may set (`PRESCRIBABLE`) except the number of cached
    views, so that no other paper's setting is left in a run under the protocol. `families` are
    keyed by family of data (cub200, cars196, sop), `hyperparameters` and `methods` by method, then
    by family, with "" for any.
    """

    source: str
    settings: Settings
    families: Mapping[str, Settings] = field(default_factory=dict)
    hyperparameters: Mapping[str, Mapping[str, Settings]] = field(default_factory=dict)
    methods: Mapping[str, Mapping[str, Settings]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def settings_for(self, method: str, family: str) -> dict[str, Any]:
        """The settings of one method's runs on one family of data."""
        own = self.own_settings(method, family)
        return {**self.settings, **self.families.get(family, {}), **own}

    def own_settings(self, method: str, family: str) -> dict[str, Any]:
        """The settings of the protocol that are for this method alone."""
        own = self.methods.get(method, {})
        return {**own.get("", {}), **own.get(family, {})}

    def hyperparameters_for(self, method: str, family: str) -> dict[str, Any]:
        """The hyperparameters of one method on one family of data."""
        own = self.hyperparameters.get(method, {})
        return {**own.get("", {}), **own.get(family, {})}


def get_preset(name: str) -> Preset:
    """The protocol of that name; `UsageError` with the closest match if there is none."""
    if name not in PRESETS:
        raise unknown_name("protocol", name, PRESETS)
    return PRESETS[name]


CLASSIFICATION = (
    "normalized_softmax",
    "arcface",
    "cosface",
    "proxy_nca_pp",
    "soft_triple",
    "proxy_anchor",
)
# Tuned by cross-validation on the training classes (arXiv:2003.08505, supplement). Angles in rad;
# SoftTriple's gamma there is the inverse of ours, and ProxyNCA's scale of squared distances is the
# inverse of a temperature.
TUNED: Mapping[str, ByFamily] = {
    "contrastive": {
        "cub200": {"positive_margin": -0.20, "negative_margin": 0.3841},
        "cars196": {"positive_margin": 0.2652, "negative_margin": 0.5409},
        "sop": {"positive_margin": 0.2850, "negative_margin": 0.5130},
    },
    "snr_contrastive": {
        "cub200": {"positive_margin": 0.326, "negative_margin": 0.845},
        "cars196": {"positive_margin": 0.167, "negative_margin": 0.934},
        "sop": {"positive_margin": 0.376, "negative_margin": 1.083},
    },
    "triplet": {
        "cub200": {"mining": "all", "margin": 0.0961},
        "cars196": {"mining": "all", "margin": 0.1190},
        "sop": {"mining": "all", "margin": 0.0451},
    },
    "nt_xent": {
        "cub200": {"temperature": 0.0091},
        "cars196": {"temperature": 0.0219},
        "sop": {"temperature": 0.0002},
    },
    "fast_ap": {"cub200": {"bins": 17}, "cars196": {"bins": 27}, "sop": {"bins": 16}},
    "normalized_softmax": {
        "cub200": {"temperature": 0.1087},
        "cars196": {"temperature": 0.0886},
        "sop": {"temperature": 0.063},
    },
    "cosface": {
        "cub200": {"margin": 0.618, "scale": 100.0},
        "cars196": {"margin": 0.432, "scale": 161.5},
        "sop": {"margin": 0.336, "scale": 100.0},
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
    "arcface": {
        "cub200": {"margin": radians(23.22), "scale": 100.0},
        "cars196": {"margin": radians(20.52), "scale": 49.5},
        "sop": {"margin": radians(18.63), "scale": 220.3},
    },
    "proxy_nca_pp": {
        "cub200": {"temperature": 1 / 13.98},
        "cars196": {"temperature": 1 / 7.97},
        "sop": {"temperature": 1 / 10.73},
    },
    "soft_triple": {
        "cub200": {"scale": 78.0, "gamma": 1 / 58.95, "margin": 0.431, "tau": 0.375},
        "cars196": {"scale": 17.7, "gamma": 1 / 19.18, "margin": 0.359, "tau": 0.067},
        "sop": {"scale": 100.0, "gamma": 1 / 47.9, "margin": 0.315, "tau": 0.0},
    },
}
RATES: Mapping[str, ByFamily] = {
    "normalized_softmax": {
        "cub200": {"criterion_learning_rate": 4.46e-3},
        "cars196": {"criterion_learning_rate": 1.1e-2},
        "sop": {"criterion_learning_rate": 5.5e-4},
    },
    "cosface": {
        "cub200": {"criterion_learning_rate": 2.5e-3},
        "cars196": {"criterion_learning_rate": 7.4e-3},
        "sop": {"criterion_learning_rate": 2.2e-3},
    },
    "margin": {
        "cub200": {"criterion_learning_rate": 1.31e-3},
        "cars196": {"criterion_learning_rate": 1.11e-4},
        "sop": {"criterion_learning_rate": 1.82e-3},
    },
    "arcface": {"cub200": {"criterion_learning_rate": 5.1e-3}},
    "proxy_nca_pp": {
        "cub200": {"criterion_learning_rate": 6.0e-3},
        "cars196": {"criterion_learning_rate": 4.4e-3},
        "sop": {"criterion_learning_rate": 5.3e-4},
    },
}


def _reality_check_settings() -> dict[str, dict[str, Settings]]:
    """The tuned rates, and single samples of a class for losses that classify."""
    shuffled = {name: {"": {"batches": "shuffled"}} for name in CLASSIFICATION}
    names = {*shuffled, *RATES}
    return {name: {**shuffled.get(name, {}), **RATES.get(name, {})} for name in sorted(names)}


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
            "optimizer_epsilon": 1e-8,
            "learning_rate": 1e-5,
            "criterion_learning_rate": 5e-4,
            "weight_decay": 4e-4,
            "schedule": "constant",
            "decay": 0.1,
            "decay_every": 0,
            "warmup_epochs": 0,
            "clip_value": 0.0,
            "pooling": "default",
            "freeze_batchnorm": True,
            "crop_scale": 0.08,
            "flip": False,
            "mix": 0.0,
            "rerank": False,
            "selection": "last",
        },
        families={"sop": {"epochs": 150}},
        hyperparameters={
            # The study excludes no far negatives.
            "margin": {"": {"margin": 0.2, "beta": 1.2, "upper_cutoff": 2.0}},
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
            "proxy_anchor": {"": {"criterion_learning_rate": 2e-2}, "sop": {"warmup_epochs": 1}},
            "diva": {"": {"batch_size": 108, "samples_per_class": 4}},
        },
        notes=(
            "diva has 4 samples a class; with the study's 2 most triplets within a class hold one "
            "image twice",
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
            "optimizer_epsilon": 1e-8,
            "learning_rate": 1e-6,
            # Tuned there per loss; this value is for losses that it does not cover.
            "criterion_learning_rate": 5e-4,
            "weight_decay": 1e-4,
            "schedule": "constant",
            "decay": 0.1,
            "decay_every": 0,
            "warmup_epochs": 0,
            "clip_value": 0.0,
            "pooling": "default",
            "freeze_batchnorm": True,
            "image_size": 227,
            "crop_scale": 0.16,
            "flip": False,
            "mix": 0.0,
            "rerank": False,
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
        hyperparameters=TUNED,
        methods=_reality_check_settings(),
        notes=(
            "recall_at_1 is that of the four models' concatenated embeddings (4 x 128 "
            "dimensions), separated_recall_at_1 the mean of the four alone",
            "folds are drawn, not cut from the alphabet; the network is the ladder's",
        ),
    ),
}
