"""`oodml dataset check` and `download`: what they find, write and refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from commands.conftest import done, oodml, refused
from data.collections.conftest import archive_of, birds, lay_out, pack
from PIL import Image

from oodml.commands.dataset import check_command
from oodml.data import load_dataset
from oodml.data.check.duplicates import MAX_DISTANCE
from oodml.data.collections import registry
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split


def check(*arguments: object) -> Result:
    return oodml("dataset", "check", *arguments)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five classes of two noisy pictures each; one of `a` is in `b` again, smaller, and in `c`."""
    root = tmp_path_factory.mktemp("check") / "pool"
    random = np.random.default_rng(0)
    for name in "abcde":
        (root / name).mkdir(parents=True)
        for number in range(2):
            small = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)
            image.save(root / name / f"{number}.png")
    with Image.open(root / "a" / "0.png") as image:
        image.save(root / "c" / "copy.bmp")
        image.resize((48, 48)).save(root / "b" / "half.jpg", quality=40)
    return root


@pytest.fixture(scope="module")
def rungs(pool: Path, ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder of the pool whose rungs have the exact, the near and no copy across the sides."""
    dataset = load_dataset(pool)
    sides = [("ab", "cd"), ("ac", "bd"), ("abc", "de")]
    splits = [
        Split(tuple(train), tuple(test), replace(rung.shift, mean_term=10.0 * number))
        for number, ((train, test), rung) in enumerate(zip(sides, ladder.rungs, strict=True))
        if rung.shift is not None
    ]
    made = replace(
        ladder,
        features=replace(ladder.features, fingerprint=dataset.fingerprint),
        class_sizes=dict.fromkeys("abcde", 3),
        rungs=tuple(splits),
    )
    path = tmp_path_factory.mktemp("ladder") / "ladder.json"
    made.save(path)
    return path


def test_text_says_what_matters_most_first(pool: Path) -> None:
    lines = done("dataset", "check", pool).stdout.splitlines()
    assert lines[0].startswith(f"{pool}: 12 images of 5 classes, fingerprint ")
    assert "duplicates across classes" in lines[1] and "1 set of 3 images" in lines[1]
    assert lines[2].startswith("  'a/0.png', 'b/half.jpg', 'c/copy.bmp' (near, ")


def test_json_is_complete_and_goes_to_a_file(pool: Path, tmp_path: Path) -> None:
    printed = check(pool, "--format", "json")
    record = json.loads(printed.stdout)
    assert (record["schema"], record["images"], record["sound"]) == (2, 12, False)
    assert [each["images"] for each in record["across_classes"]] == [
        ["a/0.png", "b/half.jpg", "c/copy.bmp"]
    ]
    written = check(pool, "--format", "json", "-o", tmp_path / "deep" / "report.json")
    assert (written.exit_code, written.stdout) == (0, "")
    assert json.loads((tmp_path / "deep" / "report.json").read_text()) == record


def test_strict_answers_with_the_exit_status(pool: Path, image_folder: Path) -> None:
    assert check(pool, "--strict").exit_code == 1
    sound = check(image_folder, "--strict", "--max-distance", "0")
    assert sound.exit_code == 0, sound.output


def test_a_radius_of_zero_leaves_out_what_is_only_near(pool: Path) -> None:
    record = json.loads(check(pool, "--max-distance", "0", "--format", "json").stdout)
    assert [each["kind"] for each in record["across_classes"]] == ["exact"]
    default = next(each for each in check_command.params if each.name == "max_distance")
    assert default.default == MAX_DISTANCE


def test_leakage_is_counted_per_rung(pool: Path, rungs: Path) -> None:
    record = json.loads(check(pool, "--ladder", rungs, "--format", "json").stdout)
    counts = [(leak["test_images"], leak["exact"], leak["near"]) for leak in record["ladder"]]
    assert counts == [(5, 1, 0), (5, 0, 1), (4, 0, 0)]
    assert record["ladder"][0]["examples"] == [["c/copy.bmp", "a/0.png"]]
    text = check(pool, "--ladder", rungs).stdout
    assert "1 of 5 test images (20.00%)" in text and "'c/copy.bmp'" in text


def test_a_ladder_made_without_the_broken_images_still_fits(pool: Path, rungs: Path) -> None:
    broken = pool / "a" / "-broken.png"
    broken.write_bytes(b"")
    try:
        record = json.loads(check(pool, "--ladder", rungs, "--format", "json").stdout)
    finally:
        broken.unlink()
    assert [each["name"] for each in record["broken"]] == ["a/-broken.png"]
    assert [(leak["exact"], leak["near"]) for leak in record["ladder"]] == [(1, 0), (0, 1), (0, 0)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no-such"], 2, "'no-such'"),
        (["{pool}/gone"], 1, "gone"),
        (["features.npz"], 1, "holds features"),
        (["{pool}", "--root", "{pool}"], 2, "root"),
        (["{pool}", "--max-distance", "65"], 2, "0<=x<=64"),
        (["{pool}", "--ladder", "{pool}/gone.json"], 1, "gone.json"),
        (["{images}", "--ladder", "{rungs}"], 1, "fingerprint"),
        (["{pool}", "-o", "{pool}/a/0.png/x.json"], 1, "0.png"),
    ],
)
def test_trouble_is_one_line(
    arguments: list[str], code: int, words: str, pool: Path, rungs: Path, image_folder: Path
) -> None:
    given = [each.format(pool=pool, rungs=rungs, images=image_folder) for each in arguments]
    assert words in refused(code, "dataset", "check", *given)


def test_the_check_imports_no_torch(pool: Path) -> None:
    script = (
        "import sys\nfrom oodml.data.check import check_dataset\n"
        f"check_dataset({str(pool)!r})\nprint('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert finished.stdout.strip() == "False", finished.stderr


def test_a_half_downloaded_collection_is_a_finding(tmp_path: Path) -> None:
    root = lay_out(tmp_path, birds())
    record = json.loads(
        done("dataset", "check", "cub200", "--root", root, "--format", "json").stdout
    )
    assert record["counts"] == {
        "expected_classes": 200, "found_classes": 3, "expected_images": 11788, "found_images": 9,
    }  # fmt: skip
    assert "oodml dataset download cub200 --root" in check("cub200", "--root", root).stdout
    assert check("cub200", "--root", root, "--strict").exit_code == 1


@pytest.fixture
def small_birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive of few birds that goes by the name of cub200."""
    path = pack(tmp_path / "server" / "CUB_200_2011.tgz", birds())
    known = registry.find_collection("cub200")
    few = replace(known, classes=3, images=9, archives=(archive_of(path),))
    monkeypatch.setitem(registry._REGISTRY, "cub200", few)
    return path


def test_download_counts_and_needs_the_archive_once(small_birds: Path, tmp_path: Path) -> None:
    root = tmp_path / "birds"
    for _ in range(2):
        output = done("dataset", "download", "cub200", "--root", root).output
        assert "cub200: 9 images of 3 classes in 2 groups\n" in output
        assert f"cub200 --root {root}" in output
        small_birds.unlink(missing_ok=True)


def test_what_was_extracted_by_hand_needs_no_download(small_birds: Path, tmp_path: Path) -> None:
    small_birds.unlink()
    lay_out(tmp_path, birds())
    done("dataset", "download", "cub200", "--root", tmp_path)


def test_a_ladder_is_built_from_a_name_and_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = [f"{number:03d}.Bird_{number}" for number in range(1, 11)]
    few = replace(registry.find_collection("cub200"), classes=10, images=30)
    monkeypatch.setitem(registry._REGISTRY, "cub200", few)
    root, ladder = lay_out(tmp_path / "data", birds(classes)), tmp_path / "l.json"
    build = ("ladder", "build", "cub200", "--backbone", "tiny", "--cache", tmp_path / "c",
             "--rungs", 2, "--null", 0, "-o", ladder)  # fmt: skip
    done(*build, "--root", root)
    assert ladder.is_file()
    line = refused(1, *build, "--root", tmp_path / "no")
    assert f"oodml dataset download cub200 --root {tmp_path / 'no'}" in line
