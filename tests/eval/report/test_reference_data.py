"""What the report holds of a matched reference, against the runs and brute force; no browser."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from eval.report.conftest import (
    METRICS,
    Pool,
    fill,
    fill_reference,
    keep_embeddings,
    keep_halves,
    make_pool,
)

from oodml.errors import DataError
from oodml.eval.report.content import report_content
from oodml.eval.report.definitions import definitions
from oodml.eval.report.gallery import NEIGHBORS
from oodml.eval.report.page import write_report
from oodml.eval.report.reference_gallery import ReferenceBoard, reference_boards
from oodml.eval.report.transfer import lines_of, references_on
from oodml.eval.statistics.transfer import transfer
from oodml.eval.statistics.transfer_findings import division, finding
from oodml.features.features import Features
from oodml.runs.record import RunRecord

METHODS = ("margin", "xbm")
Content = dict[str, Any]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    made = make_pool(tmp_path_factory.mktemp("reference"))
    fill(made, ("frozen", *METHODS), seeds=3)
    fill_reference(made, METHODS, seeds=3, null=3)
    return made


@pytest.fixture(scope="module")
def content(pool: Pool) -> Content:
    return report_content(pool.store, pool.ladder)[0]


def sides(pool: Pool, method: str, rung: int, side: str, metric: str) -> tuple[list[str], Any]:
    """The ids and values of the reference's runs, by seed."""
    name = "frozen" if side == "nothing" else method
    found = sorted(
        (record.spec.seed, record.id, record.metrics[metric])
        for record in pool.store.records()
        if record.spec.method.name == name
        and record.spec.data.trained_on == side
        and record.spec.data.split == pool.ladder.rungs[rung].id
        and not record.spec.data.null_draw
    )
    return [run for _, run, _ in found], np.array([value for _, _, value in found])


def test_every_value_has_the_runs_that_it_comes_from(pool: Pool, content: Content) -> None:
    found = content["transfer"]
    assert found["metrics"] == content["metrics"] == [METRICS[-1], *METRICS[:-1]]
    names = [content["methods"][each["method"]]["name"] for each in found["methods"]]
    assert names == list(METHODS)
    for metric in found["metrics"]:
        for name, each, values in zip(
            names, found["methods"], found["values"][metric]["methods"], strict=True
        ):
            assert (each["seeds"], each["left_out"]) == ([0, 1, 2], 0)
            for rung, runs, row in zip(each["rungs"], each["runs"], values["rows"], strict=True):
                own = {}
                for side in ("nothing", "shifted", "matched"):
                    label = "frozen" if side == "nothing" else side
                    ids, own[label] = sides(pool, name, rung, side, metric)
                    assert [content["runs"][run]["id"] for run in runs[label]] == ids
                    check(row[label], own[label])
                check(row["shift_cost"], own["matched"] - own["shifted"])
                check(row["gain"], own["shifted"] - own["frozen"])
                assert len(runs["null"]) == 6 and row["null"]["draws"] == 3


def check(shown: list[float], values: np.ndarray) -> None:
    mean, error = values.mean(), scipy.stats.sem(values)
    assert shown[0] == pytest.approx(mean, abs=1e-12)
    reach = scipy.stats.t.ppf(0.975, len(values) - 1) * error
    assert shown[1:] == pytest.approx((mean - reach, mean + reach), rel=1e-4, abs=1e-6)


def test_the_sums_hold_and_the_sentences_are_the_statistics_own(
    pool: Pool, content: Content
) -> None:
    found = transfer(pool.store.records(), pool.ladder)
    shown = content["transfer"]["values"]["recall_at_1"]
    assert shown["finding"] == finding(found) and shown["division"] == division(found)
    for own, values in zip(found, shown["methods"], strict=True):
        assert own.break_even is not None
        assert values["break_even"]["kind"] == own.break_even.kind
        assert tuple(values["break_even"]["fid"]) == own.break_even.on(own.fids)
        for row in values["rows"]:
            value = {name: each[0] for name, each in row.items() if isinstance(each, tuple)}
            assert value["fall"] == pytest.approx(
                value["difficulty"] + value["cost_rise"], abs=1e-12
            )
            assert value["gain"] == pytest.approx(
                value["matched_gain"] - value["shift_cost"], abs=1e-12
            )


def test_references_are_listed_as_runs_and_stand_in_no_curve(pool: Pool, content: Content) -> None:
    records = {record.id: record for record in pool.store.records()}
    assert {run["id"] for run in content["runs"]} == set(records)
    for run in content["runs"]:
        data = records[run["id"]].spec.data
        assert (run["trained_on"], run["null_draw"]) == (data.trained_on, data.null_draw)
    for cell in content["cells"]:
        assert {content["runs"][run]["trained_on"] for run in cell["runs"]} == {"train"}
    assert len(content["settings"]) == 3


def store_of(pool: Pool, records: list[RunRecord]) -> Any:
    return SimpleNamespace(records=lambda: records, run_directory=pool.store.run_directory)


