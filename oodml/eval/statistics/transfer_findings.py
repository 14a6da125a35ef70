"""What the transfer of methods says in a sentence, and no more than its intervals allow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from oodml.eval.statistics.intervals import Estimate
from oodml.eval.statistics.series import Series
from oodml.eval.statistics.transfer import MethodTransfer


def finding(found: Sequence[MethodTransfer]) -> str:
    """Up to which FID training pays and from which it costs, in one sentence.

    It says no more than the 95% intervals over seeds allow: training pays where the gain of every
    method lies above zero with its whole interval, and costs where all lie below.
    """
    known = [each for each in found if each.break_even is not None]
    if not known:
        return (
            "Whether training pays is not known: the network itself was not measured on the halves."
        )
    if all(len(each.seeds) == 1 for each in known):
        return "Whether training pays cannot be told from one seed, which has no interval."
    return f"{_whole_finding(known)}."


def division(found: Sequence[MethodTransfer], metric: str = "recall_at_1") -> str | None:
    """How the fall from the first to the last rung divides, in one sentence; None if unknown."""
    ends = [(each.series, each.rows[0], each.rows[-1]) for each in found if len(each.rows) > 1]
    known = [
        (series, first, last)
        for series, first, last in ends
        if last.fall is not None and last.difficulty is not None and last.cost_rise is not None
    ]
    if not known:
        return None
    _, first, last = known[0]
    over = f"From FID {first.fid:.0f} to {last.fid:.0f}"
    words = metric.replace("_", " ")
    falling = [(series, row) for series, _, row in known if _falls(row.fall)]
    level = [series for series, _, row in known if not _falls(row.fall)]
    if not falling:
        return f"{over}, no fall of {words} can be told{_with(level)}."
    parts = [
        _span([getattr(row, name).value for _, row in falling])
        for name in ("fall", "difficulty", "cost_rise")
    ]
    return (
        f"{over}, {words} falls by {parts[0]}{_with([series for series, _ in falling])}: "
        f"{parts[1]} because the classes are harder, {parts[2]} because of the shift"
        + (f"; no fall can be told{_with(level)}." if level else ".")
    )


def _falls(fall: Estimate | None) -> bool:
    """Whether a fall lies above zero, with its whole interval where it has one."""
    return fall is not None and (fall.value if fall.low is None else fall.low) > 0


def _whole_finding(known: Sequence[MethodTransfer]) -> str:
    """One sentence for all methods, or how they divide where none holds for all."""
    pays, costs = _stated(known)
    first, last = known[0].fids[0], known[0].fids[-1]
    who = _with([each.series for each in known])
    if pays is not None and pays >= last:
        return f"Training pays on the whole ladder, up to FID {last:.0f}{who}"
    if costs is not None and costs <= first:
        return f"Training costs on the whole ladder, from FID {first:.0f} on{who}"
    if pays is not None and costs is not None:
        return f"Training pays up to FID {pays:.0f} to {costs:.0f}{who}; beyond, it costs"
    open_ = "the intervals do not tell" if len(known) == 1 else "not every interval tells"
    if pays is not None:
        return f"Training pays up to FID {pays:.0f}{who}; beyond, {open_}"
    if costs is not None:
        return f"Training costs beyond FID {costs:.0f}{who}; below, {open_}"
    if all(_stated([each]) == (None, None) for each in known):
        return f"Whether training pays cannot be told on these rungs{who}"
    return f"Whether training pays depends on the method: {_by_kind(known)}"


def _stated(known: Sequence[MethodTransfer]) -> tuple[float | None, float | None]:
    """The FIDs up to which all methods pay and from which all cost; None where not all do."""
    lows, highs = [], []
    for each in known:
        if each.break_even is not None:
            _, low, high = each.break_even.on(each.fids)
            lows.append(low)
            highs.append(high)
    pays = [low for low in lows if low is not None]
    costs = [high for high in highs if high is not None]
    return (
        min(pays) if len(pays) == len(lows) else None,
        max(costs) if len(costs) == len(highs) else None,
    )


def _by_kind(known: Sequence[MethodTransfer]) -> str:
    """The methods by what can be stated of each alone, with their names or numbers."""
    kinds: dict[str, list[MethodTransfer]] = defaultdict(list)
    for each in known:
        pays, costs = _stated([each])
        if pays is not None and costs is not None:
            kinds["pays at first and costs later"].append(each)
        elif pays is not None:
            whole = pays >= each.fids[-1]
            kinds["pays on every rung" if whole else "pays at first"].append(each)
        elif costs is not None:
            whole = costs <= each.fids[0]
            kinds["costs on every rung" if whole else "costs in the end"].append(each)
        else:
            kinds["cannot be told"].append(each)
    return ", ".join(
        f"it {kind} for {_named([each.series for each in own])}" for kind, own in kinds.items()
    ).replace("it cannot be told", "nothing can be told")


def _with(series: Sequence[Series]) -> str:
    if len(series) == 1:
        return f" with {series[0].name}"
    kinds = "methods and models" if any(each.among_several for each in series) else "methods"
    return f" with each of {len(series)} {kinds}"


def _named(series: Sequence[Series]) -> str:
    names = [each.name for each in series]
    return ", ".join(names) if len(names) < 4 else f"{len(names)} methods"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} to {high}"
