"""Files that are either whole or absent, and the canonical JSON that names things by content."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from oodml.errors import DataError

_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
)


@contextmanager
def atomic_write(path: str | Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` only when the block ends without an error.

    It is written under a temporary name beside `path`, flushed to disk and renamed, so a reader
    (or a killed process) never sees half a file. Missing parent folders are made. What is not
    `durable` is not waited for: it outlives the process, but not a power cut at once. Raises
    `DataError` if `path` is a device, a pipe or a folder; an `OSError` names `path`.
    """
    path = Path(path)
    with _named(path):
        _check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
    with _named(path, temporary), _whole_or_gone(path, temporary, descriptor, durable) as file:
        yield file


@contextmanager
def _whole_or_gone(
    path: Path, temporary: str, descriptor: int, durable: bool
) -> Iterator[IO[bytes]]:
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _named(path: Path, temporary: str = "") -> Iterator[None]:
    """Errors of the system in terms of the file that was asked for, not of the temporary one."""
    try:
        yield
    except OSError as error:
        of_another_file = temporary and error.filename not in (None, temporary)
        if error.errno is None or of_another_file:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def _check_replaceable(path: Path) -> None:
    # Root may rename a file over /dev/null, and then there is no /dev/null any more.
    place = path.parent.resolve()
    # A link such as /dev/stdout leads to a file where the output of the shell goes into one.
    among_devices = place == Path("/dev") or place.is_relative_to("/proc")
    if (path.exists() and not path.is_file()) or among_devices:
        raise DataError(
            f"{path} is a folder, a device or a pipe; give the name of a file to write."
        )
    if path.parent.exists() and not path.parent.is_dir():
        raise DataError(f"{path.parent} is a file, so {path} can be none in it.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text."""
    return _CANONICAL.encode(value)


def digest(value: Any, digits: int = 12) -> str:
    """The first hex digits of SHA-256 over canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:digits]


def file_sha256(path: str | Path) -> str:
    """The full SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_file(path: str | Path) -> bytes:
    """The bytes of a file; `DataError` for a device, which has no end, or a named pipe.

    A pipe of the shell, as in `oodml ladder show <(zcat ladder.json.gz)`, is read.
    """
    with open(path, "rb", opener=_at_once) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            if not stat.S_ISFIFO(mode) or Path(path).parent != Path("/dev/fd"):
                raise DataError(f"{path} is a device or a pipe, no file.")
            os.set_blocking(file.fileno(), True)
        return file.read()


def _at_once(path: str, flags: int) -> int:
    # Opening a pipe into which nobody writes would wait for ever.
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def locked(path: str | Path, if_held: Callable[[], object] | None = None) -> Iterator[None]:
    """A block that one process at a time is in; the system frees the lock of a killed one.

    `path` is the lock file, made if it is not there. `if_held` is called before waiting for another
    process and may raise instead. Raises `DataError` if `path` is a link, which is left alone.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError(f"{path} is a link; remove it.") from None
        raise
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if if_held is not None:
                if_held()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: str | Path, value: Any) -> None:
    """Write indented, sorted JSON atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as file:
        # What stands for a byte of a file name that is not UTF-8 is written as JSON's escape of it.
        file.write(text.encode(errors="backslashreplace") + b"\n")


def read_json(path: str | Path, what: str) -> dict[str, Any]:
    """The JSON object in `path`, or a `DataError` that calls it `what`; see `parse_json`."""
    try:
        data = read_file(path)
    except FileNotFoundError:
        raise DataError(f"no {what} at {path}.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"{path} is not a readable {what} ({error}).") from None
    return parse_json(data, what, path)


def parse_json(data: bytes, what: str, place: object) -> dict[str, Any]:
    """The JSON object in some bytes, or a `DataError` that calls it `what` and says `place`.

    Refused are also a key that stands twice, which readers take differently, and NaN and infinity.
    """
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not a readable {what} ({_brief(error)}).") from None
    if not isinstance(value, dict):
        raise DataError(f"{place} is not a {what}: it holds no JSON object.")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the key {twice[:40]!r} stands twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _brief(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
