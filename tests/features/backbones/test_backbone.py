"""Named networks: the two Inceptions against the peers that define them, and clear refusals."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from oodml.data import load_dataset
from oodml.errors import DataError, UsageError
from oodml.features import weights
from oodml.features.backbones import inception
from oodml.features.backbones.registry import backbone_names, load_backbone
from oodml.features.engine import fold_batch_norm
from oodml.features.extraction import extract_features
from oodml.features.preprocessing import Preprocessing
from oodml.fid.frechet import frechet_distance

SIZES = [(299, 299), (64, 48), (320, 500), (31, 200)]
LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a machine that others use spend five times as long waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights whose features neither vanish nor ignore the image, statistics included."""
    draw = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, generator=draw)
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=draw)
            layer.running_var.uniform_(0.5, 1.5, generator=draw)
            layer.weight.data.uniform_(0.8, 1.2, generator=draw)
            layer.bias.data.normal_(0, 0.1, generator=draw)
    return module.eval()


@pytest.fixture(scope="module")
def fid_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of pt_inception-2015-12-05-6726825d.pth, under a name without a hash."""
    network = lively(inception.Inception("inception_fid"))
    network.fc = torch.nn.Linear(2048, 1008)
    path = tmp_path_factory.mktemp("weights") / "random_inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of pictures of various sizes, as PNG and as JPEG."""
    root, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for shade, name in enumerate(("a", "b")):
        (root / name).mkdir()
        for index, (width, height) in enumerate(SIZES[shade::2]):
            coarse = draw.integers(0, 255 - 100 * shade, (height // 8 + 1, width // 8 + 1, 3))
            picture = Image.fromarray(coarse.astype(np.uint8)).resize((width, height))
            picture.save(root / name / f"{index}.{'png' if index % 2 else 'jpg'}")
    return root


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


@pytest.mark.parametrize("size", SIZES)
def test_each_resizing_equals_its_peer(size: tuple[int, int]) -> None:
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image, batch = Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)[None].float()

    def ours(filter: str, antialias: bool) -> np.ndarray:
        transform = Preprocessing(299, None, filter, antialias, (0.0,) * 3, (1.0,) * 3)
        return transform(image).numpy()

    bilinear = torch.nn.functional.interpolate(batch, (299, 299), mode="bilinear")[0]
    assert np.abs(ours("bilinear", False) - bilinear.numpy()).max() < 1e-2
    fidelity = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    tf1 = fidelity.interpolate_bilinear_2d_like_tensorflow1x(batch, (299, 299), align_corners=False)
    assert np.abs(ours("bilinear_tf1", False) - tf1[0].numpy()).max() < 1e-2
    clean = pytest.importorskip("cleanfid.resize").make_resizer("PIL", False, "bicubic", (299, 299))
    assert np.array_equal(ours("bicubic_float", True), clean(pixels).transpose(2, 0, 1))


def test_the_preset_of_torchvision_is_repeated() -> None:
    preset = models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    transform = load_transform("resnet50")
    for width, height in [(300, 201), (201, 300), (224, 224), (97, 640)]:
        pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        assert torch.allclose(transform(image), preset(image), atol=1e-5)


def test_googlenet_sees_pixels_as_its_weights_expect() -> None:
    preset = models.GoogLeNet_Weights.IMAGENET1K_V1.transforms()
    peer = models.GoogLeNet(transform_input=True, init_weights=False, aux_logits=False)
    pixels = np.random.default_rng(2).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    theirs = peer._transform_input(preset(Image.fromarray(pixels))[None])[0]
    ours = load_transform("googlenet")(Image.fromarray(pixels))
    assert torch.allclose(ours, theirs, atol=1e-5)


def load_transform(name: str) -> Preprocessing:
    families = importlib.import_module("oodml.features.backbones.torchvision")
    return families._torchvision_weights(name)[0]


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


def test_the_weights_of_another_network_are_named_by_their_keys(tmp_path: Path) -> None:
    state = models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    for name in ("inception_fid", "resnet50", "efficientnet_lite0"):
        with pytest.raises(
            DataError, match=rf"another network than {name} \(missing: .* (foreign|wrong shape): "
        ):
            load_backbone(name, weights=tmp_path / "resnet18.pth")


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small"])
def test_any_torchvision_network_gives_what_its_classifier_reads(name: str, tmp_path: Path) -> None:
    network = models.get_model(name, weights=None).eval()
    # Densenet files carry names from before torch 0.4, norm.1 for norm1.
    state = {
        re.sub(r"(norm|conv)([12])\.", r"\1.\2.", k) if "denselayer" in k else k: v
        for k, v in network.state_dict().items()
    }
    torch.save(state, tmp_path / "w.pth")
    backbone = load_backbone(name, weights=tmp_path / "w.pth", image_size=64)
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)][-1]
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(last(backbone.module(images)), network(images), atol=1e-4)
    if name == "densenet121":
        with pytest.raises(UsageError, match="images of 16 pixels"):
            load_backbone(name, weights=tmp_path / "w.pth", image_size=16)


