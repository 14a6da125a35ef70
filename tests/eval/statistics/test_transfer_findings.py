"""What is said of transfer: facts that the intervals allow, on gains with known zeros."""

import numpy as np
from eval.statistics.conftest import LADDER
from eval.statistics.test_transfer import reference

from oodml.eval.statistics.transfer import transfer
from oodml.eval.statistics.transfer_findings import division, finding


def study(noise=0.001, seeds=3, **gains):
    """Transfer of methods with these gains per rung and a matched gain of 0.2."""
    records = []
    frozen = np.full((seeds, 3), 0.5)
    for number, (method, means) in enumerate(gains.items()):
        random = np.random.default_rng(number)
        shifted = frozen + np.array(means) + noise * random.standard_normal((seeds, 3))
        own = None if number else frozen
        records += reference(shifted, frozen + 0.2, own, method=method)
    return transfer(records, LADDER)


def test_a_crossing_is_given_as_the_span_of_its_interval():
    words = finding(study(margin=(0.1, 0.05, -0.1)))
    assert words.startswith("Training pays up to FID 30 to 30 with margin; beyond, it costs")
    words = finding(study(margin=(0.1, 0.05, -0.1), arcface=(0.1, -0.1, -0.2)))
    assert "pays up to FID 15 to 30 with each of 2 methods; beyond, it costs" in words


def test_a_gain_of_one_sign_is_stated_of_the_whole_ladder():
    assert "pays on the whole ladder, up to FID 50" in finding(study(margin=(0.1, 0.05, 0.02)))
    words = finding(study(margin=(-0.1, -0.1, -0.2), arcface=(-0.1, -0.1, -0.3)))
    assert "costs on the whole ladder, from FID 10 on with each of 2 methods" in words


def test_what_intervals_leave_open_is_not_stated():
    wide = study(noise=0.05, margin=(0.0, 0.0, 0.0))
    assert "cannot be told" in finding(wide)
    assert "costs" not in finding(wide) and "pays up" not in finding(wide)
    assert "one seed" in finding(study(seeds=1, margin=(0.1, 0.0, -0.1)))
    half = finding(study(noise=0.02, margin=(0.3, 0.2, 0.0)))
    assert half.startswith("Training pays up to FID ") and "do not tell" in half
    last = finding(study(noise=0.02, margin=(0.0, -0.2, -0.3)))
    assert last.startswith("Training costs beyond FID ") and "do not tell" in last


def test_several_methods_of_which_nothing_can_be_told_do_not_differ():
    words = finding(study(noise=0.05, margin=(0.0, 0.0, 0.0), arcface=(0.0, 0.0, 0.0)))
    assert words == "Whether training pays cannot be told on these rungs with each of 2 methods."


def test_methods_that_differ_are_told_apart():
    words = finding(study(margin=(0.1, 0.1, 0.1), arcface=(-0.1, -0.1, -0.1)))
    assert "depends on the method" in words
    assert "pays on every rung for margin" in words and "costs on every rung for arcface" in words


def test_without_the_untrained_network_no_gain_is_known():
    level = np.full((2, 3), 0.5)
    assert "not known" in finding(transfer(reference(level, level + 0.1), LADDER))
    assert "not known" in finding([])


def test_the_fall_is_divided_between_difficulty_and_shift():
    shifted = np.array([[0.6, 0.5, 0.2]] * 2)
    matched = np.array([[0.6, 0.55, 0.4]] * 2)
    words = division(transfer(reference(shifted, matched), LADDER))
    assert "recall at 1 falls by 0.400 with margin" in words
    assert "0.200 because the classes are harder, 0.200 because of the shift" in words
    assert division([]) is None


def test_what_does_not_fall_is_not_divided():
    rising = transfer(reference(np.array([[0.5, 0.6, 0.7]] * 2), np.full((2, 3), 0.7)), LADDER)
    assert division(rising) == "From FID 10 to 50, no fall of recall at 1 can be told with margin."
    shifted = np.array([[0.6, 0.5, 0.2], [0.6, 0.5, 0.7]])
    unsure = transfer(reference(shifted, np.full((2, 3), 0.7)), LADDER)
    assert "no fall" in division(unsure)
    level = reference(np.full((2, 3), 0.5), np.full((2, 3), 0.7), method="arcface")
    fell = reference(np.array([[0.6, 0.5, 0.2]] * 2), np.full((2, 3), 0.7))
    both = division(transfer([*fell, *level], LADDER))
    assert "falls by 0.400 with margin" in both and "no fall can be told with arcface." in both
