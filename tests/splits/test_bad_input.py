"""Whatever is given, a ladder comes out or one clear line; never another error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_features
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.splits.build.construction import add_null, build_ladder
from oodml.splits.build.start import read_start
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split, random_split

numbers = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.5, 0.3, 1.0, 0.0])
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "rungs": st.integers(-2, 6),
        "fids": st.lists(numbers, max_size=3),
        "steps": st.lists(st.integers(-3, 4), max_size=3),
        "train_fraction": numbers,
        "by": st.sampled_from(["class", "group", "clas"]),
        "level": st.sampled_from(["sample", "class", "", "image"]),
        "search": st.sampled_from(["means", "transport", "best", "milbich2021", ""]),
        "budget": st.integers(-3, 6),
        "easier": st.booleans(),
        "swap_size": st.integers(-1, 6),
        "min_classes": st.integers(-1, 6),
        "seed": st.integers(0, 3),
    },
)


def one_line(error: pytest.ExceptionInfo[Exception] | Exception) -> str:
    text = str(error.value if isinstance(error, pytest.ExceptionInfo) else error)
    assert text and "\n" not in text and text[-1] in ".)", text
    return text


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 9),
    per_class=st.integers(1, 4),
    dimension=st.integers(1, 5),
    spoil=st.sampled_from([None, None, "constant", "equal classes", "huge", "no spread in one"]),
    options=SETTINGS,
)
@example(classes=4, per_class=1, dimension=3, spoil=None, options={"level": "sample"})
@example(classes=6, per_class=3, dimension=2, spoil="constant", options={"search": "transport"})
@example(classes=8, per_class=4, dimension=2, spoil="huge", options={"search": "best"})
def test_any_settings_give_a_ladder_or_one_clear_line(
    classes: int, per_class: int, dimension: int, spoil: str | None, options: dict[str, Any]
) -> None:
    if options.get("search") == "best":
        options = {"budget": 4, **options}
    try:
        features = spoilt(make_features(classes, per_class, dimension), spoil)
        ladder = build_ladder(features, **{"rungs": 2, **options})
        ladder = add_null(ladder, features, 2)
    except (DataError, UsageError) as error:
        one_line(error)
    else:
        assert np.isfinite([rung.fid for rung in ladder.rungs]).all()


def spoilt(features: Features, how: str | None) -> Features:
    values = features.values.astype(np.float64)
    if how == "constant":
        values[:] = 3.0
    elif how == "equal classes":
        values = np.tile(values[features.labels == 0], (len(features.class_names), 1))
    elif how == "huge":
        values *= 1e37
    elif how == "no spread in one":
        values[:, 0] = 1.0
    return replace(features, values=values)


@settings(max_examples=30, deadline=None)
@given(
    bad=st.lists(
        st.tuples(st.integers(0, 47), st.integers(0, 3),
                  st.sampled_from([np.nan, np.inf, -np.inf, 1e200])),
        min_size=1, max_size=6,
    ),
    level=st.sampled_from(["sample", "class"]),
    search=st.sampled_from(["means", "transport"]),
)  # fmt: skip
def test_features_that_are_no_numbers_are_refused_by_row(
    bad: list[tuple[int, int, float]], level: str, search: str
) -> None:
    features = make_features(classes=8, per_class=6, dimension=4)
    values = features.values.astype(np.float64)
    for row, column, value in bad:
        values[row, column] = value
    with pytest.raises(DataError) as error:
        build_ladder(replace(features, values=values), rungs=2, level=level, search=search)
    text = one_line(error)
    rows = sorted({row for row, _, _ in bad})
    assert f"{len(rows)} of 48 feature rows hold NaN or infinity: {rows[0]}" in text


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(0, 12), fraction=numbers, by=st.sampled_from(["class", "group"]))
def test_a_draw_has_two_classes_a_side_or_is_refused(
    classes: int, fraction: float, by: str
) -> None:
    names = [f"class {i}" for i in range(classes)]
    try:
        split = random_split(names, train_fraction=fraction)
    except (DataError, UsageError) as error:
        one_line(error)
        assert classes < 4 or not 1.5 / classes <= fraction <= 1 - 1.5 / classes
    else:
        assert min(len(split.train_classes), len(split.test_classes)) >= 2
    if classes < 2:
        return
    features = make_features(classes, 2, 3)
    grouped = replace(features, groups=tuple(f"group {i // 2}" for i in range(classes)))
    try:
        ladder = build_ladder(grouped, by=by, train_fraction=fraction, steps=(0,), easier=False)
    except (DataError, UsageError) as error:
        one_line(error)
    else:
        assert min(len(ladder.rungs[0].train_classes), len(ladder.rungs[0].test_classes)) >= 2


sides = st.lists(st.sampled_from([f"class {i:03d}" for i in range(8)]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(train=sides, test=sides, unknown=st.booleans())
def test_a_split_keeps_each_class_on_one_side(
    train: list[str], test: list[str], unknown: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    features = make_features(classes=8, per_class=4, dimension=3)
    test = [*test, "zebra"] if unknown else test
    fine = bool(train and test) and len({*train, *test}) == len(train) + len(test)
    table = tmp_path_factory.getbasetemp() / "sides.csv"
    lines = [f"{name},{side}" for side, names in (("train", train), ("test", test))
             for name in names]  # fmt: skip
    table.write_text("\n".join(["class,side", *lines]))
    if fine and not unknown:
        assert read_start(str(table), features.class_names) == Split(tuple(train), tuple(test))
    else:
        with pytest.raises(DataError) as error:
            read_start(str(table), features.class_names)
        one_line(error)
    if not fine:
        with pytest.raises(DataError) as error:
            Split(tuple(train), tuple(test))
        one_line(error)
        return
    start = Split(tuple(train), tuple(test))
    try:
        ladder = build_ladder(features, start=start, steps=(0,), easier=False)
    except (DataError, UsageError) as error:
        one_line(error)
        assert unknown or min(len(train), len(test)) < 2
    else:
        assert ladder.rungs[0].id == start.id and not unknown


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_file_with_one_value_changed_is_refused_by_name(
    data: st.DataObject, ladder: Ladder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.json"
    ladder.save(path)
    text = path.read_bytes()
    place = data.draw(st.integers(0, len(text) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != text[place]))
    Path(path).write_bytes(text[:place] + bytes([byte]) + text[place + 1 :])
    try:
        assert Ladder.load(path) == ladder, "a change of white space only may go by"
    except DataError as error:
        assert str(path) in one_line(error)
