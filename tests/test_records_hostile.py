"""Records that are cut, from the future, of other types or hostile: one clear line, or whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import SOURCE, make_features, make_spec

from oodml.cli import main
from oodml.commands.grid_file import read_grids
from oodml.commands.run import run_command
from oodml.errors import DataError, UsageError
from oodml.eval.embedding_files import read_embeddings
from oodml.features.features import Features
from oodml.fid.statistics_files import read_statistics
from oodml.files import digest, read_json, write_json
from oodml.runs.claim import ClaimWatch
from oodml.runs.record import RunRecord
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.construction.start import read_sides
from oodml.splits.formats.csv import read_csv
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split

Change = Callable[[dict[str, Any]], Any]


def oodml(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="oodml")


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    text = str(error.value)
    assert text and "\n" not in text and len(text) < 500, text
    return text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b'{"a": "\xed\xa0\x80"}', "can't decode"),
        (json.dumps({"a": 1}).encode("utf-16"), "can't decode"),
        (b'{"a": 1', "delimiter"),
        (b"", "Expecting value"),
        (b'"text"', "holds no JSON object"),
    ],
    ids=range(10),
)
def test_json_that_readers_would_take_differently_is_refused(
    content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_json(tmp_path / "x.json", "thing")
    assert words in one_line(error) and "x.json" in one_line(error)


def rung(record: dict[str, Any]) -> dict[str, Any]:
    return record["rungs"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(schema=4), "schema 4; this oodml reads 3"),
        (lambda r: r.update(schema=True), "schema True"),
        (lambda r: r.update(schema=[1]), "schema [1]"),
        (lambda r: r.update(future=1), "unknown keys in the ladder: 'future'"),
        (lambda r: r.update(source=5), "source is 5 in the ladder; needed is text"),
        (lambda r: r.update(class_sizes=[1]), "class_sizes is [1]"),
        (lambda r: r["class_sizes"].update({"class 000": -1}), "fewer than no samples"),
        (lambda r: r["class_sizes"].update({"class 000": 2.5}), "class_sizes is 2.5"),
        (lambda r: r["class_sizes"].update({"class 000": 2**63}), "at most 64 bits"),
        (lambda r: r.update(features=None), "None stands for the ladder's features"),
        (lambda r: r["features"].update(weights=None), "weights is None"),
        (lambda r: r.update(settings=[]), "stands for the settings of a ladder"),
        (lambda r: r["settings"].update(seed="0"), "seed is '0'"),
        (lambda r: r.update(rungs={}), "rungs of the ladder is no list"),
        (lambda r: r.update(rungs=[]), "a ladder without rungs"),
        (lambda r: r.update(rungs=[7, 8, 9]), "7 stands for a split"),
        (lambda r: rung(r).update(train_classes="abc"), "train_classes is 'abc'"),
        (lambda r: rung(r).update(train_classes=[["a"]]), "train_classes is ['a']"),
        (lambda r: rung(r).update(shift=[1]), "stands for a shift record"),
        (lambda r: rung(r)["shift"].update(fid=True), "fid is True"),
        (lambda r: rung(r).update(colour="red"), "unknown keys in a split: 'colour'"),
        (lambda r: rung(r).pop("id"), "split 'None' was changed by hand"),
        (lambda r: r.update(rung_steps=[0, 1, 10**6]), "steps that it does not have"),
        (lambda r: r.update(rung_steps=[0]), "names 1 of its"),
        (lambda r: r.update(trajectory=[None]), "None stands for a step"),
        (lambda r: r["trajectory"][0].update(fid="low"), "fid is 'low'"),
        (lambda r: r.update(validation=[1, 2, 3]), "validation is 1"),
        (lambda r: r.update(episodes=[{"2": 1}] * 3), "episodes is 1"),
        (lambda r: r.update(episodes=[{"9" * 40: {}}] * 3), "is no number of shots"),
    ],
    ids=range(29),
)
def test_a_ladder_with_a_digest_that_fits_is_looked_at_besides(
    change: Change, words: str, ladder: Ladder, tmp_path: Path
) -> None:
    record = json.loads(json.dumps(ladder.to_json()))
    change(record)
    del record["digest"]
    write_json(tmp_path / "ladder.json", {**record, "digest": digest(record, 64)})
    with pytest.raises(DataError) as error:
        Ladder.load(tmp_path / "ladder.json")
    assert words in one_line(error) and "ladder.json" in one_line(error)


@pytest.mark.parametrize("hostile", ["1e999", "[" * 900 + "]" * 900])
def test_a_ladder_beyond_what_a_digest_can_say_is_refused(
    hostile: str, ladder: Ladder, tmp_path: Path
) -> None:
    text = json.dumps({**ladder.to_json(), "stopped": "HERE"}).replace('"HERE"', hostile)
    (tmp_path / "ladder.json").write_text(text)
    result = oodml("ladder", "show", tmp_path / "ladder.json")
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.stderr


SPEC = make_spec(hyperparameters={"beta": 0.6})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(schema=1), "run schema 1; this oodml reads 2"),
        (lambda r: r.update(future=1), "unknown keys in a run record: 'future'"),
        (lambda r: r.update(spec="abc"), "'abc' stands for a run's spec"),
        (lambda r: r["spec"].update(seed="0"), "seed is '0' in a run's spec"),
        (lambda r: r["spec"].update(evaluation={"flip": 1}), "flip is 1"),
        (
            lambda r: r["spec"]["method"].update(hyperparameters={"a": [[[[[[[[[[1]]]]]]]]]]}),
            "8 deep",
        ),
        (lambda r: r["spec"]["method"].update(name=" "), "a run's spec names no method"),
        (lambda r: r["spec"].pop("method"), "a run's spec lacks method"),
        (lambda r: r.pop("metrics"), "a run record lacks metrics"),
        (lambda r: r.update(metrics={"recall_at_1": "high"}), "metrics is 'high'"),
        (lambda r: r.update(metrics={"recall_at_1": None}), "metrics is None"),
        (lambda r: r.update(metrics=[0.5]), "metrics is [0.5]"),
        (lambda r: r.update(seconds=[]), "seconds is []"),
        (lambda r: r.update(geometry={"test": 1}), "geometry is 1"),
        (lambda r: r.update(environment={"torch": 2}), "environment is 2"),
        (lambda r: r.update(few_shot={"two": {"episodes": []}}), "'two' is no number of shots"),
        (lambda r: r.update(few_shot={"2": {}}), "no list of episodes"),
        (lambda r: r.update(few_shot={"2": {"episodes": [1]}}), "an episode is 1"),
        (lambda r: r.pop("id"), "the record says 'None'"),
    ],
    ids=range(19),
)
def test_a_run_record_of_other_types_is_named_and_left_out(
    change: Change, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    store.finish(RunRecord(SPEC, {"fid": 1.0}, {"recall_at_1": 0.5}, {}, {}, 1.0))
    path = store.run_directory(SPEC.id) / "run.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(DataError) as error:
        store.record(SPEC.id)
    assert words in one_line(error) and SPEC.id in one_line(error)
    assert store.records() == [] and SPEC.id in caplog.text
    assert "Remove it, and `oodml run` does the run again." in caplog.text


def test_a_record_in_another_runs_folder_counts_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = RunRecord(SPEC, {"fid": 1.0}, {"recall_at_1": 0.5}, {}, {}, 1.0)
    store.finish(record)
    other = store.run_directory("0" * 12)
    other.mkdir()
    (other / "run.json").write_bytes((store.run_directory(SPEC.id) / "run.json").read_bytes())
    assert store.records() == [record]
    with pytest.raises(DataError, match=f"record of run {SPEC.id}"):
        store.record("0" * 12)


@pytest.mark.parametrize(
    "grid",
    [
        {"schema": 2, "labels": ["x"], "runs": [["../../../etc/passwd", 0]]},
        {"schema": 2, "labels": ["x"], "runs": [["/etc/passwd", 0]]},
        {"schema": 2, "labels": ["x"], "runs": [["0" * 12, -1]]},
        {"schema": 2, "labels": ["x"], "runs": [["0" * 12, 1]]},
        {"schema": 2, "labels": "x", "runs": [["0" * 12, 0]]},
        {"schema": 2, "labels": ["x"], "runs": {"a": 1}},
        {"schema": 9, "labels": ["x"], "runs": [["0" * 12, 0]]},
        {"schema": 2, "labels": ["x"], "networks": [], "runs": [["0" * 12, 0]]},
        {"schema": 2, "labels": ["x"], "networks": [["b", "w", "p"]], "runs": [["0" * 12, 0]]},
        {"schema": 2, "labels": ["x"], "networks": [["b", "w", "p", 1]], "runs": []},
        {},
    ],
    ids=range(11),
)
def test_a_list_of_runs_names_folders_of_its_own_only(
    grid: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    store.note_grid([SPEC])
    (tmp_path / "grids" / "hostile.json").write_text(json.dumps(grid))
    assert store.asked_for() == {SPEC.id: SPEC.label} and "hostile.json" in caplog.text
    assert oodml("status", tmp_path).exit_code == 0


def test_a_traceback_of_any_bytes_is_shown(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fail(SPEC.id, "caf\udce9")
    assert "caf\\udce9" in oodml("status", tmp_path).output
    (store.run_directory(SPEC.id) / "error.txt").write_bytes(
        b"== try 1: failed ==\n\xff\xfe\x1b[2J"
    )
    result = oodml("status", tmp_path)
    assert result.exit_code == 0 and "1 failed" in result.output and "\x1b" not in result.output


@pytest.mark.parametrize(
    "claim", [b"", b"{", b"\xff", b"[" * 100_000, b'{"pid": "../1"}', b"[1]", b'{"pid": 1e999}']
)
def test_a_claim_that_is_none_goes_stale_like_a_foreign_one(claim: bytes, tmp_path: Path) -> None:
    (tmp_path / "claim").write_bytes(claim)
    assert ClaimWatch().is_held(tmp_path / "claim")


def features_with(tmp_path: Path, change: Change, **arrays: Any) -> Path:
    features = make_features(3, 2, 4)
    features.save(tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as file:
        content = {name: file[name] for name in file.files}
    record = json.loads(str(content["record"]))
    change(record)
    np.savez(tmp_path / "f.npz", **{**content, "record": json.dumps(record), **arrays})  # type: ignore[arg-type]
    return tmp_path / "f.npz"


@pytest.mark.parametrize(
    ("change", "arrays", "words"),
    [
        (lambda r: r.update(schema=2), {}, "schema 2; this version of oodml reads 1"),
        (lambda r: r.pop("schema"), {}, "schema None"),
        (lambda r: r.update(future=1), {}, "unknown keys in the features: 'future'"),
        (lambda r: r.update(class_names="abc"), {}, "class_names is 'abc'"),
        (lambda r: r.update(class_names=[["a"], ["b"], ["c"]]), {}, "class_names is ['a']"),
        (lambda r: r.pop("class_names"), {}, "lacks class_names"),
        (lambda r: r.update(groups=[1, 2, 3]), {}, "groups is 1"),
        (lambda r: r.update(sample_names=5), {}, "sample_names is 5"),
        (lambda r: r.update(source=[]), {}, "stands for the source"),
        (lambda r: r["source"].update(image_size="x"), {}, "image_size is 'x'"),
        (len, {"record": "5"}, "holds no JSON object"),
        (len, {"record": np.frombuffer(b"\xff\xff\xff\x7f", "<U1")}, "is not a readable record"),
        (len, {"labels": np.zeros(6)}, "the labels of these features are of type float64"),
        (
            len,
            {"values": np.ones((6, 4), complex)},
            "the values of these features are of type complex",
        ),
        (len, {"values": np.full((6, 4), "a")}, "the values of these features are of type <U1"),
        (len, {"values": np.full((6, 4), np.nan)}, "6 of 6 feature rows hold NaN"),
        (len, {"values": np.ones((6, 4, 1))}, "values of shape (6, 4, 1)"),
        (len, {"labels": np.full(6, 2**63, np.uint64)}, "labels run from -9"),
        (len, {"labels": np.arange(5)}, "labels of shape (5,)"),
    ],
    ids=range(19),
)
def test_features_of_other_types_are_refused_by_name(
    change: Change, arrays: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = features_with(tmp_path, change, **arrays)
    with pytest.raises(DataError) as error:
        Features.load(path)
    assert words in one_line(error) and "f.npz" in one_line(error)
    result = oodml("fid", path, path)
    assert result.exit_code == 1 and "f.npz" in result.stderr, result.output


@pytest.mark.parametrize("kind", ["<f2", ">f4", ">f8", "<i4", "|u1"])
def test_features_of_any_real_type_are_read(kind: str, tmp_path: Path) -> None:
    values = np.arange(24).reshape(6, 4).astype(kind)
    path = features_with(tmp_path, len, values=values, labels=np.array([0, 0, 1, 1, 2, 2], ">i2"))
    found = Features.load(path)
    assert found.values.dtype == np.float32 and found.labels.dtype == np.int64
    assert np.array_equal(found.values, values.astype(np.float64))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"count": np.array("many")}, "count is <U4"),
        ({"count": np.arange(3)}, "count is int64 of shape (3,)"),
        ({"network": np.frombuffer(b"\xff\xff\xff\x7f", "<U1")}, ""),
        ({"sigma": np.array([[1, 2], [3, 4]], dtype=object)}, "is not a readable .npz"),
    ],
    ids=range(4),
)
def test_statistics_of_other_types_are_refused(
    arrays: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.npz"
    whole = {"mu": np.zeros(2), "sigma": np.eye(2)}
    np.savez(path, **{**whole, **arrays})  # type: ignore[arg-type]
    if not words:
        assert read_statistics(path).count is None
        return
    with pytest.raises(DataError) as error:
        read_statistics(path)
    assert words in one_line(error)


def test_names_that_are_no_utf8_go_through_every_record(tmp_path: Path) -> None:
    plain = make_features(8, 4, 4)
    names = ("caf\udce9", *plain.class_names[1:])
    features = replace(plain, class_names=names)
    built = build_ladder(features, rungs=2, swap_size=1, easier=False)
    built.save(tmp_path / "ladder.json")
    assert Ladder.load(tmp_path / "ladder.json") == built
    features.save(tmp_path / "f.npz")
    assert read_embeddings(tmp_path / "f.npz").class_names == names
    for table_format in ("text", "json", "csv", "latex", "markdown"):
        shown = oodml("ladder", "show", tmp_path / "ladder.json", "--format", table_format)
        assert shown.exit_code == 0, shown.output
    shown = oodml("ladder", "show", tmp_path / "ladder.json", "--moved", "9")
    assert shown.exit_code == 0, shown.output
    for file_format in ("csv", "json"):
        out = tmp_path / f"out.{file_format}"
        made = oodml("ladder", "export", tmp_path / "ladder.json", "-o", out,
                     "--format", file_format)  # fmt: skip
        assert made.exit_code == 0, made.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rung,fid,side,class\n", "holds no split"),
        ("rung,fid,side,class\n1,1,train\n", "line 2"),
        ("rung,fid,side,class\n1,nan,train,a\n", "line 2"),
        ("rung,fid,side,class\n1,1e999,train,a\n", "line 2"),
        ("rung,fid,side,class\n" + "9" * 5000 + ",1,train,a\n", "line 2"),
        ("rung,fid,side,class\n1,1,train,a\n", "the test classes of a split are empty"),
        ('rung,fid,side,class\n1,1,train,"' + "a" * 200_000 + '"', "field larger than"),
        ("\x00", "the first line must be"),
    ],
    ids=range(8),
)
def test_a_table_of_splits_that_is_none_ends_in_one_line(
    text: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "splits.csv").write_text(text)
    out = tmp_path / "ladder.json"
    result = oodml("ladder", "import", tmp_path / "splits.csv", "-o", out)
    assert result.exit_code == 1 and words in result.stderr, result.output
    assert len(result.stderr.splitlines()) == 1 and not out.exists()


def test_tables_with_a_byte_order_mark_and_crlf_are_read(tmp_path: Path) -> None:
    sides, rungs = tmp_path / "sides.csv", tmp_path / "rungs.csv"
    sides.write_bytes(b"\xef\xbb\xbfclass,side\r\na,train\r\nb,test\r\n")
    assert read_sides(sides) == Split(("a",), ("b",))
    rungs.write_bytes(b"\xef\xbb\xbfrung,fid,side,class\r\n1,2,train,a\r\n1,2,test,b\r\n")
    assert [(s.train_classes, s.test_classes) for s in read_csv(rungs)] == [(("a",), ("b",))]


@pytest.mark.parametrize(
    "fid", [10**400, -(10**400), float("nan"), float("inf"), -1.0, True], ids=range(6)
)
def test_a_published_distance_that_is_none_is_refused(fid: Any, tmp_path: Path) -> None:
    import pickle

    split = {"train": ["a", "b"], "test": ["c", "d"], "fid": fid}
    (tmp_path / "splits.pkl").write_bytes(pickle.dumps({1: split}))
    result = oodml("ladder", "import", tmp_path / "splits.pkl", "-o", tmp_path / "ladder.json")
    assert result.exit_code == 1 and "its FID is no finite number" in result.stderr, result.output


def test_an_integer_beyond_all_floats_in_a_pickle_is_refused(tmp_path: Path) -> None:
    call = b"cnumpy\nfloat64\n(L" + b"9" * 400 + b"L\ntR."
    (tmp_path / "splits.pkl").write_bytes(call)
    result = oodml("ladder", "import", tmp_path / "splits.pkl", "-o", tmp_path / "ladder.json")
    assert result.exit_code == 1 and "beyond all floats" in result.stderr, result.output


@pytest.mark.parametrize("deep", ["a = " + "[" * 5000, "a = " + "{b = " * 5000])
def test_deep_settings_end_in_one_line(deep: str, ladder: Ladder, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(deep)
    result = oodml("--config", tmp_path / "c.toml", "list", "metrics")
    assert result.exit_code == 2 and "is not valid TOML" in result.stderr, result.output
    ladder.save(tmp_path / "ladder.json")
    result = oodml("run", tmp_path / "ladder.json", "--grid", tmp_path / "c.toml",
                   "-o", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 1 and "is not valid TOML" in result.stderr, result.output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"seeds = {10**30}", "seeds = a huge number: give a number of at least 1, at most 100000"),
        ("seeds = 100001", "seeds = 100001: give a number"),
        ('rungs = "0-999999999999"', "rungs = 0-999999999999: a ladder has no such rung"),
        (f"rungs = {10**30}", "rungs = a huge number"),
        (f"embedding-dim = {10**30}", "embedding-dim = a huge number: too large"),
    ],
    ids=range(5),
)
def test_huge_numbers_in_a_grid_end_in_one_line(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text(f'[[grid]]\nmethods = ["margin"]\n{line}\n')
    with pytest.raises(UsageError, match=re.escape(words)):
        read_grids(tmp_path / "g.toml", run_command)


def test_names_of_paths_write_nothing_outside(tmp_path: Path) -> None:
    names = ("../../outside", "/etc/outside", "a/../../b", "..", ".", "", "\\\\host\\share", "d")
    features = replace(make_features(8, 4, 4), class_names=names,
                       sample_names=tuple(f"../../../{n}.png" for n in range(32)))  # fmt: skip
    folder = tmp_path / "deep" / "folder"
    features.save(folder / "f.npz")
    build_ladder(Features.load(folder / "f.npz"), rungs=2, swap_size=1, easier=False).save(
        folder / "ladder.json"
    )
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    made = oodml("evaluate", folder / "f.npz", "--ladder", folder / "ladder.json",
                 "-o", folder / "out", "--name", "../../../../outside")  # fmt: skip
    assert made.exit_code == 0, made.output
    for command in (["table"], ["status"], ["report"]):
        result = oodml(*command, folder / "out")
        assert result.exit_code == 0, result.output
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert new and all(folder / "out" in path.parents for path in new), new
    assert SOURCE.dataset == features.source.dataset
