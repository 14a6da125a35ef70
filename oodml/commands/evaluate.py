"""`oodml evaluate`: embeddings made elsewhere, evaluated along a ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import FILE, device_option, in_bytes, memory_option, plugin_option
from oodml.commands.results import keep_ladder, output_option
from oodml.commands.tables import Table, echo
from oodml.commands.transfer_view import plus_minus
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.features.features import Features
    from oodml.runs.spec import RunSpec
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder
    from oodml.splits.split import Split


@click.command()
@click.argument("file", type=FILE)
@click.option("--ladder", type=FILE, required=True, help="Ladder to evaluate along.")
@output_option
@click.option("--name", show_default="FILE's, without ending", help="Name in tables and charts.")
@click.option(
    "--labels", type=FILE, show_default="FILE's name with .csv", help="CSV of the labels of a .npy."
)
@click.option(
    "--metric",
    "extra",
    multiple=True,
    help="Metric besides the usual ones; `oodml list metrics` names them; repeatable.",
)
@plugin_option
@click.option(
    "--gallery-classes",
    type=click.IntRange(2),
    show_default="all",
    help="Number of test classes to evaluate on.",
)
@click.option(
    "--gallery-images",
    type=click.IntRange(2),
    show_default="all",
    help="Number of their images to evaluate on.",
)
@click.option(
    "--reference",
    help="Method with `oodml run --reference` runs in DIR: how much of the fall is difficulty.",
)
@memory_option
@device_option
def evaluate_command(
    file: Path,
    ladder: Path,
    output: Path,
    name: str | None,
    labels: Path | None,
    extra: tuple[str, ...],
    plugins: tuple[Path, ...],
    gallery_classes: int | None,
    gallery_images: int | None,
    reference: str | None,
    memory: float,
    device: str | None,
) -> None:
    """Evaluate embeddings made elsewhere on every rung.

    FILE is a .npz, a .npy with a .csv of labels, or a .parquet. Results are stored like runs, so
    `oodml table` and `plot` show them beside trained methods; none is measured twice.
    """
    from oodml.device import usable_device
    from oodml.eval.along_ladder import evaluation_spec, for_ladder
    from oodml.eval.embedding_files import read_embeddings
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder
    from oodml.train.registry import load_plugin

    for path in plugins:
        load_plugin(path)
    built = Ladder.load(ladder)
    splits = built.rungs
    metrics = _metrics(extra)
    used = str(usable_device(device))
    method = _method_name(name if name is not None else file.stem)
    features = for_ladder(read_embeddings(file, labels), built)
    sizes: dict[str, Any] = {
        "gallery_classes": gallery_classes or 0,
        "gallery_images": gallery_images or 0,
    }
    specs = [evaluation_spec(features, built, s, method).with_settings(**sizes) for s in splits]
    store = Store(output)
    seeds = [] if reference is None else _seeds_of(reference, built, store, sizes)
    _check_name_is_free(specs[0], store)
    keep_ladder(built, store)
    machine: dict[str, Any] = {
        "memory": in_bytes(memory),
        "device": used,
        "ruler": built.features.network,
    }
    done = _evaluate_all(specs, splits, features, metrics, store, **machine)
    _report(specs, splits, store, done)
    if reference is not None:
        for seed in seeds:
            halves = [evaluation_spec(features, built, s, method, halves=seed) for s in splits]
            _evaluate_all(halves, splits, features, metrics, store, **machine)
        _report_difficulty(built, store, method, reference)


def _seeds_of(reference: str, ladder: Ladder, store: Store, sizes: dict[str, int]) -> list[int]:
    """The seeds of the reference method's runs; an error before anything is evaluated."""
    from oodml.eval.statistics.difficulty import matched_seeds

    if any(sizes.values()):
        raise UsageError(
            "--reference measures on halves of all test classes; leave out --gallery-classes and "
            "--gallery-images."
        )
    if ladder.settings.by == "group":
        raise UsageError(
            "--reference: halves of a ladder that was built by group are cut by group, which "
            "embeddings do not know; take a ladder that was built by class."
        )
    return matched_seeds(store.records(), ladder, reference)


