"""From a folder of photos to a report with nothing but the README, typed as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import Block, blocks
from PIL import Image

pytestmark = pytest.mark.long


def block_with(text: str) -> Block:
    (found,) = (b for b in blocks() if b.page == "README.md" and text in b.text)
    return found


def take_photos(folder: Path) -> None:
    """24 classes of 4: the same piece of a photograph, seen from a little further left or below."""
    from sklearn.datasets import load_sample_images

    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        photo = Image.fromarray(pixels)
        for number in range(12):
            left, top = 20 + 145 * (number % 4), 10 + 135 * (number // 4)
            place = folder / f"{name} {number}"
            place.mkdir(parents=True)
            for shift in range(4):
                box = (left + 9 * shift, top + 6 * (shift % 2), left + 120, top + 110)
                photo.crop(box).save(place / f"DSC_{shift}.JPG")


def test_from_a_folder_of_photos_to_a_report(tmp_path: Path) -> None:
    take_photos(tmp_path / "photos")
    environment = {**os.environ, "OODML_CACHE": str(tmp_path / "cache"), "OODML_RUN_STEPS": "20"}
    printed = {}
    for words in block_with("oodml report results").commands():
        if words[0] == "pip":
            continue
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        printed[words[1]] = done.stdout
    assert "66 runs" in printed["run"] and "216 runs done" in printed["run"]
    assert all(method in printed["table"] for method in ("frozen", "margin", "proxy_anchor"))
    assert len(re.findall(r"\bFID \d", printed["table"])) == 6 and "AGS" in printed["table"]
    for chart in ("recall_at_1.png", "recall_at_1-transfer.png"):
        assert (tmp_path / "results" / chart).stat().st_size > 10_000
    page = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert page.count("/9j/") > 24, "there are no pictures on the page"
    assert all(name in page for name in ("china 0", "flower 11", "proxy_anchor"))
