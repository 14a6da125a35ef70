"""The report in a real browser: what a reader sees, points at and types."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from eval.report.conftest import (
    HOSTILE_CLASS,
    HOSTILE_METHOD,
    Page,
    Pool,
    fill,
    keep_embeddings,
    make_pool,
    needs_browser,
)

from oodml.eval.figures.style import contrast, line_style
from oodml.eval.report.page import write_report
from oodml.runs.store import Store

pytestmark = needs_browser
# In the order of the page's numbers: by name.
METHODS = (HOSTILE_METHOD, "frozen", "margin", "proxy_anchor")
MARGIN = METHODS.index("margin")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    made = make_pool(tmp_path_factory.mktemp("page"))
    fill(made, METHODS, seeds=3, few_shot=True)
    for record in made.store.records():
        if record.label == "margin" and record.spec.seed == 0:
            keep_embeddings(made, record, noise=2.0)
    path = made.store.directory / "report.html"
    write_report(made.store, made.ladder, path, features=made.features, dataset=made.dataset)
    return made


@pytest.fixture
def page(driver: Any, pool: Pool) -> Page:
    shown = Page(driver, pool.store.directory / "report.html")
    shown.open()
    return shown


def dot(method: int, rung: int, kind: str = ":not(.dashed)") -> str:
    return f'#curves .series{kind}[data-method="{method}"] .dot[data-rung="{rung}"]'


def values_of(pool: Pool, method: str, rung: int, metric: str = "recall_at_1") -> dict[str, float]:
    """Run id to value, by seed, from the files and nothing else."""
    found = {}
    for path in pool.store.directory.glob("runs/*/run.json"):
        record = json.loads(path.read_text())
        spec = record["spec"]
        if spec["method"]["name"] == method and spec["data"]["split"] == pool.ladder.rungs[rung].id:
            found[spec.get("seed", 0)] = (record["id"], record["metrics"][metric])
    return dict(found[seed] for seed in sorted(found))


def half(values: list[float]) -> float:
    return float(scipy.stats.sem(values) * scipy.stats.t.ppf(0.975, len(values) - 1))


def test_it_loads_without_a_word_and_without_a_network(page: Page) -> None:
    assert page.driver.get_log("browser") == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.texts("#nav a") == [
        "Curves", "Table", "Pairs", "Few-shot", "Ladder", "Gallery", "Runs", "Definitions",
    ]  # fmt: skip


def test_names_are_text_and_never_markup(page: Page) -> None:
    assert HOSTILE_METHOD in page.texts(".legend .name")
    assert HOSTILE_METHOD in page.texts("#table tbody th")
    assert page.all("b[onmouseover], img[onerror]") == []
    shown = set()
    for rung in range(3):
        page.run(
            f"document.querySelectorAll('.strip .column')[{rung}].dispatchEvent(new Event('click'))"
        )
        shown |= set(page.texts(".class-names li"))
    page.run("document.querySelector('[name=kind][value=random]').click()")
    shown |= set(page.texts(".query-row b, .tile .label"))
    assert any("class 0" in name for name in shown)
    names = page.run(
        "return JSON.parse(document.getElementById('content').textContent).ladder.classes.names"
    )
    assert HOSTILE_CLASS in names


def test_pointing_at_a_dot_tells_its_numbers_and_runs(page: Page, pool: Pool) -> None:
    page.hover(dot(MARGIN, 1))
    values = values_of(pool, "margin", 1)
    mean, reach = np.mean(list(values.values())), half(list(values.values()))
    told = dict(zip(page.texts("#curves .tip dt"), page.texts("#curves .tip dd"), strict=True))
    assert page.text("#curves .tip strong") == "margin"
    assert told["rung"] == "1" and told["recall at 1"] == f"{mean:.3f}"
    assert told["95% interval"] == f"[{mean - reach:.3f}, {mean + reach:.3f}]"
    assert told["n"] == "3 seeds" and told["runs"].split() == list(values)
    shift = pool.ladder.rungs[1].shift
    assert shift is not None and shift.excess is not None
    assert (float(told["FID"]), float(told["excess"])) == pytest.approx(
        (shift.fid, shift.excess), rel=6e-3
    )
    assert page.texts("#curves .readout a") == list(values)
    assert page.run("return document.querySelector('#curves .tip').hidden") is False
    page.hover("h1")
    assert page.run("return document.querySelector('#curves .tip').hidden") is True


def test_arrow_keys_go_through_the_points_and_enter_isolates(page: Page, pool: Pool) -> None:
    frame = "#curves .frame"
    page.keys(frame, "\ue014")
    first = page.text("#curves .tip")
    page.keys(frame, "\ue014", "\ue014")
    assert "rung2" in page.text("#curves .tip") and page.text("#curves .tip") != first
    method = page.text("#curves .tip strong")
    page.keys(frame, "\ue007")
    assert page.texts('.legend [aria-pressed="true"] .name')[:1] == [method]
    page.keys(frame, "\ue00c")
    assert page.texts('.legend [aria-pressed="true"]') == []


def test_every_point_is_reached_by_keys(page: Page) -> None:
    script = """const frame = document.querySelector('#curves .frame');
        const press = (key) => frame.dispatchEvent(new KeyboardEvent('keydown', {key}));
        const seen = new Set();
        for (let rung = 0; rung < 3; rung += 1) {
          press('ArrowRight');
          for (const key of ['ArrowUp', 'ArrowDown'])
            for (let step = 0; step < arguments[0]; step += 1) {
              press(key);
              seen.add(frame.querySelector('.tip').textContent);
            }
        }
        return seen.size;"""
    assert page.run(script, len(METHODS)) == 3 * len(METHODS)


def test_a_click_shows_a_method_alone_and_another_all_again(page: Page) -> None:
    def away() -> set[str]:
        script = """return [...document.querySelectorAll('#curves .series.away')].map(
            (group) => group.dataset.method)"""
        return set(page.run(script))

    button = f'#curves .legend [data-method="{MARGIN}"]'
    page.find(button).click()
    assert away() == {"0", "1", "3"}
    assert page.find(button).get_attribute("aria-pressed") == "true"
    page.find(button).click()
    assert away() == set()
    page.hover(dot(0, 2))
    page.click_there()
    assert away() == {"1", "2", "3"}
    page.find("#curves .legend .all").click()
    assert away() == set()


def test_lines_have_the_charts_colours(page: Page) -> None:
    for number, method in enumerate(METHODS):
        found = page.color(f'#curves .series[data-method="{number}"] .line', "stroke")
        assert found == line_style(method).color.lower()


def test_the_table_holds_the_stores_numbers(page: Page, pool: Pool) -> None:
    for number, method in enumerate(METHODS):
        for rung in range(3):
            values = values_of(pool, method, rung)
            cell = f'#table tr[data-method="{number}"] td[data-column="rung-{rung}"]'
            mean, scores = np.mean(list(values.values())), list(values.values())
            reach = f"±{half(scores):.3f}" if len(scores) > 1 else ""
            assert page.text(cell) == f"{mean:.3f}{reach}"
            title = page.find(cell).get_attribute("title")
            assert re.findall(r"[0-9a-f]{12}", title) == list(values)


def test_the_table_sorts_by_mouse_and_keyboard(page: Page, pool: Pool) -> None:
    def order() -> list[str]:
        return page.texts("#table tbody th")

    means = {method: np.mean(list(values_of(pool, method, 2).values())) for method in METHODS}
    rising = sorted(METHODS, key=lambda method: means[method])
    header = '#table th[data-column="rung-2"]'
    page.find(f"{header} button").click()
    assert order() == rising[::-1]
    assert page.find(header).get_attribute("aria-sort") == "descending"
    page.keys(f"{header} button", "\ue007")
    assert order() == rising
    assert page.find(header).get_attribute("aria-sort") == "ascending"
    page.keys('#table th[data-column="method"] button', " ")
    assert order() == sorted(METHODS)
    assert page.find(header).get_attribute("aria-sort") == "none"
    assert page.run("return document.activeElement.closest('th').dataset.column") == "method"


def test_another_metric_changes_chart_table_and_runs(page: Page, pool: Pool) -> None:
    from selenium.webdriver.support.select import Select

    Select(page.find("#metric")).select_by_value("recall_at_10")
    values = values_of(pool, "margin", 0, "recall_at_10")
    mean = f"{np.mean(list(values.values())):.3f}"
    cell = f'#table tr[data-method="{MARGIN}"] td[data-column="rung-0"]'
    assert page.text(cell).startswith(mean)
    assert "recall at 10" in page.texts("#curves .axis-name")
    page.hover(dot(MARGIN, 0))
    assert f"recall at 10{mean}" in page.text("#curves .tip dl").replace("\n", "")
    run, value = next(iter(values.items()))
    assert page.text(f"#run-{run} .metric") == f"{value:.3f}"


def test_the_axis_can_be_excess_fid(page: Page, pool: Pool) -> None:
    page.run("document.querySelector('[name=axis][value=excess]').click()")
    assert any(name.startswith("excess FID") for name in page.texts("#curves .axis-name"))
    places = [
        page.run("return document.querySelector(arguments[0]).getBoundingClientRect().x", dot(0, n))
        for n in range(3)
    ]
    excess = [rung.shift.excess for rung in pool.ladder.rungs if rung.shift]
    assert np.corrcoef(places, np.array(excess, float))[0, 1] == pytest.approx(1, abs=1e-4)


def test_the_slider_goes_through_the_rungs(page: Page, pool: Pool) -> None:
    page.keys("#rung-slider", "\ue014")
    before, rung = pool.ladder.rungs[:2]
    assert "Rung 1" in page.text(".slide output")
    assert page.find("#rung-slider").get_attribute("aria-valuetext").startswith("rung 1, FID")
    facts = dict(zip(page.texts(".stats dt"), page.texts(".stats dd"), strict=True))
    assert facts["split"] == rung.id
    assert facts["training"].startswith(f"{len(rung.train_classes)} classes")
    assert rung.shift is not None and rung.shift.excess is not None
    assert float(re.split("[a-z]", facts["FID"])[0][:4]) == pytest.approx(rung.fid, rel=0.01)
    assert facts["excess"].startswith(f"{rung.shift.excess:.3g}"[:3])
    moved = set(before.train_classes) & set(rung.test_classes)
    assert set(page.texts(".move.test li")) == moved
    amounts = [int(text) for text in page.texts(".bars .amount")]
    assert sum(amounts[::2]) == len(rung.train_classes)
    assert sum(amounts[1::2]) == len(rung.test_classes)


def test_the_plane_paints_both_sides(page: Page) -> None:
    script = """const canvas = document.querySelector('.plane');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = new Set();
        for (let i = 0; i < pixels.length; i += 4)
          if (pixels[i + 3] > 200) seen.add(`${pixels[i]},${pixels[i + 1]},${pixels[i + 2]}`);
        return [...seen];"""
    seen = [tuple(map(int, text.split(","))) for text in page.run(script)]
    for side in ((0, 114, 178), (213, 94, 0)):
        assert any(max(abs(a - b) for a, b in zip(color, side, strict=True)) < 8 for color in seen)


def test_galleries_show_pictures_and_mark_right_and_wrong(page: Page, pool: Pool) -> None:
    from selenium.webdriver.support.select import Select

    Select(page.find("#gallery-method")).select_by_visible_text("margin")
    Select(page.find("#gallery-rung")).select_by_value("0")
    page.run("document.querySelector('[name=kind][value=worst]').click()")
    script = """const text = (node, part) => node.querySelector(part).textContent;
        return [...document.querySelectorAll('.query-row')].map((row) => [text(row, 'b'),
        [...row.querySelectorAll('.tile:not(.query)')].map((tile) =>
        [text(tile, '.label'), text(tile, '.unseen'), text(tile, '[aria-hidden]')])])"""
    rows = page.run(script)
    assert len(rows) == 6 and {len(tiles) for _, tiles in rows} == {8}
    for query, tiles in rows:
        for name, word, sign in tiles:
            assert word.startswith("right" if name == query else "wrong")
            assert sign == ("✓" if name == query else "✗")
    loaded = "return [...document.querySelectorAll('.tile img')].every((i) => i.naturalWidth > 0)"
    assert page.run(loaded)
    record = pool.store.record(page.text("#gallery .note a"))
    assert record is not None
    assert (record.label, record.spec.data.split) == ("margin", pool.ladder.rungs[0].id)


def test_two_methods_are_set_against_each_other(page: Page, pool: Pool) -> None:
    best = page.run("return document.getElementById('pairs-method').value")
    assert best == page.run("return document.querySelector('#table tbody tr').dataset.method")
    page.run(
        """const select = document.getElementById('pairs-method');
        select.value = arguments[0];
        select.dispatchEvent(new Event('change'));""",
        str(MARGIN),
    )
    others = page.texts("#pairs tbody th")
    assert sorted(others) == sorted(set(METHODS) - {"margin"})
    ours = [values_of(pool, "margin", rung) for rung in range(3)]
    for other, row in zip(others, page.all("#pairs tbody tr"), strict=True):
        cells = [cell.text for cell in row.find_elements("css selector", "td")]
        theirs = [values_of(pool, other, rung) for rung in range(3)]
        mean = np.mean([list(each.values()) for each in ours]) - np.mean(
            [list(each.values()) for each in theirs]
        )
        assert float(cells[1].replace("\N{MINUS SIGN}", "-")) == pytest.approx(mean, abs=6e-5)
        low, high = (
            float(end)
            for end in re.sub(r"[][]", "", cells[2]).replace("\N{MINUS SIGN}", "-").split(", ")
        )
        assert low < mean < high
        above, below = ("margin", other) if mean > 0 else (other, "margin")
        assert cells[0] in (f"{above} above {below} on average", "not separated")
        assert ("above" in cells[0]) == (
            (low > 0 or high < 0) and (cells[3] == "< 0.001" or float(cells[3]) < 0.05)
        )
    boxes = page.run(
        """return [...document.querySelectorAll('#pairs tr')].map((row) =>
            [...row.children].map((cell) => Math.round(cell.getBoundingClientRect().left)))"""
    )
    assert all(box == boxes[0] for box in boxes)
    assert "none is here" in page.text("#pairs .note") or page.all("#pairs .crossed li")


def test_few_shot_shows_values_before_and_after(page: Page, pool: Pool) -> None:
    mean = np.mean(list(values_of(pool, "margin", 0).values()))
    page.run("document.querySelector('[name=shots][value=\"5\"]').click()")
    page.hover(dot(MARGIN, 0).replace("#curves", "#few-shot"))
    dd = page.texts("#few-shot .tip dd")
    told = dict(zip(page.texts("#few-shot .tip dt"), dd, strict=True))
    assert told["zero-shot"].split()[0] == f"{mean + 0.0015:.3f}"
    assert told["5-shot"].split()[0] == f"{mean + 0.053:.3f}"
    assert told["gain"].split()[0] == "0.051" or told["gain"].split()[0] == "0.052"
    assert told["n"] == "4 episodes, 3 seeds"
    assert told["left out"] == "2 classes, too small"
    page.run("document.querySelector('[name=view][value=relative]').click()")
    assert "relative gain in recall at 1" in page.texts("#few-shot .axis-name")


def test_a_runs_link_opens_its_record(page: Page, pool: Pool) -> None:
    run, value = next(iter(values_of(pool, "margin", 1).items()))
    page.open(fragment=f"#run-{run}")
    opened = page.text(".unfolded")
    assert f"runs/{run}/run.json" in opened
    assert f"recall_at_1{value}" in opened.replace("\n", "") and "test.rho0.5" in opened
    page.keys("#run-filter", "margin rung 1 seed 0")
    assert len(page.all(".runs tbody tr[id]:not([hidden])")) == 1


@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.open(width)
    page.run("for (const part of document.querySelectorAll('details')) part.open = true")
    page.run("document.querySelector('.runs tbody button').click()")
    assert page.run("return document.documentElement.scrollWidth") == width
    script = """return [...document.querySelectorAll('main *')].filter((node) =>
        !node.closest('.scroller, .tip, .unseen, svg') && node.getBoundingClientRect().right >
        innerWidth + 1).map((node) => node.outerHTML.slice(0, 80))"""
    assert page.run(script) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_in_both_schemes(page: Page, scheme: str) -> None:
    page.open(scheme=scheme)
    background = page.color("body", "backgroundColor")
    assert (contrast(background, "#000000") > 10) == (scheme == "light")
    assert contrast(page.color("body", "color"), background) > 10
    for selector in (".note", ".lead", "#curves .readout", ".stats dt", "#runs thead th"):
        assert contrast(page.color(selector, "color"), background) >= 4.5
    for selector in ("#curves .axes text", "#curves .rung-name"):
        assert contrast(page.color(selector, "fill"), background) >= 4.5
    for number in range(len(METHODS)):
        line = page.color(f'#curves .series[data-method="{number}"] .line', "stroke")
        assert contrast(line, background) >= (4.5 if scheme == "dark" else 2.5)


def test_the_button_switches_the_scheme(page: Page) -> None:
    light = page.color("body", "backgroundColor")
    page.find("#theme").click()
    assert page.color("body", "backgroundColor") != light
    assert page.find("#theme").get_attribute("aria-pressed") == "true"
    page.find("#theme").click()
    assert page.color("body", "backgroundColor") == light


def test_print_is_light_and_without_buttons(page: Page) -> None:
    page.open(scheme="dark")
    page.media("print", "dark")
    assert page.color("body", "backgroundColor") == "#ffffff"
    hidden = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert page.run(hidden, ".bar") == "none" and page.run(hidden, "#curves .controls") == "none"


def test_what_can_be_used_has_a_name_and_takes_the_keyboard(page: Page) -> None:
    script = """return [...document.querySelectorAll('button, select, input, a')].filter((node) =>
        !(node.textContent.trim() || node.getAttribute('aria-label') || node.closest('label'))
        || node.tabIndex < 0).map((node) => node.outerHTML.slice(0, 80))"""
    assert page.run(script) == []
    ids = page.run("return [...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two methods that lack runs, on a ladder with published FIDs, without data."""
    pool = make_pool(tmp_path_factory.mktemp("sparse"))
    fill(pool, ("margin", "xbm"), seeds=2)
    for record in pool.store.records():
        rung = pool.ladder.rung_of(record.spec.data.split)
        if rung is None or rung == {"margin": 1, "xbm": 2}[record.label]:
            shutil.rmtree(pool.store.run_directory(record.id))
    rungs = tuple(replace(rung, shift=None, published_fid=rung.fid) for rung in pool.ladder.rungs)
    path = pool.store.directory / "report.html"
    write_report(pool.store, replace(pool.ladder, rungs=rungs), path)
    return path


