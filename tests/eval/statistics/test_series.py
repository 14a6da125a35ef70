import pytest
from conftest import make_spec
from eval.statistics.conftest import LADDER, run

from oodml.errors import DataError
from oodml.eval.statistics.curves import summarize
from oodml.eval.statistics.series import EMBEDDINGS, Series, series_of


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
