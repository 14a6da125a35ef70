"""What is generated stands in the docs as it is generated, and the site builds of it."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_generated_pages_are_what_the_code_says() -> None:
    pages = runpy.run_path(str(DOCS / "generate"))["pages"]()
    assert {"methods.md", "commands.md", "names.md", "api.md", "modules/fid.md"} <= set(pages)
    for name, text in pages.items():
        assert (DOCS / name).read_text() == text, (
            f"docs/{name} is not what the code says: python docs/generate"
        )


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
    assert "60 seconds" in index and 'src="images/demo.png"' in index
    reference = (tmp_path / "site" / "api.html").read_text()
    assert "frechet_distance" in reference and "Raises" in reference
