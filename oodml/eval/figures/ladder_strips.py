"""Image strips of the classes that moved between rungs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oodml.errors import DataError
from oodml.eval.figures.style import GREY, TEST, TRAIN, new_figure, save_figure

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.splits.ladder import Ladder

_SIDE = 0.42  # inches of one image
_GAP = 0.05
_PIXELS = 72
# Kind of move -> its name and colour.
_MOVES = {
    "to_test": ("to test", TEST),
    "to_train": ("to train", TRAIN),
    "removed": ("removed", GREY),
}


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
