"""`oodml evaluate`: embeddings made elsewhere, evaluated along a ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import FILE, device_option, in_bytes, memory_option, plugin_option
from oodml.commands.results import keep_ladder, output_option
from oodml.commands.tables import echo
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.features.features import Features
    from oodml.runs.spec import RunSpec
    from oodml.runs.store import Store
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
    _check_name_is_free(specs[0], store)
    keep_ladder(built, store)
    done = _evaluate_all(
        specs,
        splits,
        features,
        metrics,
        store,
        memory=in_bytes(memory),
        device=used,
        ruler=built.features.network,
    )
    _report(specs, splits, store, done)


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
