"""Options that commands share: values that none can use are refused before any image is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands.conftest import done, refused
from conftest import make_features

from oodml.features.backbones.registry import load_backbone
from oodml.splits.construction.build_ladder import build_ladder


# The folder of images does not exist: whoever complains of that has begun to look for images.
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("ladder build nowhere --rungs 1", "x>=2"),
        ("ladder build nowhere --null 1", "too few"),
        ("ladder build nowhere --null 2147483648", "0<=x<=1000000"),
        ("ladder build nowhere --train-fraction nan", "nan"),
        ("ladder build nowhere --train-fraction 1", "0<x<1"),
        ("ladder build nowhere --fids 1,nan", "1,nan"),
        ("ladder build nowhere --start nonsense", "start 'nonsense'"),
        ("ladder build nowhere --start a.json:" + "9" * 5000, "allowed are a CSV"),
        ("ladder build nowhere --search milbich2021 --by group", "by"),
        ("ladder build nowhere --budget 3", "budget 3"),
        ("ladder build nowhere --rungs 3 --steps 1,2", "rungs and steps"),
        ("features nowhere -o f.npz --image-size 15", "16<=x<=4096"),
        ("features nowhere -o", "requires an argument"),
        ("fid nowhere nowhere --bootstrap 19", "too few"),
        ("run nowhere.json -m margin --timeout nan", "nan"),
        ("run nowhere.json -m margin --gpus-per-run inf", "inf"),
        ("run nowhere.json -m margin --memory 1e308", "0.01<=x<=1000000.0"),
        ("run nowhere.json -m margin --seeds 99999999999999999999", "1<=x<=100000"),
        ("status . --every nan", "nan"),
    ],
)
def test_a_value_is_refused_before_anything_is_read(arguments: str, words: str) -> None:
    line = refused(2, *arguments.split())
    assert words in line and "nowhere" not in line


@pytest.mark.parametrize("option", ["-o", "--cache", "--weights"])
def test_a_path_without_a_name_is_refused(option: str, tmp_path: Path) -> None:
    assert "empty" in refused(2, "features", tmp_path, "-o", tmp_path / "f.npz", option, "")


@pytest.mark.parametrize(
    "option", ["--backbone tiny", "--image-size 64", "--precision bf16", "--resize clean-fid"]
)
@pytest.mark.parametrize("command", ["features", "ladder build"])
def test_a_network_for_a_file_of_features_is_refused(
    command: str, option: str, tmp_path: Path
) -> None:
    make_features(6, 3, 4).save(tmp_path / "f.npz")
    call = [*command.split(), tmp_path / "f.npz", "-o", tmp_path / "out"]
    assert option.split()[0] in refused(2, *call, *option.split())
    assert not (tmp_path / "out").exists()


def test_a_networks_default_holds_for_images_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODML_FEATURES_BACKBONE", "tiny")
    make_features(6, 3, 4).save(tmp_path / "f.npz")
    done("features", tmp_path / "f.npz", "-o", tmp_path / "out.npz")


@pytest.mark.parametrize(
    "command",
    [
        "features f.npz -o f.npz",
        "ladder build f.npz -o ./f.npz",
        "ladder pair f.npz g.npz -o g.npz",
        "ladder pair f.npz g.npz --save-features f.npz -o new.json",
        "ladder import l.csv -o l.csv",
        "ladder import l.csv --data f.npz -o f.npz",
        "ladder export l.json --format csv -o link.json",
        "dataset check l.csv -o l.csv",
    ],
)
def test_a_file_that_is_read_is_never_written_over(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = make_features(12, 3, 4)
    for name in ("f.npz", "g.npz"):
        features.save(tmp_path / name)
    build_ladder(features, rungs=2).save(tmp_path / "l.json")
    (tmp_path / "link.json").symlink_to("l.json")
    monkeypatch.chdir(tmp_path)
    done("ladder", "export", "l.json", "--format", "csv", "-o", "l.csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "-o FILE" in refused(2, *command.split())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("command", ["features {0} -o f", "ladder build {0} -o f", "fid {0} {0}"])
def test_a_network_that_does_not_fit_is_named(
    command: str, image_folder: Path, tmp_path: Path
) -> None:
    weights = {"zero": {}, "nan": {}, "foreign": {"conv1.weight": torch.zeros(3)}}
    for name, tensor in load_backbone("tiny").module.state_dict().items():
        weights["zero"][name] = torch.zeros_like(tensor)
        weights["nan"][name] = torch.full_like(tensor.float(), torch.nan).to(tensor.dtype)
    for name, state in weights.items():
        torch.save(state, tmp_path / f"{name}.pth")
    cases = [
        (2, "--backbone inception_v3 --image-size 32", "at least 75 pixels, not 32"),
        (2, "--backbone tiny --precision fp16 --device cpu", "'fp16' needs a CUDA device"),
        (1, f"--backbone tiny --weights {tmp_path}/foreign.pth", "another network than tiny"),
        (1, f"--backbone tiny --weights {tmp_path}/zero.pth", "the same features"),
        (1, f"--backbone tiny --weights {tmp_path}/nan.pth", "NaN or infinity for all"),
    ]
    call = command.format(image_folder).replace("-o f", f"-o {tmp_path}/f").split()
    for code, options, words in cases:
        assert words in refused(code, *call, *options.split(), "--cache", tmp_path / "cache")
    assert not (tmp_path / "f").exists()