def _metrics(extra: Sequence[str]) -> tuple[str, ...]:
    """The usual metrics and the extra ones; `UsageError` for an unknown name."""
    from oodml.eval.along_ladder import check_metrics
    from oodml.eval.retrieval.evaluate import DEFAULT_METRICS

    metrics = tuple(dict.fromkeys([*DEFAULT_METRICS, *extra]))
    check_metrics(metrics)
    return metrics


def _method_name(name: str) -> str:
    from oodml.train.registry import all_methods

    if not name.strip() or "(" in name:
        raise UsageError(f"the name {name!r} is empty or holds a bracket; give --name NAME.")
    if name in all_methods():
        raise UsageError(
            f"{name!r} is a method of oodml; call these embeddings otherwise with --name NAME."
        )
    return name


def _check_name_is_free(spec: RunSpec, store: Store) -> None:
    for record in store.records():
        if record.label == spec.label and record.spec.model.weights != spec.model.weights:
            raise DataError(
                f"{store.directory} holds other embeddings called {spec.label!r} (run {record.id});"
                " call these otherwise with --name NAME."
            )


def _evaluate_all(
    specs: Sequence[RunSpec],
    splits: Sequence[Split],
    features: Features,
    metrics: Sequence[str],
    store: Store,
    *,
    memory: int,
    device: str,
    ruler: str,
) -> int:
    """Evaluate what lacks a metric, and count what had them all."""
    from oodml.eval.along_ladder import evaluate_split
    from oodml.train.run import environment

    made_with, done = environment(device), 0
    for spec, split in zip(specs, splits, strict=True):
        known = store.record(spec.id)
        lacking = [name for name in metrics if known is None or name not in known.metrics]
        if not lacking:
            done += 1
            continue
        record = evaluate_split(
            spec,
            split,
            features,
            metrics,
            memory=memory,
            device=device,
            environment=made_with,
            ruler=ruler,
        )
        if known is not None:
            record = replace(record, metrics={**known.metrics, **record.metrics})
        store.renew(record)
    return done


def _report(specs: Sequence[RunSpec], splits: Sequence[Split], store: Store, done: int) -> None:
    for rung, (spec, split) in enumerate(zip(specs, splits, strict=True)):
        record = store.record(spec.id)
        if record is not None:
            recall = record.metrics["recall_at_1"]
            echo(f"rung {rung}  FID {split.fid:.4g}  recall_at_1 {recall:.4f}  run {record.id}")
    again = f", {done} of them before" if done else ""
    echo(f"{len(specs)} runs of {specs[0].label!r} done{again}, in {store.directory}")


def _report_difficulty(ladder: Ladder, store: Store, name: str, reference: str) -> None:
    """Print the fall of the embeddings beside the difficulty of the rungs."""
    from oodml.eval.statistics.difficulty import falls_beyond_difficulty

    rows = falls_beyond_difficulty(store.records(), ladder, name, reference)
    table = Table(
        ["rung", "FID", name, f"{reference} matched", "fall", "difficulty", "beyond"],
        [
            [
                str(row.rung),
                f"{row.fid:.1f}",
                f"{row.embeddings.value:.3f}",
                f"{row.matched.value:.3f}",
                *map(plus_minus, (row.fall, row.difficulty, row.beyond)),
            ]
            for row in rows
        ],
    )
    echo()
    echo(table.render("text"))
    echo(
        f"recall_at_1 on halves of the test classes. {name!r} has no matched run, so what the "
        f"shift costs it is not known: difficulty is what {reference} loses although it was "
        "trained on matched classes, and beyond = fall - difficulty. 95% intervals over seeds."
    )