def test_a_network_without_a_linear_classifier_is_refused(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_1(weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no linear classifier"):
        load_backbone("squeezenet1_1", weights=tmp_path / "w.pth")


def test_efficientnet_lite0_needs_no_download_and_takes_another_size() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    large, small = (
        load_backbone("efficientnet_lite0"),
        load_backbone("efficientnet_lite0", image_size=112),
    )
    assert (large.image_size, small.image_size, small.dimension) == (224, 112, 1280)
    assert (
        large.weights
        == small.weights
        == ("579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
    )
    assert large.preprocessing != small.preprocessing
    blank = small.transform(Image.new("RGB", (72, 60), "white"))
    assert blank.shape == (3, 112, 112) and torch.all(blank == 1.0)
    with torch.inference_mode():
        assert small.module(blank[None]).shape == (1, 1280)


def test_the_module_stays_trainable_after_folding_a_copy(fid_weights: Path) -> None:
    extraction = importlib.import_module("oodml.features.extraction")
    backbone = load_backbone("inception_fid", weights=fid_weights, image_size=75)
    images = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(0))
    frozen = extraction.frozen(backbone, "fp32", "cpu")(images)
    assert all(parameter.requires_grad for parameter in backbone.module.parameters())
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.module.modules()) == 94
    live = backbone.module(images)
    assert np.allclose(
        frozen, live.detach().numpy(), rtol=1e-3, atol=1e-4 * live.abs().max().item()
    )
    live.sum().backward()
    assert backbone.module.Conv2d_1a_3x3.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("build", "folded"), [(models.resnet18, 20), (lambda: inception.Inception("inception_fid"), 94)]
)
def test_every_batch_norm_that_can_be_is_folded(
    build: Callable[[], torch.nn.Module], folded: int
) -> None:
    network = lively(build())
    images = torch.randn(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(images)
        assert fold_batch_norm(network) == folded
        after = network(images)
    assert torch.norm(after - before) < 1e-4 * torch.norm(before)


class Shared(torch.nn.Module):
    """A convolution that a second reader uses without the normalisation must not be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        return maps + self.norm(maps)


class Untraceable(Shared):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(images)) if images.sum() > 0 else images


@pytest.mark.parametrize("kind", [Shared, Untraceable])
def test_what_cannot_be_folded_is_left_alone(kind: type[Shared]) -> None:
    network, images = lively(kind()), torch.ones(1, 3, 8, 8)
    before = network(images)
    assert fold_batch_norm(network) == 0
    assert torch.equal(network(images), before)


def test_unknown_names_get_the_closest_match() -> None:
    for given, match in (
        ("inception_fit", "inception_fid"),
        ("resnet51", "resnet50"),
        ("convnext_tinny", "convnext_tiny"),
    ):
        with pytest.raises(UsageError, match=f"Did you mean '{match}'"):
            load_backbone(given)
    with pytest.raises(UsageError, match="torch-fidelity"):
        load_backbone("inception_fid", resize="torchfidelity")
    with pytest.raises(UsageError, match="inception_fid only"):
        load_backbone("resnet50", resize="clean-fid")
    with pytest.raises(UsageError, match="a side of 16 to 4096 pixels"):
        load_backbone("resnet50", image_size=3)


def test_timm_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UsageError, match=r"oodml\[timm\]"):
        load_backbone("timm:resnet18")


def test_no_backbone_falls_back_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(weights, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.delenv("OODML_WEIGHTS_DIR", raising=False)
    for name in ("inception_v3", "inception_fid", "resnet50"):
        with pytest.raises(weights.WeightsNotFound, match=f"no weights for {name} .*https://"):
            load_backbone(name)
    dataset = SimpleNamespace(name="x", fingerprint="y")
    with pytest.raises(weights.WeightsNotFound, match="inception_v3"):
        extract_features(dataset)  # type: ignore[arg-type]


def test_the_listing_names_each_backbone_once() -> None:
    names = [name for name, _ in backbone_names()]
    assert len(set(names)) == len(names)
    own = {"inception_v3", "inception_fid", "resnet50", "efficientnet_lite0", "tiny"}
    assert own <= set(names)
