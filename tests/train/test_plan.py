"""The plan: what a grid's runs are set to, by whom, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oodml.errors import UsageError
from oodml.runs.spec import SETTING_NAMES, RunSpec
from oodml.splits.ladder import Ladder
from oodml.train import registry
from oodml.train.plan import plan
from oodml.train.published_recipes import Recipe
from oodml.train.registry import PRESCRIBABLE, all_methods, method, parse_method
from oodml.train.settings import SETTINGS, applying


def one(ladder: Ladder, method: str = "margin", **settings: object) -> RunSpec:
    (spec,) = plan(ladder, [method], [0], rungs=[0], **settings)  # type: ignore[arg-type]
    return spec


def test_every_setting_is_a_field_and_every_default_is_allowed() -> None:
    assert set(SETTINGS) <= set(SETTING_NAMES) and set(PRESCRIBABLE) <= set(SETTINGS)
    for setting in SETTINGS.values():
        setting.check(setting.default)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"steps": -1}, "steps=-1"),
        ({"batch_size": 1}, "batch_size=1"),
        ({"decay": 2.0}, "at most 1"),
        ({"optimizer": "adan"}, "adam"),
        ({"bacth_size": 3}, "batch_size"),
        ({"epochs": 3, "steps": 4}, "exclude each other"),
        ({"folds": 2, "ensemble": 2}, "exclude each other"),
        ({"few_shot": "head", "ensemble": 2}, "single model"),
        ({"flip": True}, "flip needs images"),
        ({"pooling": "max"}, "pooling needs images"),
        ({"preset": "oodml"}, "ooDML"),
        ({"recipe": "cub"}, "cub200"),
        ({"train": "both"}, "'head' and 'all'"),
        ({"accumulation": 2}, "compares the samples of a batch"),
        ({"schedule": "step"}, "decay_every"),
    ],
)
def test_what_is_out_of_range_or_does_not_go_together_is_refused_in_one_line(
    ladder: Ladder, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        one(ladder, **settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_rung_that_the_ladder_lacks_is_refused(ladder: Ladder) -> None:
    with pytest.raises(UsageError, match="rungs 0 to 2"):
        plan(ladder, ["margin"], [0], rungs=[9])


def test_a_user_wins_over_the_protocol_over_the_paper_over_the_defaults(ladder: Ladder) -> None:
    @method(
        "of_the_test",
        paper="-",
        samples_per_class=3,
        network={"clip_value": 10.0, "learning_rate": 7e-4},
        recipes={"sop": Recipe("here", {"scale": 5.0}, {"clip_value": 20.0})},
    )
    def build(num_classes: int, embedding_dim: int, *, scale: float = 1.0) -> None: ...

    try:
        assert one(ladder, "of_the_test").training.samples_per_class == 3
        assert one(ladder, "of_the_test").training.clip_value == 0.0
        whole = one(ladder, "of_the_test", train="all")
        assert (whole.training.clip_value, whole.training.learning_rate) == (10.0, 7e-4)
        assert whole.training.weight_decay == 4e-4  # of all whole networks
        sop = one(ladder, "of_the_test", train="all", recipe="sop")
        assert sop.training.clip_value == 20.0 and sop.method.hyperparameters == {"scale": 5.0}
        mine = one(ladder, "of_the_test:scale=2.0", train="all", recipe="sop", clip_value=3.0)
        assert mine.training.clip_value == 3.0 and mine.method.hyperparameters == {"scale": 2.0}
        protocol = one(ladder, "of_the_test", preset="ooDML")
        assert protocol.training.learning_rate == 1e-5 and protocol.training.samples_per_class == 2
        assert (
            one(ladder, "of_the_test", preset="ooDML", learning_rate=2.0).training.learning_rate
            == 2.0
        )
    finally:
        del registry._REGISTRY["of_the_test"]


def test_a_protocol_on_cached_features_keeps_what_has_a_meaning_there(ladder: Ladder) -> None:
    spec = one(ladder, preset="ooDML", train="head")
    assert (
        spec.model.train == "head"
        and spec.training.epochs == 200
        and spec.training.crop_scale == 0.08
    )
    assert one(ladder, preset="reality-check", train="head").training.image_size == 0


def test_settings_apply_where_they_mean_something() -> None:
    given = {"steps": 3, "pooling": "max", "rerank": True}
    assert applying(given, "none") == {"rerank": True}
    assert applying(given, "head") == {"steps": 3, "rerank": True}
    assert applying(given, "all") == given


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("xbm:base=arcface", "base=arcface compares no batch with a queue"),
        ("xbm:base=plain_loss", "base=plain_loss compares no batch with a queue"),
        ("xbm:memory_size=50", "memory_size=50 is less than a batch of 112"),
        ("pads:base=contrastive", "base=contrastive is no loss over mined triplets"),
        ("daml:base=proxy_anchor", "base=proxy_anchor takes no given pairs"),
        ("s2sd:base=moco", "moco is more than a loss"),
        ("uniform_prior:on=pooled", "frozen features are not trained"),
    ],
)
def test_a_base_that_does_not_fit_is_refused_before_any_run(
    ladder: Ladder, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_methods()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @method("plain_loss", paper="-")
    def plain_loss(num_classes: int, embedding_dim: int) -> nn.Module:
        """A loss of a library, which takes embeddings and labels."""
        return nn.CrossEntropyLoss()

    state = torch.random.get_rng_state()
    with pytest.raises(UsageError, match=words):
        plan(ladder, [text], [0])
    one(ladder, "uniform_prior:base=plain_loss")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_not_random_has_a_single_seed(ladder: Ladder) -> None:
    assert len(plan(ladder, ["frozen", "pca_whitening"], range(3), rungs=[0])) == 2
    assert len(plan(ladder, ["margin"], range(3), rungs=[0])) == 3


def test_a_base_loss_has_hyperparameters_and_settings_of_its_own(ladder: Ladder) -> None:
    name, values = parse_method("uniform_prior:base=n_pair,base.regularizer=0.1")
    assert (name, values) == ("uniform_prior", {"base": "n_pair", "base.regularizer": 0.1})
    spec = one(ladder, "uniform_prior:base=n_pair")
    assert spec.training.samples_per_class == 2
    assert parse_method("uniform_prior:base=margin")[1] == {}
    for wrong, words in [
        ("uniform_prior:base=marginn", "margin"),
        ("uniform_prior:base.betta=1.0", "beta"),
        ("margin:base.beta=1.0", "base.beta"),
        ("uniform_prior:base=frozen", "base=frozen"),
        ("uniform_prior:base=s2sd", "base=s2sd"),
    ]:
        with pytest.raises(UsageError, match=words):
            parse_method(wrong)
