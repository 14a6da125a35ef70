from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oodml.data import load_dataset
from oodml.errors import DataError, UsageError
from oodml.eval.figures import ladder as ladder_figures
from oodml.eval.figures.class_plane import plot_projection, project
from oodml.eval.figures.ladder import moves, plot_composition, plot_moves, plot_trajectory
from oodml.eval.figures.style import TEST, TRAIN, new_figure
from oodml.features.features import Features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.splits.measure import add_null


@pytest.fixture(scope="module")
def with_null(features: Features) -> Ladder:
    ladder = build_ladder(features, rungs=4, swap_size=2)
    return add_null(ladder, features, 5)


def grouped(ladder: Ladder) -> dict[str, str]:
    return {name: f"group {int(name[-3:]) // 6}" for name in ladder.class_sizes}


def views(ladder: Ladder, features: Features) -> dict[str, Callable[[Path], None]]:
    return {
        "trajectory": lambda path: plot_trajectory(ladder, path),
        "projection": lambda path: plot_projection(ladder, features, path),
        "composition": lambda path: plot_composition(ladder, grouped(ladder), path),
    }


@pytest.mark.parametrize("view", ["trajectory", "projection", "composition"])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_equal_ladders_give_equal_files(
    view: str, suffix: str, with_null: Ladder, features: Features, tmp_path: Path
) -> None:
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    for path in (first, second):
        views(with_null, features)[view](path)
    assert first.read_bytes() == second.read_bytes()
    if suffix == "png":
        assert len(np.unique(np.asarray(Image.open(first).convert("L")))) > 20
    with pytest.raises(UsageError, match=r"\.svg"):
        views(with_null, features)[view](tmp_path / "a.txt")


def drawn(ladder: Ladder) -> Any:
    axes = new_figure(4, 3).subplots()
    ladder_figures._shade_removal(axes, ladder)
    ladder_figures._draw_walk(axes, ladder)
    ladder_figures._draw_null(axes, ladder, np.array(ladder.rung_steps))
    return axes


def test_the_walk_the_null_and_the_removal_are_drawn(with_null: Ladder) -> None:
    axes = drawn(with_null)
    lines = axes.lines[0], axes.lines[-1]
    walk, null = (np.asarray(line.get_xydata())[:, 1] for line in lines)
    assert walk.tolist() == [step.fid for step in with_null.trajectory]
    shifts = [rung.shift for rung in with_null.rungs]
    assert null.tolist() == [shift.null_mean for shift in shifts if shift]
    first = next(i for i, step in enumerate(with_null.trajectory) if step.removed)
    assert axes.patches[0].get_x() == first - 0.5
    assert any("excess" in text.get_text() for text in axes.texts)


def test_a_ladder_without_null_is_drawn_too(with_null: Ladder, tmp_path: Path) -> None:
    bare = replace(
        with_null,
        rungs=tuple(replace(rung, shift=None, published_fid=rung.fid) for rung in with_null.rungs),
    )
    plot_trajectory(bare, tmp_path / "bare.png")
    axes = drawn(bare)
    assert not any("excess" in text.get_text() for text in axes.texts)


def test_shares_count_the_classes_of_each_side(with_null: Ladder) -> None:
    groups = grouped(with_null)
    names, shares, sizes = ladder_figures._shares(with_null, groups)
    assert sorted(names) == sorted(set(groups.values())) and sizes == [6] * 4
    for row, name in enumerate(names):
        for number, rung in enumerate(with_null.rungs):
            train = sum(groups[c] == name for c in rung.train_classes) / 6
            test = sum(groups[c] == name for c in rung.test_classes) / 6
            assert shares[row, number].tolist() == [train, test]
    leaning = shares[:, -1, 1] - shares[:, -1, 0]
    assert (np.diff(leaning) >= 0).all()
    with pytest.raises(DataError, match="'class 000'"):
        plot_composition(with_null, {}, Path("x.png"))


def test_the_plane_is_that_of_the_largest_variances() -> None:
    random = np.random.default_rng(0)
    means = random.standard_normal((40, 6)) * [9, 5, 1, 1, 1, 1] + 3
    plane, labels = project(means, "pca")
    values = np.linalg.eigvalsh(np.cov(means.T))
    assert np.var(plane, axis=0, ddof=1) == pytest.approx(values[::-1][:2])
    assert labels[0] == f"first component ({values[-1] / values.sum():.0%})"
    turned, _ = project(-means, "pca")
    assert np.abs(turned) == pytest.approx(np.abs(plane))
    with pytest.raises(UsageError, match="'pca'"):
        project(means, "pac")


def test_umap_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Fake:
        def __init__(self, **settings: Any) -> None:
            seen.update(settings)

        def fit_transform(self, means: Any) -> Any:
            return means[:, :2]

    means = np.arange(12.0).reshape(4, 3)
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Fake))  # type: ignore[arg-type]
    plane, labels = project(means, "umap")
    assert np.array_equal(plane, means[:, :2]) and labels[0] == "UMAP 1"
    assert seen["random_state"] == 0
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UsageError, match=r"pip install 'oodml\[umap\]'"):
        project(means, "umap")


def test_moves_are_what_changed_between_rungs(with_null: Ladder) -> None:
    found = {(number, kind): names for number, kind, names in moves(with_null)}
    for number in range(1, 4):
        before, after = with_null.rungs[number - 1], with_null.rungs[number]
        went = set(before.train_classes) & set(after.test_classes)
        assert set(found.get((number, "to_test"), ())) == went
        gone = set(before.train_classes + before.test_classes)
        gone -= set(after.train_classes + after.test_classes)
        assert set(found.get((number, "removed"), ())) == gone
    walk = with_null.trajectory[with_null.rung_steps[0] + 1 : with_null.rung_steps[1] + 1]
    late = {name: i for i, step in enumerate(walk) for name in step.to_test}
    shown = found[1, "to_test"]
    assert shown == sorted(shown, key=lambda name: (late[name], name))
    assert len({late[name] for name in shown}) > 1
    assert ladder_figures._spread(list("abcdefghi"), 3) == ["a", "e", "i"]


def test_moved_classes_are_shown_as_images(
    features: Features, image_folder: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(str(image_folder))
    pool = replace(features.subset(features.class_names[::2]), class_names=dataset.class_names)
    ladder = build_ladder(pool, rungs=2, swap_size=1, min_classes=3)
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    for path in (first, second):
        plot_moves(ladder, dataset, path, most=3)
    assert first.read_bytes() == second.read_bytes()
    pixels = np.asarray(Image.open(first).convert("RGB")).reshape(-1, 3)
    for color in (TEST, TRAIN):
        ink = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - ink).max(axis=1) < 40).any()
    with pytest.raises(DataError, match="no images"):
        plot_moves(build_ladder(features, rungs=2, swap_size=2), dataset, first)
    still = replace(ladder, rungs=ladder.rungs[:1], rung_steps=ladder.rung_steps[:1])
    with pytest.raises(DataError, match="no class moves"):
        plot_moves(still, dataset, first)
