"""What the report holds, against the store's records and brute force; no browser needed."""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from eval.report.conftest import (
    HOSTILE_METHOD,
    Pool,
    fill,
    keep_embeddings,
    make_pool,
)
from PIL import Image
from sklearn.decomposition import PCA

from oodml.errors import DataError, UsageError
from oodml.eval.figures.style import CONTRAST, DARK_PAGE, contrast, line_style, on_dark
from oodml.eval.report.content import report_content
from oodml.eval.report.definitions import definitions
from oodml.eval.report.gallery import NEIGHBORS, Board, boards
from oodml.eval.report.ladder import ladder_content
from oodml.eval.report.page import SCRIPTS, _part, embedded, write_report
from oodml.eval.report.pictures import SIDE, fitting, gallery_content, thumbnail
from oodml.eval.statistics.scores import aggregated_generalization_score
from oodml.runs.record import RunRecord

METHODS = ("frozen", HOSTILE_METHOD, "margin")
Content = dict[str, Any]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    made = make_pool(tmp_path_factory.mktemp("report"))
    fill(made, METHODS, seeds=3, few_shot=True)
    for record in made.store.records():
        if record.label == "margin" and record.spec.seed > 0:
            keep_embeddings(made, record, noise=2.0)
    return made


@pytest.fixture(scope="module")
def content(pool: Pool) -> Content:
    return report_content(pool.store, pool.ladder, features=pool.features, dataset=pool.dataset)[0]


def select(pool: Pool, method: str, split: str) -> list[RunRecord]:
    found = [r for r in pool.store.records() if (r.label, r.spec.data.split) == (method, split)]
    return sorted(found, key=lambda record: record.spec.seed)


def test_every_cell_is_the_mean_and_interval_of_the_runs_that_it_names(
    pool: Pool, content: Content
) -> None:
    assert content["metrics"] == [
        "mean_average_precision_at_r", "recall_at_1", "recall_at_2", "recall_at_10",
    ]  # fmt: skip
    assert len(content["cells"]) == len(METHODS) * len(pool.ladder.rungs)
    for place, cell in enumerate(content["cells"]):
        method = content["methods"][cell["method"]]["name"]
        records = select(pool, method, pool.ladder.rungs[cell["rung"]].id)
        assert [content["runs"][run]["id"] for run in cell["runs"]] == [r.id for r in records]
        for metric in content["metrics"]:
            values = [record.metrics[metric] for record in records]
            mean, low, high = content["values"][metric][place]
            assert mean == pytest.approx(np.mean(values), abs=1e-12)
            if len(values) == 1:
                assert (low, high) == (None, None)
                continue
            error = scipy.stats.sem(values)
            expected = scipy.stats.t.interval(0.95, len(values) - 1, mean, error)
            assert (low, high) == pytest.approx(expected, abs=1e-12)


def test_scores_are_areas_and_losses_of_single_seeds(pool: Pool, content: Content) -> None:
    fids = [rung.fid for rung in pool.ladder.rungs]
    for score in content["scores"]["recall_at_2"]:
        method = content["methods"][score["method"]]["name"]
        curves = np.array(
            [
                [record.metrics["recall_at_2"] for record in select(pool, method, rung.id)]
                for rung in pool.ladder.rungs
            ]
        )
        areas = [aggregated_generalization_score(fids, curve) for curve in curves.T]
        assert score["mean"] == pytest.approx(np.mean(areas))
        assert score["n"] == curves.shape[1] and score["missing"] == []
        assert score["lost"][0] == pytest.approx((curves[0] - curves[-1]).mean())


def test_pairs_are_compared_over_rungs_and_seeds(pool: Pool, content: Content) -> None:
    names = [method["name"] for method in content["methods"]]
    compared = content["pairs"]["recall_at_1"]["compared"]
    assert len(compared) == len(names) * (len(names) - 1) // 2
    for pair in compared:
        first, second = (names[pair[key]] for key in ("first", "second"))
        own, other = (
            {
                (record.spec.data.split, record.spec.seed): record.metrics["recall_at_1"]
                for rung in pool.ladder.rungs
                for record in select(pool, name, rung.id)
            }
            for name in (first, second)
        )
        keys = max(own, other, key=len)
        ends = [
            {(s, n): each.get((s, n), each.get((s, 0))) for s, n in keys} for each in (own, other)
        ]
        differences = [ends[0][key] - ends[1][key] for key in keys]
        assert (
            pair["difference"][0] == pytest.approx(np.mean(differences))
            and np.mean(differences) > 0
        )
        p = scipy.stats.wilcoxon(np.round(differences, 12)).pvalue
        assert p <= pair["p"] <= min(1, p * len(compared)) + 1e-12
        told = pair["p"] < 0.05 and pair["difference"][1] > 0
        assert pair["verdict"] == (
            f"{first} above {second} on average" if told else "not separated"
        )


