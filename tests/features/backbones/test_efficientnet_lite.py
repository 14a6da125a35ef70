"""EfficientNet-Lite0 with the weights of its package."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from oodml.features.backbones.registry import load_backbone

LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def test_efficientnet_lite0_needs_no_download_and_takes_another_size() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    large, small = (
        load_backbone("efficientnet_lite0"),
        load_backbone("efficientnet_lite0", image_size=112),
    )
    assert (large.image_size, small.image_size, small.dimension) == (224, 112, 1280)
    assert (
        large.weights
        == small.weights
        == ("579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
    )
    assert large.preprocessing != small.preprocessing
    blank = small.transform(Image.new("RGB", (72, 60), "white"))
    assert blank.shape == (3, 112, 112) and torch.all(blank == 1.0)
    with torch.inference_mode():
        assert small.module(blank[None]).shape == (1, 1280)
