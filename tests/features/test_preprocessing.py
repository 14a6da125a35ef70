"""Input transforms against the peers that they repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from features.conftest import SIZES
from PIL import Image

from oodml.features.preprocessing import Preprocessing


@pytest.mark.parametrize("size", SIZES)
def test_each_resizing_equals_its_peer(size: tuple[int, int]) -> None:
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image, batch = Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)[None].float()

    def ours(filter: str, antialias: bool) -> np.ndarray:
        transform = Preprocessing(299, None, filter, antialias, (0.0,) * 3, (1.0,) * 3)
        return transform(image).numpy()

    bilinear = torch.nn.functional.interpolate(batch, (299, 299), mode="bilinear")[0]
    assert np.abs(ours("bilinear", False) - bilinear.numpy()).max() < 1e-2
    fidelity = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    tf1 = fidelity.interpolate_bilinear_2d_like_tensorflow1x(batch, (299, 299), align_corners=False)
    assert np.abs(ours("bilinear_tf1", False) - tf1[0].numpy()).max() < 1e-2
    clean = pytest.importorskip("cleanfid.resize").make_resizer("PIL", False, "bicubic", (299, 299))
    assert np.array_equal(ours("bicubic_float", True), clean(pixels).transpose(2, 0, 1))
