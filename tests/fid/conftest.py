"""Seeded samples with known distances, and features of uneven classes."""

from __future__ import annotations

import numpy as np

from oodml.features.features import Features, FeatureSource
from oodml.seeding import generator

D = 192


def reflect(x, seed):
    """x times an orthogonal matrix without zeros: three Householder reflections, cheap at 2048."""
    for part in range(3):
        v = generator(seed, "reflection", part, x.shape[1]).standard_normal(x.shape[1])
        x = x - np.outer(x @ v, v) * (2 / (v @ v))
    return x


def sample(n, d=D, seed=0, spectrum=None):
    rng = generator(seed, "test_frechet", n, d)
    spread = np.linspace(0.2, 3, d) if spectrum is None else np.sqrt(spectrum)
    return reflect(rng.standard_normal((n, d)) * spread, seed) + rng.standard_normal(d)


def transport(d=D, seed=0, low=0.3, high=2.0):
    return reflect(reflect(np.diag(np.linspace(low, high, d)), seed).T, seed)


def mapped_reference(x, t, shift):
    """FID(X, XT + c) for symmetric positive definite T, without any root of a matrix."""
    mean, covariance = x.mean(axis=0), np.cov(x, rowvar=False)
    rest = np.eye(len(t)) - t
    return np.sum((rest @ mean - shift) ** 2), np.trace(rest @ covariance @ rest)


def traces(*samples):
    return sum(np.var(x, axis=0, ddof=1).sum() for x in samples)


SOURCE = FeatureSource("made", "0" * 16, "none", "0" * 64, "none", "fp32")


def pool(classes=40, per_class=12, d=64, seed=0, offset=0.0, spread=1.0, uneven=True):
    """Features with classes that differ, some of them larger than others."""
    rng = generator(seed, "pool")
    sizes = per_class + (np.arange(classes) % 3 if uneven else np.zeros(classes, dtype=int))
    labels = np.repeat(np.arange(classes), sizes)
    axes = np.linspace(0.2, 1.5, d)
    centres = spread * rng.standard_normal((classes, d)) * axes
    values = centres[labels] + rng.standard_normal((len(labels), d)) * axes[::-1] + offset
    names = tuple(f"class {i:03d}" for i in range(classes))
    return Features(values.astype(np.float32), labels, names, SOURCE)
