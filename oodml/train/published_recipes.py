"""Settings of single methods from their papers, as data: hyperparameters and training settings.

Default hyperparameters are in the methods' signatures; these tables hold what differs by family of
data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oodml.train.published_protocols import (
    CLASSIFICATION,
    FAMILIES,
    PRESETS,
    RATES,
    REALITY_CHECK,
    REVISITING,
    STUDY,
    TUNED,
    Settings,
)

_DIVA = "arXiv:2004.13458 and its code"
_GROUP_LOSS = "github.com/dvl-tum/group_loss"
_INTRA_BATCH = "github.com/dvl-tum/intra_batch"
_MIC = "arXiv:1909.11574 and its code"
_PADS = "arXiv:2003.11113 and the runs published with its code"


@dataclass(frozen=True)
class Recipe:
    """A paper's hyperparameters and whole-network settings for one family of data."""

    source: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)


def _studied(method: str) -> dict[str, Recipe]:
    """By family of data, a method's recipe in the published study of ladders (arXiv:2107.09562)."""
    preset = PRESETS["ooDML"]
    return {
        family: Recipe(
            STUDY,
            preset.hyperparameters_for(method, family),
            {
                "criterion_learning_rate": preset.settings["criterion_learning_rate"],
                **preset.own_settings(method, family),
            },
        )
        for family in FAMILIES
    }


def _reality_check(method: str) -> dict[str, Recipe]:
    """By family of data, a method's recipe tuned in A Metric Learning Reality Check."""
    shared = ("optimizer", "learning_rate", "weight_decay", "batch_size", "crop_scale")
    settings = PRESETS["reality-check"].settings
    network = {
        **{name: settings[name] for name in shared},
        "samples_per_class": 1 if method in CLASSIFICATION else settings["samples_per_class"],
    }
    rates = RATES.get(method, {})
    return {
        family: Recipe(REALITY_CHECK, tuned, {**network, **rates.get(family, {})})
        for family, tuned in TUNED[method].items()
    }


def _at_one_rate(
    batch_size: int, samples_per_class: int, rate: float, weight_decay: float
) -> Settings:
    """Whole-network settings of Group Loss, Group Loss++ and MPN, with Adam in place of RAdam.

    The papers lower the rate once, at epoch 30 of 70; here it is lowered again at 60.
    """
    return {
        "batch_size": batch_size,
        "samples_per_class": samples_per_class,
        "learning_rate": rate,
        "criterion_learning_rate": rate,
        "weight_decay": weight_decay,
        "schedule": "step",
        "decay": 0.1,
        "decay_every": 30,
    }


# CUB200-2011's, in Group Loss, Group Loss++ and MPN.
_GROUP_LOSS_NETWORK = _at_one_rate(54, 9, 1.56e-4, 6e-6)
# Of SoftTriple's and ProxyGML's code.
_SHUFFLED_PROXIES = {
    "batch_size": 32,
    "learning_rate": 1e-4,
    "optimizer_epsilon": 0.01,
    "weight_decay": 1e-4,
    "schedule": "step",
    "decay": 0.1,
    "decay_every": 20,
}
_PROXY_NCA_PP = {"pooling": "max", "warmup_epochs": 5, "clip_value": 10.0}
# The rate of the margin loss's boundary (arXiv:1706.07567).
_BETA_RATE = {"criterion_learning_rate": 5e-4}

# Defaults of all methods where whole networks are trained (arXiv:2002.08473, arXiv:2107.09562).
WHOLE_NETWORK: Settings = {
    "learning_rate": 1e-5,
    "criterion_learning_rate": 5e-4,
    "weight_decay": 4e-4,
    "samples_per_class": 2,
}
# By method: its paper's settings for whole networks, on any data.
NETWORKS: Mapping[str, Settings] = {
    "bier": {"batch_size": 128, "weight_decay": 2e-4},
    "group_loss": _GROUP_LOSS_NETWORK,
    "group_loss_pp": {**_GROUP_LOSS_NETWORK, "flip": True},
    "margin": _BETA_RATE,
    "mpn": _GROUP_LOSS_NETWORK,
    "proxy_gml": {**_SHUFFLED_PROXIES, "criterion_learning_rate": 0.03, "warmup_epochs": 1},
    "proxy_nca_pp": _PROXY_NCA_PP,
    "r_margin": _BETA_RATE,
    "soft_triple": {**_SHUFFLED_PROXIES, "criterion_learning_rate": 1e-2},
    # Every setting that a recipe of the base may set, so that two papers' settings never mix.
    "xbm": {
        "batch_size": 64,
        "samples_per_class": 4,
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 5e-4,
        "crop_scale": 0.08,
    },
}


def _diva(
    alpha: float, decorrelation: float, class_weight: float, queue_batches: int = 30
) -> Recipe:
    hyperparameters = {
        "alpha": alpha,
        "decorrelation": decorrelation,
        "class_weight": class_weight,
        "queue_batches": queue_batches,
        # The largest distance on the unit sphere: the study excludes no far negatives.
        "base.upper_cutoff": 2.0,
    }
    return Recipe(f"{STUDY}; {_DIVA}", hyperparameters, {"batch_size": 108})


def _hdml(beta: float, weight_decay: float) -> Recipe:
    network = {"batch_size": 128, "learning_rate": 7e-5, "weight_decay": weight_decay}
    return Recipe("code of arXiv:1903.05503", {"beta": beta, "negatives": 0}, network)


def _proxy_nca_pp(factor: float, batch_size: int, samples_per_class: int) -> Recipe:
    """Adam with an epsilon of 1 hardly rescales gradients, which explains the large rates."""
    network = {
        **_PROXY_NCA_PP,
        "learning_rate": factor * 4e-3,
        "criterion_learning_rate": factor * 4e2,
        "optimizer_epsilon": 1.0,
        "batch_size": batch_size,
        "samples_per_class": samples_per_class,
    }
    return Recipe("github.com/euwern/proxynca_pp", {}, network)


