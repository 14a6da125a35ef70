"""Where weights are looked for, and what is refused on the way."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
from email.message import Message
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from oodml.errors import DataError
from oodml.features import weights as module
from oodml.features.backbones.catalogue import KnownWeights
from oodml.features.weights import (
    WeightsNotFound,
    find_weights,
    load_state,
    read_state,
    resolve_weights,
    state_sha256,
    verified,
)

CONTENT = b"pretend these are weights"
PREFIX = hashlib.sha256(CONTENT).hexdigest()[:8]
KNOWN = KnownWeights("tiny", (f"tiny-{PREFIX}.pth", f"weights-{PREFIX}.pth"), "https://x.org/w")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("OODML_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(module, "urlopen", offline)
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    return tmp_path / "torch/hub/checkpoints"


def offline(*_: object, **__: object) -> None:
    raise URLError("Temporary failure in name resolution")


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes, length: int | None = None) -> None:
    class Reply(io.BytesIO):
        headers = Message()

    Reply.headers["Content-Length"] = str(len(content) if length is None else length)
    monkeypatch.setattr(module, "urlopen", lambda *_, **__: Reply(content))


@pytest.mark.parametrize("name", KNOWN.names)
def test_the_hub_cache_is_searched_under_every_known_name(hub: Path, name: str) -> None:
    (hub / name).write_bytes(CONTENT)
    assert resolve_weights(KNOWN) == hub / name


def test_a_given_file_wins_over_the_directory_which_wins_over_the_hub(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (hub / KNOWN.names[0]).write_bytes(CONTENT)
    stem = KNOWN.names[1].removesuffix(".pth")
    (own / f"{stem}.safetensors").write_bytes(CONTENT)
    monkeypatch.setenv("OODML_WEIGHTS_DIR", str(own))
    assert resolve_weights(KNOWN) == own / f"{stem}.safetensors"
    (tmp_path / "mine.pt").write_bytes(b"anything")
    assert resolve_weights(KNOWN, tmp_path / "mine.pt") == tmp_path / "mine.pt"


def test_a_damaged_file_in_the_cache_is_refused_though_it_was_not_downloaded_now(
    hub: Path,
) -> None:
    (hub / KNOWN.names[0]).write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=f"damaged or another file.*{PREFIX}"):
        resolve_weights(KNOWN)


def test_a_name_without_a_hash_is_taken_as_it_is(tmp_path: Path) -> None:
    for name in ("mine.pth", "resnet50-v2.pth", "inception-2015-12-05.pt"):
        (tmp_path / name).write_bytes(b"x")
        assert verified(tmp_path / name) == tmp_path / name


def test_a_miss_says_what_to_fetch_where_to_put_it_and_what_needs_no_download(hub: Path) -> None:
    with pytest.raises(WeightsNotFound) as caught:
        resolve_weights(KNOWN)
    text = str(caught.value)
    assert "\n" not in text
    for word in ("https://x.org/w", str(hub), "OODML_WEIGHTS_DIR", "as weights", "name resolution"):
        assert word in text
    assert "efficientnet_lite0" in text
    assert not list(hub.iterdir())


def test_a_given_file_that_is_absent_or_of_another_kind_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match=r"gone\.pth"):
        resolve_weights(KNOWN, tmp_path / "gone.pth")
    (tmp_path / "w.onnx").write_bytes(b"")
    with pytest.raises(DataError, match="safetensors"):
        resolve_weights(KNOWN, tmp_path / "w.onnx")


def test_a_download_is_verified_and_kept(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, CONTENT)
    assert resolve_weights(KNOWN).read_bytes() == CONTENT
    monkeypatch.setattr(module, "urlopen", offline)
    assert resolve_weights(KNOWN) == hub / KNOWN.names[0]


@pytest.mark.parametrize(
    ("content", "length", "words"),
    [(CONTENT + b"!", None, "not the file"), (CONTENT[:9], len(CONTENT), "broke off after 9")],
)
def test_a_bad_download_leaves_nothing(
    hub: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, length: int | None, words: str
) -> None:
    serve(monkeypatch, content, length)
    with pytest.raises(DataError, match=words):
        resolve_weights(KNOWN)
    assert not list(hub.iterdir())


def test_pth_and_safetensors_hold_the_same_state(tmp_path: Path) -> None:
    state = {"a.weight": torch.randn(3, 2), "a.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "w.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pt")
    save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.pt", "w.safetensors"):
        loaded = read_state(tmp_path / name)
        assert loaded.keys() == state.keys()
        assert state_sha256(loaded) == state_sha256(state)
    assert state_sha256({**state, "a.bias": torch.ones(3)}) != state_sha256(state)


def test_a_known_hash_is_checked_although_the_name_has_none(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    known = KnownWeights("small", ("small_pretrain.pth",), "https://x.org/small.pth", digest)
    serve(monkeypatch, CONTENT + b"!")
    with pytest.raises(DataError, match="not the file"):
        resolve_weights(known)
    assert find_weights(known) is None
    serve(monkeypatch, CONTENT)
    path = resolve_weights(known)
    assert (path, path.read_bytes()) == (hub / "small_pretrain.pth", CONTENT)
    path.write_bytes(CONTENT[:-1])
    assert find_weights(known) == path, "finding does not read the file"
    with pytest.raises(DataError, match=f"damaged or another file.*{digest[:8]}"):
        resolve_weights(known)
    assert resolve_weights(known, path) == path, "a file of one's own may be another"


def test_the_cache_of_hugging_faces_hub_is_searched_at_the_known_revision(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://huggingface.co/timm/some_net.tag/resolve/0a1b2c/model.safetensors"
    known = KnownWeights("net", ("some_net.safetensors",), url)
    for variable, value, folder in (
        ("HF_HUB_CACHE", "cache", "cache"),
        ("HF_HOME", "home", "home/hub"),
        ("XDG_CACHE_HOME", "user", "user/huggingface/hub"),
    ):
        for other in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(other, raising=False)
        monkeypatch.setenv(variable, str(tmp_path / value))
        snapshots = tmp_path / folder / "models--timm--some_net.tag/snapshots"
        (snapshots / "ffffff").mkdir(parents=True)
        (snapshots / "ffffff/model.safetensors").write_bytes(b"of another revision")
        assert find_weights(known) is None
        (snapshots / "0a1b2c").mkdir()
        (snapshots / "0a1b2c/model.safetensors").write_bytes(b"anything")
        assert find_weights(known) == snapshots / "0a1b2c/model.safetensors"


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME", "HOME"])
def test_the_hubs_folder_is_found_without_torch_where_torch_finds_it(
    variable: str, tmp_path: Path
) -> None:
    code = (
        "import sys; from oodml.features.weights import hub_directory; found = hub_directory();"
        "assert 'torch' not in sys.modules; import torch; assert hub_directory() == found; "
        "print(found)"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("TORCH_HOME", "XDG_CACHE_HOME")}
    environment = {**kept, variable: str(tmp_path / "x")}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith(str(tmp_path / "x"))


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("bomb-went-off"),))


def test_unreadable_and_executable_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.zeros(100)}, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:600])
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "text.pth").write_text("junk\n")  # the legacy reader ends in a KeyError
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb()))
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("cut.pth", "text.safetensors", "text.pth", "bomb.pth", "list.pth"):
        with pytest.raises(DataError, match=name) as caught:
            read_state(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "bomb-went-off").exists()


def test_the_keys_of_a_foreign_file_are_named(tmp_path: Path) -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = layer.state_dict()
    load_state(layer, {k: v for k, v in state.items() if "tracked" not in k}, Path("w"), "tiny")
    shape = {**state, "0.weight": torch.zeros(5, 2)}
    extra = {**state, "head.weight": torch.zeros(1)}
    missing = {key: value for key, value in state.items() if key != "0.bias"}
    for bad, words in (
        (shape, r"wrong shape: 0.weight \(5, 2\) instead of \(3, 2\)"),
        (extra, "foreign: head.weight"),
        (missing, "missing: 0.bias"),
    ):
        with pytest.raises(DataError, match=words):
            load_state(layer, bad, Path("w.pth"), "tiny")
