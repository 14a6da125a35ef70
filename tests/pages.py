"""The code blocks of README and docs, and what their commands are run on.

The one module of tests/ that is imported and is no conftest.py: two tests of the pages read it.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from oodml.cli import main
from oodml.features.features import Features

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block: its page below the root, its first line there, its language and text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command of a console block, without prompts and comments."""
        typed = [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        return [shlex.split(line, comments=True) for line in typed]


def pages() -> list[Path]:
    """README and every page of docs, in the order of their names."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks() -> list[Block]:
    """Every fenced block of these pages."""
    return [block for page in pages() for block in _blocks_of(page)]


def _blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        yield Block(str(page.relative_to(ROOT)), line, match[1], match[2])


def inline_code() -> list[tuple[str, str]]:
    """(page, code) for everything between backticks outside of fenced blocks."""
    return [
        (str(page.relative_to(ROOT)), code)
        for page in pages()
        for code in _INLINE.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    ]


# Defaults of the options that no page types, given as OODML_* variables.
SMALL = {
    "BACKBONE": "tiny", "WORKERS": "1", "STEPS": "2", "TRAIN_BATCH_SIZE": "8", "EMBEDDING_DIM": "8",
    "NULL_DRAWS": "2", "TRIALS": "2", "SEEDS": "1", "IMAGE_SIZE": "32",
}  # fmt: skip
# Where these names mean something else, or ask for more than the page does.
NOT_SMALL = {
    ("ladder", "build", "STEPS"),
    ("ladder", "import", "BACKBONE"), ("ladder", "import", "IMAGE_SIZE"),
    ("run", "IMAGE_SIZE"), ("train", "IMAGE_SIZE"), ("tune", "IMAGE_SIZE"),
}  # fmt: skip
Drawing = Callable[[Path, int, int], None]


def every_command(
    group: click.Group = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """(words behind `oodml`, command) for every command and group."""
    yield path, group
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None, name
            if isinstance(command, click.Group):
                yield from every_command(command, (*path, name))
            else:
                yield (*path, name), command


def enter(directory: Path, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a folder the working directory, with small defaults."""
    patch.chdir(directory)
    patch.setenv("OODML_CACHE", str(cache))
    for path, command in every_command():
        names = {(parameter.name or "").upper() for parameter in command.params}
        for name in names & set(SMALL):
            if (*path, name) not in NOT_SMALL:
                patch.setenv("_".join(["OODML", *path, name]).upper(), SMALL[name])


def run(line: str, *more: str) -> str:
    """Carry out one command of oodml; what it printed."""
    words = [*line.split(), *more]
    result = CliRunner().invoke(main, words[1:], prog_name="oodml")
    assert result.exit_code == 0, f"{' '.join(words)}: {result.output}"
    return result.output


def prepare(root: Path, cache: Path, drawing: Drawing) -> None:
    """Put into `root` what the pages speak of: photos, tables, features, ladders, results."""
    for number in range(24):
        for sample in range(4):
            drawing(root / "photos" / f"kind {number:02d}" / f"{sample}.png", number, sample)
            for part in ("birds", "train") if number < 12 else ("cars", "test"):
                drawing(root / part / f"{part} {number}" / f"{sample}.png", number, sample)
    _write_tables(root)
    with pytest.MonkeyPatch.context() as patch:
        enter(root, cache, patch)
        run("oodml ladder build photos --swap-size 1")
        for source, name in [("photos.csv", "emoji"), ("birds", "a"), ("cars", "b")]:
            run("oodml features", source, "-o", f"{name}.npz")
        for part in ("birds", "cars"):
            run("oodml ladder build --rungs 3 --null 0", part, "-o", f"{part}.json")
        run("oodml ladder export cars.json --format pickle -o cars196_splits.pkl")
        run("oodml run ladder.json -m frozen -m margin --seeds 1")
        _write_embeddings(Features.load("emoji.npz"), root / "clip.npy")


def _write_tables(root: Path) -> None:
    kinds = sorted(path.name for path in (root / "photos").iterdir())
    with (root / "photos.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "group"])
        for number, kind in enumerate(kinds):
            for path in sorted((root / "photos" / kind).iterdir()):
                rows.writerow([path.relative_to(root), kind, f"group {number % 8}"])
    sides = [f"{kind},{'train' if number % 2 else 'test'}" for number, kind in enumerate(kinds)]
    (root / "split.csv").write_text("\n".join(["class,side", *sides]))
    (grid,) = (b for b in blocks() if b.page == "docs/clusters.md" and b.language == "toml")
    (root / "mine.toml").write_text(re.sub(r"(steps|seeds) = \d+", r"\1 = 1", grid.text))


def _write_embeddings(features: Features, path: Path) -> None:
    np.save(path, features.values)
    names = [features.class_names[label] for label in features.labels]
    path.with_suffix(".csv").write_text("\n".join(["label", *names]))
