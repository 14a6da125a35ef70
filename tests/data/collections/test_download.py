from __future__ import annotations

import errno
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from data.collections.conftest import archive_of, birds, lay_out, pack

from oodml.data.collections import download
from oodml.data.collections.download import download_collection, load_collection
from oodml.data.collections.registry import Collection, find_collection
from oodml.errors import DataError
from oodml.files import locked


@dataclass
class Host:
    """What a server does with the one file it has, and what it was asked for."""

    path: Path
    address: str = ""
    cut_after: int | None = None
    ranges: bool = True
    version: str = '"first"'
    status: int = 200
    kind: str = "application/gzip"
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    files = birds()
    host = Host(pack(tmp_path / "server" / "CUB_200_2011.tgz", files))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = host.path.read_bytes()
            asked = self.headers.get("Range", "")
            host.asked.append(asked)
            if host.status != 200:
                return self.send_error(host.status)
            same = self.headers.get("If-Range", host.version) == host.version
            start = int(asked.removeprefix("bytes=")[:-1]) if asked and same and host.ranges else 0
            if start >= len(data):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("Content-Type", host.kind)
            self.send_header("ETag", host.version)
            self.end_headers()
            self.wfile.write(data[start : host.cut_after])
            return None

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.address = f"http://127.0.0.1:{server.server_port}/birds"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield host
    server.shutdown()
    thread.join()
    server.server_close()


def birds_from(host: Host, **changes: Any) -> Collection:
    archive = replace(archive_of(host.path), **{"url": host.address, **changes})
    return replace(find_collection("cub200"), archives=(archive,), classes=3, images=9)


def test_a_download_that_breaks_off_goes_on_where_it_stopped(host: Host, tmp_path: Path) -> None:
    root = tmp_path / "root"
    host.cut_after = 700
    with pytest.raises(DataError, match="broke off; 700 bytes are kept; type the same command"):
        download_collection(birds_from(host), root)
    part = root / "CUB_200_2011.tgz.part"
    assert part.read_bytes() == host.path.read_bytes()[:700]
    with pytest.raises(DataError, match=r"not whole: the download of .* stopped after 700 of"):
        load_collection(birds_from(host), root)
    host.cut_after = None
    download_collection(birds_from(host), root)
    assert host.asked == ["", "bytes=700-"]
    assert not part.exists()
    assert (root / "CUB_200_2011.tgz").read_bytes() == host.path.read_bytes()
    assert len(load_collection(birds_from(host), root)) == 9
    download_collection(birds_from(host), root)
    assert len(host.asked) == 2


@pytest.mark.parametrize("change", ["version", "ranges"])
def test_a_changed_file_or_a_host_without_ranges_starts_anew(
    host: Host, tmp_path: Path, change: str
) -> None:
    host.cut_after = 700
    with pytest.raises(DataError, match="broke off"):
        download_collection(birds_from(host), tmp_path / "root")
    host.cut_after = None
    files = {**birds(), "CUB_200_2011/NEWS": "1.1"}
    if change == "version":
        host.version = '"second"'
        pack(host.path, files)
    host.ranges = change != "ranges"
    collection = birds_from(host)
    download_collection(collection, tmp_path / "root")
    assert host.asked == ["", "bytes=700-"]
    assert len(load_collection(collection, tmp_path / "root")) == 9


def test_a_whole_part_of_a_killed_process_is_taken(host: Host, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "CUB_200_2011.tgz.part").write_bytes(host.path.read_bytes())
    download_collection(birds_from(host), root)
    assert len(load_collection(birds_from(host), root)) == 9


@pytest.mark.parametrize("checksum", ["0" * 32, "0" * 64])
def test_a_wrong_checksum_is_refused_and_nothing_is_extracted(
    host: Host, tmp_path: Path, checksum: str
) -> None:
    collection = birds_from(host, checksum=checksum)
    with pytest.raises(DataError, match=f"has checksum .* must have {checksum}"):
        download_collection(collection, tmp_path / "root")
    assert not (tmp_path / "root" / "CUB_200_2011").exists()
    assert not (tmp_path / "root" / "CUB_200_2011.tgz").exists()


def test_the_checksum_may_be_sha256_or_unknown(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checksum = download.hashlib.sha256(host.path.read_bytes()).hexdigest()
    download_collection(birds_from(host, checksum=checksum), tmp_path / "a")
    assert not caplog.text
    download_collection(birds_from(host, checksum=""), tmp_path / "b")
    assert "CUB_200_2011.tgz.part: no checksum is published" in caplog.text


def test_an_archive_put_there_by_hand_is_checked_and_extracted(host: Host, tmp_path: Path) -> None:
    archive = tmp_path / "root" / "CUB_200_2011.tgz"
    archive.parent.mkdir()
    archive.write_bytes(host.path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"half downloaded or another file. Remove it"):
        download_collection(birds_from(host), archive.parent)
    archive.write_bytes(host.path.read_bytes())
    download_collection(birds_from(host), archive.parent)
    assert host.asked == []
    assert len(load_collection(birds_from(host), archive.parent)) == 9


def test_hosts_that_refuse_or_show_a_page_are_named(host: Host, tmp_path: Path) -> None:
    host.kind = "text/html; charset=utf-8"
    with pytest.raises(DataError, match=r"with a web page instead of CUB_200_2011\.tgz"):
        download_collection(birds_from(host), tmp_path)
    host.status = 403
    with pytest.raises(DataError, match=r"answers 403 Forbidden\. Get CUB_200_2011\.tgz otherwise"):
        download_collection(birds_from(host), tmp_path)
    assert not list(tmp_path.glob("*.tgz*"))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/birds", "file:///no/birds.tgz"])
def test_no_network_is_one_line(host: Host, tmp_path: Path, address: str) -> None:
    collection = birds_from(host, url=address)
    with pytest.raises(DataError, match=f"cannot download {address}") as caught:
        download_collection(collection, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_full_disk_keeps_what_has_come(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_receive", full)
    with pytest.raises(DataError, match="is full; nothing has come yet"):
        download_collection(birds_from(host), tmp_path)


def test_a_folder_of_other_origin_is_never_overwritten(host: Host, tmp_path: Path) -> None:
    lay_out(tmp_path, {"CUB_200_2011/images/mine.jpg": None})
    with pytest.raises(DataError, match="is there already, but not as the whole collection"):
        download_collection(birds_from(host), tmp_path)
    assert host.asked == []
    assert (tmp_path / "CUB_200_2011/images/mine.jpg").is_file()


def test_two_downloads_into_one_folder_do_not_mix(host: Host, tmp_path: Path) -> None:
    with (
        locked(tmp_path / ".download.lock"),
        pytest.raises(DataError, match=r"another download into .* is running"),
    ):
        download_collection(birds_from(host), tmp_path)


def test_a_collection_without_archives_says_how_to_get_it() -> None:
    with pytest.raises(DataError, match=r"Type: pip install 'oodml\[demo\]'"):
        download_collection(find_collection("emoji"))
