"""The two Inceptions against the peers that define them."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from oodml.data import load_dataset
from oodml.errors import DataError
from oodml.features.backbones import inception
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.fid.frechet import frechet_distance


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)
    spread = np.linalg.norm(theirs - theirs.mean(axis=0))
    assert spread > 0.05 * np.linalg.norm(theirs), "the features must depend on the images"
    assert np.linalg.norm(ours - theirs) <= tolerance * spread


def test_features_and_fid_equal_pytorch_fid(
    fid_weights: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = pytest.importorskip("pytorch_fid.fid_score")
    peer = importlib.import_module("pytorch_fid.inception")
    monkeypatch.setattr(peer, "load_state_dict_from_url", lambda *_, **__: torch.load(fid_weights))
    dataset = load_dataset(folders)
    ours = extract_features(dataset, "inception_fid", weights=fid_weights, cache=tmp_path).values
    theirs = score.get_activations(
        list(dataset.paths), peer.InceptionV3([3]), batch_size=1, num_workers=0
    )
    close(ours, theirs, 1e-4)

    # FID does not change under an isometry; the peer's matrix root takes minutes in 2048.
    basis = np.linalg.qr(np.concatenate([ours, theirs]).astype(np.float64).T)[0]
    sides = [(theirs @ basis)[dataset.labels == side] for side in (0, 1)]
    moments = [part for side in sides for part in (side.mean(axis=0), np.cov(side, rowvar=False))]
    expected = score.calculate_frechet_distance(*moments)
    distance = frechet_distance(*(ours[dataset.labels == side] for side in (0, 1)))
    assert distance == pytest.approx(expected, rel=1e-4)


def test_features_equal_torch_fidelity_under_its_resizing(
    fid_weights: Path, folders: Path, tmp_path: Path
) -> None:
    peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    network = peer.FeatureExtractorInceptionV3("n", ["2048"], str(fid_weights))
    dataset = load_dataset(folders)
    ours = extract_features(
        dataset, "inception_fid", weights=fid_weights, cache=tmp_path, resize="torch-fidelity"
    )
    images = [np.asarray(Image.open(path).convert("RGB")) for path in dataset.paths]
    tensors = [torch.from_numpy(image.copy()).permute(2, 0, 1)[None] for image in images]
    close(ours.values, np.concatenate([network(tensor)[0].numpy() for tensor in tensors]), 1e-4)
    assert "bilinear_tf1" in ours.source.preprocessing


def test_inception_v3_equals_torchvision(fid_weights: Path, tmp_path: Path) -> None:
    state = {**torch.load(fid_weights), "fc.weight": torch.zeros(1000, 2048)}
    state["fc.bias"] = torch.zeros(1000)
    torch.save({**state, "AuxLogits.fc.bias": torch.zeros(1000)}, tmp_path / "w.pth")
    backbone = load_backbone("inception_v3", weights=tmp_path / "w.pth")
    with torch.device("meta"):
        peer = models.inception_v3(
            weights=None, aux_logits=False, init_weights=False, transform_input=True
        )
    peer.load_state_dict(state, assign=True)
    peer.eval().fc = torch.nn.Identity()
    pixels = np.random.default_rng(3).integers(0, 256, (400, 350, 3), dtype=np.uint8)
    preset = models.Inception_V3_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        theirs = peer(preset(Image.fromarray(pixels))[None])
        ours = backbone.module(backbone.transform(Image.fromarray(pixels))[None])
    assert torch.norm(ours - theirs) < 1e-4 * torch.norm(theirs)
    assert (backbone.dimension, backbone.image_size) == (2048, 299)


def test_the_two_inceptions_are_told_apart(fid_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"network inception_fid \(fc.weight has 1008 rows\)"):
        load_backbone("inception_v3", weights=fid_weights)
    state = torch.load(fid_weights)
    bare = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert inception.variant_of(bare, Path("pt_inception-2015-12-05-6726825d.pth")) == (
        "inception_fid"
    )
    assert inception.variant_of({"AuxLogits.fc.bias": torch.ones(1)}, Path("w")) == "inception_v3"
    for odd, words in (
        (bare, "does not tell"),
        ({**bare, "fc.weight": torch.zeros(7, 2048)}, "7 rows"),
    ):
        torch.save(odd, tmp_path / "odd.pth")
        with pytest.raises(DataError, match=words):
            load_backbone("inception_fid", weights=tmp_path / "odd.pth")
