from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from data.collections.conftest import archive_of, pack

from oodml.data.collections import extract as module
from oodml.data.collections.extract import extract
from oodml.data.collections.registry import Archive, Collection, is_extracted, unfinished
from oodml.errors import DataError

NAMES = ("birds.tar", "birds.tgz", "birds.tar.gz", "birds.zip")
FILES: dict[str, str | bytes | None] = {"birds/a.jpg": None, "birds/deep/b.jpg": None, "note": "x"}


def names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("into", ["", "below/it"])
@pytest.mark.parametrize("name", NAMES)
def test_an_archive_is_extracted_once(tmp_path: Path, name: str, into: str) -> None:
    archive = archive_of(pack(tmp_path / name, FILES), into)
    extract(archive, tmp_path)
    assert is_extracted(archive, tmp_path)
    assert names(tmp_path) == sorted(
        [name, f".{name}.extracted", *(f"{into}/{each}".lstrip("/") for each in FILES)]
    )
    (tmp_path / into / "birds/a.jpg").write_bytes(b"changed")
    extract(archive, tmp_path)
    assert (tmp_path / into / "birds/a.jpg").read_bytes() == b"changed"


def hostile(path: Path, name: str) -> Archive:
    return archive_of(pack(path, {"birds/a.jpg": None, name: "owned", "birds/b.jpg": None}))


@pytest.mark.parametrize("archive_name", NAMES)
@pytest.mark.parametrize(
    "name", ["../owned", "birds/../../owned", "/tmp/oodml_owned", "..\\owned", "C:\\owned"]
)
def test_a_member_that_leaves_the_folder_spoils_the_archive(
    tmp_path: Path, archive_name: str, name: str
) -> None:
    root = tmp_path / "root"
    archive = hostile(root / archive_name, name)
    with pytest.raises(DataError, match="is not to be trusted: its member"):
        extract(archive, root)
    assert not is_extracted(archive, root)
    assert not (root / "birds").exists()
    assert not [each for each in names(tmp_path) if "owned" in each]
    assert not Path("/tmp/oodml_owned").exists()