def without(pool: Pool, *left_out: str) -> list[RunRecord]:
    return [r for r in pool.store.records() if r.spec.data.trained_on not in left_out]


def test_without_a_reference_there_is_no_section(pool: Pool) -> None:
    plain = store_of(pool, without(pool, "nothing", "shifted", "matched"))
    content = report_content(plain, pool.ladder)[0]
    assert content["transfer"] is None and content["gallery"]["compared"] == []
    terms = dict(definitions(pool.ladder))
    assert "Shift cost, difficulty" not in terms
    assert "Shift cost, difficulty" in dict(definitions(pool.ladder, reference=True))


def test_a_missing_side_leaves_its_values_out(pool: Pool) -> None:
    content = report_content(store_of(pool, without(pool, "nothing")), pool.ladder)[0]
    (own, _) = content["transfer"]["values"]["recall_at_1"]["methods"]
    assert own["break_even"] is None and own["rows"][1]["gain"] is None
    assert own["rows"][1]["shift_cost"] is not None
    assert "frozen" not in content["transfer"]["methods"][0]["runs"][0]
    lonely = [r for r in pool.store.records() if r.spec.data.trained_on != "matched"
              or r.spec.seed == 7]  # fmt: skip
    content = report_content(store_of(pool, lonely), pool.ladder)[0]
    (own, _) = content["transfer"]["values"]["recall_at_1"]["methods"]
    assert own["rows"][1]["shift_cost"] is None and own["rows"][1]["gain"] is not None


def test_metrics_that_a_reference_lacks_are_not_offered(pool: Pool) -> None:
    records = pool.store.records()
    at = next(i for i, record in enumerate(records) if record.spec.is_reference)
    metrics = {name: value for name, value in records[at].metrics.items() if name != METRICS[1]}
    records[at] = replace(records[at], metrics=metrics)
    content = report_content(store_of(pool, records), pool.ladder)[0]
    assert METRICS[1] in content["metrics"]
    assert METRICS[1] not in content["transfer"]["metrics"]
    records[at] = replace(records[at], metrics={**metrics, "recall_at_1": float("nan")})
    with pytest.raises(DataError, match=records[at].id):
        report_content(store_of(pool, records), pool.ladder)


