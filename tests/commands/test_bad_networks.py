"""Rulers and models that cannot do their work: every command says so in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands.conftest import done, oodml, refused
from torchvision import models

from oodml.data import load_dataset
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.splits.ladder import Ladder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights of ResNet-18, and with weights of it that are all zero."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    state = models.resnet18().state_dict()
    torch.save(state, folder / "resnet18.pth")
    zero = {name: torch.zeros_like(value) for name, value in state.items()}
    torch.save(zero, folder / "zero.pth")
    return folder


def build(folder: Path, *more: object) -> tuple[object, ...]:
    return ("ladder", "build", folder, *more)


@pytest.mark.parametrize(
    ("file", "network", "words"),
    [
        ("resnet18.pth", ("resnet50",), "holds another network than resnet50"),
        ("resnet18.pth", ("efficientnet_lite0",), "another network than efficientnet_lite0"),
        ("zero.pth", ("resnet18",), "resnet18 gives all 72 images the same features"),
    ],
)
def test_weights_that_do_not_fit_measure_nothing(
    built: tuple[Path, Path],
    image_folder: Path,
    weights: Path,
    tmp_path: Path,
    file: str,
    network: tuple[str, ...],
    words: str,
) -> None:
    ladder, cache = built
    out = tmp_path / "out.json"
    given = ("--weights", weights / file, "--cache", cache, "--image-size", 32, "-o", out)
    for call in (("build", image_folder), ("measure", ladder)):
        assert words in refused(1, "ladder", *call, "--backbone", *network, *given)
    assert not out.exists()


def test_a_size_that_the_network_does_not_take_measures_nothing(
    built: tuple[Path, Path], image_folder: Path, weights: Path, tmp_path: Path
) -> None:
    ladder, cache = built
    given = ("--cache", cache, "-o", tmp_path / "out.json", "--weights", weights / "resnet18.pth")
    for call in (("build", image_folder), ("measure", ladder)):
        small = ("--backbone", "inception_v3", "--image-size", 32)
        assert "at least 75 pixels" in refused(2, "ladder", *call, *small, *given)


def test_constant_features_measure_nothing_and_rank_by_chance(
    ladder: Ladder, features: Features, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    constant = replace(features, values=np.full_like(features.values, 0.3))
    constant.save(tmp_path / "constant.npz")
    ladder.save(tmp_path / "ladder.json")
    data, given = tmp_path / "constant.npz", tmp_path / "ladder.json"
    out = ("-o", tmp_path / "out.json")
    words = f"all {len(features)} images the same features"
    for search in ("means", "transport", "best", "milbich2021"):
        assert words in refused(1, "ladder", "build", data, "--search", search, *out)
    assert words in refused(1, "ladder", "measure", given, "--data", data, *out)
    assert not (tmp_path / "out.json").exists()
    # Embeddings that a training let collapse have a score.
    done("evaluate", data, "--ladder", given, "-o", tmp_path / "runs")
    assert "the same vector: every score is that of chance" in caplog.text


def test_a_ruler_that_is_not_known_here_is_named_with_the_ways_out(
    built: tuple[Path, Path], image_folder: Path, tmp_path: Path
) -> None:
    path, cache = built
    known = Ladder.load(path)
    ladder, runs = tmp_path / "ladder.json", tmp_path / "runs"
    replace(known, features=replace(known.features, backbone="my_net")).save(ladder)
    machine = ("--cache", cache)
    for call in (
        ("run", ladder, "-m", "frozen", "-o", tmp_path / "other", *machine),
        ("ladder", "compare", ladder, path, "--keys", *machine),
        ("ladder", "plot", ladder, "--view", "projection", "-o", tmp_path / "a.png", *machine),
    ):
        assert "'my_net'" in (line := refused(1, *call)) and "oodml ladder measure" in line
        assert "Did you mean" not in line
    assert "my_net" in done("ladder", "show", ladder).stdout
    # Its FIDs stay of use, and so do its splits.
    pool = extract_features(load_dataset(image_folder), "tiny", cache=cache)
    pool.save(tmp_path / "tiny.npz")
    done("evaluate", tmp_path / "tiny.npz", "--ladder", ladder, "-o", runs)
    assert "my_net" in done("table", runs).output
    assert "'my_net'" in refused(1, "report", runs, "--data", image_folder, *machine)
    done("ladder", "measure", ladder, "--data", tmp_path / "tiny.npz", "-o", tmp_path / "tiny.json")
    former = Ladder.load(tmp_path / "tiny.json").former
    assert former is not None and former.features.backbone == "my_net"
    own = replace(pool, source=replace(known.features, backbone="my_net"))
    own.save(tmp_path / "own.npz")
    done("run", ladder, "-m", "frozen", "--data", tmp_path / "own.npz", "-o", tmp_path / "other",
         "--workers", 1)  # fmt: skip
    done("run", ladder, "-m", "frozen", "--backbone", "tiny", "-o", tmp_path / "tiny", *machine,
         "--workers", 1)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backbone", "resnet50@32", "--weights", "resnet50@32=resnet18.pth"), "than resnet50"),
        (("--backbone", "resnet18@32", "--weights", "resnet18@32=zero.pth"), "the same features"),
        (("--backbone", "inception_v3@32", "--weights", "resnet18.pth"), "at least 75 pixels"),
        (("--train", "all", "--image-size", 8), "does not take images of 8 pixels"),
    ],
)
def test_a_model_that_cannot_be_run_begins_no_run(
    built: tuple[Path, Path],
    weights: Path,
    tmp_path: Path,
    arguments: tuple[object, ...],
    words: str,
) -> None:
    ladder, cache = built
    given = [str(each).replace("=", f"={weights}/") for each in arguments]
    given = [f"{weights}/{each}" if each.endswith(".pth") and "=" not in each else each
             for each in given]  # fmt: skip
    result = oodml("run", ladder, "-m", "margin", *given, "--cache", cache, "-o", tmp_path / "runs")
    line = result.stderr.strip().splitlines()[-1]
    assert result.exit_code in (1, 2) and line.startswith("Error: ") and words in line
    assert not (tmp_path / "runs").exists()
