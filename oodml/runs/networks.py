"""Networks: what makes the models of two runs differ, and how they are named beside each other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from oodml.files import digest
from oodml.runs.spec import ModelSpec, RunSpec

# What makes two models different networks; how much of one is trained is part of the method.
Network = tuple[str, str, str, str]


def network_of(model: ModelSpec) -> Network:
    """What makes a model another network: backbone, weights, input transform and precision."""
    return model.backbone, model.weights, model.preprocessing, model.precision


def network_names(networks: Iterable[Network]) -> dict[Network, str]:
    """The name of each: its backbone's and, where two share that, what differs.

    That is input size, the first 6 hex digits of the weights' SHA-256, or precision.
    """
    by_backbone = defaultdict(list)
    for network in sorted(set(networks)):
        by_backbone[network[0]].append(network)
    names = {}
    for backbone, own in by_backbone.items():
        details = _differing([_details(network) for network in own])
        if len(set(details)) < len(own):
            details = [(digest(list(network), 6),) for network in own]
        for network, each in zip(own, details, strict=True):
            names[network] = " ".join([backbone, *filter(None, each)])
    return names


def run_names(runs: Mapping[str, tuple[str, Network | None]]) -> dict[str, str]:
    """The labels of runs by id, `margin @ resnet50` where there are several networks."""
    names = network_names(network for _, network in runs.values() if network is not None)
    return {
        run: label if network is None or len(names) == 1 else f"{label} @ {names[network]}"
        for run, (label, network) in runs.items()
    }


def names_of(specs: Iterable[RunSpec]) -> dict[str, str]:
    """The names of these runs beside each other, by id."""
    return run_names({spec.id: (spec.label, network_of(spec.model)) for spec in specs})


def _details(network: Network) -> tuple[str, ...]:
    """What can tell networks of one backbone apart: input size, weights and precision."""
    _, weights, preprocessing, precision = network
    size = re.search(r"\b(?:centre crop|squash) (\d+)", preprocessing)
    return f"{size[1]}px" if size else "", weights[:6], precision


def _differing(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows without the columns in which all of them are equal."""
    differs = [len(set(column)) > 1 for column in zip(*rows, strict=True)]
    return [tuple(cell for cell, keep in zip(row, differs, strict=True) if keep) for row in rows]
