"""What the catalogue says of each network, against the libraries and files that it speaks of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import models

from oodml.features.backbones import inception
from oodml.features.backbones.catalogue import NETWORKS, NamedNetwork, network_of
from oodml.features.backbones.registry import load_backbone
from oodml.features.weights import weights_at_hand

# Of torchvision, by the entry that the names without a tag stand for.
OF_TORCHVISION = ("inception_v3", "resnet50", "convnext_tiny", "convnext_base")
TEXT_WIDTH = {"clip_vit_b16": 512, "clip_vit_l14_336": 768}
OF_TIMM = ("dinov2_vits14", "dinov2_vitb14", *TEXT_WIDTH)


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_networks_of_torchvision_have_its_files_and_sizes(name: str) -> None:
    network, entry = NETWORKS[name], models.get_model_weights(name)["IMAGENET1K_V1"]
    assert network.weights.url == entry.url
    assert network.weights.names == (entry.url.rsplit("/", 1)[1],)
    assert network.image_size == entry.transforms().crop_size[0]
    # Torchvision's megabytes are those of 2^20 bytes.
    assert abs(network.megabytes - entry.meta["_file_size"] * 2**20 / 1e6) <= 0.5
    with torch.device("meta"):
        linear = [
            layer
            for layer in models.get_model(name, weights=None, **options(name)).modules()
            if isinstance(layer, torch.nn.Linear)
        ]
    assert network.dimension == linear[-1].in_features


def options(name: str) -> dict[str, bool]:
    return {"init_weights": False, "aux_logits": True} if name == "inception_v3" else {}


@pytest.mark.parametrize("name", OF_TIMM)
def test_networks_of_timm_have_its_dimensions_and_their_files_the_bytes_of_their_numbers(
    name: str,
) -> None:
    timm, network = pytest.importorskip("timm"), NETWORKS[name]
    configuration = timm.get_pretrained_cfg(network.architecture)
    small = timm.create_model(network.architecture, pretrained=False, depth=1)
    assert network.dimension == (configuration.num_classes or small.num_features)
    count = sum(parameter.numel() for parameter in small.parameters())
    block = sum(parameter.numel() for parameter in small.blocks.parameters())
    count += block * (23 if "large" in network.architecture else 11)
    if name in TEXT_WIDTH:
        # The file holds the text tower too: 12 layers, 49,408 words, 77 positions, a projection.
        width = TEXT_WIDTH[name]
        count += 12 * (12 * width**2 + 13 * width) + (49_408 + 77 + 2 + network.dimension) * width
        assert network.image_size == configuration.input_size[-1]
        assert configuration.hf_hub_id in network.weights.url
    else:
        assert network.weights.url == configuration.url
        assert network.licence.lower() == configuration.license
    assert abs(network.megabytes - 4 * count / 1e6) <= 1


def test_the_inception_of_fid_papers_has_the_bytes_of_its_numbers() -> None:
    network = NETWORKS["inception_fid"]
    with torch.device("meta"):
        state = inception.Inception("inception_fid").state_dict()
    count = sum(value.numel() for value in state.values()) + 1008 * 2049
    assert abs(network.megabytes - 4 * count / 1e6) <= 1


@pytest.mark.parametrize("name", ["efficientnet_lite0", "tiny"])
def test_networks_without_a_download_load_as_they_are_listed(name: str) -> None:
    if NETWORKS[name].package:
        pytest.importorskip(NETWORKS[name].package)
    backbone = load_backbone(name)
    assert backbone.dimension == NETWORKS[name].dimension
    assert backbone.image_size == NETWORKS[name].image_size
    assert NETWORKS[name].megabytes == 0 and weights_at_hand(NETWORKS[name])
    assert network_of(backbone.module.state_dict()) == (name if name == "tiny" else None)


def test_names_and_hashes_of_files_agree() -> None:
    for name, network in NETWORKS.items():
        known = network.weights
        assert known.backbone == name
        assert (known.url is None) == (network.megabytes == 0)
        if known.sha256:
            assert len(known.sha256) == 64
            digits = known.names[0].rpartition("-")[2].partition(".")[0]
            assert "-" not in known.names[0] or known.sha256.startswith(digits)


@pytest.mark.parametrize(
    ("built", "name"),
    [
        ("resnet50", "resnet50"),
        ("resnet101", None),
        ("resnext50_32x4d", None),
        ("convnext_tiny", "convnext_tiny"),
        ("convnext_small", None),
        ("convnext_base", "convnext_base"),
        ("swin_t", None),
        ("swin_b", None),
        ("inception_v3", "inception_v3"),
    ],
)
def test_a_file_is_recognised_as_what_it_is_and_nothing_else(built: str, name: str | None) -> None:
    with torch.device("meta"):
        state = models.get_model(built, weights=None, **options(built)).state_dict()
    assert network_of(state) == name
    assert [known for known, network in NETWORKS.items() if fits(network, state)] == (
        [name] if name else []
    )


def fits(network: NamedNetwork, state: dict[str, torch.Tensor]) -> bool:
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    return all(shapes.get(key) == shape for key, shape in network.signature.items())


def test_whether_weights_are_here_follows_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("OODML_WEIGHTS_DIR", str(tmp_path))
    network = NETWORKS["dinov2_vits14"]
    assert not weights_at_hand(network)
    (tmp_path / "dinov2_vits14_pretrain.pth").write_bytes(b"anything")
    assert weights_at_hand(network) and not weights_at_hand(NETWORKS["dinov2_vitb14"])
