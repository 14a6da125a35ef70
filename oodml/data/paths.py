"""Where the images of a dataset lie: many paths under one folder, in little memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt


class Paths(Sequence[Path]):
    """The paths `root / places[i]`, each made when it is asked for.

    Ten million `Path` objects take 4 GB; the places are as a rule the sample names, which a
    dataset holds anyway.
    """

    __slots__ = ("places", "root")

    def __init__(self, root: str | Path, places: Sequence[str]) -> None:
        self.root = os.fspath(root)
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Paths: ...
    def __getitem__(self, index: int | slice) -> Path | Paths:
        if isinstance(index, slice):
            return Paths(self.root, self.places[index])
        return Path(self.root, self.places[index])


def chosen(paths: Sequence[Path], rows: npt.NDArray[np.int64]) -> Sequence[Path]:
    """The paths of some rows, in their order.

    `rows` is an int64 array (n,).
    """
    if isinstance(paths, Paths):
        return Paths(paths.root, tuple(paths.places[row] for row in rows.tolist()))
    return tuple(paths[row] for row in rows.tolist())
