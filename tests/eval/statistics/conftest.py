"""Records of made-up runs on a ladder of three rungs that exists in name only."""

from types import SimpleNamespace

from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec

FIDS = (10.0, 20.0, 50.0)
EXCESS = (-1.0, 8.0, 36.0)


IDS = tuple(f"split{number}" for number in range(3))


LADDER = SimpleNamespace(
    rungs=tuple(
        SimpleNamespace(
            id=i, fid=fid, shift=SimpleNamespace(level="sample", fid=fid, excess=excess)
        )
        for i, fid, excess in zip(IDS, FIDS, EXCESS, strict=True)
    ),
    rung_of=lambda split: IDS.index(split) if split in IDS else None,
    split_of=lambda split: LADDER.rungs[IDS.index(split)] if split in IDS else None,
    features=SimpleNamespace(fingerprint="f" * 16, network="ruler of the ladder"),
)


def run(
    method="margin",
    rung=0,
    seed=0,
    value=0.5,
    status="done",
    metrics=None,
    shift=None,
    ruler="",
    **settings,
):
    spec = RunSpec.from_settings(
        dataset="emoji",
        fingerprint=settings.pop("fingerprint", "f" * 16),
        split=settings.pop("split", None) or IDS[rung],
        method=method,
        backbone=settings.pop("backbone", "b"),
        weights=settings.pop("weights", "w"),
        preprocessing="p",
        seed=seed,
        **settings,
    )
    metrics = {"recall_at_1": value} if metrics is None else metrics
    return RunRecord(spec, shift or {}, metrics, {}, {}, 1.0, ruler=ruler, status=status)
