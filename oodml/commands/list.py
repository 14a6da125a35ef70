"""`oodml list`: the names that commands take."""

from __future__ import annotations

import click

from oodml.commands.options import format_option
from oodml.commands.tables import Table


@click.command()
@click.argument(
    "what", type=click.Choice(["backbones", "datasets", "methods", "metrics", "protocols"])
)
@format_option
def list_command(what: str, table_format: str) -> None:
    """List methods, protocols, backbones, datasets or metrics."""
    tables = {
        "backbones": _backbones,
        "datasets": _datasets,
        "methods": _methods,
        "metrics": _metrics,
        "protocols": _protocols,
    }
    click.echo(tables[what]().render(table_format))


def _methods() -> Table:
    from oodml.train.registry import all_methods

    entries = sorted(all_methods().values(), key=lambda entry: (entry.family, entry.name))
    rows = [
        [entry.name, entry.family, entry.paper, entry.summary, _settings(entry.hyperparameters)]
        for entry in entries
    ]
    return Table(["method", "family", "paper", "what it is", "hyperparameters"], rows)


def _settings(hyperparameters: dict[str, object]) -> str:
    return ", ".join(
        f"{name}={getattr(value, 'name', value)}" for name, value in hyperparameters.items()
    )


def _protocols() -> Table:
    from oodml.train.published_protocols import PRESETS

    rows = [[name, preset.source] for name, preset in PRESETS.items()]
    return Table(["protocol", "source"], rows)


def _backbones() -> Table:
    from oodml.features.backbones.catalogue import NETWORKS
    from oodml.features.backbones.registry import FAMILIES
    from oodml.features.weights import weights_at_hand

    rows = [
        [
            network.name,
            network.dimension,
            network.image_size,
            "yes" if weights_at_hand(network) else "no",
            network.megabytes,
            network.licence,
            network.training,
            network.summary,
        ]
        for network in NETWORKS.values()
    ]
    families = [[name, *[None] * 6, summary] for name, summary in FAMILIES.items()]
    columns = ["backbone", "dimensions", "input", "weights here", "download MB", "licence"]
    return Table([*columns, "trained on", "what it is"], [*rows, *families])


def _datasets() -> Table:
    from oodml.data import collection_names

    return Table(["dataset", "what it is"], [list(row) for row in collection_names()])


def _metrics() -> Table:
    from oodml.eval.retrieval.evaluate import metric_names

    return Table(["metric", "what it is"], [list(row) for row in metric_names()])
