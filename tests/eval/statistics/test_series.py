from dataclasses import replace

import pytest
from conftest import make_spec
from eval.statistics.conftest import LADDER, run

from oodml.errors import DataError, UsageError
from oodml.eval.statistics.comparisons import compare_methods, relative_deviation
from oodml.eval.statistics.correlation import correlate_geometry
from oodml.eval.statistics.curves import summarize
from oodml.eval.statistics.series import EMBEDDINGS, Series, grouped, series_of


def names(*specs):
    found = series_of(specs)
    return [found[spec.id].name for spec in specs]


def test_one_model_is_not_named():
    specs = [make_spec("margin"), make_spec("margin", seed=1), make_spec("arcface", split="t")]
    assert names(*specs) == ["margin", "margin", "arcface"]
    assert series_of(specs)[specs[0].id] == Series("margin", "b")


def test_several_models_are_named_by_their_backbone():
    specs = [make_spec(backbone="tiny"), make_spec(backbone="resnet50", hyperparameters={"a": 2})]
    assert names(*specs) == ["margin @ tiny", "margin(a=2) @ resnet50"]
    first, second = (series_of(specs)[spec.id] for spec in specs)
    assert (first.method, first.backbone) == ("margin", "tiny") and first < second


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        (
            {"preprocessing": "rgb8, squash 64 bilinear, (x - 0) / 1"},
            {"preprocessing": "rgb8, shorter 292 bicubic, centre crop 256, (x - 0) / 1"},
            ["b 64px", "b 256px"],
        ),
        ({"weights": "0123456789"}, {"weights": "abcdef9876"}, ["b 012345", "b abcdef"]),
        ({"precision": "fp32"}, {"precision": "bf16"}, ["b fp32", "b bf16"]),
        (
            {"weights": "0" * 64, "preprocessing": "squash 9"},
            {"weights": "1" * 64, "preprocessing": "squash 8"},
            ["b 9px 000000", "b 8px 111111"],
        ),
    ],
)
def test_models_of_one_backbone_are_told_apart_by_what_differs(one, other, named):
    specs = [make_spec(**one), make_spec(**other)]
    assert names(*specs) == [f"margin @ {name}" for name in named]
    third = make_spec(backbone="c", weights="f" * 64)
    assert names(*specs, third)[2] == "margin @ c"


def test_models_that_differ_in_nothing_that_is_shown_still_have_two_names():
    specs = [make_spec(preprocessing=f"squash 64, (x - {mean}) / 1") for mean in (0, 1)]
    first, second = names(*specs)
    assert first != second and first.startswith("margin @ b ")
    assert names(*specs[::-1]) == [second, first]


def test_embeddings_keep_their_own_name():
    clip = make_spec("clip", backbone=EMBEDDINGS, weights="e" * 64, train="none")
    assert names(clip, make_spec()) == ["clip", "margin"]
    assert names(clip, make_spec(), make_spec(backbone="c")) == ["clip", "margin @ b", "margin @ c"]


def test_a_head_and_the_whole_network_are_two_lines():
    frozen, head = make_spec("frozen", train="none"), make_spec()
    whole = make_spec(train="all", embedding_dim=512, steps=9)
    assert names(frozen, whole) == ["frozen", "margin"]
    assert names(frozen, head, whole) == ["frozen", "margin", "margin +whole network"]
    rows = summarize([run(), run(train="all", steps=9, value=0.7)], LADDER)
    assert [(row.series.name, row.mean) for row in rows] == [
        ("margin", 0.5),
        ("margin +whole network", 0.7),
    ]


def test_two_models_are_two_rows_and_each_still_has_one_setting():
    records = [
        run(seed=seed, value=value, backbone=backbone)
        for backbone, value in (("b", 0.4), ("c", 0.6))
        for seed in range(2)
    ]
    rows = summarize(records, LADDER)
    assert [(row.series.name, row.n, row.mean) for row in rows] == [
        ("margin @ b", 2, 0.4),
        ("margin @ c", 2, 0.6),
    ]
    with pytest.raises(DataError, match="steps"):
        summarize([*records, run(rung=1, backbone="c", steps=20)], LADDER)