def test_gaps_are_shown_and_what_is_missing_is_said(driver: Any, sparse: Path) -> None:
    page = Page(driver, sparse)
    page.open()
    assert page.driver.get_log("browser") == []
    margin, xbm = ('#curves .series[data-method="0"]', '#curves .series[data-method="1"]')
    counts = [len(page.all(f"{series} .{part}")) for series in (margin, xbm)
              for part in ("line", "dot", "band", "whisker")]  # fmt: skip
    assert counts == [2, 2, 0, 2, 1, 2, 1, 0]
    assert page.texts('#table [data-column="ags"].gap') == ["–", "–"]
    assert page.text('#table tr[data-method="0"] [data-column="rung-1"]') == "–"
    assert page.texts(".missing li") == [
        "margin: rung 1 seed 0, rung 1 seed 1", "xbm: rung 2 seed 0, rung 2 seed 1",
    ]  # fmt: skip
    assert page.all("[name=axis]:disabled") and not page.all("#few-shot h2 ~ *")
    assert "as published" in page.text(".stats")
    advice = page.texts(".advice")
    assert len(advice) == 3 and all("oodml report DIR --data" in each for each in advice)
    assert "--keep-embeddings" in page.text("#gallery .advice")


def test_what_a_ladder_lacks_takes_no_room(driver: Any, pool: Pool, tmp_path: Path) -> None:
    # FIDs far from 0, their nulls just below them, and no groups.
    rungs = tuple(
        replace(
            rung,
            shift=replace(rung.shift, fid=500.0 + 9 * n, null_mean=490.0 + n, null_sd=2.0),
        )
        for n, rung in enumerate(pool.ladder.rungs)
        if rung.shift
    )
    ladder = replace(pool.ladder, rungs=rungs)
    features = replace(pool.features, groups=None)
    for record in pool.store.records():
        split = rungs[pool.ladder.rung_of(record.spec.data.split) or 0].shift
        assert split is not None
        Store(tmp_path).finish(replace(record, shift=split.to_json()))
    write_report(Store(tmp_path), ladder, tmp_path / "report.html", features=features)
    page = Page(driver, tmp_path / "report.html")
    page.open()
    assert page.driver.get_log("browser") == []
    assert "Groups of classes" not in page.texts("#ladder h3") and not page.all(".groups")
    ticks = [float(text) for text in page.texts(".strip > text") if text != "FID"]
    assert min(ticks) > 480 and "does not start at 0" in page.text("#ladder .note")
    assert len(page.all("#ladder .caution")) == 2 and "object" not in page.text("#ladder")
    assert "choice of its classes" in page.text("#pairs .note")
    assert "no interval: frozen." in page.text("#curves-note")


def test_a_run_without_training_has_no_settings_of_training(driver: Any, tmp_path: Path) -> None:
    pool = make_pool(tmp_path)
    fill(pool, ("frozen", "margin"), seeds=1)
    for record in pool.store.records():
        if record.label == "margin":
            shutil.rmtree(pool.store.run_directory(record.id))
            pool.store.finish(replace(record, spec=record.spec.with_settings(steps=7)))
    write_report(pool.store, pool.ladder, tmp_path / "report.html")
    page = Page(driver, tmp_path / "report.html")
    page.open()
    columns = page.texts("#runs details table thead th")
    row = dict(
        zip(columns, page.texts("#runs details table tbody tr:first-child > *"), strict=True)
    )
    other = dict(
        zip(columns, page.texts("#runs details table tbody tr:last-child > *"), strict=True)
    )
    assert (row["method"], row["steps"], other["steps"]) == ("frozen", "–", "7")
