from __future__ import annotations

from oodml.train.published_recipes import NETWORKS, RECIPES, WHOLE_NETWORK
from oodml.train.registry import PRESCRIBABLE, all_methods


def test_every_recipe_reaches_the_method_that_it_is_named_for() -> None:
    methods = all_methods()
    for name in {*RECIPES, *NETWORKS}:
        assert methods[name].recipes == RECIPES.get(name, {})
        assert methods[name].network == NETWORKS.get(name, {})
    assert set(WHOLE_NETWORK) <= set(PRESCRIBABLE)
    # Single papers, and both comparisons.
    assert methods["mpn"].recipes["sop"].hyperparameters == {"heads": 8, "temperature": 0.605}
    assert methods["r_margin"].recipes["sop"].hyperparameters == {"beta": 0.9, "rho": 0.15}
    assert methods["triplet"].recipes["sop"].network["optimizer"] == "rmsprop"
