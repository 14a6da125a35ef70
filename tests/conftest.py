"""Small seeded data that the tests share."""

from __future__ import annotations

import io
import os

# Small matrices are quickest on one thread, and a busy machine does not slow it tenfold. Set before
# NumPy and torch are imported, and inherited by the processes that tests start.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oodml.features.features import Features, FeatureSource
from oodml.runs.spec import RunSpec
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder

SOURCE = FeatureSource("synthetic", "0123456789abcdef", "none", "0" * 64, "none", "fp32")


def make_features(
    classes: int = 24, per_class: int = 8, dimension: int = 16, seed: int = 0
) -> Features:
    """Gaussian classes on a line of themes, so that some lie near each other and some far."""
    random = np.random.default_rng(seed)
    theme = np.linspace(-2, 2, classes)[:, None] * random.standard_normal(dimension)
    means = theme + random.standard_normal((classes, dimension))
    spread = random.uniform(0.3, 1.0, (classes, 1, dimension))
    values = means[:, None] + spread * random.standard_normal((classes, per_class, dimension))
    labels = np.repeat(np.arange(classes), per_class)
    names = tuple(f"class {i:03d}" for i in range(classes))
    return Features(values.reshape(-1, dimension).astype(np.float32), labels, names, SOURCE)


def turned(features: Features, name: str = "turned", dimension: int = 24) -> Features:
    """The same samples as another network would see them: turned into more dimensions."""
    random = np.random.default_rng(1)
    turn = random.standard_normal((features.values.shape[1], dimension)).astype(np.float32)
    source = replace(features.source, backbone=name, weights="random", preprocessing="none")
    return replace(features, values=features.values @ turn, source=source)


def make_spec(method: str = "margin", **settings: Any) -> RunSpec:
    """A spec on data, a split and a backbone that exist in name only."""
    names = {"dataset": "d", "fingerprint": "f", "split": "s"}
    names |= {"backbone": "b", "weights": "w", "preprocessing": "p"}
    return RunSpec.from_settings(**{**names, "method": method, **settings})


@pytest.fixture(scope="session")
def features() -> Features:
    return make_features()


@pytest.fixture(scope="session")
def ladder(features: Features) -> Ladder:
    return build_ladder(features, rungs=3, swap_size=2, null=0)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 classes of 6 drawings: a class is a hue, a shape and a size; samples differ in place."""
    root = tmp_path_factory.mktemp("images") / "pool"
    for number in range(12):
        for sample in range(6):
            save_drawing(root / f"kind {number:02d}" / f"{sample}.png", number, sample)
    return root


def save_drawing(path: Path, number: int, sample: int) -> None:
    random = np.random.default_rng([number, sample])
    pixels = random.integers(200, 255, (40, 40, 3))
    hue = np.array([(number * 67) % 256, (number * 149) % 256, (number * 31) % 256])
    top, left = random.integers(2, 14, 2)
    height, width = 8 + 2 * (number % 6), 20 - number % 7
    pixels[top : top + height, left : left + width] = hue
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def drawing() -> Callable[[Path, int, int], None]:
    return save_drawing


def make_picture(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    random = np.random.default_rng(seed)
    layers = [
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for side in (3, 9, 27)
    ]
    return Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.2)


def make_jpeg(image: Image.Image, quality: int = 75) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    return make_picture


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., Image.Image]:
    return make_jpeg


@pytest.fixture(scope="session")
def copies_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of five pictures, with one copy of each kind and two blank images planted.

    Across a and b: a picture at quality 75; across a and c: at half its size, turned and with
    an EXIF note that says so, and as other bytes with equal pixels. Within d: a PNG twice.
    """
    root = tmp_path_factory.mktemp("copies") / "pool"
    for number, name in enumerate("abcd"):
        (root / name).mkdir(parents=True)
        for sample in range(5):
            make_picture(10 * number + sample).save(root / name / f"{sample}.png")
    make_picture(0).save(root / "b" / "again.jpg", quality=75)
    half = make_picture(1)
    half.resize((48, 40), Image.Resampling.BICUBIC).save(root / "c" / "half.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = make_picture(2).transpose(Image.Transpose.ROTATE_90)
    turned.save(root / "c" / "turned.jpg", quality=90, exif=exif)
    make_picture(3).save(root / "c" / "other bytes.bmp")
    make_picture(30).save(root / "d" / "twice.png")
    for name, shade in (("a", "white"), ("b", "white"), ("c", "gray")):
        Image.new("RGB", (64, 64), shade).save(root / name / "blank.png")
    return root


def published_cars() -> Path:
    """The published splits of Cars196, which may lie beside the repository."""
    given = os.environ.get("OODML_CARS196_SPLITS")
    beside = Path(__file__).parents[2] / "shared" / "data" / "cars196_splits.pkl"
    return Path(given) if given else beside


def published_layout(splits: int = 3, scalars: bool = True) -> dict[int, dict[str, Any]]:
    """What a published pickle holds, with NumPy strings and floats as there."""
    names = [np.str_(f"kind {i:02d} Ä") if scalars else f"kind {i:02d} Ä" for i in range(12)]
    content = {}
    for number in range(1, splits + 1):
        train, test = names[number - 1 : 5 + number], names[5 + number :] + names[: number - 1]
        content[number] = {
            "train": train,
            "test": test,
            "fid": np.float64(8.5 * number),
            "split_train": train[1:],
            "split_val": train[:1],
            "test_episodes": {
                shots: {e: {name: [f"{i}.jpg" for i in range(shots)] for name in test}
                        for e in range(2)}
                for shots in (2, 5)
            },
        }  # fmt: skip
    return content
