"""`oodml dataset check`: what it prints, writes and answers, and every line of trouble."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from oodml.cli import main
from oodml.commands.dataset import check_command
from oodml.data import load_dataset
from oodml.data.check.duplicates import MAX_DISTANCE
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split


def check(*arguments: str | Path) -> Result:
    given = ["dataset", "check", *[str(each) for each in arguments]]
    return CliRunner().invoke(main, given, prog_name="oodml")


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
    result = check(pool)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{pool}: 12 images of 5 classes, fingerprint ")
    assert lines[1] == (
        "duplicates across classes, which leak from training into test: 1 set of 3 images in all "
        "(0 exact, 1 near)"
    )
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
    assert "nothing wrong was found" in sound.stdout


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
    assert "rung 0: 1 of 5 test images (20.00%) have a copy in training: 1 exact, 0 near" in text
    assert "'c/copy.bmp' is in training as 'a/0.png'" in text


def test_a_ladder_made_without_the_broken_images_still_fits(pool: Path, rungs: Path) -> None:
    broken = pool / "a" / "-broken.png"
    broken.write_bytes(b"")
    try:
        record = json.loads(check(pool, "--ladder", rungs, "--format", "json").stdout)
    finally:
        broken.unlink()
    assert [each["name"] for each in record["broken"]] == ["a/-broken.png"]
    assert [(leak["exact"], leak["near"]) for leak in record["ladder"]] == [(1, 0), (0, 1), (0, 0)]


def test_every_trouble_is_one_line(pool: Path, rungs: Path, image_folder: Path) -> None:
    troubles: list[tuple[list[str | Path], int, str]] = [
        (["no-such"], 2, "unknown dataset 'no-such'"),
        ([pool / "gone"], 1, "there is no folder"),
        (["features.npz"], 1, "holds features"),
        ([pool, "--root", pool], 2, "root is for"),
        ([pool, "--max-distance", "65"], 2, "0<=x<=64"),
        ([pool, "--format", "xml"], 2, "'xml' is not one of"),
        ([pool, "--ladder", pool / "gone.json"], 1, "no ladder at"),
        ([image_folder, "--ladder", rungs], 1, "name the images that the ladder was built on"),
        ([pool, "-o", pool / "a" / "0.png" / "x.json"], 1, "0.png"),
    ]
    for arguments, status, words in troubles:
        result = check(*arguments)
        assert result.exit_code == status, (arguments, result.output)
        assert words in result.stderr.splitlines()[-1], (arguments, result.stderr)
        assert "Traceback" not in result.output


def birds(home: Path, classes: int) -> None:
    """Three images a class, in the layout of cub200."""
    labels = {f"{bird}.Bird/{n}.png": bird for bird in range(1, classes + 1) for n in range(3)}
    for name in labels:
        (home / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").save(home / "images" / name)
    lists = {
        "classes.txt": [f"{bird} {bird}.Bird_{bird}" for bird in set(labels.values())],
        "images.txt": [f"{row} {name}" for row, name in enumerate(labels)],
        "image_class_labels.txt": [f"{row} {bird}" for row, bird in enumerate(labels.values())],
    }
    for name, lines in lists.items():
        (home / name).write_text("\n".join(lines))


def test_a_half_downloaded_collection_is_found_wanting_with_the_status_of_findings(
    tmp_path: Path,
) -> None:
    birds(tmp_path / "CUB_200_2011", 3)
    (tmp_path / "CUB_200_2011/images/1.Bird").rename(tmp_path / "lost")
    result = check("cub200", "--root", tmp_path)
    assert result.exit_code == 0, result.output
    words = "not what the collection was published with: found are 2 of 200 classes and 6 of 11,788"
    assert words in result.stdout.splitlines()[1]
    assert "Type: oodml dataset download cub200 --root" in result.stdout
    record = json.loads(check("cub200", "--root", tmp_path, "--format", "json").stdout)
    assert record["counts"] == {
        "expected_classes": 200, "found_classes": 2, "expected_images": 11788, "found_images": 6,
    }  # fmt: skip
    assert check("cub200", "--root", tmp_path, "--strict").exit_code == 1
    built = CliRunner().invoke(main, ["ladder", "build", "cub200", "--root", str(tmp_path)])
    assert built.exit_code != 0


def test_an_unknown_subcommand_is_named_with_its_neighbours() -> None:
    result = CliRunner().invoke(main, ["dataset", "chek"], prog_name="oodml")
    assert result.exit_code == 2
    assert "Did you mean 'check'? Known: check, download." in result.stderr


def test_the_check_imports_no_torch(pool: Path) -> None:
    script = (
        "import sys\nfrom oodml.data.check import check_dataset\n"
        f"check_dataset({str(pool)!r})\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
