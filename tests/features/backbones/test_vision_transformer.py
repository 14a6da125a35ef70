"""DINOv2 and CLIP in their authors' layout, against the textbook's transformer."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional
from torchvision import transforms

from oodml.errors import DataError, UsageError
from oodml.features.backbones.catalogue import NETWORKS, network_of
from oodml.features.backbones.registry import Backbone, load_backbone

timm = pytest.importorskip("timm")

DEPTH = 2
# Width, side of a patch, positions in the file, heads, features.
SHAPES = {
    "dinov2_vits14": (384, 14, 37, 6, 384),
    "dinov2_vitb14": (768, 14, 37, 12, 768),
    "clip_vit_b16": (768, 16, 14, 12, 512),
    "clip_vit_l14_336": (1024, 14, 24, 16, 768),
}
State = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of each network instead of 12 or 24: they are all alike."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *given, **more: create(*given, **more, depth=DEPTH)
    )


def layers(width: int, draw: torch.Generator, clip: bool) -> State:
    """The tensors of one block under the authors' names."""
    linear = {
        True: ("attn.in_proj_", "attn.out_proj.", "mlp.c_fc.", "mlp.c_proj."),
        False: ("attn.qkv.", "attn.proj.", "mlp.fc1.", "mlp.fc2."),
    }[clip]
    sizes = ((3, 1), (1, 1), (4, 1), (1, 4))
    norms = ("ln_1.", "ln_2.") if clip else ("norm1.", "norm2.")
    state = {}
    for name, (rows, columns) in zip(linear, sizes, strict=True):
        shape = (rows * width, columns * width)
        state[f"{name}weight"] = torch.randn(shape, generator=draw) / shape[1] ** 0.5
        state[f"{name}bias"] = torch.randn(shape[0], generator=draw) / 10
    for name in norms:
        state[f"{name}weight"] = 1 + torch.randn(width, generator=draw) / 10
        state[f"{name}bias"] = torch.randn(width, generator=draw) / 10
    if not clip:
        for name in ("ls1.gamma", "ls2.gamma"):
            state[name] = torch.rand(width, generator=draw)
    return state


def authors_state(name: str) -> State:
    """Random weights in the layout of the released file; for CLIP with some of its text tower."""
    width, patch, side, _, features = SHAPES[name]
    draw, clip = torch.Generator().manual_seed(3), name.startswith("clip")

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw) / 5

    blocks = {
        f"{index}.{key}": value
        for index in range(DEPTH)
        for key, value in layers(width, draw, clip).items()
    }
    if not clip:
        return {
            "cls_token": normal(1, 1, width),
            "pos_embed": normal(1, 1 + side**2, width),
            "mask_token": normal(1, width),
            "patch_embed.proj.weight": normal(width, 3, patch, patch) / 5,
            "patch_embed.proj.bias": normal(width),
            **{f"blocks.{key}": value for key, value in blocks.items()},
            "norm.weight": 1 + normal(width),
            "norm.bias": normal(width),
        }
    return {
        "visual.class_embedding": normal(width),
        "visual.positional_embedding": normal(1 + side**2, width),
        "visual.conv1.weight": normal(width, 3, patch, patch) / 5,
        "visual.ln_pre.weight": 1 + normal(width),
        "visual.ln_pre.bias": normal(width),
        **{f"visual.transformer.resblocks.{key}": value for key, value in blocks.items()},
        "visual.ln_post.weight": 1 + normal(width),
        "visual.ln_post.bias": normal(width),
        "visual.proj": normal(width, features),
        "positional_embedding": normal(77, 512),
        "transformer.resblocks.0.ln_1.weight": normal(512),
        "logit_scale": torch.tensor(4.6),
    }


