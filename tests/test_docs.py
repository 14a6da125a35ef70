"""What is generated stands in the docs as it is generated, and the site builds of it."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import oodml
from oodml.train.registry import all_methods

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_generated_pages_are_what_the_code_says() -> None:
    pages = runpy.run_path(str(DOCS / "generate"))["pages"]()
    assert {"methods.md", "commands.md", "names.md", "api.md", "backbones.md"} == set(pages)
    for name, text in pages.items():
        assert (DOCS / name).read_text() == text, (
            f"docs/{name} is not what the code says: python docs/generate"
        )


def test_the_tour_needs_no_weights_but_those_it_installs_and_says_how_to_shorten_a_try() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    measuring = re.findall(r"oodml (?:fid|features|ladder build)\b[^`\n]*", readme)
    assert len(measuring) >= 2
    assert all("--backbone efficientnet_lite0" in command for command in measuring)
    assert "`--steps 50`" in readme


def test_every_public_name_says_what_you_get() -> None:
    unsaid = [name for name in oodml.__all__ if not (getattr(oodml, name).__doc__ or "").strip()]
    assert not unsaid


def test_methods_name_a_source_that_can_be_found() -> None:
    source = re.compile(r"arXiv:\d{4}\.\d{4,5}$|10\.\d{4,}/\S+$|papers\.nips\.cc/paper/\d+$")
    for entry in all_methods().values():
        assert entry.paper == "-" or all(map(source.match, entry.paper.split(", "))), entry.name


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    index = (tmp_path / "site" / "index.html").read_text()
    assert "Where things are" in index and 'src="images/transfer.png"' in index
    reference = (tmp_path / "site" / "api.html").read_text()
    assert "frechet_distance" in reference and "Raises" in reference
