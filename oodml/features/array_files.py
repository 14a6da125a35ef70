"""Reading `.npz` and `.npy` files that may be damaged or made to do harm."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy.typing as npt
from numpy.lib import format as npy

from oodml.errors import DataError

# A member may grow to this many times its packed size; real features shrink by 2 to 10.
_MOST_GROWTH = 200
# Below this many bytes an archive may grow as it likes.
_HARMLESS = 1 << 28
_KINDS = "biufcSU"


class _RefusedError(Exception):
    """Why an array was refused, in words for the user."""


def read_npz(
    file: str | Path | IO[bytes], names: Iterable[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an `.npz` by name: those in `names`, or all of them.

    Nothing is unpickled, and no more memory is taken than the file's own bytes account for: an
    array that its header calls larger than the bytes behind it, or an archive that unpacks to
    more than 200 times its size (beyond 256 MiB), is refused before it is read. Raises
    `FileNotFoundError`, and `DataError` with the reason, without the file's name, for anything
    else that is no whole archive of numbers and text, or lacks one of `names`.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = list(members) if names is None else list(names)
            missing = [name for name in wanted if name not in members]
            if missing:
                raise _RefusedError(f"it holds no array {', '.join(map(repr, missing))}")
            _check_growth(archive, [members[name] for name in wanted])
            return {name: _member(archive, members[name], name) for name in wanted}
    except FileNotFoundError:
        raise
    except _RefusedError as why:
        raise DataError(str(why)) from None
    except Exception as error:  # a damaged file can end these readers with nearly any error
        raise DataError(_brief(error)) from None


def read_npy(file: IO[bytes], size: int) -> npt.NDArray[Any]:
    """The array in an open `.npy` file of `size` bytes; see `read_npz`, whose rules hold."""
    try:
        _check_header(file, size, "the array")
        file.seek(0)
        return _read(file)
    except _RefusedError as why:
        raise DataError(str(why)) from None
    except Exception as error:  # as above
        raise DataError(_brief(error)) from None


def text_bytes(array: npt.NDArray[Any]) -> bytes:
    """The text in an array of shape () as UTF-8, lone surrogates included; empty for other arrays.

    Unlike `str` of the array, it cannot end in a SystemError where the bytes are not text.
    """
    if array.ndim or array.dtype.kind != "U":
        return b""
    try:
        text = array.astype(array.dtype.newbyteorder("<")).tobytes()
        return (
            text.decode("utf-32-le", "surrogatepass").rstrip("\0").encode("utf-8", "surrogatepass")
        )
    except UnicodeError:
        return b""


def _check_growth(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    unpacked = sum(member.file_size for member in members)
    # The sizes that an archive states may be false; its own length cannot.
    whole = archive.fp.seek(0, 2) if archive.fp is not None else 0
    packed = min(whole, sum(member.compress_size for member in members))
    if unpacked > max(_HARMLESS, _MOST_GROWTH * packed):
        raise _RefusedError(
            f"it unpacks from {packed} to {unpacked} bytes, more than {_MOST_GROWTH} times its size"
        )


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> npt.NDArray[Any]:
    with archive.open(info) as file:
        _check_header(file, info.file_size, repr(name[:40]))
    with archive.open(info) as file:
        return _read(file)


def _check_header(file: IO[bytes], size: int, name: str) -> None:
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        raise _RefusedError(f"{name} has the format {version}, which holds named fields")
    if dtype.kind not in _KINDS or not dtype.itemsize:
        raise _RefusedError(f"{name} holds {dtype}, and not numbers or text")
    if any(side < 0 for side in shape):
        raise _RefusedError(f"{name} has the shape {shape}")
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        raise _RefusedError(
            f"{name} has the shape {shape} of {dtype}, and {size - file.tell()} bytes"
        )


def _read(file: IO[bytes]) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
