from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from data.collections.conftest import archive_of, birds, lay_out, pack

from oodml.cli import main
from oodml.data.collections import registry


@pytest.fixture
def small_birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive of few birds that goes by the name of cub200."""
    path = pack(tmp_path / "server" / "CUB_200_2011.tgz", birds())
    known = registry.find_collection("cub200")
    few = replace(known, classes=3, images=9, archives=(archive_of(path),))
    monkeypatch.setitem(registry._REGISTRY, "cub200", few)
    return path


def test_the_command_downloads_counts_and_says_how_to_go_on(
    small_birds: Path, tmp_path: Path
) -> None:
    root = tmp_path / "birds"
    for _ in range(2):
        result = CliRunner().invoke(main, ["dataset", "download", "cub200", "--root", str(root)])
        assert result.exit_code == 0, result.output
        assert "cub200: 9 images of 3 classes in 2 groups\n" in result.output
        assert f"cub200 --root {root}" in result.output
        small_birds.unlink(missing_ok=True)


def test_what_was_extracted_by_hand_needs_no_download(small_birds: Path, tmp_path: Path) -> None:
    small_birds.unlink()
    lay_out(tmp_path, birds())
    result = CliRunner().invoke(main, ["dataset", "download", "cub200", "--root", str(tmp_path)])
    assert result.exit_code == 0, result.output


def test_a_ladder_is_built_from_a_name_and_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = [f"{number:03d}.Bird_{number}" for number in range(1, 11)]
    few = replace(registry.find_collection("cub200"), classes=10, images=30)
    monkeypatch.setitem(registry._REGISTRY, "cub200", few)
    root, ladder = lay_out(tmp_path / "data", birds(classes)), tmp_path / "l.json"
    command = ["ladder", "build", "cub200", "--backbone", "tiny", "--cache", str(tmp_path / "c")]
    command += ["--rungs", "2", "--null", "0", "-o", str(ladder)]
    result = CliRunner().invoke(main, [*command, "--root", str(root)])
    assert result.exit_code == 0, result.output
    assert ladder.is_file()
    result = CliRunner().invoke(main, [*command, "--root", str(tmp_path / "no")], prog_name="oodml")
    assert result.exit_code == 1
    assert f"Type: oodml dataset download cub200 --root {tmp_path / 'no'}" in result.output
    assert "Traceback" not in result.output