def test_links_and_devices_in_a_tar_are_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "birds.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (
            ("birds/out", tarfile.SYMTYPE),
            ("birds/hard", tarfile.LNKTYPE),
            ("birds/device", tarfile.CHRTYPE),
            ("birds/pipe", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc"
            tar.addfile(member)
        # Through the link, if it were made.
        tar.addfile(tarfile.TarInfo("birds/out/owned"), io.BytesIO())
    extract(archive_of(path), tmp_path)
    assert names(tmp_path / "birds") == ["out/owned"]
    assert not (tmp_path / "birds/out").is_symlink()
    assert "birds.tar: left out 4 links: 'birds/out', 'birds/hard'" in caplog.text


def test_links_in_a_zip_are_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "birds.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("birds/out")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
        archive.writestr("birds/a.txt", "a")
    extract(archive_of(path), tmp_path)
    assert names(tmp_path / "birds") == ["a.txt"]
    assert "left out 1 links: 'birds/out'" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_off_archive_is_never_taken_for_a_whole_one(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / name, FILES)
    # A tar that is not compressed ends in blocks of zeros; the cut goes through a file.
    path.write_bytes(path.read_bytes()[: 700 if name.endswith(".tar") else -30])
    archive = archive_of(path)
    with pytest.raises(DataError, match=r"cannot be extracted .* Remove the file and get it again"):
        extract(archive, tmp_path)
    assert not is_extracted(archive, tmp_path)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_takes_no_more_is_named_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    archive = archive_of(pack(tmp_path / "birds.zip", FILES))

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(zipfile.ZipFile, "extract", refuse)
    words = "the disk is full" if number == errno.ENOSPC else "Permission denied"
    with pytest.raises(DataError, match=words):
        extract(archive, tmp_path)
    assert names(tmp_path) == ["birds.zip"]


def test_a_member_without_a_name_spoils_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "birds.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), "x")
    with pytest.raises(DataError, match="its member '' would be written outside"):
        extract(archive_of(path), tmp_path)


@pytest.mark.parametrize("name", ["birds.zip", "birds.tgz", "birds.tar"])
def test_bytes_of_another_kind_are_no_archive(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "page.html", {"": "<html>Sign in</html>" * 99})
    path.rename(tmp_path / name)
    with pytest.raises(DataError, match="cannot be extracted"):
        extract(Archive("", name), tmp_path)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("stop", ["in the middle of unpacking", "between two moves"])
def test_an_extraction_that_was_killed_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    archive = archive_of(pack(tmp_path / "birds.zip", {**FILES, "sounds/c.txt": "c"}))
    with monkeypatch.context() as patched:
        if stop == "between two moves":
            patched.setattr(module.Path, "rename", killed_at("note"))
        else:
            patched.setattr(module, "_check_name", killed_at("birds/deep/b.jpg"))
        with pytest.raises(KeyboardInterrupt):
            extract(archive, tmp_path)
    assert not is_extracted(archive, tmp_path)
    known = Collection("birds", "", load=lambda _: None, archives=(archive,))  # type: ignore
    assert unfinished(known, tmp_path) == "the extraction of birds.zip was cut off"
    assert (tmp_path / "birds").exists() == (stop == "between two moves")
    extract(archive, tmp_path)
    assert is_extracted(archive, tmp_path)
    expected = [".birds.zip.extracted", "birds.zip", *FILES, "sounds/c.txt"]
    assert names(tmp_path) == sorted(expected)
    (tmp_path / ".birds.zip.moving").mkdir()  # Killed after the last move.
    extract(archive, tmp_path)
    assert names(tmp_path) == sorted(expected)
    assert not (tmp_path / ".birds.zip.moving").exists()
    (tmp_path / "birds").rename(tmp_path / "elsewhere")
    assert not is_extracted(archive, tmp_path)


def killed_at(name: str) -> Any:
    rename = Path.rename

    def act(path: Path, other: Any) -> Any:
        if path.name == name or other == name:
            raise KeyboardInterrupt
        return rename(path, other) if isinstance(other, Path) else None

    return act


def test_what_lies_in_the_way_stays(tmp_path: Path) -> None:
    archive = archive_of(pack(tmp_path / "birds.zip", FILES))
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds/mine").write_text("mine")
    with pytest.raises(DataError, match=r"birds is in the way of birds\.zip"):
        extract(archive, tmp_path)
    assert not is_extracted(archive, tmp_path)
    assert names(tmp_path / "birds") == ["mine"]
    assert not (tmp_path / "note").exists()
    (tmp_path / "birds/mine").unlink()
    (tmp_path / "birds").rmdir()
    extract(archive, tmp_path)
    assert names(tmp_path / "birds") == ["a.jpg", "deep/b.jpg"]


def test_a_deleted_folder_is_extracted_again(tmp_path: Path) -> None:
    archive = archive_of(pack(tmp_path / "birds.zip", FILES))
    extract(archive, tmp_path)
    (tmp_path / "note").unlink()
    assert not is_extracted(archive, tmp_path)
    with pytest.raises(DataError, match="birds is in the way"):
        extract(archive, tmp_path)


def test_a_newer_archive_of_the_same_name_is_noted_anew(tmp_path: Path) -> None:
    extract(archive_of(pack(tmp_path / "birds.zip", FILES)), tmp_path)
    (tmp_path / "note").unlink()
    newer = archive_of(pack(tmp_path / "birds.zip", {"trees/a.txt": "a"}))
    extract(newer, tmp_path)
    assert is_extracted(newer, tmp_path)
    (tmp_path / "trees").rename(tmp_path / "note")
    assert not is_extracted(newer, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"entries": 3}'])
def test_a_damaged_note_counts_as_none(tmp_path: Path, text: str) -> None:
    archive = archive_of(pack(tmp_path / "birds.zip", FILES))
    (tmp_path / ".birds.zip.extracted").write_text(text)
    assert not is_extracted(archive, tmp_path)


def test_a_plain_file_is_put_where_it_belongs(tmp_path: Path) -> None:
    path = pack(tmp_path / "labels.mat", {"": "labels"})
    for into in ("", "birds"):
        archive = archive_of(path, into)
        extract(archive, tmp_path)
        assert is_extracted(archive, tmp_path)
        assert (tmp_path / into / "labels.mat").read_text() == "labels"
        (tmp_path / ".labels.mat.extracted").unlink()