def test_references_and_validation_runs_stand_in_no_curve():
    halves = [
        run(value=0.9, trained_on="matched"),
        run(value=0.1, trained_on="shifted", backbone="c"),
        run("frozen", train="none", trained_on="nothing"),
        run(value=0.2, measured_on="validation"),
    ]
    (row,) = summarize([run(value=0.5), *halves], LADDER)
    assert (row.series.name, row.values) == ("margin", (0.5,))
    (row,) = summarize(halves, LADDER)
    assert row.series.method.endswith("validation classes")


def grid(methods="abc", models="xy"):
    """Rows of three rungs and two seeds, better by method and, more so, by model."""
    return summarize(
        [
            run(
                method,
                rung=rung,
                seed=seed,
                value=0.5 + 0.01 * number + 0.1 * place - 0.02 * rung + 0.001 * seed * (rung - 1),
                backbone=model,
            )
            for number, method in enumerate(methods)
            for place, model in enumerate(models)
            for rung in range(3)
            for seed in range(2)
        ],
        LADDER,
    )


def test_methods_are_compared_on_one_backbone_and_backbones_with_one_method():
    def pairs(by):
        return {(c.first.name, c.second.name) for c in compare_methods(grid("ab"), by)}

    assert pairs("method") == {("b @ x", "a @ x"), ("b @ y", "a @ y")}
    assert pairs("backbone") == {("a @ y", "a @ x"), ("b @ y", "b @ x")}
    assert len(pairs(None)) == 6


def test_p_values_are_corrected_over_the_pairs_that_are_compared():
    for by, number in ((None, 15), ("method", 6), ("backbone", 3)):
        found = compare_methods(grid(), by)
        assert len(found) == number
        assert max(each.p_holm / each.p for each in found) == pytest.approx(number)


def test_a_deviation_is_from_the_mean_of_those_that_are_compared():
    rows = grid("ab")
    means = {(row.series.name, row.rung): row.mean for row in rows}
    for by, others in ((None, ["a @ x", "b @ x", "a @ y", "b @ y"]), ("method", ["a @ x", "b @ x"]),
                       ("backbone", ["a @ x", "a @ y"])):  # fmt: skip
        found = {(d.series.name, d.rung): d.deviation for d in relative_deviation(rows, by=by)}
        centre = sum(means[name, 2] for name in others) / len(others)
        assert found["a @ x", 2].value == pytest.approx(means["a @ x", 2] / centre - 1)
        assert len(found) == len(rows)


def test_what_is_compared_has_to_be_there_twice():
    with pytest.raises(UsageError, match="backbone"):
        compare_methods(grid(models="x"), "backbone")
    with pytest.raises(UsageError, match="method"):
        relative_deviation(grid("a"), by="method")
    with pytest.raises(UsageError, match="backbone x"):
        compare_methods(grid(models="x"), "method")
    with pytest.raises(UsageError, match="method a"):
        relative_deviation(grid("a"), by="backbone")
    with pytest.raises(UsageError, match="'model'"):
        grouped(grid(), "model")
    foreign = summarize([run("clip", backbone=EMBEDDINGS, train="none"), run(), run("a")], LADDER)
    assert list(grouped(foreign, "method")) == ["b"]


def test_geometry_of_several_models_is_correlated_over_methods_or_over_models():
    def shaped(method, backbone, x, y):
        record = run(method, backbone=backbone, value=y)
        return replace(record, geometry={"test": {"rho": x}})

    # On each model recall rises with rho; over both together it falls.
    records = [
        shaped(method, backbone, place + 10 * number, 0.5 + 0.01 * place - 0.2 * number)
        for number, backbone in enumerate("xy")
        for place, method in enumerate("abcd")
    ]
    with pytest.raises(UsageError, match="x, y"):
        correlate_geometry(records, LADDER)
    found = correlate_geometry(records, LADDER, by="method")
    assert [(each.group, each.points, each.pearson.value) for each in found] == [
        ("x", 4, pytest.approx(1)),
        ("y", 4, pytest.approx(1)),
    ]
    assert {each.group for each in correlate_geometry(records, LADDER, by="backbone")} == set(
        "abcd"
    )
    (alone,) = correlate_geometry(records[:4], LADDER)
    assert alone.group == "" and alone.pearson.value == pytest.approx(1)
    of_models = [shaped("a", name, place, 0.9 - 0.1 * place) for place, name in enumerate("wxyz")]
    (alone,) = correlate_geometry(of_models, LADDER)
    assert (alone.group, alone.points, alone.pearson.value) == ("", 4, pytest.approx(-1))
