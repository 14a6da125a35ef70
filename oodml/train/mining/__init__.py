"""Miners of our own: one tuple an anchor, where pytorch-metric-learning loses or adds some.

A miner is called as (embeddings, labels), with unit-length embeddings (B, D), and returns indices
into the batch: (anchors, positives, negatives). It draws from torch's default generator, which the
training loop seeds at every step.
"""

from oodml.train.methods.parts.mining import (
    RULES,
    AllTriplets,
    TripletPerAnchor,
    easy_positive,
    easy_semi_hard,
    hard,
    random,
    semi_hard,
    soft_hard,
)
from oodml.train.mining.distance_weighted import DistanceWeighted
from oodml.train.mining.pairs import OnePairPerClass
from oodml.train.mining.spread import Spread

__all__ = [
    "RULES",
    "AllTriplets",
    "DistanceWeighted",
    "OnePairPerClass",
    "Spread",
    "TripletPerAnchor",
    "easy_positive",
    "easy_semi_hard",
    "hard",
    "random",
    "semi_hard",
    "soft_hard",
]
