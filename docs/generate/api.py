"""docs/api.md and docs/modules/: what mkdocstrings is to show, read off the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import oodml

PACKAGE = Path(oodml.__file__).parent
_API = """# From Python

The names of `import oodml`. Each is loaded on first use, so the import itself does not take torch
in. Written by `python docs/generate`; the site shows signature and docstring in place of each line
that begins with `:::`.
"""
_LAYER = """The public functions and classes of every module, written by `python docs/generate`; the
site shows signature and docstring in place of each line that begins with `:::`.
"""
# The layers in the order in which they may import each other; "" is the package's own modules.
LAYERS = {
    "data": ("Data", "Labelled pools of images: folders, tables, named collections."),
    "fid": ("Features and shift", "Frozen networks, features, and the distance between sets."),
    "splits": ("Splits and ladders", "Class splits, the walk that makes ladders, exchange."),
    "": ("Runs and records", "What defines a run, where runs are kept, errors, seeds, files."),
    "eval": ("Evaluation", "Retrieval, clusters, geometry, statistics, charts, the report."),
    "train": ("Training", "The registry of methods, the loop, adaptation to a few images."),
    "launch": ("Launching", "Grids done by processes, torchrun, Slurm or Ray."),
    "tune": ("Tuning", "Hyperparameters by validation classes."),
}


def page() -> str:
    """The page of the public names as Markdown."""
    names = "".join(
        f"\n::: {oodml._HOMES[name]}.{name}\n    options:\n      heading_level: 2\n"
        for name in oodml.__all__
    )
    return _API + names


def module_pages() -> dict[str, str]:
    """The page of each layer by its path below docs."""
    return {f"modules/{layer or 'runs'}.md": _layer(layer) for layer in LAYERS}


def _layer(layer: str) -> str:
    title, what = LAYERS[layer]
    head = f"# {title}\n\n{what}\n\n{_LAYER}"
    return head + "".join(f"\n::: {module}\n" for module in _modules(layer))


def _modules(layer: str) -> Iterator[str]:
    folder = PACKAGE / layer
    for path in sorted(folder.rglob("*.py") if layer else folder.glob("*.py")):
        if path.stem != "__main__" and _has_public_names(path):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__")


def _has_public_names(path: Path) -> bool:
    kinds = (ast.FunctionDef, ast.ClassDef)
    body = ast.parse(path.read_text()).body
    return any(isinstance(node, kinds) and not node.name.startswith("_") for node in body)
