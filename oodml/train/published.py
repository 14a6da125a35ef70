"""Published comparisons that the recipes of several methods come from."""

from __future__ import annotations

from typing import Any

from oodml.train.registry import Recipe

# Characterizing generalization under out-of-distribution shifts: the study of ladders itself.
STUDY = "arXiv:2107.09562, scripts of the published study"
# Revisiting training strategies: the source of the study's networks and losses.
REVISITING = "arXiv:2002.08473"


def reality_check(
    criterion_learning_rate: float = 0.0, *, samples_per_class: int = 4, **hyperparameters: Any
) -> Recipe:
    """A recipe with hyperparameters tuned in A Metric Learning Reality Check (arXiv:2003.08505).

    `criterion_learning_rate` is given for losses with parameters of their own.
    """
    network = {
        "optimizer": "rmsprop",
        "learning_rate": 1e-6,
        "weight_decay": 1e-4,
        "batch_size": 32,
        "samples_per_class": samples_per_class,
        "crop_scale": 0.16,
    }
    if criterion_learning_rate:
        network["criterion_learning_rate"] = criterion_learning_rate
    source = "arXiv:2003.08505 supplement, tuned by cross-validation on the training classes"
    return Recipe(source, hyperparameters, network)
