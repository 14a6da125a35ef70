"""mkdocs hook: pages that stand in the repository's root belong to the site too, written once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
MEASURED = [
    path.relative_to(ROOT).as_posix()
    for folder in ("benchmarks/results", "tests/mutation", "tests/fuzz")
    for path in sorted((ROOT / folder).glob("*.md"))
]
# File of the repository -> its place on the site.
FROM_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "LICENSE": "LICENSE",
    "CITATION.cff": "CITATION.cff",
    "examples/slurm_array.sh": "examples/slurm_array.sh",
    **{name: name for name in MEASURED},
}


def on_files(files: Files, *, config: Any) -> Files:
    """The files of docs, and those of the root."""
    for name, place in FROM_ROOT.items():
        if (ROOT / name).exists():
            files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page with the links between root and docs as they are on the site."""
    text = re.sub(r"\]\((?:\./)?docs/", "](", markdown)
    for name, place in FROM_ROOT.items():
        text = re.sub(rf"\]\((?:\.\./)?{re.escape(name)}(?=[)#])", f"]({place}", text)
    return text
