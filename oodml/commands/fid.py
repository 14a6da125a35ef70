"""`oodml fid`: the Frechet distance between two sets of images, features or statistics."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.opening import open_features
from oodml.commands.options import (
    FILE,
    Draws,
    data_options,
    level_option,
    network_options,
    text_or_json_option,
)
from oodml.commands.tables import echo
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.features.features import Features
    from oodml.fid.shift import Shift
    from oodml.fid.statistics_files import GaussianStatistics

_MEANINGS = {
    "null": "random class splits of the same pool: is this harder than a random split?",
    "excess": "FID - null mean; compare splits of different sizes by this, not by FID",
    "KID": "kernel inception distance x 1000, without bias from few images",
    "MMD": "maximum mean discrepancy, squared, x 1000",
    "FID infinity": "extrapolated to infinitely many images of these classes",
    "bias": "what sampling alone adds to FID without any shift",
    "interval": "95%, bootstrap over classes",
}


@click.command()
@click.argument("a")
@click.argument("b", required=False)
@click.option("--save-stats", type=FILE, help="Write mean and covariance of A (.npz) and stop.")
@level_option
@click.option(
    "--null",
    type=Draws(),
    show_default="20, 100 at class level",
    help="Random class splits to compare with; 0 for none.",
)
@click.option(
    "--kid/--no-kid",
    default=None,
    show_default="if it is quick",
    help="Kernel inception distance (unbiased).",
)
@click.option("--mmd", is_flag=True, help="Maximum mean discrepancy with a Gaussian kernel.")
@click.option("--infinity", is_flag=True, help="FID extrapolated to infinitely many images.")
@click.option(
    "--bootstrap", type=Draws(20), default=0, help="Bootstrap draws of classes for an interval."
)
@click.option("--seed", type=int, default=0, help="Seed of the random splits and subsets.")
@data_options
@network_options
@text_or_json_option
def fid_command(
    a: str,
    b: str | None,
    save_stats: Path | None,
    level: str,
    null: int | None,
    kid: bool | None,
    mmd: bool,
    infinity: bool,
    bootstrap: int,
    seed: int,
    text_format: str,
    **options: Any,
) -> None:
    """Measure the Frechet distance between A and B.

    A null of random class splits, kernel distances and intervals say what to compare it with. A and
    B are folders (of class folders or of images), CSVs, collections, feature files or statistics of
    pytorch-fid (.npz). Nulls and excess need classes on both sides.
    """
    if save_stats is not None:
        _save_statistics(a, b, save_stats, options)
        return
    if b is None:
        raise UsageError("a distance needs two collections: oodml fid A B.")
    one, other = _open(a, options), _open(b, options)
    if _are_features(one) and _are_features(other):
        extras = {"kid": kid, "mmd": mmd, "infinity": infinity,
                  "bootstrap": bootstrap, "seed": seed}  # fmt: skip
        shift = _measured(one, other, level, null, extras)
        _print_shift(shift, one.source.network, text_format)
        return
    asked = level != "sample" or null or kid or mmd or infinity or bootstrap
    if asked:
        raise UsageError(
            "statistics files hold no samples: only the distance can be measured from them."
        )
    _print_terms(_statistics(one), _statistics(other), text_format)


def _open(source: str, options: dict[str, Any]) -> Any:
    """Features, or statistics if that is what a `.npz` holds."""
    from oodml.data.folder import has_class_folders, load_images
    from oodml.features.extraction import extract_features
    from oodml.fid.statistics_files import holds_statistics, read_statistics

    if source.endswith(".npz") and holds_statistics(source):
        return read_statistics(source)
    if Path(source).is_dir() and not has_class_folders(source):
        network = {k: v for k, v in options.items() if k not in ("root", "skip_broken")}
        images = load_images(source, skip_broken=options["skip_broken"], progress=True)
        return extract_features(images, progress=True, **network)
    return open_features(source, **options)


def _are_features(value: Any) -> bool:
    from oodml.features.features import Features

    return isinstance(value, Features)


def _statistics(value: Any) -> GaussianStatistics:
    from oodml.fid.statistics_files import GaussianStatistics

    if _are_features(value):
        return GaussianStatistics.of(value.values, value.source.network)
    statistics: GaussianStatistics = value
    return statistics


def _save_statistics(a: str, b: str | None, path: Path, options: dict[str, Any]) -> None:
    from oodml.fid.statistics_files import write_statistics

    if b is not None:
        raise UsageError("--save-stats takes one collection: oodml fid A --save-stats FILE.")
    value = _open(a, options)
    if not _are_features(value):
        raise UsageError(f"{a} holds statistics already.")
    write_statistics(path, _statistics(value))
    echo(f"{path}: mean and covariance of {len(value)} images, {value.source.network}")


def _measured(
    one: Features, other: Features, level: str, null: int | None, extras: dict[str, Any]
) -> Shift:
    from oodml.fid.shift import joined, measure_shift

    pool, sides = joined(one, other)
    has_classes = min(len(one.class_names), len(other.class_names)) > 1
    if not has_classes:
        asked = {
            "--level class": level == "class",
            "--null": null,
            "--bootstrap": extras["bootstrap"],
        }
        if given := [option for option, value in asked.items() if value]:
            options = " and ".join(given)
            raise DataError(
                f"for {options} both sides need two or more classes: folders of class folders, or "
                f"a CSV with labels. Leave {options} out, or give such data."
            )
        null = 0
    return measure_shift(pool, sides, level=level, null=null, **extras)


def _print_shift(shift: Shift, network: str, text_format: str) -> None:
    if text_format == "json":
        echo(json.dumps({**shift.to_json(), "network": network}, indent=2, sort_keys=True))
        return
    _print_value(shift.fid, shift.mean_term, shift.covariance_term)
    echo(
        f"{shift.n_train} and {shift.n_test} {_unit(shift)} in {shift.dimension} dimensions, "
        f"{shift.level} level, {network}"
    )
    for name, value in _additions(shift).items():
        echo(f"{name:<13}{value:<28}{_meaning(shift, name, value)}")


def _meaning(shift: Shift, name: str, value: str) -> str:
    if name in ("KID", "MMD") and "(" in value:
        return f"{_MEANINGS[name]}; in brackets that of random class splits"
    if name == "bias" and min(shift.n_train, shift.n_test) < 2 * shift.dimension:
        enough = 2 * shift.dimension
        return f"{_MEANINGS[name]}, or more: a side has fewer than {enough} {_unit(shift)}"
    return _MEANINGS[name]


def _unit(shift: Shift) -> str:
    return "images" if shift.level == "sample" else "class means"


def _additions(shift: Shift) -> dict[str, str]:
    """The values that were measured beside FID, as text."""
    shown = {}
    if shift.null_mean is not None and shift.excess is not None:
        z = f", z {shift.z:.1f}" if shift.z is not None else ""
        shown["null"] = f"{shift.null_mean:.4f} (sd {shift.null_sd:.4f}, {shift.null_draws} draws)"
        shown["excess"] = f"{shift.excess:.4f}{z}"
    for name, value, mean, sd in (
        ("KID", shift.kid, shift.kid_null_mean, shift.kid_null_sd),
        ("MMD", shift.mmd, shift.mmd_null_mean, shift.mmd_null_sd),
    ):
        if value is not None:
            null = f" ({1e3 * mean:.4f} ±{1e3 * sd:.4f})" if mean is not None and sd else ""
            shown[name] = f"{1e3 * value:.4f}{null}"
    if shift.fid_infinity is not None:
        shown["FID infinity"] = f"{shift.fid_infinity:.4f}"
    if shift.low is not None:
        shown["interval"] = f"{shift.low:.4f} to {shift.high:.4f}"
    if shift.bias_estimate is not None:
        shown["bias"] = f"{shift.bias_estimate:.4f}"
    return shown


def _print_terms(one: GaussianStatistics, other: GaussianStatistics, text_format: str) -> None:
    from oodml.fid.statistics_files import statistics_terms

    terms = statistics_terms(one, other)
    counts = [one.count, other.count]
    network = one.network or other.network
    if text_format == "json":
        record = {"fid": terms.value, "n": counts, "network": network, **asdict(terms)}
        echo(json.dumps(record, indent=2, sort_keys=True))
        return
    _print_value(terms.value, terms.mean, terms.covariance)
    known = " and ".join(str(count) if count else "an unknown number of" for count in counts)
    echo(f"{known} samples, {network or 'network unknown'}")


def _print_value(value: float, mean: float, covariance: float) -> None:
    echo(f"FID {value:.4f} = means {mean:.4f} + covariances {covariance:.4f}")
