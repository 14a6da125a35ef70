from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodml.errors import DataError, UsageError
from oodml.eval.figures.pair_weights import BinnedWeights, PairWeights, plot_pair_weights


def binned(seed: int) -> BinnedWeights:
    random = np.random.default_rng(seed)
    similarity = random.uniform(-1, 1, 300)
    positive = random.random(300) < 0.2
    return PairWeights(
        similarity, positive, np.where(positive, -1, 1) * (similarity + 1), "sample"
    ).binned()


def test_the_figure_is_the_same_for_the_same_weights_and_has_both_colours(tmp_path: Path) -> None:
    weights = {"margin": binned(0), "a long label(beta=0.6) +flip": binned(1)}
    for name in ("one.png", "two.png"):
        plot_pair_weights(weights, tmp_path / name, title="rung 0")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    pixels = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).reshape(-1, 3)
    blue, red = np.array([0, 114, 178]), np.array([213, 94, 0])
    for color in (blue, red):
        assert (np.abs(pixels - color).sum(1) < 12).sum() > 50


def test_nothing_to_draw_and_an_unknown_format_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        plot_pair_weights({}, tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"\.png"):
        plot_pair_weights({"margin": binned(0)}, tmp_path / "a.jpeg")