def test_runs_are_told_whole(pool: Pool, content: Content) -> None:
    records = {record.id: record for record in pool.store.records()}
    assert {run["id"] for run in content["runs"]} == set(records)
    for run in content["runs"]:
        record = records[run["id"]]
        settings = content["settings"][run["settings"]]
        own = ("split", "seed", "trained_on", "null_draw")
        known = {**settings, **{name: run[name] for name in own}}
        assert known == record.spec.settings()
        assert run["metrics"] == record.metrics and run["seconds"] == record.seconds
        assert content["environments"][run["environment"]] == record.environment
        assert run["geometry"] == {"test": {"rho": 0.5}}
    assert len(content["settings"]) == len(METHODS) and len(content["environments"]) == 1


def test_few_shot_values_are_means_over_episodes(pool: Pool, content: Content) -> None:
    few_shot = content["few_shot"]
    assert few_shot["shots"] == [2, 5] and few_shot["metrics"] == ["recall_at_1"]
    assert {content["methods"][cell["method"]]["name"] for cell in few_shot["cells"]} == {
        "margin", HOSTILE_METHOD,
    }  # fmt: skip
    for cell, values in zip(few_shot["cells"], few_shot["values"]["recall_at_1"], strict=True):
        method = content["methods"][cell["method"]]["name"]
        records = select(pool, method, pool.ladder.rungs[cell["rung"]].id)
        assert [content["runs"][run]["id"] for run in cell["runs"]] == [r.id for r in records]
        assert cell["left_out"] == 2 * (cell["shots"] == 5)
        before = np.mean([record.metrics["recall_at_1"] for record in records])
        assert values["zero"][0] == pytest.approx(before + 0.0015)
        assert values["gain"][0] == pytest.approx(0.0015 + 0.01 * cell["shots"])
        assert values["few"][0] == pytest.approx(values["zero"][0] + values["gain"][0])


def test_rungs_hold_sides_groups_moves_and_the_measured_shift(pool: Pool, content: Content) -> None:
    ladder = content["ladder"]
    names, rungs = ladder["classes"]["names"], ladder["rungs"]
    assert names == sorted(pool.features.class_names)
    for number, (rung, split) in enumerate(zip(rungs, pool.ladder.rungs, strict=True)):
        train, test = (
            {name for name, side in zip(names, rung["sides"], strict=True) if side == mark}
            for mark in "01"
        )
        assert train == set(split.train_classes) and test == set(split.test_classes)
        assert rung["train"] == {"classes": len(train), "images": 6 * len(train)}
        shift = split.shift
        assert shift is not None
        measured = (rung["fid"], rung["null_mean"], rung["null_sd"], rung["excess"])
        assert measured == (shift.fid, shift.null_mean, shift.null_sd, shift.excess)
        if number:
            before = pool.ladder.rungs[number - 1]
            moved = {kind: {names[i] for i in places} for kind, places in rung["moved"].items()}
            assert moved.get("to_test", set()) == set(before.train_classes) & test
            assert moved.get("to_train", set()) == set(before.test_classes) & train
            everything = set(before.train_classes) | set(before.test_classes)
            assert moved.get("removed", set()) == everything - train - test
    groups = ladder["classes"]["groups"]
    assert pool.features.groups is not None
    found = [groups["names"][number] for number in groups["of"]]
    assert dict(zip(names, found, strict=True)) == dict(
        zip(pool.features.class_names, pool.features.groups, strict=True)
    )


@pytest.mark.parametrize(("chosen", "rung", "after"), [((0, 2), 1, 1), ((1, 3), None, 0)])
def test_the_start_of_the_walk_is_a_rung_or_stands_between_two(
    pool: Pool, chosen: tuple[int, int], rung: int | None, after: int
) -> None:
    ladder = pool.ladder
    first = ladder.trajectory[0]
    walk = tuple(
        replace(first, kind=kind, fid=fid)
        for kind, fid in [("swap", 1.0), ("swap", 2.0), ("start", 3.0), ("swap", 4.0)]
    )
    made = replace(ladder, trajectory=walk, rung_steps=chosen, rungs=ladder.rungs[:2])
    expected = {"fid": 3.0, "rung": rung, "after": after}
    assert ladder_content(made, None, None)["start"] == expected
    unknown = replace(made, trajectory=walk[:2] * 2)
    assert ladder_content(unknown, None, None)["start"] is None


