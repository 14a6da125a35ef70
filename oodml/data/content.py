"""Encoded images in files named by their content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


def stored(content: bytes, root: str | Path | None = None) -> Path:
    """The file below `root` that holds exactly these bytes, written if it is not there yet.

    `root` is by default `$OODML_DATA/hf`, or `~/.cache/oodml/collections/hf`. The name is the
    SHA-256 of the bytes with the suffix of the image format. A reader never sees half a file.
    """
    digest = hashlib.sha256(content).hexdigest()
    path = _root(root) / digest[:2] / f"{digest}{_suffix(content)}"
    if not _holds(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without fsync, which costs minutes over 100,000 images: what a power failure cuts short
        # has another size and is written again.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def _holds(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _root(root: str | Path | None) -> Path:
    if root is not None:
        return Path(root).expanduser()
    everywhere = os.environ.get("OODML_DATA") or "~/.cache/oodml/collections"
    return Path(everywhere).expanduser() / "hf"


def _suffix(content: bytes) -> str:
    return next((suffix for magic, suffix in _SUFFIXES.items() if content.startswith(magic)), "")
