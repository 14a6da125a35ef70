"""Every code block of README and docs does what it says, on a small folder of drawings.

What a page types is what is run; only how much is cut down (`CAPPED`, `REACHED`, small defaults).
What cannot be run here is in `PARSED_ONLY`, with the reason, and read by click to the end.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pages import (
    ROOT,
    Block,
    Drawing,
    blocks,
    enter,
    every_command,
    inline_code,
    pages,
    prepare,
    run,
)

from oodml.cli import main
from oodml.commands.grid_file import read_grids
from oodml.commands.run import run_command

BLOCKS = blocks()
# Typed numbers that only say how much; every one is cut down to this.
CAPPED = {"--seeds": "1", "--trials": "2", "--budget": "4", "--bootstrap": "20", "--null": "2"}
# FIDs and steps that the ladder of the drawings reaches.
REACHED = {"60,120,240": "0.5,1,2", "--steps=-10,0,6,16": "--steps=0,2,4"}
# Commands that a test cannot run: how they begin, and why.
PARSED_ONLY = {
    "oodml features emoji ": "takes minutes: 12,000 images",
    "oodml ladder plot ladder.json --view moves --data emoji ": "the ladder of those features",
    "oodml ladder export ladder.json --format pickle --data emoji ": "the ladder of those features",
    "oodml ladder import cars196_splits.pkl --data cars/ --backbone inception_v3 ": "a download",
    "oodml run ladder.json -m margin --backbone resnet50 ": "a download",
    "oodml run demo-results/ladder.json ": "the demo's results",
    "oodml run ladder.json -m all --seeds 5 -o /shared/results --launcher ray": "a Ray cluster",
    "oodml dataset download ": "a download",
    "oodml ladder build cub200 ": "a download",
    "torchrun ": "several processes; tests/train/test_distributed.py runs it",
    "sbatch ": "a Slurm cluster",
}
# Pages whose commands make everything they use but the photos.
FROM_SCRATCH = {"README.md"}
# Pages that start worker processes, each of which imports torch.
LONG = {"docs/determinism.md"}
# Flags of other programs that the pages name.
OF_OTHERS = {"--signal"}


def of(language: str) -> list[object]:
    own = [block for block in BLOCKS if block.language == language]
    # A network at its full input size takes seconds.
    slow = {block.name for block in own if "extract_features(" in block.text}
    return [
        pytest.param(b, id=b.name, marks=[pytest.mark.long] if b.name in slow else []) for b in own
    ]


def console_pages() -> list[object]:
    names = sorted({block.page for block in BLOCKS if block.language == "console"})
    return [pytest.param(n, marks=[pytest.mark.long] if n in LONG else []) for n in names]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, drawing: Drawing) -> Path:
    root = tmp_path_factory.mktemp("pages")
    prepare(root / "workspace", root / "cache", drawing)
    return root


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is prepared, as the working directory; registries are as before afterwards."""
    from oodml.eval.retrieval import metrics
    from oodml.train import registry

    registry.all_methods()
    for module in (registry, metrics):
        monkeypatch.setattr(module, "_REGISTRY", dict(module._REGISTRY))
    shutil.copytree(prepared / "workspace", tmp_path / "workspace")
    enter(tmp_path / "workspace", prepared / "cache", monkeypatch)
    return tmp_path / "workspace"


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {block.language for block in BLOCKS} <= {"console", "python", "toml", "text"}
    for block in BLOCKS:
        if block.language == "text":
            assert not re.search(r"^(\$|oodml|pip|make|git|python) ", block.text, re.M), block.name
    texts = [page.read_text(encoding="utf-8") for page in pages()]
    assert sum(len(re.findall(r"^ *```", text, re.M)) for text in texts) == 2 * len(BLOCKS)


