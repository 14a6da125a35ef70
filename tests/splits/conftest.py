"""Features of classes in groups."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import make_features

from oodml.features.features import Features


@pytest.fixture(scope="session")
def grouped() -> Features:
    """32 classes of 2 to 9 samples in 11 groups of 1 to 4 classes."""
    features = make_features(classes=32, per_class=9, dimension=5, seed=3)
    keep = [i for i, label in enumerate(features.labels) if i % 9 < 2 + label % 8]
    groups = tuple(f"group {(i * i) % 32 % 11:02d}" for i in range(32))
    return replace(
        features, values=features.values[keep], labels=features.labels[keep], groups=groups
    )
