"""The classification networks of torchvision as backbones, with their ImageNet weights."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from oodml.errors import CLOSEST, closest_names, unknown_name
from oodml.features.backbones.catalogue import KnownWeights
from oodml.features.backbones.network import (
    Weights,
    assembled,
    checked,
    in_parts,
    pool_layer,
    without_classifier,
)
from oodml.features.backbones.registry import Backbone, backbone_names
from oodml.features.preprocessing import Preprocessing, times_255
from oodml.features.weights import load_state, read_state, resolve_weights
from oodml.files import file_sha256

# Densenet files keep names of before torch 0.4.1; torchvision renames them in the same way.
_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")


def from_torchvision(name: str, weights: Weights, image_size: int | None) -> Backbone:
    """Any classification network of torchvision: what its last linear layer reads."""
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        own = [known for known, _ in backbone_names() if not known.endswith("NAME")]
        # Networks of ours are suggested before the dozens of torchvision with such a beginning.
        ours = any(known.startswith(name) for known in own)
        others = [] if ours else closest_names(name, names)[:CLOSEST]
        raise unknown_name("backbone", name, [*own, *others])
    preset, known = _torchvision_weights(name)
    transform = preset if image_size is None else preset.at_size(image_size)
    path = resolve_weights(known, weights)
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    module = models.get_model(name, weights=None, **options)
    load_state(module, _torchvision_state(path, name), path, name)
    dimension = without_classifier(module, name)
    module = in_parts(module)
    backbone = assembled(name, module, transform, dimension, file_sha256(path), pool_layer(module))
    return checked(backbone)


def _torchvision_state(path: Path, name: str) -> dict[str, torch.Tensor]:
    """The tensors under the names of today, without GoogLeNet's auxiliary classifiers."""
    state = {_DENSENET.sub(r"\1\2.", key): value for key, value in read_state(path).items()}
    if name != "googlenet":
        return state
    return {key: value for key, value in state.items() if not key.startswith(("aux1.", "aux2."))}


def _torchvision_weights(name: str) -> tuple[Preprocessing, KnownWeights]:
    from torchvision.models import get_model_weights

    entries = get_model_weights(name)
    # V1 is the entry that published work before 2022 means, and that every family has.
    entry = entries["IMAGENET1K_V1"] if "IMAGENET1K_V1" in entries.__members__ else entries.DEFAULT
    preset = entry.transforms()
    # GoogLeNet's weights are TensorFlow's: torchvision turns normalised pixels back to [-1, 1].
    mean, std = ([0.5] * 3,) * 2 if name == "googlenet" else (preset.mean, preset.std)
    transform = Preprocessing(
        preset.crop_size[0],
        preset.resize_size[0],
        preset.interpolation.value,
        True,
        times_255(mean),
        times_255(std),
    )
    return transform, KnownWeights(name, (entry.url.rsplit("/", 1)[1],), entry.url)
