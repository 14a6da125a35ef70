"""The method, the metric and the collection of CONTRIBUTING.md work as they are printed there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from oodml.data.collections import registry as collection
from oodml.data.collections.download import load_collection
from oodml.data.load import load_dataset
from oodml.errors import DataError, UsageError
from oodml.eval.retrieval import metrics
from oodml.eval.retrieval.evaluate import evaluate, metric_names
from oodml.features.features import Features
from oodml.splits.ladder import Ladder
from oodml.train import methods, registry

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Each code block as a file, by the heading above it; what they register is forgotten after."""
    registry.all_methods()
    collection.all_collections()
    for module in (registry, metrics, collection):
        monkeypatch.setattr(module, "_REGISTRY", dict(module._REGISTRY))
    found = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", page(), re.M | re.S)
    paths = {heading: tmp_path / f"{heading.replace(' ', '_').lower()}.py" for heading, _ in found}
    for heading, code in found:
        paths[heading].write_text(code)
    return paths


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_python_block_is_run_here(examples: dict[str, Path]) -> None:
    assert set(examples) == {"A method", "A composite method", "A metric", "A collection"}
    assert page().count("```python") == len(examples)


def test_the_method_trains(examples: dict[str, Path]) -> None:
    registry.load_plugin(examples["A method"])
    name, hyperparameters = registry.parse_method("my_pairs:margin=0.3")
    entry = registry.get_method(name)
    assert entry.settings == {"samples_per_class": 4} and entry.summary.endswith(".")
    criterion = entry.build_with(2, 2, hyperparameters)
    embeddings = torch.eye(2).repeat_interleave(2, 0).requires_grad_()
    loss = criterion(embeddings, torch.tensor([0, 0, 1, 1]))
    # Of 12 pairs 4 are positives of cosine 1, 0.7 above the margin; 8 are negatives of cosine 0.
    pair = [np.logaddexp(0, -16 * 0.7), np.logaddexp(0, -16 * 0.3)]
    assert loss.item() == pytest.approx((4 * pair[0] + 8 * pair[1]) / 12, rel=1e-5)
    loss.backward()
    assert embeddings.grad is not None and embeddings.grad.abs().sum() > 0


def test_the_method_is_found_as_a_file_of_the_package(
    examples: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "methods").mkdir()
    examples["A method"].rename(tmp_path / "methods" / "my_pairs.py")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "methods")])
    registry._import_families.cache_clear()
    entry = registry.get_method("my_pairs")
    assert entry.family == "my_pairs" and entry.hyperparameters == {"margin": 0.5, "scale": 16.0}
    assert isinstance(entry.criterion(2, 2, {"margin": 0.3}), torch.nn.Module)
    registry._import_families.cache_clear()


def test_the_metric_is_measured(examples: dict[str, Path], features: Features) -> None:
    registry.load_plugin(examples["A metric"])
    unit = features.values / np.linalg.norm(features.values, axis=1, keepdims=True)
    similarity = unit.astype(np.float64) @ unit.T
    np.fill_diagonal(similarity, -2)
    nearest = np.argsort(-similarity, axis=1)[:, :5]
    expected = (features.labels[nearest] == features.labels[:, None]).mean()
    scores = evaluate(features, metrics=["precision_at_5", "precision_at_1"])
    assert scores["precision_at_5"] == pytest.approx(expected, abs=1e-9)
    assert dict(metric_names())["precision_at_K"].startswith("The share of the K nearest")
    with pytest.raises(UsageError, match="unknown metric 'precision_at_K'"):
        evaluate(features, metrics=["precision_at_K"])


def test_the_metric_is_taken_by_the_command_line(
    examples: dict[str, Path], features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    from oodml.cli import main

    features.save(tmp_path / "mine.npz")
    ladder.save(tmp_path / "ladder.json")
    arguments = ["evaluate", "mine.npz", "--ladder", "ladder.json", "--metric", "precision_at_3"]
    plugin = ["--plugin", str(examples["A metric"])]
    done = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = [CliRunner().invoke(main, [*arguments, *more]) for more in ([], plugin)]
    assert done[0].exit_code == 2 and "unknown metric 'precision_at_3'" in done[0].output
    assert done[1].exit_code == 0, done[1].output
    records = list((tmp_path / "results" / "runs").glob("*/run.json"))
    assert len(records) == 3 and all("precision_at_3" in path.read_text() for path in records)


def test_two_metrics_of_one_name_are_refused(examples: dict[str, Path], tmp_path: Path) -> None:
    registry.load_plugin(examples["A metric"])
    registry.load_plugin(examples["A metric"])  # the same file a second time is the same metric
    other = tmp_path / "other.py"
    other.write_text(examples["A metric"].read_text())
    with pytest.raises(UsageError, match="two metrics are called 'precision_at_K'"):
        registry.load_plugin(other)


def test_the_collection_is_loaded_and_counted(examples: dict[str, Path], tmp_path: Path) -> None:
    registry.load_plugin(examples["A collection"])
    trees = [f"images/{number}.jpg {tree}" for number, tree in enumerate(["ash", "elm", "oak"] * 2)]
    home = tmp_path / "leaves"
    (home / "images").mkdir(parents=True)
    for line in trees:
        (home / line.split()[0]).write_bytes(b"not decoded here")
    (home / "list.txt").write_text("\n".join(trees) + "\n")
    pool = load_dataset("leaves", root=home)
    assert pool.class_names == ("ash", "elm", "oak") and len(pool) == 6
    (home / "list.txt").write_text("\n".join(trees[:5]) + "\n")
    with pytest.raises(DataError, match="must have 3 classes and 6 images"):
        load_collection(collection.find_collection("leaves"), home)


def content(root: Path) -> dict[str, str]:
    """The digest of every file but what running Python leaves."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".hypothesis" not in path.parts
    }


@pytest.mark.long
@pytest.mark.parametrize(
    ("heading", "name"), [("A method", "my_pairs"), ("A composite method", "classified_pairs")]
)
def test_a_method_is_one_file_and_a_generated_page(
    heading: str, name: str, examples: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    for folder in ("oodml", "tests", "docs", "examples", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for path in [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]:
        shutil.copy(path, copy)
    before = content(copy)
    shutil.copy(examples[heading], copy / "oodml" / "train" / "methods" / f"{name}.py")
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    conformance = "tests/train/test_conformance.py"
    for arguments in (
        ["docs/generate"],
        ["-m", "pytest", "-n0", "-p", "no:cacheprovider", conformance, "-k", name],
        ["-m", "pytest", "-n0", "-p", "no:cacheprovider", "tests/test_docs.py",
         "tests/test_layering.py", "tests/train/test_registry.py"],
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    after = content(copy)
    assert {each for each in after if before.get(each) != after[each]} == {
        f"oodml/train/methods/{name}.py", "docs/methods.md",
    }  # fmt: skip
