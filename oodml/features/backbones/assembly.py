"""The record of a loaded network, and the proof that the network does what the record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from oodml.errors import UsageError
from oodml.features.backbones.registry import Backbone
from oodml.features.preprocessing import Preprocessing

Weights = str | Path | None


def assembled(
    name: str,
    module: nn.Module,
    transform: Preprocessing,
    dimension: int,
    weights: str,
    pool: str | None,
) -> Backbone:
    """The record of a network with loaded weights, whose SHA-256 is `weights`."""
    return Backbone(
        name=name,
        module=module.eval(),
        transform=transform,
        dimension=dimension,
        weights=weights,
        preprocessing=transform.text,
        image_size=transform.size,
        pool=pool,
    )


def checked(backbone: Backbone) -> Backbone:
    """`backbone`, when a blank image of its size really gives one vector of its dimension.

    Its `pool` stays only if that layer makes (1, C, 1, 1) of a feature map (1, C, h, w), once.
    """
    size, pooled = backbone.image_size, _Shapes()
    with backbone.module.get_submodule(backbone.pool or "").register_forward_hook(pooled):
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
    return backbone if pooled.one_position() else replace(backbone, pool=None)


def at_size(backbone: Backbone, image_size: int) -> Backbone:
    """The same network and weights for images of another side in pixels.

    Raises `UsageError` where the network does not take them, as transformers with positions
    learned for one size; `load_backbone(name, image_size=...)` fits those of timm.
    """
    if image_size == backbone.image_size:
        return backbone
    if not isinstance(backbone.transform, Preprocessing):
        raise UsageError(f"the input transform of {backbone.name!r} has no other size.")
    transform = backbone.transform.at_size(image_size)
    sized = replace(
        backbone, transform=transform, preprocessing=transform.text, image_size=image_size
    )
    return checked(sized)


class _Shapes:
    """A hook that notes what a layer reads and gives."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def __call__(
        self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        self.seen.append((tuple(inputs[0].shape), tuple(output.shape)))

    def one_position(self) -> bool:
        if len(self.seen) != 1 or len(self.seen[0][0]) != 4:
            return False
        (batch, channels, _, _), after = self.seen[0]
        return after == (batch, channels, 1, 1)
