"""Charts of a ladder: the walk with its rungs and null, and where each group's classes stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oodml.errors import DataError
from oodml.eval.figures.style import GREY, INK, REMOVED, TEST, TRAIN, new_figure, save_figure

if TYPE_CHECKING:
    from oodml.fid.shift import Shift
    from oodml.splits.ladder import Ladder

_WALK = "#7B8794"


def plot_trajectory(ladder: Ladder, path: str | Path) -> None:
    """Write FID along the trajectory: chosen rungs by number, null band, removal part shaded.

    The band spans two standard deviations about the null mean of each rung (`ladder build
    --null`); where rungs of different sizes follow each other it is joined straight.
    Equal ladders give equal bytes; PNG, SVG or PDF by suffix.
    """
    with save_figure(path) as save:
        figure = new_figure(4.6, 3.1)
        axes = figure.subplots()
        x = np.array(ladder.rung_steps)
        fids = [rung.fid for rung in ladder.rungs]
        _shade_removal(axes, ladder)
        _draw_walk(axes, ladder)
        _draw_null(axes, ladder, x)
        axes.scatter(x, fids, s=74, color=TEST, edgecolor="white", linewidth=0.8, zorder=4)
        for number, (step, fid) in enumerate(zip(x, fids, strict=True)):
            axes.text(step, fid, str(number), color="white", fontsize=6.5, ha="center",
                      va="center_baseline", zorder=5)  # fmt: skip
        _dress(figure, axes, ladder)
        save(figure)


def _draw_walk(axes: Any, ladder: Ladder) -> None:
    fids = [step.fid for step in ladder.trajectory]
    axes.plot(range(len(fids)), fids, color=_WALK, linewidth=1.2, zorder=2)
    kinds = [step.kind for step in ladder.trajectory]
    start = kinds.index("start") if "start" in kinds else 0
    if start and start not in ladder.rung_steps:
        axes.plot([start], [fids[start]], "D", color=INK, markersize=3.5, zorder=3)
    if start:
        axes.annotate("start", (start, fids[start]), (-3, 6), textcoords="offset points",
                      fontsize=7, color=GREY, ha="right")  # fmt: skip


def _shade_removal(axes: Any, ladder: Ladder) -> None:
    removals = [i for i, step in enumerate(ladder.trajectory) if step.removed]
    if not removals:
        return
    left, right = removals[0] - 0.5, len(ladder.trajectory) - 0.5
    axes.axvspan(left, right, color="#F1EEE6", linewidth=0, zorder=0)
    axes.text(left, 0.985, " removal", transform=axes.get_xaxis_transform(), fontsize=7,
              color=GREY, va="top")  # fmt: skip


def _draw_null(axes: Any, ladder: Ladder, x: Any) -> None:
    known = [
        (step, rung.shift.null_mean, rung.shift.null_sd, rung.shift)
        for step, rung in zip(x, ladder.rungs, strict=True)
        if rung.shift and rung.shift.null_mean is not None and rung.shift.null_sd is not None
    ]
    if not known:
        return
    steps, means, sds = (np.array([row[i] for row in known], np.float64) for i in range(3))
    axes.fill_between(steps, means - 2 * sds, means + 2 * sds, color=TRAIN, alpha=0.22,
                      linewidth=0, zorder=1)  # fmt: skip
    axes.plot(steps, means, color=TRAIN, linewidth=1, zorder=2)
    _mark_excess(axes, steps[-1], known[-1][3])


def _mark_excess(axes: Any, step: float, shift: Shift) -> None:
    """An arrow from the null to the hardest rung: what is left when size is accounted for."""
    if shift.excess is None or shift.null_mean is None or shift.excess <= 0:
        return
    ends = {"xy": (step, shift.fid), "xytext": (step, shift.null_mean)}
    axes.annotate(
        "",
        **ends,
        zorder=1,
        arrowprops={
            "arrowstyle": "<->",
            "color": GREY,
            "linewidth": 0.7,
            "shrinkA": 4,
            "shrinkB": 7,
        },
    )
    axes.annotate(f"excess {shift.excess:.4g}", (step, (shift.fid + shift.null_mean) / 2), (-3, 0),
                  textcoords="offset points", ha="right", va="center", fontsize=7,
                  color=GREY)  # fmt: skip


def _dress(figure: Any, axes: Any, ladder: Ladder) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    axes.set_xlabel(
        "step along the walk" if len(ladder.trajectory) > len(ladder.rungs) else "split"
    )
    axes.set_ylabel(ladder.fid_label())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.03)
    whole = len(ladder.trajectory) > len(ladder.rungs)
    name = "walk with the chosen rungs" if whole else "splits"
    handles: list[Any] = [
        Line2D([], [], color=_WALK, marker="o", markerfacecolor=TEST, markeredgecolor="white",
               markersize=7, label=name),
    ]  # fmt: skip
    shift = ladder.rungs[0].shift
    if shift is not None and shift.null_mean is not None:
        label = f"random splits of the same sizes\n(mean ± 2 sd of {shift.null_draws})"
        handles.append(Patch(facecolor=TRAIN, alpha=0.4, label=label))
    axes.legend(handles=handles, loc="upper left", fontsize=7.2, framealpha=1, edgecolor="white",
                borderaxespad=0.2, bbox_to_anchor=(0.0, 0.99))  # fmt: skip
    figure.subplots_adjust(left=0.13, right=0.965, top=0.97, bottom=0.14)


def plot_composition(ladder: Ladder, groups: Mapping[str, str], path: str | Path) -> None:
    """Write, for every group and rung, which share of the group's classes stands on which side.

    `groups` maps every class of the pool to its group. Train fills from the left, test from the
    right; what lies between was removed. Groups are ordered by their share of test classes on the
    hardest rung. Raises `DataError` if a class has no group.
    """
    lacking = sorted(set(ladder.class_sizes) - set(groups))
    if lacking:
        raise DataError(f"{len(lacking)} classes have no group, such as {lacking[0]!r}.")
    names, shares, sizes = _shares(ladder, groups)
    with save_figure(path) as save:
        rungs = len(ladder.rungs)
        figure = new_figure(1.9 + 0.72 * rungs, 0.75 + 0.235 * len(names))
        grid = figure.subplots(1, rungs, sharey=True, squeeze=False)[0]
        y = np.arange(len(names))
        for number, axes in enumerate(grid):
            train, test = shares[:, number, 0], shares[:, number, 1]
            axes.barh(y, 1.0, color=REMOVED, height=0.74)
            axes.barh(y, train, color=TRAIN, height=0.74)
            axes.barh(y, test, left=1 - test, color=TEST, height=0.74)
            axes.axvline(0.5, color="white", linewidth=0.7)
            axes.set_title(f"rung {number}\nFID {ladder.rungs[number].fid:.0f}", fontsize=7.5)
            axes.set(xlim=(0, 1), xticks=[])
            axes.spines[:].set_visible(False)
            axes.tick_params(left=False)
        labels = [f"{name}  ({size})" for name, size in zip(names, sizes, strict=True)]
        grid[0].set_yticks(y, labels, fontsize=7.5)
        grid[0].set_ylim(-0.6, len(names) - 0.4)
        _name_sides(figure, bool((shares.sum(axis=2) < 1 - 1e-9).any()))
        save(figure)


def _shares(ladder: Ladder, groups: Mapping[str, str]) -> tuple[list[str], Any, list[int]]:
    """Group names, shares (groups, rungs, train and test), and classes per group."""
    members: dict[str, set[str]] = {}
    for name in ladder.class_sizes:
        members.setdefault(groups[name], set()).add(name)
    sides = [(set(rung.train_classes), set(rung.test_classes)) for rung in ladder.rungs]

    def share(group: str, side: set[str]) -> float:
        return len(members[group] & side) / len(members[group])

    def order(group: str) -> tuple[float, str]:
        train, test = sides[-1]
        return share(group, test) - share(group, train), group

    names = sorted(members, key=order)
    shares = np.array([[[share(g, side) for side in pair] for pair in sides] for g in names])
    return names, shares, [len(members[name]) for name in names]


def _name_sides(figure: Any, removed: bool) -> None:
    from matplotlib.patches import Patch

    handles: Sequence[Any] = [
        Patch(facecolor=TRAIN, label="train"),
        *([Patch(facecolor=REMOVED, label="removed")] if removed else []),
        Patch(facecolor=TEST, label="test"),
    ]
    height = figure.get_figheight()
    width = figure.get_figwidth()
    figure.subplots_adjust(left=1.75 / width, right=0.99, top=1 - 0.42 / height,
                           bottom=0.3 / height, wspace=0.1)  # fmt: skip
    figure.legend(handles=handles, loc="lower right", ncols=3, frameon=False, fontsize=7.5,
                  handlelength=1.2, bbox_to_anchor=(1.0, -0.01))  # fmt: skip
