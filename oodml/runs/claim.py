"""Claims: who is working on a run, told by a heartbeat and never by another machine's clock."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

from oodml.errors import DataError
from oodml.files import read_file

HEARTBEAT_SECONDS = 5.0
# A foreign claim is stale when its heartbeat stood still for this long by our own clock.
STALE_SECONDS = 60.0


class Claim:
    """A claim file that is touched by a heartbeat until the `with` block ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    @classmethod
    def take(cls, path: Path) -> Claim:
        """Write the claim of this process, over a stale one if there is one."""
        temporary = path.with_name(f".claim.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        # "x": nothing is written through a link that somebody else put there.
        with temporary.open("x") as file:
            file.write(json.dumps(_identity()))
        temporary.replace(path)
        return cls(path)

    def __enter__(self) -> Claim:
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._heart.join()
        self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                return


class ClaimWatch:
    """Tells live claims from stale ones; remembers when it last saw a foreign heartbeat."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, float]] = {}

    def is_held(self, path: Path) -> bool:
        """True if a live process holds the claim at `path`."""
        try:
            beat = path.stat().st_mtime_ns
            owner = json.loads(read_file(path))
        except FileNotFoundError:
            return False
        except (ValueError, RecursionError, DataError):
            owner = {}
        mine = _identity()
        if isinstance(owner, dict) and all(owner.get(k) == mine[k] for k in ("host", "boot")):
            return owner.get("started") == _started(owner.get("pid"))
        return self._beats(path, beat)

    def _beats(self, path: Path, beat: int) -> bool:
        last, since = self._seen.get(path, (None, 0.0))
        if beat != last:
            self._seen[path] = (beat, time.monotonic())
            return True
        return time.monotonic() - since < STALE_SECONDS


def _identity() -> dict[str, str | int | None]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "boot": _boot(), "pid": pid, "started": _started(pid)}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: object) -> str | None:
    """When a process of this boot started (clock ticks), or None if there is no such process."""
    try:
        stat = Path(f"/proc/{int(str(pid))}/stat").read_text()
    except (OSError, ValueError):
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]
