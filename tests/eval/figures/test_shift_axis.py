from dataclasses import replace

import pytest

from oodml.errors import DataError, UsageError
from oodml.eval.figures.curves import scaled, shift_axis, study_axis, study_of
from oodml.eval.statistics.curves import SummaryRow
from oodml.eval.statistics.published import published_study
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.exchange import imported_ladder
from oodml.splits.formats.published_pickle import PublishedSplit

ROW = SummaryRow("m", 2, "s", 5.0, 1, 0.5, None, None, (0.5,), (0,))


def imported(fids):
    splits = [
        PublishedSplit(n, (f"a{n}", f"b{n}"), (f"c{n}", f"d{n}"), fid, (), {})
        for n, fid in enumerate(fids)
    ]
    return imported_ladder(splits, "cars196")


def test_rungs_stand_at_their_fid_and_the_start_is_marked(features):
    ladder = build_ladder(features, rungs=3, swap_size=2, easier=False)
    axis = shift_axis(ladder)
    assert axis.places == {n: rung.fid for n, rung in enumerate(ladder.rungs)}
    assert axis.label == ladder.fid_label()
    assert (axis.start, axis.start_name) == (ladder.rungs[0].fid, "start")
    assert axis.placed([ROW])[0].fid == ladder.rungs[2].fid
    moved = replace(ladder, trajectory=tuple(replace(s, kind="swap") for s in ladder.trajectory))
    assert shift_axis(moved).start is None


def test_scaled_runs_from_zero_to_one(ladder):
    places = shift_axis(ladder, "scaled").places
    fids = [rung.fid for rung in ladder.rungs]
    assert places[0] == 0 and places[2] == 1
    assert places[1] == pytest.approx((fids[1] - fids[0]) / (fids[2] - fids[0]))
    assert scaled({0: 7.0}) == {0: 0.0}


def test_excess_needs_a_null_on_every_rung(ladder):
    rungs = [
        replace(rung, shift=replace(rung.shift, null_mean=1.0, excess=rung.fid - 1.0))
        for rung in ladder.rungs
    ]
    axis = shift_axis(replace(ladder, rungs=tuple(rungs)), "excess")
    assert axis.places[1] == ladder.rungs[1].fid - 1
    assert axis.label.startswith("excess FID over random splits\n(sample level")
    with pytest.raises(DataError, match=r"rung 2 .*null=20"):
        shift_axis(replace(ladder, rungs=(*rungs[:2], ladder.rungs[2])), "excess")
    with pytest.raises(UsageError, match="excess, scaled"):
        shift_axis(ladder, "kid")


def test_a_published_ladder_is_known_by_its_fids(ladder):
    # The published CARS file says 86.12 where the list that the curves go by says 86.48.
    cars = imported([8.59123, 43.58433, 86.12381, 123.03106])
    assert study_of(cars).name == "cars196"
    axis = shift_axis(cars)
    assert (axis.start, axis.start_name) == (8.59123, "default split")
    assert study_of(ladder) is None
    other = imported([8.59, 50.0])
    assert study_of(other) is None and shift_axis(other).start is None


def test_published_curves_have_an_axis_of_their_own():
    study = published_study("cub200")
    axis = study_axis(study)
    assert axis.places[2] == axis.start == 52.62
    assert study_axis(study, "scaled").places[8] == 1
    with pytest.raises(UsageError, match="no excess"):
        study_axis(study, "excess")