def test_the_settings_of_training_are_named_for_runs_without_it(content: Content) -> None:
    named = content["training_settings"]
    assert {"steps", "batch_size", "learning_rate", "embedding_dim"} <= set(named)
    assert not {"backbone", "train", "method", "flip"} & set(named)
    assert any("classes a side" in words for words in content["cautions"])


def test_the_plane_holds_the_two_first_components_of_the_class_means(
    pool: Pool, content: Content
) -> None:
    values = pool.features.values.astype(np.float64)
    means = np.array([values[pool.features.labels == label].mean(0) for label in range(24)])
    plane = PCA(2).fit_transform(means)
    order = np.argsort(pool.features.class_names)
    found = content["ladder"]["classes"]["plane"]
    scale = 2000 / np.ptp(plane, axis=0).max()
    for axis, column in enumerate((found["x"], found["y"])):
        own = plane[order, axis] * scale
        ways = [own - own.min(), own.max() - own]
        assert min(np.abs(way - column).max() for way in ways) < 1


@pytest.fixture(scope="module")
def made(pool: Pool) -> list[Board]:
    return boards(pool.store.records(), pool.ladder, pool.store, pool.features)


class TestGalleries:
    def test_boards_exist_where_embeddings_are_at_hand(self, pool: Pool, made: list[Board]) -> None:
        everywhere = range(len(pool.ladder.rungs))
        assert [(board.series.method, board.rung) for board in made] == [
            (method, rung) for method in ("frozen", "margin") for rung in everywhere
        ]
        seeds = {record.id: record.spec.seed for record in pool.store.records()}
        assert {seeds[board.run] for board in made if board.series.method == "margin"} == {1}

    def test_neighbors_are_those_of_a_full_sort(self, pool: Pool, made: list[Board]) -> None:
        board = next(board for board in made if board.series.method == "frozen" and board.rung == 1)
        test = pool.features.subset(pool.ladder.rungs[1].test_classes)
        unit = test.values / np.linalg.norm(test.values, axis=1, keepdims=True)
        for found in {each for kind in board.chosen.values() for each in kind}:
            row = test.sample_names.index(found.query)
            similarity = unit @ unit[row]
            similarity[row] = -np.inf
            near = np.argsort(-similarity, kind="stable")[:NEIGHBORS]
            assert found.names == tuple(test.sample_names[index] for index in near)
            assert found.right == tuple(bool(test.labels[i] == test.labels[row]) for i in near)
            assert found.similarities == pytest.approx(similarity[near], abs=1e-4)
            assert found.positives == 5
            hits = np.array(found.right[:5])
            ranks = np.arange(1, 6)
            assert found.score == pytest.approx((np.cumsum(hits) / ranks * hits).sum() / 5)

    def test_best_and_worst_are_the_ends_of_all_queries(
        self, pool: Pool, made: list[Board]
    ) -> None:
        board = next(board for board in made if board.series.method == "margin" and board.rung == 0)
        embeddings = keep_embeddings(
            pool, next(r for r in pool.store.records() if r.id == board.run), noise=2.0
        )
        scores = average_precisions(embeddings.values, embeddings.labels)
        best, worst = board.chosen["best"], board.chosen["worst"]
        assert best[0].score == pytest.approx(max(scores))
        assert worst[0].score == pytest.approx(min(scores))
        assert best[0].score > worst[0].score
        for chosen in (best, worst):
            assert len({found.query_class for found in chosen}) == len(chosen) == 6

    def test_random_queries_are_the_same_for_every_method(self, made: list[Board]) -> None:
        for rung in range(3):
            own = [board for board in made if board.rung == rung]
            first, second = ([f.query for f in board.chosen["random"]] for board in own)
            assert first == second and len(first) == 6

    def test_damaged_and_foreign_embeddings_are_left_out_with_a_warning(
        self, pool: Pool, caplog: pytest.LogCaptureFixture
    ) -> None:
        ours = [select(pool, HOSTILE_METHOD, rung.id)[0] for rung in pool.ladder.rungs]
        paths = [pool.store.run_directory(record.id) / "embeddings.npz" for record in ours]
        paths[0].write_bytes(b"PK no archive")
        pool.features.save(paths[1])
        test = pool.features.subset(pool.ladder.rungs[2].test_classes)
        lonely = np.unique(test.labels, return_index=True)[1]
        replace(test, values=test.values[lonely], labels=test.labels[lonely], sample_names=()).save(
            paths[2]
        )
        with caplog.at_level(logging.WARNING, "oodml"):
            found = boards(ours, pool.ladder, pool.store, None)
        for path in paths:
            path.unlink()
        assert found == []
        assert all(str(path) in caplog.text for path in paths)

    def test_features_of_another_network_are_not_taken_for_a_run(self, pool: Pool) -> None:
        frozen = [r for r in pool.store.records() if r.label == "frozen"]
        other = replace(pool.features, source=replace(pool.features.source, backbone="other"))
        assert boards(frozen, pool.ladder, pool.store, other) == []
        assert len(boards(frozen, pool.ladder, pool.store, pool.features)) == 3

    def test_each_picture_stands_once_and_fewer_queries_are_shown_where_it_is_tight(
        self, pool: Pool, made: list[Board], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runs = {record.id: place for place, record in enumerate(pool.store.records())}
        lines = sorted({board.series for board in made})
        content, pictures = gallery_content(made, [], pool.dataset, lines, runs)
        named = [sample for sample in content["samples"] if sample[2] >= 0]
        assert len({sample[2] for sample in named}) == len(named) == len(pictures)
        assert len({tuple(sample[:2]) for sample in content["samples"]}) == len(named)
        assert {len(board["random"]) for board in content["boards"]} == {6}
        budget = sum(map(len, pictures)) // 2
        monkeypatch.setattr(
            "oodml.eval.report.pictures.fitting",
            lambda choices, dataset: fitting(choices, dataset, budget),
        )
        fewer, pictures = gallery_content(made, [], pool.dataset, lines, runs)
        assert 0 < sum(map(len, pictures)) <= budget
        assert 1 <= len(fewer["boards"][0]["random"]) < 6


def average_precisions(values: np.ndarray, labels: np.ndarray) -> list[float]:
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    scores = []
    for row, order in enumerate(np.argsort(-similarity, axis=1)):
        hits = labels[order[:5]] == labels[row]
        scores.append(float((np.cumsum(hits) / np.arange(1, 6) * hits).sum() / 5))
    return scores


class TestPictures:
    def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(self) -> None:
        uri = thumbnail(Image.new("RGBA", (400, 200), (10, 200, 30, 255)))
        head, data = uri.split(",")
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert head == "data:image/jpeg;base64" and image.size == (SIDE, SIDE // 2)
        assert np.abs(np.asarray(image).mean((0, 1)) - (10, 200, 30)).max() < 3

    def test_the_first_set_that_fits_is_taken(self, pool: Pool) -> None:
        names = pool.dataset.sample_names
        size = len(thumbnail(pool.dataset[0][0]))
        choices = (names[:12], names[:6], names[:3])
        assert fitting(choices, pool.dataset, 100 * size)[0] == 0
        place, pictures = fitting(choices, pool.dataset, 8 * size)
        assert place == 1 and set(pictures) == set(names[:6])
        place, pictures = fitting(choices, pool.dataset, size + size // 2)
        assert place == 2 and len(pictures) == 1
        assert fitting([["absent.png"]], pool.dataset) == (0, {})


def written(pool: Pool, path: Path, **options: Any) -> str:
    write_report(pool.store, pool.ladder, path, **options)
    return path.read_text(encoding="utf-8")


def payload(page: str) -> Content:
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page)
    assert found is not None
    values: Content = json.loads(found[1])
    return values


class TestPage:
    def test_embedded_json_reads_back_and_holds_no_markup(self) -> None:
        value = {"a": "</script><!--\u2028\u2029&", "b": [1.5, None, "é"]}
        text = embedded(value)
        assert json.loads(text) == value
        assert not set(text) & set("<>&\u2028\u2029é")

    def test_equal_stores_give_equal_bytes(self, pool: Pool, tmp_path: Path) -> None:
        first, second = (written(pool, tmp_path / f"{name}.html") for name in "ab")
        assert first == second

    def test_the_page_asks_no_network_for_anything(self, pool: Pool, tmp_path: Path) -> None:
        page = written(pool, tmp_path / "r.html")
        outside = set(re.findall(r"https?://[^\"'<> ]+", page))
        assert outside == {"http://www.w3.org/2000/svg"}
        assert "default-src 'none'" in page

    def test_without_data_the_parts_that_need_it_are_empty(
        self, pool: Pool, tmp_path: Path
    ) -> None:
        content = payload(written(pool, tmp_path / "r.html"))
        assert content["ladder"]["classes"]["plane"] is None
        assert content["ladder"]["classes"]["groups"] is None
        assert {board["method"] for board in content["gallery"]["boards"]} == {2}
        assert {sample[2] for sample in content["gallery"]["samples"]} == {-1}

    def test_definitions_name_level_and_network(self, pool: Pool) -> None:
        terms = dict(definitions(pool.ladder))
        assert pool.features.source.backbone in terms["FID"]
        assert {"Null and excess FID", "Selection", "Intervals"} <= set(terms)

    def test_thirty_methods_on_six_rungs_stay_far_below_the_limit(
        self, pool: Pool, tmp_path: Path
    ) -> None:
        first = pool.store.records()[0]
        records = [
            replace(
                first,
                spec=first.spec.with_settings(method=f"m{number}", seed=seed, split=split.id),
                shift={},
                metrics={"recall_at_1": number / 31},
            )
            for number in range(30)
            for split in pool.ladder.rungs
            for seed in range(10)
        ]
        store = SimpleNamespace(records=lambda: records, run_directory=lambda run: tmp_path / run)
        write_report(store, pool.ladder, tmp_path / "big.html")  # type: ignore[arg-type]
        assert len(records) == 900
        # Pictures have a budget of 9 MB of their own.
        assert (tmp_path / "big.html").stat().st_size < 3e6


class TestRefusals:
    def test_metrics(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="recall_at_1"):
            written(pool, tmp_path / "r.html", metric="recall_at1")
        with pytest.raises(UsageError, match="queries"):
            written(pool, tmp_path / "r.html", metric="queries")
        assert not (tmp_path / "r.html").exists()

    def changed(self, pool: Pool, **changes: Any) -> Any:
        first, *rest = pool.store.records()
        metrics = {**first.metrics, **changes}
        kept = {name: value for name, value in metrics.items() if value is not None}
        records = [replace(first, metrics=kept), *rest]
        return SimpleNamespace(records=lambda: records, run_directory=pool.store.run_directory)

    def test_a_metric_that_some_runs_lack_is_not_shown(self, pool: Pool) -> None:
        store = self.changed(pool, recall_at_2=None)
        with pytest.raises(DataError, match=r"1 of 21 .* recall_at_2"):
            report_content(store, pool.ladder, metric="recall_at_2")
        assert "recall_at_2" not in report_content(store, pool.ladder)[0]["metrics"]

    def test_values_that_are_no_numbers(self, pool: Pool) -> None:
        store = self.changed(pool, recall_at_2=math.nan)
        with pytest.raises(DataError, match=r"recall_at_2 .* nan"):
            report_content(store, pool.ladder)

    def test_no_runs_on_the_ladder(self, pool: Pool) -> None:
        with pytest.raises(DataError):
            report_content(SimpleNamespace(records=list), pool.ladder)  # type: ignore[arg-type]


def test_colors_are_seen_on_a_dark_page_and_keep_their_hue() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    for method in ("frozen", "margin", "s2sd", "contrastive", "arcface", "anything else"):
        color = line_style(method).color
        seen = on_dark(color)
        assert contrast(seen, DARK_PAGE) >= CONTRAST
        hues = [np.argsort([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (color, seen)]
        assert len(set(color[1:])) == 1 or (hues[0] == hues[1]).all()
    assert on_dark("#ffff00") == "#ffff00"


def test_the_scripts_use_no_name_that_nothing_declares() -> None:
    """Without a browser: a name that occurs once is JavaScript's own, or a slip."""
    script = "\n".join(_part(f"scripts/{name}.js") for name in SCRIPTS)
    comments_and_texts = r'/\*.*?\*/|(?:^|\s)//[^\n]*|"(?:[^"\\\n]|\\.)*"'
    script = re.sub(comments_and_texts, " ", script, flags=re.DOTALL)
    script = re.sub(r"`[^`]*`", lambda text: " ".join(re.findall(r"\$\{[^}]*", text[0])), script)
    no_field = r"(?<![\w$])(?:(?<!\.)|(?<=\.\.\.))[A-Za-z_]\w*(?!\w*:)"
    names = Counter(re.findall(no_field, script))
    once = {name for name, times in names.items() if times == 1}
    assert once <= {"Array", "undefined", "window", "addEventListener", "in"}
