"""What is installed, from what, and what the files about it say: they tell one story."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest

import oodml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def bounds(requirements: list[str]) -> dict[str, str]:
    """The lowest release of each requirement that has a lower bound, by name."""
    found = (re.match(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)", each) for each in requirements)
    return {match[1].lower(): match[2] for match in found if match}


def release(version: str) -> tuple[int, ...]:
    """1.26 and 1.26.0 are one release."""
    numbers = [int(part) for part in version.split(".")]
    return (*numbers, *[0] * (4 - len(numbers)))


def test_the_lowest_releases_that_are_allowed_are_those_that_are_tested() -> None:
    lines = (ROOT / ".ci" / "lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    declared = bounds([*PROJECT["dependencies"], *chain(*EXTRAS.values())])
    assert set(bounds(PROJECT["dependencies"])) <= set(pinned)
    assert len(bounds(PROJECT["dependencies"])) == len(PROJECT["dependencies"])
    assert {name: release(version) for name, version in pinned.items()} == {
        name: release(declared[name]) for name in pinned
    }


def test_every_extra_that_is_named_to_the_user_exists() -> None:
    pages = [*(ROOT / "oodml").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    named = set()
    for page in pages:
        for extras in re.findall(r"oodml\[([\w, ]+)\]", page.read_text(encoding="utf-8")):
            named |= {extra.strip() for extra in extras.split(",")}
    assert {"demo", "tune", "parquet"} <= named <= set(EXTRAS)


def test_python_is_declared_as_tested() -> None:
    versions = [
        line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line
    ]
    assert versions == ["3.11", "3.12", "3.13"] and PROJECT["requires-python"] == ">=3.11"


def test_one_version_and_one_licence_stand_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == oodml.__version__
    assert re.search(r"^license: (.+)$", citation, re.M)[1] == PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert oodml.__version__ in re.search(r"^## (.+)$", changes, re.M)[1]
    assert "arXiv:2107.09562" in citation


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_help_needs_no_heavy_import(arguments: list[str]) -> None:
    script = (
        "import sys, oodml.cli\n"
        f"try: oodml.cli.main({arguments})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'sklearn', 'faiss', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this source."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    script = (
        "import sys, hatchling.build as build\n"
        "build.build_sdist(sys.argv[1]); build.build_wheel(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", script, folder], cwd=ROOT, check=True)
    return folder


def sources() -> set[str]:
    files = (path for path in (ROOT / "oodml").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if path.suffix not in {".pyc", ".pyo"}}


def test_the_wheel_holds_the_package_its_data_and_its_licence(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == sources()
    data = {"py.typed", "eval/report/page.html", "eval/report/style.css", "published_curves.json"}
    assert all(any(name.endswith(each) for name in names) for each in data)
    assert any(name.endswith("licenses/LICENSE") for name in about)
    assert f"Version: {oodml.__version__}" in metadata and "License-Expression: MIT" in metadata
    assert {f"Provides-Extra: {extra}" for extra in EXTRAS} <= set(metadata.splitlines())


def test_the_sdist_holds_what_builds_and_tests_it_and_no_results(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert sources() <= names
    top = {name.partition("/")[0] for name in names}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "tests"}
    assert wanted | {"CITATION.cff", "docs", "examples", "Makefile", "pyproject.toml"} <= top
    assert ".ci" in top and not top & {"benchmarks", ".hypothesis", ".venv", "site"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".npz"))]
