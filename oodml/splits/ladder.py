"""Ladder: splits of one dataset in strictly increasing shift, and how they were made."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oodml.errors import DataError
from oodml.features.features import FeatureSource
from oodml.files import digest, read_json, write_json
from oodml.records import checked_fields
from oodml.splits.episodes import (
    Episodes,
    check_episodes,
    episodes_from_json,
    episodes_to_json,
)
from oodml.splits.split import Split

SCHEMA = 3
SEARCHES = ("means", "transport", "best", "milbich2021")
UNITS = ("class", "group")
# Level, network and input of FIDs that came in a file without them.
NOT_STATED = "not stated"


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


@dataclass(frozen=True)
class Step:
    """One split of the trajectory, easiest first: its FID, and what changed since the one before.

    `kind` says how the walk reached it: "start"; "easier" on the easy side of the start; "swap"
    and "removal" on the hard side; "pair" for a split between two collections.
    """

    kind: str
    fid: float
    to_test: tuple[str, ...] = ()
    to_train: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class FormerRuler:
    """What had measured a ladder's splits before, and the FID of every rung then."""

    features: FeatureSource
    level: str
    fids: tuple[float, ...]

    def fid_label(self) -> str:
        """The words that must stand beside every one of these FIDs."""
        return f"FID ({self.level} level, {self.features.backbone})"


