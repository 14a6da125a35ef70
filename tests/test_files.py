from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from oodml.errors import DataError
from oodml.files import atomic_write, canonical_json, digest, locked, read_json, write_json
from oodml.seeding import derive_seed, generator


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert read_json(path, "record") == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "folder"])
def test_what_is_no_file_is_never_replaced_by_one(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    before = path.lstat()
    with pytest.raises(DataError, match=r"out\.npz is a folder, a device or a pipe"):
        write_json(path, {})
    assert path.lstat() == before
    assert {p.name for p in tmp_path.iterdir()} <= {"out.npz", "pipe"}


def test_the_standard_output_is_not_replaced_where_it_goes_into_a_file() -> None:
    # In a process of its own without a right to write there: a mistake must not hit the machine.
    code = "import os, oodml.files as f\nf.tempfile.mkstemp = None\nf.write_json('/dev/stdout', {})"
    with tempfile.TemporaryFile() as out:
        done = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE)
    assert b"/dev/stdout is a folder, a device or a pipe" in done.stderr, done.stderr


def test_errors_of_the_system_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file is a file, so .*x\.json can be none in it"):
        write_json(tmp_path / "file" / "x.json", {})
    for path in (tmp_path / "file" / "deep" / "x.json", tmp_path / ("n" * 300)):
        with pytest.raises(OSError) as error:
            write_json(path, {})
        assert error.value.filename == str(path)
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space") as error, atomic_write(tmp_path / "x.json"):
        raise full
    assert error.value.filename == str(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError) as missing, atomic_write(tmp_path / "x.json"):
        (tmp_path / "absent").read_bytes()
    assert missing.value.filename == str(tmp_path / "absent")


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("{}")
    (tmp_path / "x.json").symlink_to("precious")
    write_json(tmp_path / "x.json", {"a": 1})
    assert (tmp_path / "precious").read_text() == "{}"
    assert read_json(tmp_path / "x.json", "record") == {"a": 1}


def test_equal_values_have_equal_digests_whatever_their_order() -> None:
    assert digest({"b": [1.5, "ä"], "a": None}) == digest({"a": None, "b": [1.5, "ä"]})
    assert digest({"a": 1}) != digest({"a": 2})
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_a_lock_is_one_process_at_a_time_and_freed_by_a_killed_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    code = (
        f"import oodml.files as f\nwith f.locked({str(path)!r}): print('in', flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"in\n"

        def refuse() -> None:
            raise BlockingIOError

        with pytest.raises(BlockingIOError), locked(path, refuse):
            pass
        with locked(path, holder.kill):
            assert path.exists()
    with locked(path, refuse):
        pass
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(DataError, match="link"), locked(tmp_path / "link"):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b'{"a": 1'])
def test_what_is_not_a_json_object_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json"):
        read_json(path, "thing")
    with pytest.raises(DataError, match="no thing at"):
        read_json(tmp_path / "absent.json", "thing")


def test_seeds_depend_on_seed_and_purpose_only() -> None:
    # The value is pinned: a change here would silently change every published result.
    assert derive_seed(0, "split") == 306515425121480513
    draws = {tuple(generator(s, p).integers(1 << 30, size=3)) for s in (0, 1) for p in ("a", "b")}
    assert len(draws) == 4
