from __future__ import annotations

from pathlib import Path

import pytest

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.splits.ladder import Ladder
from oodml.train import registry
from oodml.train.plan import plan
from oodml.train.registry import all_methods, get_method, load_plugin, method, parse_method


def test_every_method_has_a_paper_and_a_sentence() -> None:
    methods = all_methods()
    first_six = {"frozen", "contrastive", "multi_similarity", "margin", "arcface", "proxy_anchor"}
    assert first_six <= set(methods)
    for entry in methods.values():
        assert entry.summary.endswith(".") and entry.paper
        assert all(default is not None for default in entry.hyperparameters.values())


def test_hyperparameters_are_read_checked_and_normalised() -> None:
    assert parse_method("margin") == ("margin", {})
    assert parse_method("margin:beta=0.6,margin=0.2") == ("margin", {"beta": 0.6})
    name, values = parse_method("arcface:scale=64")
    assert (name, values) == ("arcface", {"scale": 64.0}) and isinstance(values["scale"], float)
    assert parse_method("s2sd:targets=1024") == ("s2sd", {"targets": "1024"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("margn", "'margin'"),
        ("margin:bta=1", "'beta'"),
        ("margin:beta", "NAME=VALUE"),
        ("margin:beta=high", "beta="),
        ("margin:beta=true", "beta="),
        ("margin:beta=NaN", "beta="),
        ("margin:beta=1e999", "beta="),
    ],
)
def test_what_a_method_does_not_take_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_method(text)


def test_a_user_s_own_file_adds_a_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ladder: Ladder
) -> None:
    all_methods()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    path = tmp_path / "mine.py"
    path.write_text(
        "from oodml import method\n"
        "@method('mine', paper='-', samples_per_class=2)\n"
        "def mine(num_classes, embedding_dim, *, weight=1.0):\n"
        "    '''Mine.'''\n"
    )
    load_plugin(path)
    load_plugin(path)  # a worker that reads it again finds the same method
    spec = plan(ladder, ["mine:weight=2"], [0], rungs=[1])[0]
    assert (spec.training.samples_per_class, spec.method.hyperparameters) == (2, {"weight": 2.0})
    path.write_text("1 / 0")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_plugin(path)
    with pytest.raises(UsageError, match=r"absent\.py"):
        load_plugin(tmp_path / "absent.py")


def test_two_methods_cannot_share_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    all_methods()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    with pytest.raises(UsageError, match="'margin'"):
        method("margin", paper="-")(lambda num_classes, embedding_dim: None)
    with pytest.raises(UsageError, match="samples_per_class"):
        method("other", paper="-", sample_per_class=2)


def test_a_plan_has_one_run_per_method_rung_and_seed(ladder: Ladder) -> None:
    specs = plan(ladder, ["frozen", "margin", "arcface:scale=8"], range(3))
    assert len(specs) == len({spec.id for spec in specs}) == (1 + 3 + 3) * 3
    assert [s.method.name for s in specs if s.model.train == "none"] == ["frozen"] * 3
    # Whole curves of the first seed come first.
    seeds = [s.seed for s in specs]
    assert seeds == sorted(seeds)
    assert {s.label for s in specs} == {"frozen", "margin", "arcface(scale=8.0)"}


def test_settings_win_over_modes_and_modes_over_defaults(ladder: Ladder) -> None:
    (head,) = plan(ladder, ["margin"], [0], rungs=[0])
    (whole,) = plan(ladder, ["margin"], [0], rungs=[0], train="all", steps=7)
    assert (head.training.learning_rate, whole.training.learning_rate) == (1e-3, 1e-5)
    assert whole.training.steps == 7
    assert head == RunSpec.from_json(head.to_json())


def test_an_unknown_method_gets_the_closest_match() -> None:
    with pytest.raises(UsageError, match="'proxy_anchor'"):
        get_method("proxyanchor")
