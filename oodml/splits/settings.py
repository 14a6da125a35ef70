"""BuildSettings: everything besides the features that defines a ladder, as it is recorded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from oodml.records import checked_fields

SEARCHES = ("means", "transport", "best", "milbich2021")
UNITS = ("class", "group")


@dataclass(frozen=True)
class BuildSettings:
    """Everything besides the features that defines a ladder: equal settings rebuild equal bytes.

    `rungs` are chosen evenly, or nearest to `fids`, or at `steps` (counted from the start split,
    negative towards easier). `swap_size` counts units of exchange a side, classes or groups (`by`);
    `min_classes` always counts classes. `search` is one of `SEARCHES`, or "pair" for a ladder of
    two collections. `budget` is the number of exact distances that the search "best" may spend
    beyond the walk. `start` says in words where the start split comes from; if it was given and not
    drawn, `start_train` and `start_test` hold its classes.
    """

    rungs: int
    seed: int
    level: str
    train_fraction: float
    swap_size: int
    min_classes: int
    search: str = "means"
    budget: int = 0
    easier: bool = True
    by: str = "class"
    fids: tuple[float, ...] = ()
    steps: tuple[int, ...] = ()
    start: str = "random"
    start_train: tuple[str, ...] = ()
    start_test: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict for a JSON file."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, record: Any) -> BuildSettings:
        """The settings in a JSON dict; `DataError` for unknown, missing or misplaced values."""
        return cls(**checked_fields(cls, record, "the settings of a ladder"))
