"""What runs a frozen network on a GPU; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from features.conftest import features_of, lively
from torchvision import models

from oodml.features import engine
from oodml.features.backbones.registry import Backbone
from oodml.features.engine import Values
from oodml.features.preprocessing import Preprocessing

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def resnet18() -> Backbone:
    module = lively(models.resnet18(weights=None))
    module.fc = torch.nn.Identity()
    transform = Preprocessing(64, None, "bicubic", True, (127.5,) * 3, (127.5,) * 3)
    return Backbone("resnet18", module, transform, 512, "0" * 64, transform.text, 64)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def error(values: Values, expected: Values) -> float:
    return float(np.linalg.norm(values - expected) / np.linalg.norm(expected))


def exact(backbone: Backbone, given: torch.Tensor) -> Values:
    with torch.inference_mode():
        features: Values = backbone.module.double()(given.double()).float().numpy()
    backbone.module.float()
    return features


def test_fp32_is_float32_even_where_the_process_allows_tf32() -> None:
    backbone, given = resnet18(), images(70)
    expected = exact(backbone, given)
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32"
        values = features_of(engine.frozen(backbone, "fp32", "cuda"), given, 16)
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
    assert values.shape == (70, 512) and values.dtype == np.float32
    assert error(values, expected) < 5e-5  # TF32 gives about 1e-3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_not_equal(precision: str) -> None:
    backbone, given = resnet18(), images(20)
    values = features_of(engine.frozen(backbone, precision, "cuda"), given, 8)
    assert values.dtype == np.float32
    assert 1e-5 < error(values, exact(backbone, given)) < 0.03


def test_a_batch_is_computed_while_the_next_is_taken() -> None:
    backbone, given = resnet18(), images(24)
    taken: list[int] = []

    def batches() -> Iterator[torch.Tensor]:
        for batch in given.split(8):
            taken.append(len(batch))
            yield batch

    embed = engine.frozen(backbone, "fp32", "cuda")
    parts = []
    for part in embed(batches()):
        assert len(taken) >= min(3, len(parts) + 2)
        parts.append(part)
    assert error(np.concatenate(parts), exact(backbone, given)) < 5e-5