# Beside a head of 512.
_S2SD_TARGETS = {"targets": "1024-1536-2048"}
_GROUP_LOSS_RECIPES = {
    "cars196": Recipe(
        _GROUP_LOSS, {"anchors": 3, "temperature": 79.0}, _at_one_rate(35, 7, 2e-4, 4.9e-7)
    ),
    "sop": Recipe(_GROUP_LOSS, {"temperature": 54.0}, _at_one_rate(60, 6, 6.08e-4, 5.3e-12)),
}

# By method, then by family of data: tuned in a comparison, or from its own paper or code.
RECIPES: Mapping[str, Mapping[str, Recipe]] = {
    **{
        name: _studied(name)
        for name in ("margin", "r_margin", "multi_similarity", "arcface", "proxy_anchor")
    },
    **{
        name: _reality_check(name)
        for name in (
            "triplet",
            "contrastive",
            "snr_contrastive",
            "fast_ap",
            "normalized_softmax",
            "cosface",
            "nt_xent",
        )
    },
    "daml": dict.fromkeys(
        FAMILIES, Recipe("powerful-benchmarker", {"triplets": 100, "generator_rate": 1e-6})
    ),
    "diva": {
        "cub200": _diva(0.3, 1500.0, 0.5),
        "cars196": _diva(0.15, 100.0, 0.5),
        "sop": _diva(0.2, 150.0, 1.0, queue_batches=70),
    },
    "divide_and_conquer": {
        "sop": Recipe(
            "arXiv:1906.05990, its code",
            {"clusters": 8},
            {"batch_size": 80, "samples_per_class": 4, "weight_decay": 1e-4},
        )
    },
    "generalized_lifted_structure": dict.fromkeys(
        FAMILIES, Recipe(REVISITING, {"normalized": False, "regularizer": 0.005})
    ),
    "group_loss": _GROUP_LOSS_RECIPES,
    "group_loss_pp": _GROUP_LOSS_RECIPES,
    "hdml": {"cub200": _hdml(5e3, 1e-3), "cars196": _hdml(1e4, 5e-3)},
    "hierarchical_divide_and_conquer": {
        "sop": Recipe(
            "arXiv:2109.04003, its code",
            {"clusters": 32, "period": 2, "freeze": 1, "joint": 0.55},
            {"batch_size": 80, "samples_per_class": 2, "weight_decay": 1e-4},
        )
    },
    "mic": {
        "cub200": Recipe(_MIC, {"clusters": 30, "decorrelation": 2500.0, "update_every": 3}),
        "cars196": Recipe(_MIC, {"clusters": 150, "decorrelation": 500.0, "update_every": 3}),
        "sop": Recipe(_MIC, {"clusters": 50, "auxiliary": 0.5, "update_every": 3}),
    },
    "mpn": {
        "cub200": Recipe(_INTRA_BATCH, {"redraw": True}),
        "cars196": Recipe(
            _INTRA_BATCH,
            {"layers": 2, "heads": 8, "concatenated": True, "temperature": 0.111},
            _at_one_rate(70, 7, 3.67e-4, 2.6e-9),
        ),
        "sop": Recipe(
            _INTRA_BATCH, {"heads": 8, "temperature": 0.605}, _at_one_rate(90, 6, 2.47e-4, 2.8e-13)
        ),
    },
    "pads": {
        "cub200": Recipe(
            _PADS,
            {"base.beta": 0.6, "every": 30},
            {"criterion_learning_rate": 1e-3, "samples_per_class": 2},
        ),
        "cars196": Recipe(
            _PADS,
            {"base.beta": 0.6, "every": 30, "holdout": 0.1, "nmi": True},
            {"criterion_learning_rate": 5e-4, "samples_per_class": 4},
        ),
        "sop": Recipe(
            _PADS,
            {"base.beta": 1.2, "every": 60, "holdout": 0.1, "nmi": True},
            {"criterion_learning_rate": 1e-3, "samples_per_class": 2},
        ),
    },
    "proxy_gml": {
        "sop": Recipe(
            "github.com/YuehuaZhu/ProxyGML",
            {"proxies_per_class": 1, "weight": 0.0},
            {"criterion_learning_rate": 0.3},
        )
    },
    "proxy_nca_pp": {
        "cub200": _proxy_nca_pp(1.0, 32, 4),
        "cars196": _proxy_nca_pp(1.0, 32, 4),
        "sop": _proxy_nca_pp(6.0, 192, 3),
    },
    "s2sd": {
        "cub200": Recipe(STUDY, _S2SD_TARGETS),
        "cars196": Recipe(STUDY, {**_S2SD_TARGETS, "base.rho": 0.3}),
        "sop": Recipe(
            STUDY,
            {
                **_S2SD_TARGETS,
                "base": "margin",
                "base.beta": 0.9,
                "weight": 5.0,
                "feature_weight": 5.0,
                "feature_delay": 1000,
            },
            {"batch_size": 104},
        ),
    },
    "sharing": {
        "cub200": Recipe(_DIVA, {"alpha": 0.3, "decorrelation": 1500.0}),
        "cars196": Recipe(_DIVA, {"alpha": 0.15, "decorrelation": 100.0}),
        "sop": Recipe(_DIVA),
    },
    "uniform_prior": {
        "cub200": Recipe(STUDY),
        "cars196": Recipe(STUDY),
        "sop": Recipe(STUDY, {"weight": 0.02, "every": 200, "hidden": 50}),
    },
    "xbm": {"sop": Recipe("arXiv:1912.06798", {"memory_size": 55000})},
}
