"""What runs a frozen network: OpenVINO repeats torch, and torch takes over where it cannot."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from features.conftest import features_of
from torch import nn

from oodml.features import engine
from oodml.features.backbones.registry import Backbone, load_backbone
from oodml.features.preprocessing import Preprocessing

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="openvino comes with the extra openvino"
)


def backbone(module: nn.Module, dimension: int, size: int) -> Backbone:
    transform = Preprocessing(size, None, "bicubic", True, (127.5,) * 3, (127.5,) * 3)
    return Backbone("net", module.eval(), transform, dimension, "0" * 64, transform.text, size)


def resnet18() -> Backbone:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    module = models.resnet18(weights=None)
    module.fc = nn.Identity()
    return backbone(module, 512, 64)


def vit() -> Backbone:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    module = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0)
    return backbone(module, 192, 224)


def efficientnet() -> Backbone:
    pytest.importorskip("efficientnet_lite_pytorch")
    return load_backbone("efficientnet_lite0", image_size=112)


def images(of: Backbone, count: int) -> torch.Tensor:
    side = of.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@needs_openvino
@pytest.mark.parametrize("build", [lambda: load_backbone("tiny"), efficientnet, resnet18, vit])
def test_openvino_repeats_torch(
    build: Callable[[], Backbone], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "oodml")
    network = build()
    given = images(network, 6)
    with torch.inference_mode():
        expected = network.module(given).numpy()
    values = features_of(engine.frozen(network, "fp32", "cpu"), given)
    assert "OpenVINO runs" in " ".join(messages(caplog, logging.INFO))
    assert values.dtype == np.float32 and values.shape == (6, network.dimension)
    assert np.abs(values - expected).max() <= 1e-5 * np.abs(expected).max()


@needs_openvino
@pytest.mark.parametrize("build", [lambda: load_backbone("tiny"), resnet18])
def test_features_depend_on_neither_batches_nor_threads(build: Callable[[], Backbone]) -> None:
    network = build()
    given = images(network, 19)  # three chunks, the last one padded
    found, before = [], torch.get_num_threads()
    try:
        for threads, size in ((1, 19), (2, 19), (2, 3), (1, 1)):
            torch.set_num_threads(threads)
            embed = engine.frozen(network, "fp32", "cpu")
            found.append(features_of(embed, given, size))
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(found[0], each) for each in found[1:])


@pytest.mark.parametrize("wrong", [lambda v: v * 1.001, lambda v: v * np.nan, lambda v: v[:, :5]])
def test_an_engine_that_is_wrong_is_replaced_with_one_warning(
    wrong: Callable[[engine.Values], engine.Values],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = load_backbone("tiny")
    expected = engine.frozen(network, "fp32", "cpu", images=1)
    monkeypatch.setattr(engine, "_in_openvino", lambda *_: lambda b: map(wrong, expected(b)))
    given = images(network, 9)
    embed = engine.frozen(network, "fp32", "cpu")
    for _ in range(2):
        assert np.array_equal(features_of(embed, given), features_of(expected, given))
    assert len(messages(caplog, logging.WARNING)) == 1


WATCHED = """
import sys
network = ("socket.getaddrinfo", "socket.connect")
sys.addaudithook(lambda event, _: print(event) if event in network else None)
import torch
from oodml.features import engine
from oodml.features.backbones.registry import load_backbone
list(engine.frozen(load_backbone("tiny"), "fp32", "cpu")([torch.zeros(2, 3, 32, 32)]))
assert "openvino" in sys.modules
"""


@needs_openvino
def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not (tmp_path / "intel").exists()


class Branching(nn.Module):
    """Its output's form depends on values, which cannot be exported."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        means = inputs.mean(dim=(2, 3))
        return means * 2 if means.sum().item() > 0 else means


@needs_openvino
def test_a_network_that_cannot_be_converted_stays_with_torch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "oodml")
    network = backbone(Branching(), 3, 16)
    given = images(network, 5)
    values = features_of(engine.frozen(network, "fp32", "cpu"), given)
    assert np.allclose(values, Branching()(given).numpy(), rtol=1e-5, atol=1e-6)
    assert "cannot run net" in " ".join(messages(caplog, logging.INFO))


def test_a_missing_openvino_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "oodml")
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine._say_that_openvino_is_missing.cache_clear()
    network = load_backbone("tiny")
    given = images(network, 5)
    for _ in range(2):
        values = features_of(engine.frozen(network, "fp32", "cpu"), given)
        assert np.allclose(values, network.module(given).detach().numpy(), rtol=1e-4, atol=1e-4)
    assert len([text for text in messages(caplog, logging.INFO) if "oodml[openvino]" in text]) == 1


@pytest.mark.parametrize(
    ("precision", "count"), [("bf16", None), ("fp32", engine.LEAST_IMAGES - 1)]
)
def test_bf16_and_small_data_sets_stay_with_torch(
    precision: str, count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_in_openvino", None)
    network = load_backbone("tiny")
    embed = engine.frozen(network, precision, "cpu", images=count)
    assert features_of(embed, images(network, 2)).shape == (2, 48)
