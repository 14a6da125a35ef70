"""What is said of a ladder whose FIDs are mostly null, or whose sides are small."""

from dataclasses import replace

import pytest

from oodml.eval.statistics.cautions import axis_notes, fid_cautions, null_span


def with_null(ladder, nulls):
    """The ladder with these null means on its rungs."""
    rungs = [
        replace(rung, shift=replace(rung.shift, null_mean=null, null_sd=1.0, null_draws=20))
        for rung, null in zip(ladder.rungs, nulls, strict=True)
    ]
    return replace(ladder, rungs=tuple(rungs))


def test_the_null_is_named_where_it_is_most_of_fid(ladder):
    fids = [rung.fid for rung in ladder.rungs]
    mostly = with_null(ladder, [0.6 * fid for fid in fids])
    assert null_span(mostly) == pytest.approx(
        (0.6 * fids[0], 0.6 * fids[-1], 0.4 * fids[0], 0.4 * fids[-1])
    )
    assert f"{0.6 * fids[0]:.1f} to {0.6 * fids[-1]:.1f}" in fid_cautions(mostly)[0]


@pytest.mark.parametrize("shares", [None, (0.4, 0.4, 0.4), (0.6, 0.6, 0.4)])
def test_a_small_null_is_not_named(ladder, shares):
    given = ladder
    if shares:
        pairs = zip(ladder.rungs, shares, strict=True)
        given = with_null(ladder, [rung.fid * share for rung, share in pairs])
    assert null_span(given) is None
    assert not any("null" in words for words in fid_cautions(given))


def test_few_classes_a_side_are_counted(ladder, monkeypatch):
    sizes = [
        len(names) for rung in ladder.rungs for names in (rung.train_classes, rung.test_classes)
    ]
    assert fid_cautions(ladder)[0].startswith(f"{min(sizes)} to {max(sizes)} classes")
    monkeypatch.setattr("oodml.eval.statistics.cautions.FEW_CLASSES", min(sizes))
    assert not fid_cautions(ladder)


def test_an_axis_of_fid_alone_names_the_null(ladder):
    mostly = with_null(ladder, [0.6 * rung.fid for rung in ladder.rungs])
    null, few = axis_notes(mostly)
    assert f"{0.6 * ladder.rungs[0].fid:.1f} to" in null and "classes a side" in few
    assert axis_notes(mostly, "excess") == [few] == axis_notes(ladder)