@dataclass(frozen=True)
class Ladder:
    """Splits of one dataset in strictly increasing FID.

    `class_sizes` holds the number of samples of every class of the pool; `trajectory` every
    accepted step, of which `rung_steps` names those that became `rungs`; `stopped` the reason
    why the trajectory ended. `source` is a hint where the data was found, not an identity.
    `validation` and `episodes`, if any, hold the validation classes and few-shot episodes that
    came with published splits, one set per rung, empty for a rung that came without
    (`validation_of` and `episodes_of` give or draw them). `class_sizes` of 0 are unknown ones.
    `features` is the ruler; `former` the one under which the splits had been measured before, if
    they were measured anew.
    """

    features: FeatureSource
    source: str
    class_sizes: dict[str, int]
    settings: BuildSettings
    trajectory: tuple[Step, ...]
    stopped: str
    rung_steps: tuple[int, ...]
    rungs: tuple[Split, ...]
    validation: tuple[tuple[str, ...], ...] = ()
    episodes: tuple[Episodes, ...] = ()
    former: FormerRuler | None = None

    def __post_init__(self) -> None:
        fids = [rung.fid for rung in self.rungs]
        if not fids:
            raise DataError("a ladder without rungs.")
        if any(not b > a for a, b in itertools.pairwise(fids)):
            raise DataError(f"the FIDs of a ladder's rungs do not rise: {fids}.")
        for number, rung in enumerate(self.rungs):
            unknown = sorted(set(rung.train_classes + rung.test_classes) - set(self.class_sizes))
            if unknown:
                raise DataError(f"rung {number} names classes outside the pool: {unknown[:3]}.")
        _check_companions(self)

    @property
    def measured(self) -> bool:
        """Whether every rung's shift was measured here, and not taken as published."""
        return all(rung.shift is not None for rung in self.rungs)

    def images(self, class_names: Sequence[str]) -> int | None:
        """The number of samples of the named classes; None if it is unknown."""
        sizes = [self.class_sizes[name] for name in class_names]
        return sum(sizes) if all(sizes) else None

    def rung_of(self, split_id: str) -> int | None:
        """The rung whose split has this id, or None."""
        ids = [rung.id for rung in self.rungs]
        return ids.index(split_id) if split_id in ids else None

    def split_of(self, split_id: str) -> Split | None:
        """The rung's split with this id, or None."""
        return next((rung for rung in self.rungs if rung.id == split_id), None)

    def fid_label(self) -> str:
        """The words that must stand beside every FID of this ladder."""
        if self.settings.level == NOT_STATED:
            return "FID as the file gives it"
        return f"FID ({self.settings.level} level, {self.features.backbone})"

    def fid_details(self) -> str:
        """`fid_label` and the input, precision and weights behind the FIDs, as far as stated."""
        if self.settings.level == NOT_STATED:
            return f"{self.fid_label()}: level, network and input are {NOT_STATED}"
        made = self.features
        return (
            f"{self.fid_label()}, input: {made.preprocessing}, {made.precision}, "
            f"weights {made.weights[:12]}"
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dict for a JSON file, with a digest over its content."""
        content = {
            "schema": SCHEMA,
            "features": asdict(self.features),
            "source": self.source,
            "class_sizes": dict(self.class_sizes),
            "settings": self.settings.to_json(),
            "trajectory": [asdict(step) for step in self.trajectory],
            "stopped": self.stopped,
            "rung_steps": list(self.rung_steps),
            "rungs": [rung.to_json() for rung in self.rungs],
        }
        if self.validation:
            content["validation"] = [list(names) for names in self.validation]
        if self.episodes:
            content["episodes"] = [episodes_to_json(episodes) for episodes in self.episodes]
        if self.former:
            content["former"] = asdict(self.former)
        return {**content, "digest": digest(content, 64)}

    def save(self, path: str | Path) -> None:
        """Write `ladder.json` atomically: versioned, sorted, one value a line."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Ladder:
        """The ladder in a file; `DataError` if it is of another version, changed or broken."""
        record = read_json(path, "ladder")
        try:
            return cls.from_json(record)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Ladder:
        """The ladder that `to_json` gave; every other object raises `DataError`.

        The digest finds accidental changes, not forgeries, so every value is checked as well.
        """
        schema = record.get("schema")
        if type(schema) is not int or schema != SCHEMA:
            raise DataError(f"ladder schema {schema!r}; this oodml reads {SCHEMA}.")
        content = {key: value for key, value in record.items() if key != "digest"}
        if record.get("digest") != _digest_of(content):
            raise DataError("this ladder was changed after it was written; build it again.")
        del content["schema"]
        return _ladder_from(content)


# Fields of a ladder that are records or rules of their own.
_PARTS = ("features", "settings", "trajectory", "rungs", "episodes", "former")


def _ladder_from(content: dict[str, Any]) -> Ladder:
    try:
        parts = _parts_of(checked_fields(Ladder, content, "the ladder", _PARTS))
    except DataError as error:
        raise DataError(f"not a valid ladder: {error}") from None
    ladder = Ladder(**parts)
    steps = ladder.rung_steps
    if len(steps) != len(ladder.rungs) or not set(steps) <= set(range(len(ladder.trajectory))):
        raise DataError(
            f"the ladder names {len(steps)} of its {len(ladder.trajectory)} steps for "
            f"{len(ladder.rungs)} rungs, or steps that it does not have."
        )
    if min(ladder.class_sizes.values(), default=0) < 0:
        raise DataError("a class of the ladder has fewer than no samples.")
    return ladder


def _parts_of(plain: dict[str, Any]) -> dict[str, Any]:
    return {
        **plain,
        "features": _source(plain["features"], "the ladder's features"),
        "settings": BuildSettings.from_json(plain["settings"]),
        "trajectory": tuple(_step(step) for step in _listed(plain, "trajectory")),
        "rungs": tuple(Split.from_json(rung) for rung in _listed(plain, "rungs")),
        "episodes": tuple(episodes_from_json(each) for each in _listed(plain, "episodes")),
        "former": None if plain.get("former") is None else _former(plain["former"]),
    }


def _source(record: Any, what: str) -> FeatureSource:
    return FeatureSource(**checked_fields(FeatureSource, record, what))


def _former(record: Any) -> FormerRuler:
    plain = checked_fields(FormerRuler, record, "the ladder's former ruler", ("features",))
    return FormerRuler(**{**plain, "features": _source(plain["features"], "the former ruler")})


def _listed(content: dict[str, Any], name: str) -> list[Any]:
    value = content.get(name, [])
    if not isinstance(value, list):
        raise DataError(f"{name} of the ladder is no list.")
    return value


def _digest_of(content: dict[str, Any]) -> str:
    try:
        return digest(content, 64)
    except (ValueError, RecursionError):
        raise DataError("the ladder holds infinite numbers or is nested too deeply.") from None


def _check_companions(ladder: Ladder) -> None:
    for name in ("validation", "episodes"):
        count = len(getattr(ladder, name))
        if count not in (0, len(ladder.rungs)):
            raise DataError(f"{count} {name} for {len(ladder.rungs)} rungs.")
    if ladder.former and len(ladder.former.fids) != len(ladder.rungs):
        raise DataError(f"{len(ladder.former.fids)} former FIDs for {len(ladder.rungs)} rungs.")
    for number, (rung, names) in enumerate(zip(ladder.rungs, ladder.validation, strict=False)):
        if not set(names) < set(rung.train_classes):
            raise DataError(f"rung {number} has validation classes outside its train classes.")
    for number, (rung, episodes) in enumerate(zip(ladder.rungs, ladder.episodes, strict=False)):
        check_episodes(episodes, rung.test_classes, number)


def _step(record: Any) -> Step:
    return Step(**checked_fields(Step, record, "a step of the trajectory"))