def test_a_reference_has_the_name_of_its_plain_runs(pool: Pool) -> None:
    plain = [r for r in pool.store.records() if not r.spec.is_reference]
    other = [replace(r, spec=r.spec.with_settings(backbone="resnet50")) for r in plain]
    references = [r for r in pool.store.records() if r.spec.is_reference]
    content = report_content(store_of(pool, [*plain, *other, *references]), pool.ladder)[0]
    names = [each["name"] for each in content["methods"]]
    assert names == [f"{m} @ {b}" for m in ("frozen", *METHODS) for b in ("none", "resnet50")]
    own = [names[each["method"]] for each in content["transfer"]["methods"]]
    assert own == ["margin @ none", "xbm @ none"]
    assert {names[run["method"]] for run in content["runs"] if run["trained_on"] != "train"} == {
        "frozen @ none", *own,
    }  # fmt: skip
    # Without plain runs of its own a reference is a line all the same, and changes no other's name.
    moved = [replace(r, spec=r.spec.with_settings(backbone="resnet50")) for r in references]
    content = report_content(store_of(pool, [*plain, *references, *moved]), pool.ladder)[0]
    names = [each["name"] for each in content["methods"]]
    lines = ("frozen", *METHODS)
    assert sorted(names) == sorted([*lines, *(f"{name} @ resnet50" for name in lines)])
    assert sorted(names[each["method"]] for each in content["transfer"]["methods"]) == [
        "margin", "margin @ resnet50", "xbm", "xbm @ resnet50",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def kept(pool: Pool) -> dict[str, list[Features]]:
    """Both halves of margin's runs of seed 0 on rung 2; the shifted ones are noisier."""
    found = {}
    for record in pool.store.records():
        data = record.spec.data
        own = record.spec.method.name, record.spec.seed, data.null_draw, data.split
        if own == ("margin", 0, 0, pool.ladder.rungs[2].id) and record.spec.is_reference:
            noise = {"matched": 1.5, "shifted": 3.0}[data.trained_on]
            found[data.trained_on] = keep_halves(pool, record, noise)
    return found


@pytest.fixture(scope="module")
def board(pool: Pool, kept: dict[str, list[Features]]) -> ReferenceBoard:
    assert set(kept) == {"matched", "shifted"}
    (board,) = boards_of(pool)
    return board


def boards_of(pool: Pool) -> list[ReferenceBoard]:
    every = pool.store.records()
    plain = [record for record in every if not record.spec.is_reference]
    references = references_on(every, pool.ladder)
    return reference_boards(references, pool.ladder, lines_of(plain, references), pool.store)


class TestGalleries:
    def test_neighbors_and_counts_are_those_of_a_full_sort(
        self, board: ReferenceBoard, kept: dict[str, list[Features]]
    ) -> None:
        assert (board.series.name, board.rung) == ("margin", 2)
        near = {side: [sorted_all(half) for half in halves] for side, halves in kept.items()}
        first = {
            side: np.concatenate(
                [h.labels[n[:, 0]] == h.labels for h, n in zip(kept[side], near[side], strict=True)]
            )
            for side in kept
        }
        matched, shifted = first["matched"], first["shifted"]
        assert board.nearest == {
            "both": (matched & shifted).sum(),
            "matched": (matched & ~shifted).sum(),
            "shifted": (~matched & shifted).sum(),
            "neither": (~matched & ~shifted).sum(),
        }
        assert board.candidates == board.queries == len(matched)
        shared = [
            len(set(one[:NEIGHBORS]) & set(other[:NEIGHBORS]))
            for half in range(2)
            for one, other in zip(near["matched"][half], near["shifted"][half], strict=True)
        ]
        assert board.kept == pytest.approx(np.mean(shared), abs=5e-4)
        for pair in (pair for kind in board.chosen.values() for pair in kind):
            for side, found in pair.items():
                half = next(
                    i for i, own in enumerate(kept[side]) if found.query in own.sample_names
                )
                own = kept[side][half]
                order = near[side][half][own.sample_names.index(found.query)]
                assert found.names == tuple(own.sample_names[i] for i in order[:NEIGHBORS])
                classes = [own.class_names[own.labels[i]] for i in order[:NEIGHBORS]]
                assert found.classes == tuple(classes)
                assert found.right == tuple(name == found.query_class for name in classes)

    def test_those_that_changed_most_come_first(self, board: ReferenceBoard) -> None:
        change = {
            kind: [pair["matched"].score - pair["shifted"].score for pair in pairs]
            for kind, pairs in board.chosen.items()
        }
        assert change["lost"] and change["lost"] == sorted(change["lost"], reverse=True)
        assert change["won"] and change["won"] == sorted(change["won"])
        assert min(change["lost"]) > 0 > max(change["won"])
        for kind in ("lost", "won"):
            names = [pair["matched"].query_class for pair in board.chosen[kind]]
            assert len(set(names)) == len(names)
        for pair in (pair for kind in board.chosen.values() for pair in kind):
            assert pair["matched"].query == pair["shifted"].query

    def test_what_does_not_belong_together_is_left_out_with_a_warning(
        self, pool: Pool, board: ReferenceBoard, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = pool.store.run_directory(board.runs["shifted"]) / "half1" / "embeddings.npz"
        good = path.read_bytes()
        features = Features.load(path)
        turned = features.labels[::-1].copy()
        replace(features, labels=turned, sample_names=features.sample_names[::-1]).save(path)
        with caplog.at_level(logging.WARNING, "oodml"):
            assert boards_of(pool) == []
        assert "different samples" in caplog.text and board.runs["shifted"] in caplog.text
        path.write_bytes(b"PK no archive")
        assert boards_of(pool) == []
        path.unlink()
        assert boards_of(pool) == []
        path.write_bytes(good)
        assert len(boards_of(pool)) == 1

    def test_pictures_are_shared_with_the_other_galleries(
        self, pool: Pool, board: ReferenceBoard
    ) -> None:
        plain = next(r for r in pool.store.records() if r.label == "margin" and not r.spec.seed)
        keep_embeddings(pool, plain, noise=2.0)
        content, pictures = report_content(pool.store, pool.ladder, dataset=pool.dataset)
        (shown,) = content["gallery"]["compared"]
        assert {side: content["runs"][run]["id"] for side, run in shown["runs"].items()} == (
            board.runs
        )
        samples = content["gallery"]["samples"]
        assert len(pictures) == len(samples) and {sample[2] for sample in samples} == set(
            range(len(samples))
        )
        row = shown["lost"][0]
        assert samples[row["matched"]["query"][0]][0] == board.chosen["lost"][0]["matched"].query
        assert [bool(each[2]) for each in row["shifted"]["found"]] == list(
            board.chosen["lost"][0]["shifted"].right
        )


def sorted_all(embeddings: Features) -> np.ndarray:
    """All other samples of every sample, the nearest first."""
    unit = embeddings.values / np.linalg.norm(embeddings.values, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    order: np.ndarray = np.argsort(-similarity, axis=1)[:, :-1]
    return order


def test_sixty_methods_stay_far_below_the_limit(pool: Pool, tmp_path: Path) -> None:
    records = [
        replace(
            record,
            spec=record.spec.with_settings(method=f"m{number}"),
            training={},
            geometry={},
        )
        for record in pool.store.records()
        for number in range(60)
        if record.spec.method.name == "margin" and not record.spec.data.null_draw
    ]
    write_report(store_of(pool, records), pool.ladder, tmp_path / "big.html")
    assert len(records) == 60 * 3 * 3 * 3
    assert (tmp_path / "big.html").stat().st_size < 3e6
    page = (tmp_path / "big.html").read_text()
    start = page.index('id="content">') + len('id="content">')
    found = json.loads(page[start : page.index("</script>", start)])
    assert len(found["transfer"]["methods"]) == 60
