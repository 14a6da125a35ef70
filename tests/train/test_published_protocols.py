from __future__ import annotations

import pytest

from oodml.splits.ladder import Ladder
from oodml.train.plan import plan
from oodml.train.published_protocols import FAMILIES, PRESETS, get_preset
from oodml.train.registry import PRESCRIBABLE, all_methods
from oodml.train.settings import SETTINGS

# Without several views a method that compares them cannot train, whatever the protocol.
NEEDED = {"cached_views"}
TRAINED = sorted(name for name, entry in all_methods().items() if entry.training == "steps")


@pytest.mark.parametrize("name", PRESETS)
def test_a_protocol_sets_all_that_a_recipe_may_set(name: str) -> None:
    preset = get_preset(name)
    assert set(PRESCRIBABLE) - NEEDED <= set(preset.settings) <= {*SETTINGS, "train"}
    for method, tuned in preset.hyperparameters.items():
        for values in tuned.values():
            all_methods()[method].check(values)
    assert set(preset.hyperparameters) | set(preset.methods) <= set(all_methods())


@pytest.mark.parametrize("family", ["", *FAMILIES])
@pytest.mark.parametrize("name", PRESETS)
def test_no_setting_of_a_recipe_is_left_under_a_protocol(
    name: str, family: str, ladder: Ladder
) -> None:
    for spec in plan(ladder, TRAINED, [0], rungs=[0], preset=name, recipe=family):
        stated = get_preset(name).settings_for(spec.method.name, family)
        left = SETTINGS.keys() - stated.keys() - NEEDED - {"steps"}
        expected = stated | {each: SETTINGS[each].default for each in left}
        assert {each: spec.setting(each) for each in expected} == expected, spec.method.name


def test_proxies_under_the_reality_check_are_trained_at_its_rates(ladder: Ladder) -> None:
    found = plan(ladder, ["proxy_nca_pp"], [0], rungs=[0], preset="reality-check", recipe="cub200")[
        0
    ].training
    assert (found.optimizer, found.optimizer_epsilon) == ("rmsprop", 1e-8)
    assert (found.learning_rate, found.criterion_learning_rate) == (1e-6, 6e-3)


def test_published_figures_of_some_methods(ladder: Ladder) -> None:
    def one(method: str, preset: str, family: str) -> dict[str, object]:
        return plan(ladder, [method], [0], rungs=[0], preset=preset, recipe=family)[0].settings()

    study = one("r_margin", "ooDML", "sop")
    assert (study["train"], study["epochs"], study["steps"]) == ("all", 150, 0)
    assert study["hyperparameters"] == {"beta": 0.9, "rho": 0.15}
    assert (study["preset"], study["embedding_dim"]) == ("ooDML", 512)
    check = one("margin", "reality-check", "cub200")
    assert (check["folds"], check["selection"], check["patience"]) == (4, "best_validation", 9)
    assert check["criterion_learning_rate"] == 1.31e-3
    assert one("cosface", "reality-check", "sop")["batches"] == "shuffled"
