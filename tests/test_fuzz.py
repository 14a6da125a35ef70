"""The readers of foreign records under changed records: whole, or refused in one line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parent / "fuzz"
NAMES = ("ladder", "run", "grid", "npz", "npy", "pickle", "csv")
EXAMPLES = 40


@pytest.fixture(scope="module")
def fuzz() -> Iterator[tuple[Any, Any, Any]]:
    """The modules of the fuzzers: readers, changes and seeds."""
    sys.path.insert(0, str(FUZZ))
    import mutations
    import readers
    import seeds

    yield readers, mutations.CHANGES, seeds.seeds()
    sys.path.remove(str(FUZZ))


def test_every_reader_has_seeds_that_are_whole_and_changes(fuzz: tuple[Any, Any, Any]) -> None:
    readers, changes, seeds = fuzz
    assert set(readers.READERS) == set(changes) == set(seeds) == set(NAMES)
    for name in NAMES:
        assert seeds[name] and all(readers.accepts(name, data) for data in seeds[name])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(random=st.randoms(use_true_random=False), times=st.integers(1, 3))
def test_a_changed_record_is_whole_or_refused(
    fuzz: tuple[Any, Any, Any], name: str, random: Random, times: int
) -> None:
    readers, changes, seeds = fuzz
    data = random.choice(seeds[name])
    for _ in range(times):
        try:
            data = changes[name](data, random)
        except Exception:  # what an earlier change broke has no form to keep
            break
    readers.accepts(name, data)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_bytes_cut_put_in_or_changed_are_refused_or_read(
    fuzz: tuple[Any, Any, Any], name: str, data: st.DataObject
) -> None:
    readers, _, seeds = fuzz
    whole = data.draw(st.sampled_from(seeds[name]))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 20)))
    readers.accepts(name, whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:])


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")
@pytest.mark.parametrize("name", NAMES)
def test_inputs_by_coverage_crash_nothing(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FUZZ / "run.py", name, "--inputs", "20000", "--keep", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{name}: 20000 inputs" in done.stdout and " 0 crashes" in done.stdout
