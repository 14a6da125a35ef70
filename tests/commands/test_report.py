"""`oodml report` as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands.conftest import done, refused
from eval.report.conftest import Pool, fill, make_pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    made = make_pool(tmp_path_factory.mktemp("report"))
    fill(made, ("frozen", "margin"), seeds=2)
    made.ladder.save(made.store.directory / "ladder.json")
    return made


def test_the_page_lands_beside_the_runs(pool: Pool) -> None:
    path = pool.store.directory / "report.html"
    assert f"written to {path} (" in done("report", pool.store.directory).output
    assert path.read_text().startswith("<!doctype html>")


def test_the_ladders_features_bring_plane_groups_and_gallery(pool: Pool, tmp_path: Path) -> None:
    pool.features.save(tmp_path / "features.npz")
    output = tmp_path / "page.html"
    done(
        "report", pool.store.directory, "--data", tmp_path / "features.npz", "-o", output,
        "--metric", "recall_at_2",
    )  # fmt: skip
    found = re.search(r'id="content">(.*?)</script>', output.read_text())
    assert found is not None
    content = json.loads(found[1])
    assert content["metric"] == "recall_at_2"
    assert len(content["ladder"]["classes"]["plane"]["x"]) == 24
    assert content["ladder"]["classes"]["groups"]["names"] == ["group 0", "group 1", "group 2"]
    assert [board["rung"] for board in content["gallery"]["boards"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["absent"], 1, "no directory absent"),
        (["{store}", "--metric", "recall_at1"], 2, "Did you mean 'recall_at_1'"),
        (["{store}", "--data", "absent.npz"], 1, "no feature file at absent.npz"),
        (["{store}", "--data", "emojy"], 2, "Did you mean 'emoji'"),
        (["{store}", "--dta", "x"], 2, "--data"),
    ],
)
def test_what_cannot_be_done_ends_in_one_line(
    pool: Pool, arguments: list[str], code: int, words: str
) -> None:
    given = [each.format(store=pool.store.directory) for each in arguments]
    assert words in refused(code, "report", *given)