def attention(x: torch.Tensor, state: State, key: str, names: tuple[str, str], heads: int) -> Any:
    qkv = functional.linear(x, state[f"{key}{names[0]}weight"], state[f"{key}{names[0]}bias"])
    parts = qkv.reshape(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    weights = (parts[0] @ parts[1].transpose(-2, -1) / parts[0].shape[-1] ** 0.5).softmax(dim=-1)
    mixed = (weights @ parts[2]).transpose(1, 2).flatten(2)
    return functional.linear(mixed, state[f"{key}{names[1]}weight"], state[f"{key}{names[1]}bias"])


def norm(x: torch.Tensor, state: State, key: str, epsilon: float) -> torch.Tensor:
    return functional.layer_norm(
        x, x.shape[-1:], state[f"{key}weight"], state[f"{key}bias"], epsilon
    )


def dinov2(state: State, images: torch.Tensor, heads: int) -> torch.Tensor:
    """The class token of Meta's models/vision_transformer.py."""
    patches = functional.conv2d(
        images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14
    )
    side, positions = patches.shape[-1], state["pos_embed"]
    if side != 37:
        grid = positions[0, 1:].T.reshape(1, -1, 37, 37)
        scale = (side + 0.1) / 37
        grid = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
        positions = torch.cat([positions[:, :1], grid.flatten(2).mT], dim=1)
    x = torch.cat([state["cls_token"].expand(len(images), -1, -1), patches.flatten(2).mT], dim=1)
    x = x + positions
    for index in range(DEPTH):
        key = f"blocks.{index}."
        y = attention(
            norm(x, state, f"{key}norm1.", 1e-6), state, key, ("attn.qkv.", "attn.proj."), heads
        )
        x = x + state[f"{key}ls1.gamma"] * y
        y = norm(x, state, f"{key}norm2.", 1e-6)
        y = functional.linear(y, state[f"{key}mlp.fc1.weight"], state[f"{key}mlp.fc1.bias"])
        y = functional.gelu(y)
        y = functional.linear(y, state[f"{key}mlp.fc2.weight"], state[f"{key}mlp.fc2.bias"])
        x = x + state[f"{key}ls2.gamma"] * y
    return norm(x, state, "norm.", 1e-6)[:, 0]


def clip(state: State, images: torch.Tensor, heads: int) -> torch.Tensor:
    """`encode_image` of openai/CLIP, clip/model.py: QuickGELU, and the projection at the end."""
    kernel = state["visual.conv1.weight"]
    patches = functional.conv2d(images, kernel, stride=kernel.shape[-1]).flatten(2).mT
    token = state["visual.class_embedding"].expand(len(images), 1, -1)
    x = torch.cat([token, patches], dim=1) + state["visual.positional_embedding"]
    x = norm(x, state, "visual.ln_pre.", 1e-5)
    for index in range(DEPTH):
        key = f"visual.transformer.resblocks.{index}."
        names = ("attn.in_proj_", "attn.out_proj.")
        x = x + attention(norm(x, state, f"{key}ln_1.", 1e-5), state, key, names, heads)
        y = norm(x, state, f"{key}ln_2.", 1e-5)
        y = functional.linear(y, state[f"{key}mlp.c_fc.weight"], state[f"{key}mlp.c_fc.bias"])
        y = y * torch.sigmoid(1.702 * y)
        x = x + functional.linear(
            y, state[f"{key}mlp.c_proj.weight"], state[f"{key}mlp.c_proj.bias"]
        )
    return norm(x[:, 0], state, "visual.ln_post.", 1e-5) @ state["visual.proj"]


def saved(name: str, folder: Path) -> Path:
    path = folder / f"{name}.safetensors"
    save_file(authors_state(name), path)
    return path


def equal(backbone: Backbone, name: str, size: int) -> None:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    reference = clip if name.startswith("clip") else dinov2
    with torch.inference_mode():
        expected = reference(authors_state(name), images, SHAPES[name][3])
        ours = backbone.module(images)
    assert ours.shape == expected.shape == (2, backbone.dimension)
    assert torch.norm(ours - expected) < 1e-5 * torch.norm(expected[0] - expected[1])


@pytest.mark.parametrize("name", SHAPES)
def test_the_authors_file_gives_what_their_code_gives(name: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)
    backbone = load_backbone(name, weights=path)
    network = NETWORKS[name]
    assert (backbone.dimension, backbone.image_size) == (network.dimension, network.image_size)
    assert (backbone.dimension, backbone.pool) == (SHAPES[name][4], None)
    equal(backbone, name, network.image_size)
    assert network_of(authors_state(name)) == name


def test_dinov2_at_other_sizes_resamples_positions_as_metas_code_does(tmp_path: Path) -> None:
    path = saved("dinov2_vits14", tmp_path)
    for size in (518, 56, 98):
        equal(load_backbone("dinov2_vits14", weights=path, image_size=size), "dinov2_vits14", size)


@pytest.mark.parametrize("name", ["dinov2_vits14", "clip_vit_b16"])
def test_a_file_in_timms_layout_is_read_as_well(name: str, tmp_path: Path) -> None:
    one = load_backbone(name, weights=saved(name, tmp_path))
    network = timm.create_model(NETWORKS[name].architecture, pretrained=False)
    filtered = importlib.import_module("timm.models.vision_transformer").checkpoint_filter_fn
    theirs = filtered(authors_state(name), network)
    network.load_state_dict(theirs, strict=True)
    torch.save(network.state_dict(), tmp_path / "timm.pth")
    other = load_backbone(name, weights=tmp_path / "timm.pth")
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)
    assert one.weights != other.weights, "the identity is that of the file"


@pytest.mark.parametrize("name", SHAPES)
def test_the_transform_is_the_one_that_timm_records_for_the_weights(
    name: str, tmp_path: Path
) -> None:
    backbone = load_backbone(name, weights=saved(name, tmp_path))
    preset = timm.data.resolve_data_config({}, model=backbone.module)
    assert preset["interpolation"] == "bicubic" and preset["crop_mode"] == "center"
    # OpenAI's own code crops nothing away; timm's record for ViT-B/16 has a margin of its own.
    assert preset["crop_pct"] == (0.9 if name == "clip_vit_b16" else 1.0)
    size = backbone.image_size
    theirs = transforms.Compose(
        [
            transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(preset["mean"], preset["std"]),
        ]
    )
    for width, height in ((300, 421), (421, 300), (97, 640)):
        pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        assert torch.allclose(backbone.transform(image), theirs(image), atol=1e-5)


def test_a_side_that_patches_do_not_divide_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = saved("dinov2_vits14", tmp_path)
    with pytest.raises(UsageError, match=r"dinov2_vits14.*100 pixels.*give 98 or 112") as caught:
        load_backbone("dinov2_vits14", weights=path, image_size=100)
    assert "\n" not in str(caught.value)


def test_another_networks_file_is_named_with_its_first_mismatch(tmp_path: Path) -> None:
    large = saved("clip_vit_l14_336", tmp_path)
    small = saved("dinov2_vits14", tmp_path)
    for name, path, words in (
        ("clip_vit_b16", large, r"cls_token \(1, 1, 1024\) instead of \(1, 1, 768\).*"),
        ("dinov2_vitb14", small, r"cls_token \(1, 1, 384\) instead of \(1, 1, 768\).*"),
        ("dinov2_vits14", large, "missing: cls_token.*foreign: .*"),
        ("clip_vit_b16", small, "missing: .*norm_pre.weight.*"),
    ):
        with pytest.raises(DataError, match=f"{words}looks like {path.stem}") as caught:
            load_backbone(name, weights=path)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = saved("dinov2_vits14", tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"dinov2_vits14\.safetensors is not a readable"):
        load_backbone("dinov2_vits14", weights=path)
