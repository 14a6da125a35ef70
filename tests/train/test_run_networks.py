"""Every named network trained whole, at a small size and with random weights from a file."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.features.backbones import inception
from oodml.features.backbones.catalogue import NETWORKS
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.features.preprocessing import Preprocessing
from oodml.splits.construction.build_ladder import build_ladder
from oodml.train.build import Resources, objective_of, samples_of
from oodml.train.members import members_of
from oodml.train.model import trunk
from oodml.train.plan import plan
from oodml.train.run import train_member

QUICK: dict[str, Any] = {"steps": 1, "batch_size": 4, "samples_per_class": 2, "embedding_dim": 8}
# The least sides, or nearly so, that each takes.
SIDES = {
    "inception_v3": 75,
    "inception_fid": 75,
    "dinov2_vits14": 28,
    "dinov2_vitb14": 28,
    "clip_vit_l14_336": 28,
}
# What takes seconds is trained in .ci/run only; one of every kind stays.
LARGE = (
    "inception_v3", "inception_fid", "resnet50", "convnext_tiny", "convnext_base", "dinov2_vitb14",
    "clip_vit_l14_336",
)  # fmt: skip
NAMES = [pytest.param(name, marks=pytest.mark.long) if name in LARGE else name for name in NETWORKS]


@pytest.fixture(autouse=True)
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block of each transformer instead of 12 or 24: they are all alike."""
    if find_spec("timm") is None:
        return
    timm = import_module("timm")
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *given, **more: create(*given, **more, depth=1)
    )


def weights_of(name: str, folder: Path) -> Path | None:
    """A file of random weights in the network's layout; None where it needs none."""
    network = NETWORKS[name]
    if not network.megabytes:
        if network.package:
            pytest.importorskip(network.package)
        return None
    torch.manual_seed(0)
    if network.architecture:
        module = pytest.importorskip("timm").create_model(network.architecture)
    elif name.startswith("inception"):
        module = inception.Inception(name)
        module.fc = nn.Linear(2048, inception.CLASSES[name])
    else:
        module = models.get_model(name, weights=None)
    for key, parameter in module.named_parameters():
        # Under the small first values of a training from scratch, features ignore the image.
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=(parameter[0].numel() / 2) ** -0.5)
        elif "gamma" in key or "layer_scale" in key:
            nn.init.ones_(parameter)
    torch.save(module.state_dict(), folder / "w.pth")
    return folder / "w.pth"


@pytest.mark.parametrize("name", NAMES)
def test_every_named_network_trains_whole(name: str, image_folder: Path, tmp_path: Path) -> None:
    path = weights_of(name, tmp_path)
    backbone = load_backbone(name, weights=path, image_size=SIDES.get(name, 32))
    assert isinstance(backbone.transform, Preprocessing), "training augments before it normalises"
    dataset = load_dataset(image_folder).take(np.arange(0, 72, 2))
    pool = extract_features(dataset, backbone, cache=tmp_path / "cache")
    ladder = build_ladder(pool, rungs=2, null=0)
    split, resources = ladder.rungs[0], Resources(pool, dataset, backbone)
    (spec,) = plan(ladder, ["margin"], [0], rungs=[0], train="all", **QUICK)
    (member,) = members_of(spec, split)
    model = train_member(spec, member, resources, tmp_path)
    assert model.objective is not None
    fitting = samples_of(spec, member.fit_classes, resources)
    fresh = objective_of(spec, fitting, len(member.fit_classes), resources, member.seed)
    before = dict(fresh.named_parameters())
    moved = [
        not torch.equal(value, before[key])
        for key, value in model.objective.named_parameters()
        if "trunk" in key
    ]
    assert moved[0] and sum(moved) > 0.9 * len(moved)
    values = model.embed(samples_of(spec, split.test_classes, resources))
    assert values.std(axis=0).min() > 0
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-6)
    if backbone.pool is None:
        with pytest.raises(UsageError, match=f"'{name}' pools no feature map.*'gem'") as caught:
            trunk(backbone, pooling="gem")
        assert "\n" not in str(caught.value)
    else:
        assert trunk(backbone, pooling="gem")[1] == NETWORKS[name].dimension
    assert (backbone.pool is None) == (NETWORKS[name].architecture is not None)
