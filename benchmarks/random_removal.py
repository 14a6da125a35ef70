"""How plain FID grows as classes are removed at random, and excess FID does not (emoji images).

Writes docs/images/random_removal.png and benchmarks/results/random_removal.md in about 5 minutes.
"""

from __future__ import annotations

from pathlib import Path

from oodml.data import load_dataset
from oodml.eval.figures.shift_figures import plot_random_removal
from oodml.features.features import Features, extract_features
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
