"""Series: the lines of a table or chart, a method on a model each, and how they are named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from oodml.errors import UsageError
from oodml.runs.networks import network_names, network_of
from oodml.runs.spec import RunSpec

# The backbone of a run whose embeddings were made elsewhere (`oodml evaluate`).
EMBEDDINGS = "embeddings"
# What lines may be compared by, and what those of one comparison then share.
BY = {"method": "backbone", "backbone": "method"}
Row = TypeVar("Row", bound=Any)


@dataclass(frozen=True, order=True)
class Series:
    """One line of a table or chart: a method on a model.

    `method` is the label of its runs, `backbone` the name of the model, "" where it is not known.
    `among_several` says that other models stand beside it, so that its name has to tell them apart.
    """

    method: str
    backbone: str = ""
    among_several: bool = False

    @property
    def name(self) -> str:
        """`margin`, or `margin @ resnet50` among several models."""
        return f"{self.method} @ {self.backbone}" if self.among_several else self.method


def series_of(specs: Iterable[RunSpec]) -> dict[str, Series]:
    """The series of every run, by the run's id, named so that all of them can stand together.

    Where two models share the name of their backbone, the model's name goes on with what differs:
    input size, the first 6 hex digits of the weights' SHA-256, or precision. A method with a head
    and with its whole network trained is two, the second one `+whole network`. Embeddings made
    elsewhere keep their own name.
    """
    specs = list(specs)
    networks = {network_of(spec.model) for spec in specs if spec.model.backbone != EMBEDDINGS}
    names = network_names(networks)
    both = _trained_both_ways(specs)
    found = {}
    for spec in specs:
        method = spec.label
        if both and spec.model.train == "all":
            method += " +whole network"
        if spec.model.backbone == EMBEDDINGS:
            found[spec.id] = Series(method, EMBEDDINGS)
        else:
            found[spec.id] = Series(method, names[network_of(spec.model)], len(names) > 1)
    return found


def grouped(rows: Sequence[Row], by: str | None) -> dict[str, list[Row]]:
    """Records that have a `series`, in groups that are compared within themselves, by name.

    `by` "method" compares methods, so a group holds those on one backbone; "backbone" compares
    backbones, so a group holds those of one method. None: all of them, as the group "". A group of
    a single series is left out. `UsageError` if there is no other, or if one group holds them all,
    so that `by` changes nothing.
    """
    if by is None:
        return {"": list(rows)}
    if by not in BY:
        raise UsageError(f"by={by!r}: allowed are {' and '.join(BY)}.")
    found = defaultdict(list)
    for row in rows:
        found[getattr(row.series, BY[by])].append(row)
    several = {name: own for name, own in sorted(found.items()) if len(_lines(own)) > 1}
    if not several:
        raise UsageError(
            f"by={by!r} compares {by}s that share their {BY[by]}, and no {BY[by]} here has two."
        )
    if len(found) == 1:
        (name,) = found
        raise UsageError(
            f"by={by!r} changes nothing here, where every run is of the {BY[by]} {name}; leave it "
            "out."
        )
    return several


def _lines(rows: Sequence[Row]) -> set[Series]:
    return {row.series for row in rows}


def _trained_both_ways(specs: Sequence[RunSpec]) -> bool:
    """Whether some method has both runs of a head and of the whole of one network."""
    ways = defaultdict(set)
    for spec in specs:
        ways[spec.label, network_of(spec.model)].add(spec.model.train)
    return any({"head", "all"} <= trained for trained in ways.values())
