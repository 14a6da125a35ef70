"""Imports point one way: a module may import what stands left of it."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import oodml

PACKAGE = Path(oodml.__file__).parent
LAYERS = [
    "ground",
    "data",
    "features",
    "fid",
    "splits",
    "runs",
    "eval",
    "train",
    "launch",
    "tune",
    "commands",
    "cli",
]
HOMES = {
    "oodml.errors": "ground",
    "oodml.seeding": "ground",
    "oodml.files": "ground",
    "oodml.records": "ground",
    "oodml.text": "ground",
    "oodml.device": "ground",
    "oodml.runs": "runs",
    "oodml.launch": "launch",
    "oodml.__main__": "cli",
    **{f"oodml.{name}": name for name in LAYERS if name != "ground"},
}


def layer(module: str) -> int:
    homes = [home for home in HOMES if module == home or module.startswith(home + ".")]
    assert homes, f"{module} has no layer; give it one in this test and in the design"
    return LAYERS.index(HOMES[homes[0]])


def imports(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            found.add(node.module or "")
    return {name for name in found if name.startswith("oodml.")}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_a_module_imports_only_what_stands_left_of_it(path: Path) -> None:
    module = ".".join(("oodml", *path.relative_to(PACKAGE).with_suffix("").parts))
    module = module.removesuffix(".__init__")
    if module == "oodml":
        return
    wrong = [name for name in imports(path.read_text()) if layer(name) > layer(module)]
    assert not wrong


def test_the_check_sees_an_import_to_the_right() -> None:
    assert imports("def f():\n    from oodml.commands.run import run_command\n") == {
        "oodml.commands.run"
    }
    assert layer("oodml.commands.run") > layer("oodml.fid.frechet")


@pytest.mark.parametrize("name", oodml.__all__)
def test_every_public_name_is_where_it_is_said_to_be(name: str) -> None:
    assert getattr(oodml, name).__name__.rpartition(".")[2] == name


@pytest.mark.parametrize("code", ["import oodml", "import oodml.cli; oodml.cli.main(['--help'])"])
def test_importing_oodml_and_its_help_do_not_import_torch(code: str) -> None:
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n" + code
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == "False"


@pytest.mark.parametrize("name", oodml.__all__)
def test_no_module_hides_a_public_name_once_it_is_imported(name: str) -> None:
    assert find_spec(f"oodml.{name}") is None


def test_no_two_test_modules_have_one_name() -> None:
    names = [path.name for path in Path(__file__).parent.rglob("*.py")]
    assert sorted(set(names)) == sorted(names), "pytest imports them by that name"
