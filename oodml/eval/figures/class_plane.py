"""Chart of class means in a plane, coloured by the side of the split that each class is on."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oodml.errors import UsageError, unknown_name
from oodml.eval.figures.style import GREY, REMOVED, TEST, TRAIN, new_figure, save_figure
from oodml.fid.class_moments import ClassMoments

if TYPE_CHECKING:
    from oodml.features.features import Features
    from oodml.splits.ladder import Ladder

PROJECTIONS = ("pca", "umap")
Plane = npt.NDArray[np.float64]


def plot_projection(
    ladder: Ladder, features: Features, path: str | Path, *, projection: str = "pca"
) -> None:
    """Write the class means in a plane, train and test, for easiest, middle and hardest rung.

    One plane for all panels, fitted to all class means: "pca" (the axes say how much of their
    variance they hold) or "umap" (needs umap-learn; distances between clusters mean little).
    Crosses are the means of the sides, grey classes were removed. Raises `UsageError` for
    another projection or a missing package.
    """
    statistics = ClassMoments.from_features(features)
    plane, labels = project(statistics.means, projection)
    rungs = sorted({0, len(ladder.rungs) // 2, len(ladder.rungs) - 1})
    with save_figure(path, dpi=190) as save:
        figure = new_figure(0.5 + 2.05 * len(rungs), 2.75)
        grid = figure.subplots(1, len(rungs), sharex=True, sharey=True, squeeze=False)[0]
        for axes, number in zip(grid, rungs, strict=True):
            _draw_rung(axes, ladder, number, statistics, plane)
        grid[0].set_ylabel(labels[1])
        grid[len(rungs) // 2].set_xlabel(labels[0])
        _name_sides(figure)
        save(figure)


def project(means: Plane, projection: str) -> tuple[Plane, tuple[str, str]]:
    """Means (n, d) in a plane (n, 2) and the names of its axes; deterministic."""
    if projection == "umap":
        return _umap(means), ("UMAP 1", "UMAP 2")
    if projection != "pca":
        raise unknown_name("projection", projection, PROJECTIONS)
    centred = means - means.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    plane = left[:, :2] * singular[:2]
    # The sign of a singular vector is arbitrary; this one does not depend on the library.
    plane *= np.where(np.abs(plane.min(axis=0)) > plane.max(axis=0), -1.0, 1.0)
    part = singular**2 / (singular**2).sum()
    return plane, (f"first component ({part[0]:.0%})", f"second component ({part[1]:.0%})")


def _umap(means: Plane) -> Plane:
    try:
        umap = import_module("umap")
    except ImportError:
        raise UsageError(
            "projection 'umap' needs a package that is not installed; "
            "type: pip install 'oodml[umap]', or take projection='pca'."
        ) from None
    plane: Plane = np.asarray(umap.UMAP(random_state=0, n_jobs=1).fit_transform(means), np.float64)
    return plane


def _draw_rung(
    axes: Any, ladder: Ladder, number: int, statistics: ClassMoments, plane: Plane
) -> None:
    rung = ladder.rungs[number]
    train, test = (statistics.indices(side) for side in (rung.train_classes, rung.test_classes))
    gone = np.setdiff1d(np.arange(len(plane)), np.concatenate([train, test]))
    size = float(np.clip(2500 / len(plane), 2.5, 14))
    axes.scatter(*plane[gone].T, s=size * 0.7, color=REMOVED, linewidth=0, rasterized=True)
    # Neither side may hide the other, so points are drawn in one shuffled order.
    shown = np.concatenate([train, test])
    colors = np.array([TRAIN] * len(train) + [TEST] * len(test))
    order = np.random.default_rng(0).permutation(len(shown))
    axes.scatter(*plane[shown[order]].T, s=size, c=colors[order], alpha=0.75, linewidth=0,
                 rasterized=True)  # fmt: skip
    for side, color in ((train, TRAIN), (test, TEST)):
        axes.plot(*plane[side].mean(axis=0), "X", color=color, markersize=8.5,
                  markeredgecolor="white", markeredgewidth=1.1)  # fmt: skip
    axes.set_title(f"rung {number}   FID {rung.fid:.1f}", fontsize=8.5)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#CCCCCC")


def _name_sides(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", marker="o", markersize=4, color=color, label=name)
        for name, color in (("train class", TRAIN), ("test class", TEST), ("removed", REMOVED))
    ]
    handles.append(
        Line2D(
            [],
            [],
            linestyle="none",
            marker="X",
            markersize=6,
            color=GREY,
            markeredgecolor="white",
            label="mean of a side",
        )
    )
    figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=7.5,
                  handletextpad=0.1, columnspacing=1.4)  # fmt: skip
    width = figure.get_figwidth()
    figure.subplots_adjust(left=0.3 / width, right=1 - 0.05 / width, top=0.91, bottom=0.185,
                           wspace=0.04)  # fmt: skip
