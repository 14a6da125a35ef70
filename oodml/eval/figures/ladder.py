"""Charts of a ladder: the walk with its rungs and null, its groups, and the classes that moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oodml.errors import DataError
from oodml.eval.figures.style import GREY, INK, REMOVED, TEST, TRAIN, new_figure, save_figure

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.fid.shift import Shift
    from oodml.splits.ladder import Ladder

_WALK = "#7B8794"
_SIDE = 0.42  # inches of one image
_GAP = 0.05
_PIXELS = 72
# Kind of move -> its name and colour.
_MOVES = {
    "to_test": ("to test", TEST),
    "to_train": ("to train", TRAIN),
    "removed": ("removed", GREY),
}


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


def plot_moves(ladder: Ladder, dataset: Dataset, path: str | Path, *, most: int = 12) -> None:
    """Write the classes that moved on the way to each rung, one image a class, `most` a strip.

    Shown are classes evenly spread over the steps in which they moved, first movers first; the
    number beside a strip counts all of them. Classes that moved and moved back are left out.
    Raises `DataError` if the images are not those of the ladder or nothing moved.
    """
    strips = moves(ladder)
    if not strips:
        raise DataError("no class moves between the rungs of this ladder.")
    _check_classes(ladder, dataset)
    left, top, step = 1.25, 0.08, _SIDE + _GAP
    rungs = sorted({number for number, _, _ in strips})
    height = top + len(strips) * step + 0.24 * len(rungs)
    with save_figure(path, dpi=160) as save:
        figure = new_figure(left + most * step + 0.05, height)
        y, last = height - top, None
        for number, kind, names in strips:
            if number != last:
                y -= 0.24
                _write(figure, 0.05, y + 0.07, _heading(ladder, number), "#333333", 8)
                last = number
            y -= step
            label, color = _MOVES[kind]
            _write(figure, 0.12, y + 0.16, f"{len(names)} {label}", color, 8)
            for column, name in enumerate(_spread(names, most)):
                _show(figure, _image(dataset, name), left + column * step, y + _GAP / 2, color)
        save(figure)


def moves(ladder: Ladder) -> list[tuple[int, str, list[str]]]:
    """(rung, kind, classes) of all that changed since the rung before, in the order of moving."""
    found = []
    for number in range(1, len(ladder.rungs)):
        before, after = ladder.rungs[number - 1], ladder.rungs[number]
        train, test = set(before.train_classes), set(before.test_classes)
        now_train, now_test = set(after.train_classes), set(after.test_classes)
        changed = {
            "to_test": train & now_test,
            "to_train": test & now_train,
            "removed": (train | test) - now_train - now_test,
        }
        order = _order(ladder, number)
        for kind, names in changed.items():
            if names:
                ranked = [(order.get((kind, name), 0), name) for name in sorted(names)]
                found.append((number, kind, [name for _, name in sorted(ranked)]))
    return found


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


def _order(ladder: Ladder, number: int) -> dict[tuple[str, str], int]:
    first, last = ladder.rung_steps[number - 1], ladder.rung_steps[number]
    return {
        (kind, name): index
        for index, step in enumerate(ladder.trajectory[first + 1 : last + 1])
        for kind in _MOVES
        for name in getattr(step, kind)
    }


def _heading(ladder: Ladder, number: int) -> str:
    before, after = ladder.rungs[number - 1], ladder.rungs[number]
    return f"rung {number - 1} to {number}   FID {before.fid:.1f} to {after.fid:.1f}"


def _spread(names: list[str], most: int) -> list[str]:
    if len(names) <= most:
        return names
    return [names[index] for index in np.linspace(0, len(names) - 1, most).round().astype(int)]


def _check_classes(ladder: Ladder, dataset: Dataset) -> None:
    missing = sorted(set(ladder.class_sizes) - set(dataset.class_names))
    if missing:
        raise DataError(
            f"{len(missing)} of the ladder's classes have no images in {dataset.name}, such as "
            f"{missing[0]!r}."
        )


def _image(dataset: Dataset, name: str) -> Any:
    image = dataset[int(dataset.of_classes([name])[0])][0]
    scale = _PIXELS / max(image.size)
    return np.asarray(image.resize([max(1, round(scale * edge)) for edge in image.size]))


def _write(figure: Any, x: float, y: float, text: str, color: str, size: float) -> None:
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, color=color, fontsize=size, va="bottom")


def _show(figure: Any, image: Any, x: float, y: float, color: str) -> None:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((x / width, y / height, _SIDE / width, _SIDE / height))
    axes.imshow(image, interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=color, linewidth=0.9)