@pytest.mark.parametrize("page", console_pages())
def test_the_commands_of_a_page_do_what_it_says(page: str, workspace: Path) -> None:
    if page in FROM_SCRATCH:
        for path in set(workspace.iterdir()) - {workspace / "photos"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for block in BLOCKS:
        if block.page == page and block.language == "console":
            assert len(block.commands()) == len(block.text.splitlines()), "a line is no command"
            for words in block.commands():
                carry_out(words)


def carry_out(words: list[str]) -> None:
    line = " ".join(words)
    if any(f"{line} ".startswith(start) for start in PARSED_ONLY):
        parse_to_the_end(words)
    elif words[0] == "oodml":
        run("oodml", *small(words[1:]))
    elif words[0] == "python":
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "True\n"
    else:
        check_that_it_names_what_there_is(words)


def small(words: list[str]) -> list[str]:
    """The same command with fewer seeds, trials and draws; all methods are only planned."""
    more = [word for option, value in CAPPED.items() if option in words for word in (option, value)]
    planned = ["--dry-run"] if "all" in words and words[0] == "run" and _is_whole(words) else []
    return [*(REACHED.get(word, word) for word in words), *more, *planned]


def _is_whole(words: list[str]) -> bool:
    return words[words.index("all") - 1] == "-m" and "--filter" not in words


def parse_to_the_end(words: list[str]) -> None:
    if words[0] == "sbatch":
        script = next(word for word in words if word.endswith(".sh"))
        assert (ROOT / script).is_file()
        words = ["oodml", "run", *words[words.index(script) + 1 :]]
    rest = words[words.index("oodml") + 1 :]
    command: click.Command = main
    context = click.Context(main, info_name="oodml", **main.context_settings)
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_context(command.name, rest, parent=context.parent).close()


def check_that_it_names_what_there_is(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), words
    elif words[:2] == ["pip", "install"]:
        name, _, extras = words[2].rstrip("]").partition("[")
        assert name in (project["name"], ".")
        assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"]), words
    else:
        assert words[:2] == ["git", "clone"], f"nobody checks {words}"


@pytest.mark.parametrize("block", of("python"))
def test_a_python_block_runs(block: Block, workspace: Path) -> None:
    path = workspace / "block.py"
    path.write_text(block.text)
    defined = re.search(r'^@method\("(\w+)"', block.text, re.M)
    if defined:
        plugin = ["-m", defined[1], "--plugin", str(path)]
        assert defined[1] in run("oodml train ladder.json --rung 0 -o own", *plugin)
    else:
        for spare in workspace.glob("photos/*/[23].png"):
            spare.unlink()
        exec(compile(block.text, block.name, "exec"), {"__name__": "block"})


@pytest.mark.parametrize("block", of("toml"))
def test_a_toml_block_is_read(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "block.toml"
    path.write_text(block.text)
    if "[[grid]]" in block.text:
        assert read_grids(path, run_command)
    else:
        assert CliRunner().invoke(main, ["--config", str(path), "list", "metrics"]).exit_code == 0


def test_code_within_a_sentence_names_what_there_is() -> None:
    commands = {" ".join(("oodml", *path)): flags_of(command) for path, command in every_command()}
    every_flag = set().union(*commands.values()) | OF_OTHERS
    for page, code in inline_code():
        typed = code.startswith("oodml ")
        command = max((name for name in commands if f"{code} ".startswith(f"{name} ")), default="")
        assert not typed or command != "oodml" or code[6] in "-[", f"{page}: `{code}`"
        if typed or code.startswith("--"):
            known = commands[command] if typed else every_flag
            unknown = set(re.findall(r"(?<!\S)--[a-z][\w-]*", code)) - known
            assert not unknown, f"{page}: `{code}`"
        for script in re.findall(r"^python (\S+)", code):
            assert (ROOT / script).exists(), f"{page}: `{code}`"


def flags_of(command: click.Command) -> set[str]:
    options = [option for option in command.params if isinstance(option, click.Option)]
    flags = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    return flags | {"--help"}


def test_what_is_only_parsed_stands_in_a_page() -> None:
    typed = [words for b in BLOCKS if b.language == "console" for words in b.commands()]
    lines = [" ".join(words) + " " for words in typed]
    for start in PARSED_ONLY:
        assert any(line.startswith(start) for line in lines), f"{start!r} is in no page any more"
