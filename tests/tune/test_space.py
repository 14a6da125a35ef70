"""Search spaces: what is searched of a method, and how it is typed."""

from __future__ import annotations

from typing import Any

import pytest

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.splits.ladder import Ladder
from oodml.train.plan import plan
from oodml.train.registry import all_methods
from oodml.tune import Choices, Range, default_space, parse_domain, settings_of, with_domains
from oodml.tune.space import applied


def spec_of(ladder: Ladder, method: str, **settings: Any) -> RunSpec:
    (spec,) = plan(ladder, [method], [0], rungs=[0], **settings)
    return spec


def test_defaults_are_searched_around_by_their_kind(ladder: Ladder) -> None:
    space = default_space(spec_of(ladder, "margin"), 12)
    assert space["beta"] == Range(0.3, 4.8)
    assert space["margin"] == Range(0.05, 0.8)
    assert space["cutoff"] == Range(0.125, 1.0), "numbers below 1 stay there"
    assert space["per_class"] == Choices((True, False))
    assert space["learning_rate"] == Range(1e-4, 1e-2)
    assert space["criterion_learning_rate"] == Range(1e-3, 1e-1)
    assert "beta" not in default_space(spec_of(ladder, "margin"), 12, fixed=["beta"])


def test_the_search_lies_around_the_spec_not_around_the_registry(ladder: Ladder) -> None:
    spec = spec_of(ladder, "margin:beta=2.0", learning_rate=0.01)
    space = default_space(spec, 12)
    assert space["beta"] == Range(0.5, 8.0) and space["learning_rate"] == Range(0.001, 0.1)


@pytest.mark.parametrize(
    ("method", "takes"), [("margin", True), ("contrastive", False), ("proxy_anchor", True)]
)
def test_the_criterions_rate_is_searched_where_a_parameter_takes_it(
    method: str, takes: bool, ladder: Ladder
) -> None:
    space = default_space(spec_of(ladder, method), 12)
    assert ("criterion_learning_rate" in space) == takes and "learning_rate" in space


def test_methods_without_steps_have_no_rates(ladder: Ladder) -> None:
    assert default_space(spec_of(ladder, "frozen"), 12) == {}
    assert not {"learning_rate", "weight_decay"} & set(
        default_space(spec_of(ladder, "pca_whitening"), 12)
    )


def test_every_method_has_a_space_that_holds_its_default_and_whose_bounds_it_takes(
    ladder: Ladder,
) -> None:
    searched = 0
    for method in all_methods():
        spec = spec_of(ladder, method)
        space = default_space(spec, 12)
        for name, value in settings_of(spec, space).items():
            assert space[name].holds(value), (method, name)
        ends = [
            {name: getattr(each, end, None) for name, each in space.items()}
            for end in ("low", "high")
        ]
        for values in ends:
            numbers = {name: value for name, value in values.items() if value is not None}
            assert settings_of(applied(spec, numbers), numbers) == numbers, method
        searched += len(space)
    assert searched > 100


def test_domains_are_read_as_typed() -> None:
    assert parse_domain("beta=0.5..2") == ("beta", Range(0.5, 2))
    assert parse_domain("learning-rate=1e-4..1e-2") == ("learning_rate", Range(1e-4, 1e-2))
    assert parse_domain("soft=true|false") == ("soft", Choices((True, False)))
    assert parse_domain("base=margin|contrastive") == ("base", Choices(("margin", "contrastive")))
    assert parse_domain("dim=-1..0")[1] == Range(-1, 0)
    for domain in (Range(0.5, 2.0), Range(1, 8), Choices((True, "margin", 3))):
        assert parse_domain(f"x={domain}")[1] == domain


@pytest.mark.parametrize(
    "text", ["beta", "beta=", "beta=2..1", "beta=a..b", "beta=..", "beta=true..2", "x=1..inf"]
)
def test_domains_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"LOW\.\.HIGH"):
        parse_domain(text)


def test_typed_domains_win_in_the_type_of_the_default(ladder: Ladder) -> None:
    spec = spec_of(ladder, "margin")
    given = {"beta": Range(1, 2), "weight_decay": Range(0, 1e-3), "per_class": Choices((False,))}
    space = with_domains(default_space(spec, 12), spec, given)
    beta, decay = space["beta"], space["weight_decay"]
    assert isinstance(beta, Range) and not beta.whole and beta.logarithmic
    assert isinstance(decay, Range) and not decay.whole and not decay.logarithmic
    assert space["per_class"] == Choices((False,)) and space["margin"] == Range(0.05, 0.8)
    base = spec_of(ladder, "s2sd")
    assert with_domains({}, base, {"base.beta": Range(1, 2)}) == {"base.beta": Range(1.0, 2.0)}


@pytest.mark.parametrize(
    ("name", "domain", "message"),
    [
        ("bet", Range(1, 2), "Did you mean 'beta'"),
        ("steps", Range(1, 2), "unknown name"),
        ("beta", Choices(("high",)), "not of the type"),
        ("learning_rate", Range(-1, 1), "out of range"),
        ("learning_rate", Choices((True,)), "give a number"),
        ("base.beta", Range(1, 2), "unknown name"),
    ],
)
def test_names_and_values_that_a_method_does_not_take_are_refused(
    name: str, domain: Any, message: str, ladder: Ladder
) -> None:
    with pytest.raises(UsageError, match=message):
        with_domains({}, spec_of(ladder, "margin"), {name: domain})


def test_applied_values_win_over_typed_ones_and_defaults_are_left_out(ladder: Ladder) -> None:
    spec = spec_of(ladder, "margin:beta=2.0")
    assert applied(spec, {"beta": 1.2}).method.hyperparameters == {}
    assert applied(spec, {"margin": 0.3, "learning_rate": 0.5}).training.learning_rate == 0.5
    assert settings_of(spec, ["beta", "margin"]) == {"beta": 2.0, "margin": 0.2}
