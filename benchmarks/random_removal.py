"""How plain FID grows as classes are removed at random, and excess FID does not (emoji images).

Writes docs/images/random_removal.png and benchmarks/results/random_removal.md in about 5 minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.eval.figures.style import new_figure, save_figure
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.fid.shift import Shift, measure_shift
from oodml.seeding import generator
from oodml.splits.split import Split, random_split

ROOT = Path(__file__).parent.parent
COUNTS = (800, 600, 400, 200, 100, 50)
DRAWS = 10


def grouped_split(features: Features) -> Split:
    """A split with a shift that is there by design: whole groups on either side."""
    assert features.groups is not None
    groups = sorted(set(features.groups))
    test = {group for number, group in enumerate(groups) if number % 2}
    sides: dict[bool, list[str]] = {True: [], False: []}
    for name, group in zip(features.class_names, features.groups, strict=True):
        sides[group in test].append(name)
    return Split(tuple(sides[False]), tuple(sides[True]))


def thinned(split: Split, count: int) -> Split:
    """The split with `count` classes a side, the others removed at random."""
    order = generator(0, "thin", count)
    train = order.choice(split.train_classes, count, replace=False)
    test = order.choice(split.test_classes, count, replace=False)
    return Split(tuple(map(str, train)), tuple(map(str, test)))


def measured(features: Features, split: Split) -> list[tuple[int, Shift]]:
    most = min(len(split.train_classes), len(split.test_classes))
    return [
        (count, measure_shift(features, thinned(split, count), null=DRAWS, kid=False))
        for count in COUNTS
        if count <= most
    ]


_SIZE = (6.4, 2.7)  # inches: two panels side by side
_COLORS = ("#0072B2", "#D55E00", "#009E73")


def plot_random_removal(
    series: Mapping[str, Sequence[tuple[int, Shift]]], path: str | Path, *, fid_label: str
) -> None:
    """Write FID (left) and excess FID (right) against the classes left on a side.

    `series` holds, per name, pairs of a class count and the `Shift` measured with its null; the
    nulls are drawn dashed with a band of one standard deviation. Raises `UsageError` for a suffix
    other than .png, .svg or .pdf, or a shift without a null.
    """
    with save_figure(path) as save:
        figure = new_figure(*_SIZE)
        figure.set_layout_engine("constrained")
        plain, excess = figure.subplots(1, 2)
        for color, (name, measured) in zip(_COLORS, series.items(), strict=False):
            counts = [count for count, _ in measured]
            _draw_fid(plain, counts, [shift for _, shift in measured], color, name)
            _draw_excess(excess, counts, [shift for _, shift in measured], color, name)
        for axes, words in ((plain, fid_label), (excess, "excess over random splits")):
            _dress(axes, words)
        plain.legend(frameon=False, fontsize=7)
        save(figure)


def _null(shift: Shift) -> tuple[float, float]:
    if shift.null_mean is None or shift.null_sd is None:
        raise UsageError("a shift without a null; measure it with null=20 or so.")
    return shift.null_mean, shift.null_sd


def _draw_fid(
    axes: Any, counts: Sequence[int], shifts: Sequence[Shift], color: str, name: str
) -> None:
    nulls = [_null(shift) for shift in shifts]
    axes.plot(counts, [shift.fid for shift in shifts], color=color, marker="o", ms=3, label=name)
    axes.plot(counts, [mean for mean, _ in nulls], color=color, ls=":", lw=1, label="its null")


def _draw_excess(
    axes: Any, counts: Sequence[int], shifts: Sequence[Shift], color: str, name: str
) -> None:
    values = [shift.fid - _null(shift)[0] for shift in shifts]
    spread = [_null(shift)[1] for shift in shifts]
    axes.plot(counts, values, color=color, marker="o", ms=3, label=name)
    low = [value - sd for value, sd in zip(values, spread, strict=True)]
    high = [value + sd for value, sd in zip(values, spread, strict=True)]
    axes.fill_between(counts, low, high, color=color, alpha=0.2, lw=0)


def _dress(axes: Any, words: str) -> None:
    axes.set_xlabel("classes left on a side")
    axes.set_ylabel(words)
    axes.invert_xaxis()
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    dataset = load_dataset("emoji")
    features = extract_features(
        dataset, "efficientnet_lite0", precision="bf16", image_size=112, progress=True
    )
    series = {
        "by group": measured(features, grouped_split(features)),
        "random": measured(features, random_split(features.class_names)),
    }
    (ROOT / "docs" / "images").mkdir(parents=True, exist_ok=True)
    plot_random_removal(
        series, ROOT / "docs" / "images" / "random_removal.png",
        fid_label="FID (sample level, efficientnet_lite0)",
    )  # fmt: skip
    lines = [
        "| split | classes a side | FID | null mean ± sd | excess | z |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, shifts in series.items():
        for count, s in shifts:
            lines.append(
                f"| {name} | {count} | {s.fid:.1f} | {s.null_mean:.1f} ± {s.null_sd:.1f} "
                f"| {s.excess:.1f} | {s.z:.1f} |"
            )
    table = "\n".join(lines) + "\n"
    print(table)
    (ROOT / "benchmarks" / "results").mkdir(exist_ok=True)
    (ROOT / "benchmarks" / "results" / "random_removal.md").write_text(table)


if __name__ == "__main__":
    main()
