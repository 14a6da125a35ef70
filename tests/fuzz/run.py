"""Fuzz one reader by coverage: `python tests/fuzz/run.py ladder --inputs 1000000`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("ladder", "run", "grid", "npz", "npy", "pickle", "csv")
# How libFuzzer names what it keeps.
_FINDINGS = ("crash-", "timeout-", "oom-", "leak-")
_LONGEST = 8_192


def main() -> int:
    """Run a fuzzer in a process of its own and print one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=NAMES)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the log and for inputs that crash")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        crashes = given.keep or Path(folder) / "crashes"
        crashes.mkdir(parents=True, exist_ok=True)
        log = crashes / f"{given.reader}.log"
        with log.open("w") as file:
            code = subprocess.run(
                [
                    *(sys.executable, HERE / "target.py", given.reader, folder),
                    *(f"-runs={given.inputs}", f"-seed={given.seed}", f"-max_len={_LONGEST}"),
                    *(f"-artifact_prefix={crashes}/", "-rss_limit_mb=4096", "-timeout=30"),
                    *("-len_control=0", "-mutate_depth=2", "-print_final_stats=1"),
                ],
                stderr=file,
            ).returncode
        text = log.read_text(errors="replace")
        found = [path for path in crashes.iterdir() if path.name.startswith(_FINDINGS)]
    if code:
        sys.stderr.write(text[-6000:])
    sys.stdout.write(figures(given.reader, text, len(found)) + "\n")
    return code


def figures(reader: str, log: str, crashes: int) -> str:
    """The figures of a fuzzer's log in one line."""

    def last(pattern: str) -> str:
        found = re.findall(pattern, log)
        return str(found[-1]) if found else "0"

    return (
        f"{reader}: {last(r'number_of_executed_units: *([0-9]+)')} inputs, "
        f"{last(r'accepted ([0-9]+)')} of them whole, {crashes} crashes, "
        f"{last(r'average_exec_per_sec: *([0-9]+)')} a second, coverage {last(r'cov: ([0-9]+)')}"
    )


if __name__ == "__main__":
    sys.exit(main())
