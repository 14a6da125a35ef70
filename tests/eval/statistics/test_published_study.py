import pytest

from oodml.errors import UsageError
from oodml.eval.statistics.comparisons import deviation_lines, relative_deviation
from oodml.eval.statistics.published import published_names, published_study
from oodml.eval.statistics.scores import score_methods

# Recall@1 and FID of S2SD on CARS and of ArcFace on CUB, areas summed by hand:
# sum of (FID step) * (mean of both ends) over the range of FIDs.
CARS_S2SD = (
    5.74 * 0.874 + 17.85 * 0.862 + 11.40 * 0.8435 + 19.71 * 0.8185 + 23.19 * 0.7895
    + 14.69 * 0.7605 + 21.86 * 0.7365
) / 114.44  # fmt: skip
CUB_ARCFACE = (
    9.33 * 0.7365 + 24.13 * 0.6825 + 19.58 * 0.648 + 20.28 * 0.635 + 27.90 * 0.62
    + 16.07 * 0.6085 + 15.59 * 0.595 + 21.90 * 0.5865
) / 154.78  # fmt: skip


def scores(name):
    return {score.series.method: score for score in score_methods(published_study(name).rows())}


def test_scores_of_complete_curves_by_hand():
    assert scores("cars196")["s2sd"].mean == pytest.approx(CARS_S2SD)
    assert scores("cub200")["arcface"].mean == pytest.approx(CUB_ARCFACE)


def test_hidden_markers_stay_gaps():
    assert published_names() == ["cars196", "cub200", "sop"]
    assert scores("cub200")["proxy_anchor"].mean is None
    assert scores("cub200")["proxy_anchor"].missing == ((1, 0),)
    assert scores("sop")["margin"].missing == tuple((rung, 0) for rung in (0, 1, 2, 4, 5, 6))
    study = published_study("sop")
    assert study.means().keys() == set(range(8)) - {4}


@pytest.mark.parametrize("name", published_names())
def test_the_data_agree_with_themselves(name):
    study = published_study(name)
    assert study.source.startswith("arXiv:2107.09562") and len(study.curves) == 8
    assert list(study.fids) == sorted(study.fids)
    assert study.fids[study.default] == {"cub200": 52.62, "cars196": 8.59, "sop": 3.43}[name]
    for curve in study.curves:
        assert len(curve.values) == len(study.fids) == len(study.mean)
        assert all(0.5 < value < 0.9 for value in curve.values if value is not None)


@pytest.mark.parametrize("name", published_names())
def test_published_means_are_those_of_the_curves(name):
    """Where all eight markers are visible their mean is the study's, to the reading error."""
    study = published_study(name)
    whole = 0
    for rung, mean in study.means().items():
        values = [curve.values[rung] for curve in study.curves]
        if None not in values:
            whole += 1
            assert sum(values) / 8 == pytest.approx(mean, abs=study.reading_error)
    assert whole


# Ends of the straight lines in the lower panel of the published figure, easiest and hardest rung.
LINES = {
    "s2sd": (0.028, 0.049),
    "diva": (0.008, 0.028),
    "uniform_prior": (0.001, 0.013),
    "r_margin": (0.002, 0.003),
    "multi_similarity": (-0.003, -0.028),
    "margin": (-0.012, -0.036),
    "arcface": (-0.023, -0.031),
}


def test_relative_deviation_gives_the_published_lines():
    study = published_study("cub200")
    found = {
        line.series.method: (line.easiest, line.hardest)
        for line in deviation_lines(relative_deviation(study.rows(), study.means()))
    }
    for method, ends in LINES.items():
        assert found[method] == pytest.approx(ends, abs=study.reading_error)


def test_an_unknown_study_is_named():
    with pytest.raises(UsageError, match="'cub200'"):
        published_study("cub")
