"""Links, pipes and devices in a stranger's store: nothing is written through them, none hangs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import make_features, make_spec

from oodml.cli import main
from oodml.errors import DataError
from oodml.files import read_file, read_json
from oodml.runs.claim import Claim
from oodml.runs.record import RunRecord
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder

SPEC = make_spec()
RECORD = RunRecord(SPEC, {"fid": 1.0}, {"recall_at_1": 0.5}, {}, {}, 1.0)


def oodml(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="oodml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "results").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("kept")
    return Store(tmp_path / "results")


Deed = Callable[[Store], object]


@pytest.mark.parametrize(
    ("link", "target", "deed"),
    [
        (".lock", "outside/precious", lambda s: s.claim(SPEC.id)),
        (".lock", "outside/precious", lambda s: s.finish(RECORD)),
        ("runs", "outside", lambda s: s.claim(SPEC.id)),
        ("runs", "outside", lambda s: s.fail(SPEC.id, "why")),
        (f"runs/{SPEC.id}", "outside", lambda s: s.claim(SPEC.id)),
        (f"runs/{SPEC.id}", "outside", lambda s: s.finish(RECORD)),
        (f"runs/{SPEC.id}", "outside", lambda s: s.renew(RECORD)),
        (f"runs/{SPEC.id}", "outside", lambda s: s.fail(SPEC.id, "why")),
        ("grids", "outside", lambda s: s.note_grid([SPEC])),
    ],
    ids=range(9),
)
def test_nothing_is_written_through_a_link_of_a_store(
    link: str, target: str, deed: Deed, store: Store, tmp_path: Path
) -> None:
    place = tmp_path / "results" / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / target)
    with pytest.raises(DataError, match="is a link"):
        deed(store)
    assert [p.name for p in (tmp_path / "outside").iterdir()] == ["precious"]
    assert (tmp_path / "outside" / "precious").read_text() == "kept"


def test_a_claim_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / f".claim.{os.getpid()}").symlink_to("precious")
    Claim.take(tmp_path / "claim")
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "claim").is_symlink()


def test_the_store_itself_may_be_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("results")
    linked = Store(tmp_path / "link")
    linked.finish(RECORD)
    assert linked.records() == store.records() == [RECORD]


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
def test_pipes_and_devices_in_a_store_are_named_and_never_waited_for(
    kind: str, store: Store, tmp_path: Path
) -> None:
    def put(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path) if kind == "pipe" else path.symlink_to(kind)

    ladder = build_ladder(make_features(12, 3, 4), rungs=2)
    ladder.save(tmp_path / "ladder.json")
    store.note_grid([SPEC])
    run = tmp_path / "results" / "runs" / SPEC.id
    for name in ("claim", "error.txt", "run.json"):
        put(run / name)
    put(tmp_path / "results" / "grids" / "x.json")
    assert store.records() == []
    result = oodml("status", tmp_path / "results")
    assert result.exit_code == 0, result.output
    for name in ("ladder.json", "splits.pkl"):
        put(tmp_path / "results" / name)
        command = "show" if name == "ladder.json" else "import"
        result = oodml("ladder", command, tmp_path / "results" / name)
        assert result.exit_code == 1 and "a device or a pipe, no file" in result.output


def test_a_pipe_of_the_shell_is_read(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b'{"a": 1}')
    os.close(writer)
    assert read_json(f"/dev/fd/{reader}", "thing") == {"a": 1}
    os.close(reader)
    (tmp_path / "x").write_bytes(b"whole")
    assert read_file(tmp_path / "x") == b"whole"
