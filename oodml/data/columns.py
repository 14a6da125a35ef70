"""Which columns of a Hugging Face dataset hold the images, the labels and the groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oodml.errors import DataError, UsageError, unknown_name


@dataclass(frozen=True)
class Columns:
    """The columns of one split and their features; texts are None where a row has no value."""

    image: str
    label: str
    group: str | None
    features: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """The columns, each once."""
        return list(dict.fromkeys(filter(None, (self.image, self.label, self.group))))

    def label_text(self, row: Mapping[str, Any]) -> str | None:
        """The class name in a row."""
        return _text(self.label, self.features[self.label], row[self.label])

    def group_text(self, row: Mapping[str, Any]) -> str | None:
        """The superclass name in a row; None if no group column was asked for.

        Raises `DataError` if the row has none.
        """
        if self.group is None:
            return None
        text = _text(self.group, self.features[self.group], row[self.group])
        if text is None:
            raise DataError(f"the column {self.group!r} has rows without a group.")
        return text


def choose_columns(
    library: Any, features: Mapping[str, Any], asked: Mapping[str, str], where: str
) -> Columns:
    """The columns asked for by role, and where nothing was asked those that the features show.

    `library` is the module `datasets`. Raises `UsageError` if a column does not exist, does not
    fit its role, or if several would do; `DataError` if none does.
    """
    scalars = [name for name, each in features.items() if _is_label(library, each)]
    classes = [name for name in scalars if isinstance(features[name], library.ClassLabel)]
    images = [name for name, each in features.items() if isinstance(each, library.Image)]
    fitting = {"image": images, "label": scalars, "group": scalars}
    for role, column in asked.items():
        if column not in fitting[role]:
            raise _unfit(role, column, fitting[role], features, where)
    image = asked.get("image") or _only("image", images, where)
    label = asked.get("label") or _only("label", classes or scalars, where)
    return Columns(image, label, asked.get("group"), features)


def _is_label(library: Any, feature: Any) -> bool:
    if isinstance(feature, library.ClassLabel):
        return True
    # Such as string, large_string, int64, uint8.
    kind = feature.dtype.removeprefix("large_") if isinstance(feature, library.Value) else ""
    return kind == "string" or kind.startswith(("int", "uint"))


def _unfit(
    role: str, column: str, fitting: list[str], features: Mapping[str, Any], where: str
) -> UsageError:
    if column not in features:
        return unknown_name("column", column, features)
    return UsageError(
        f"{where}: the column {column!r} cannot be the {role}; "
        f"{', '.join(map(repr, fitting)) or 'no column'} can."
    )


def _only(role: str, fitting: list[str], where: str) -> str:
    if not fitting:
        raise DataError(f"{where}: no column can be the {role}.")
    if len(fitting) == 1 or role in fitting:
        return role if role in fitting else fitting[0]
    raise UsageError(
        f"{where}: {', '.join(map(repr, fitting))} can each be the {role}. Choose one: add "
        f"?{role}={fitting[0]} to the source."
    )


def _text(column: str, feature: Any, value: Any) -> str | None:
    if value is None or value == "":
        return None
    names = getattr(feature, "names", None)
    if names is None:
        return str(value)
    if value == -1:  # the Hub's sign for a hidden label
        return None
    if not 0 <= value < len(names):
        raise DataError(f"the column {column!r} holds the class {value}; it has {len(names)}.")
    return str(names[value])
