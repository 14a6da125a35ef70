"""What a new user does first, with an installed oodml: a ladder, a run, a table and a report.

`PYTHON .ci/smoke.py` in an empty folder: the oodml installed for PYTHON is used, nothing is
downloaded, and anything amiss ends it with a non-zero code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

import oodml

OODML = Path(sys.executable).with_name("oodml")
FORBIDDEN = ("torch", "numpy", "scipy", "matplotlib", "sklearn", "faiss", "PIL")


def run(*arguments: str) -> str:
    """The standard output of one `oodml` command; its errors stop everything."""
    print("$ oodml", *arguments, flush=True)
    done = subprocess.run([OODML, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"oodml {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def check(fact: bool, what: str) -> None:
    if not fact:
        sys.exit(f"smoke test: {what}")


def check_installation() -> None:
    place = Path(oodml.__file__).resolve()
    check(place.is_relative_to(Path(sys.prefix).resolve()), f"{place} is not the installed package")
    check(run("--version").split()[-1] == version("oodml"), "--version is not the package's")
    code = "import sys, oodml.cli\ntry: oodml.cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += f"sys.exit(str(found) if (found := set(sys.modules) & set({FORBIDDEN})) else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    check(done.returncode == 0, f"oodml --help imports {done.stderr.strip()}")


def write_features(path: Path) -> None:
    """24 Gaussian classes on a line, so that some lie near each other and some far."""
    from oodml.features.features import Features, FeatureSource

    random = np.random.default_rng(0)
    means = np.linspace(-2, 2, 24)[:, None] * random.standard_normal(16)
    values = means[:, None] + random.standard_normal((24, 8, 16))
    source = FeatureSource("smoke", "0" * 16, "none", "0" * 64, "none", "fp32")
    names = tuple(f"class {number:02d}" for number in range(24))
    Features(
        values.reshape(-1, 16).astype(np.float32), np.repeat(np.arange(24), 8), names, source
    ).save(path)


def check_pipeline() -> None:
    check("margin" in run("list", "methods"), "the methods lack margin")
    write_features(Path("features.npz"))
    run("ladder", "build", "features.npz", "--rungs", "2", "--null", "0", "-o", "ladder.json")
    grid = ["-m", "frozen", "-m", "margin", "--seeds", "1", "--steps", "5", "--workers", "1"]
    run("run", "ladder.json", "--data", "features.npz", *grid, "-o", "results")
    table = json.loads(run("table", "results", "--format", "json"))
    check(len(table) > 0, "the table is empty")
    run("plot", "results")
    run("report", "results", "-o", "report.html")
    page = Path("report.html").read_text(encoding="utf-8")
    check("margin" in page and "http://" not in page.partition("<body")[0], "the report is amiss")


if __name__ == "__main__":
    check_installation()
    check_pipeline()
    print("smoke test passed: oodml", oodml.__version__, "on Python", sys.version.split()[0])
