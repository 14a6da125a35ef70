"""What the shift costs, in a real browser: the chart, the tables and the queries that changed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from eval.report.conftest import (
    HOSTILE_METHOD,
    Page,
    Pool,
    fill,
    fill_reference,
    keep_halves,
    make_pool,
    needs_browser,
)

from oodml.eval.figures.style import contrast
from oodml.eval.report.page import write_report
from oodml.eval.statistics.transfer import MethodTransfer, transfer
from oodml.eval.statistics.transfer_findings import division, finding

pytestmark = needs_browser
METHODS = (HOSTILE_METHOD, "margin")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    made = make_pool(tmp_path_factory.mktemp("reference_page"))
    fill(made, ("frozen", *METHODS), seeds=3)
    fill_reference(made, METHODS, seeds=3, null=3)
    ends = {made.ladder.rungs[0].id, made.ladder.rungs[2].id}
    for record in made.store.records():
        data = record.spec.data
        own = record.label.startswith("margin") and record.spec.seed == 0 and not data.null_draw
        if own and data.split in ends and record.spec.is_reference:
            keep_halves(made, record, {"matched": 1.5, "shifted": 3.0}[data.trained_on])
    path = made.store.directory / "report.html"
    write_report(made.store, made.ladder, path, dataset=made.dataset)
    return made


@pytest.fixture
def page(driver: Any, pool: Pool) -> Page:
    shown = Page(driver, pool.store.directory / "report.html")
    shown.open()
    return shown


@pytest.fixture(scope="module")
def found(pool: Pool) -> dict[str, MethodTransfer]:
    return {each.series.name: each for each in transfer(pool.store.records(), pool.ladder)}


def shown(value: float) -> str:
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def choose(page: Page, label: str, value: str) -> None:
    """Take the option of this text from the last select of the section with that label."""
    page.run(
        """const [label, text] = arguments;
        const select = [...document.querySelectorAll('#transfer label')].filter((each) =>
            each.textContent.startsWith(label)).at(-1).querySelector('select');
        select.value = [...select.options].find((each) => each.text.startsWith(text)).value;
        select.dispatchEvent(new Event('change'));""",
        label,
        value,
    )


def test_the_page_opens_with_the_finding(page: Page, found: dict[str, MethodTransfer]) -> None:
    assert page.driver.get_log("browser") == []
    assert page.texts("#nav a")[:2] == ["Shift cost", "Curves"]
    assert page.run("return document.querySelector('section').id") == "transfer"
    assert page.text("#transfer .finding") == finding(list(found.values()))
    assert page.text("#transfer .divided") == division(list(found.values()))
    terms = page.texts("#transfer .terms dt")
    assert terms == ["frozen", "shifted", "matched", "difficulty", "shift cost", "break-even"]
    assert "Shift cost, difficulty" in page.texts("#definitions dt")
    assert page.all("b[onmouseover], img[onerror]") == []


def test_the_rungs_of_a_method_are_the_statistics_own(
    page: Page, found: dict[str, MethodTransfer]
) -> None:
    choose(page, "Method", "margin")
    rows = page.run(
        """return [...document.querySelectorAll('#transfer .transfer tbody tr')].map((row) =>
            [...row.cells].map((cell) => cell.firstChild.textContent))"""
    )
    for row, own in zip(rows, found["margin"].rows, strict=True):
        assert own.null is not None and own.null.low is not None and own.null.high is not None
        values = [own.frozen, own.shifted, own.matched, own.shift_cost]
        gains = [own.gain, own.matched_gain]
        assert row[0] == str(own.rung) and float(row[1]) == pytest.approx(own.fid, rel=6e-3)
        assert row[2:6] == [shown(each.value) for each in values if each]
        assert row[6] == f"{shown(own.null.low)} to {shown(own.null.high)}"
        assert row[7:9] == [shown(each.value) for each in gains if each]
        assert own.retained_gain is not None
        assert row[9] == f"{own.retained_gain.value * 100:.0f}%".replace("-", "\N{MINUS SIGN}")
    told = page.texts("#transfer .transfer tbody td:nth-child(7) small")
    assert told[0] == "cost within" and told[2] == "cost outside"
    title = page.find("#transfer .transfer tbody td.cost").get_attribute("title")
    assert len(re.findall(r"[0-9a-f]{12}", title)) == 6


def test_every_method_has_a_row_with_its_fall_and_break_even(
    page: Page, found: dict[str, MethodTransfer]
) -> None:
    names = page.texts("#transfer .transfer-methods tbody th")
    assert sorted(names) == sorted(METHODS)
    rows = page.run(
        """return [...document.querySelectorAll('#transfer .transfer-methods tbody tr')].map(
            (row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent))"""
    )
    bars = page.run(
        """return [...document.querySelectorAll('.fall-bar')].map((bar) =>
            [...bar.children].map((part) => part.getBoundingClientRect().width))"""
    )
    for name, row, bar in zip(names, rows, bars, strict=True):
        own = found[name]
        last, met = own.rows[-1], own.break_even
        assert met is not None and met.kind == "within"
        assert row[0].startswith(f"{met.on(own.fids)[0]:.0f}")
        for at, part in ((2, last.fall), (4, last.difficulty), (5, last.cost_rise)):
            assert part is not None and row[at].startswith(shown(part.value))
        assert last.difficulty is not None and last.cost_rise is not None
        assert bar[0] / bar[1] == pytest.approx(
            last.difficulty.value / last.cost_rise.value, rel=0.02
        )
    page.keys('#transfer th[data-column="method"] button', "\ue007")
    assert page.texts("#transfer .transfer-methods tbody th") == sorted(METHODS)
    assert page.run("return document.activeElement.closest('th').dataset.column") == "method"
    page.find("#transfer .transfer-methods tbody tr:last-child button").click()
    assert page.text("#transfer h3").startswith(sorted(METHODS)[-1])
    page.find("#transfer .every-rung summary").click()
    page.run("return new Promise((done) => setTimeout(done, 50))")
    assert len(page.all("#transfer .every-rung tbody tr")) == 2 * (1 + 3)


def test_the_chart_divides_the_fall_and_marks_the_break_even(
    page: Page, found: dict[str, MethodTransfer]
) -> None:
    choose(page, "Method", "margin")
    last, met = found["margin"].rows[-1], found["margin"].break_even
    assert last.difficulty and last.shift_cost and last.cost_rise and last.fall and met
    labels = page.texts("#transfer .division text")
    assert f"difficulty {shown(last.difficulty.value)}" in labels
    assert f"shift cost {shown(last.shift_cost.value)}" in labels
    assert {"matched", "shifted", "frozen"} <= set(labels)
    place = met.on(found["margin"].fids)[0]
    assert f"break-even {place:.0f} [" in page.text("#transfer .met-name")
    diamond, level = page.run(
        """const box = (name) => document.querySelector(name).getBoundingClientRect();
        const middle = ({left, width}) => left + width / 2;
        const dots = [...document.querySelectorAll('.sides .side.shifted .dot')].map((dot) =>
            middle(dot.getBoundingClientRect()));
        return [middle(box('.sides .met-dot')), dots];"""
    )
    fids = found["margin"].fids
    expected = level[0] + (place - fids[0]) / (fids[-1] - fids[0]) * (level[-1] - level[0])
    assert diamond == pytest.approx(expected, abs=1.5)
    caption = page.text("#transfer .caption")
    for part in (last.fall, last.difficulty, last.cost_rise):
        assert shown(part.value) in caption
    page.run("document.querySelector('[name=transfer-view][value=gain]').click()")
    assert len(page.all("#transfer .series .line")) == len(page.all("#transfer .series .met-dot"))
    assert "gain in recall at 1" in page.texts("#transfer .axis-name")
    page.run("document.querySelector('[name=transfer-axis][value=excess]').click()")
    assert page.find("[name=axis][value=excess]").is_selected()
    assert any(name.startswith("excess FID") for name in page.texts("#transfer .axis-name"))
    assert page.driver.get_log("browser") == []


def test_the_keyboard_goes_through_the_rungs_and_takes_one(page: Page) -> None:
    choose(page, "Method", "margin")
    frame = "#transfer .frame"
    page.keys(frame, "\ue014")
    assert "rung0" in page.find("#transfer .tip dl").text.replace("\n", "")
    page.keys(frame, "\ue014", "\ue014", "\ue014", "\ue012")
    assert "rung1" in page.text("#transfer .tip dl")
    ids = re.findall(r"[0-9a-f]{12}", page.text("#transfer .readout"))
    assert len(ids) == 15 and page.all("#transfer .readout a")
    page.keys(frame, "\ue007")
    assert page.texts("#transfer .transfer tr.current th") == ["1"]
    assert "--keep-embeddings" in page.text("#transfer .advice")
    assert "rung 0 and 2 has them" in page.text("#transfer .advice")
    page.find('#transfer tr[data-rung="0"] button').click()
    assert page.all("#transfer .advice") == [] and page.all("#transfer .changed")
    assert page.run("return document.activeElement.textContent") == "0"


def test_choosing_a_rung_shows_the_queries_that_changed(page: Page, pool: Pool) -> None:
    choose(page, "Method", HOSTILE_METHOD[:5])
    assert "No embeddings of" in page.text("#transfer .advice")
    choose(page, "Method", "margin")
    choose(page, "Rung", "2")
    script = """const text = (node, part) => node.querySelector(part).textContent;
        return [...document.querySelectorAll('#transfer .changed')].map((row) =>
        [text(row, 'p'), text(row, 'b'), [...row.querySelectorAll('.strip-of')].map((strip) =>
        [text(strip, 'p'), [...strip.querySelectorAll('.tile')].map((tile) =>
        [text(tile, '.label'), text(tile, '.unseen')])])])"""
    for kind in ("lost", "won", "random"):
        page.run(f"document.querySelector('[name=change][value={kind}]').click()")
        rows = page.run(script)
        assert rows
        for head, query, strips in rows:
            matched, shifted = (
                float(word) for word in re.findall(r"(\d\.\d{3}) (?:matched|shifted)", head)
            )
            assert kind == "random" or (matched > shifted) == (kind == "lost")
            for (name, tiles), average in zip(strips, (matched, shifted), strict=True):
                assert len(tiles) == 8
                right = [word.startswith("right") for _, word in tiles]
                hits = np.array(right[:5])
                precision = np.cumsum(hits) / np.arange(1, 6)
                assert average == pytest.approx((precision * hits).sum() / 5, abs=6e-4)
                assert right == [label == query for label, _ in tiles]
                assert name.endswith(f": {sum(right)} right")
    assert len(page.all("#transfer .changed")) == 3
    page.find("#transfer .more").click()
    assert len(page.all("#transfer .changed")) == 6
    assert page.text("#transfer .more") == "Show fewer"
    shares = [float(part) for part in re.findall(r"([\d.]+)%", page.text(".shares-key"))]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    loaded = "return [...document.querySelectorAll('.changed img')].every((i) => i.naturalWidth)"
    assert page.run(loaded)
    runs = [pool.store.record(run) for run in page.texts("#transfer .note .run-id")]
    assert [run.spec.data.trained_on for run in runs if run] == ["matched", "shifted"]
    assert {run.spec.data.split for run in runs if run} == {pool.ladder.rungs[2].id}


def test_the_runs_of_a_reference_are_found_by_their_words(page: Page) -> None:
    page.keys("#run-filter", "seed 1 matched")
    rows = page.texts(".runs tbody tr[id]:not([hidden]) td:nth-child(5)")
    assert len(rows) == 2 * 3 * 2 and {row.split(",")[0] for row in rows} == {"matched"}
    assert {row for row in rows if "," in row} == {"matched, random split 2"}


@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.open(width)
    choose(page, "Method", "margin")
    page.run("for (const part of document.querySelectorAll('details')) part.open = true")
    for view in ("gain", "sides"):
        page.run(f"document.querySelector('[name=transfer-view][value={view}]').click()")
        assert page.run("return document.documentElement.scrollWidth") == width
        script = """return [...document.querySelectorAll('#transfer *')].filter((node) =>
            !node.closest('.scroller, .tip, .unseen') && node.getBoundingClientRect().right >
            innerWidth + 1).map((node) => node.outerHTML.slice(0, 80))"""
        assert page.run(script) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_stands_out_in_both_schemes_and_on_paper(page: Page, scheme: str) -> None:
    page.open(scheme=scheme)
    background = page.color("body", "backgroundColor")
    for selector in ("#transfer .terms dd", "#transfer .finding", "#transfer .caption"):
        assert contrast(page.color(selector, "color"), background) >= 4.5
    for side in ("matched", "shifted", "frozen"):
        assert contrast(page.color(f".sides .side.{side} .line", "stroke"), background) >= 3.5
    page.media("print", scheme)
    hidden = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert page.run(hidden, "#transfer .controls") == "none"
    assert page.color("#transfer .finding", "color") == page.color("body", "color")


def test_what_can_be_used_has_a_name_and_takes_the_keyboard(page: Page) -> None:
    script = """return [...document.querySelectorAll(
        '#transfer button, #transfer select, #transfer input')].filter((node) =>
        !(node.textContent.trim() || node.getAttribute('aria-label') || node.closest('label'))
        || node.tabIndex < 0).map((node) => node.outerHTML.slice(0, 80))"""
    assert page.run(script) == []
    ids = page.run("return [...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))


def test_one_seed_without_frozen_and_nulls_says_what_is_not_known(
    driver: Any, pool: Pool, tmp_path: Path
) -> None:
    kept = [
        record
        for record in pool.store.records()
        if record.spec.seed == 0
        and record.spec.data.trained_on != "nothing"
        and not record.spec.data.null_draw
        and record.label.startswith("margin")
    ]
    store = SimpleNamespace(records=lambda: kept, run_directory=lambda run: tmp_path / run)
    write_report(store, pool.ladder, tmp_path / "report.html")  # type: ignore[arg-type]
    page = Page(driver, tmp_path / "report.html")
    page.open()
    assert page.driver.get_log("browser") == []
    assert "not measured on the halves" in page.text("#transfer .finding")
    assert "One seed, so no interval" in page.text("#transfer-note")
    assert "--reference-null 5" in page.text("#transfer-note")
    assert page.all("#transfer .transfer-methods, [name=transfer-view], .sides .reach") == []
    assert page.all(".sides .side.frozen, .sides .met-dot") == []
    assert "Random splits" not in page.texts("#transfer .transfer th")
    assert page.texts("#transfer .transfer tbody td:nth-child(7)") == ["–"] * 3
    assert "break-even is not known" in page.text("#transfer .caption")


def test_sixty_methods_on_two_models_stay_compact(driver: Any, pool: Pool, tmp_path: Path) -> None:
    kept = [
        replace(record, spec=record.spec.with_settings(method=f"m{number}", backbone=model))
        for record in pool.store.records()
        for number in range(30)
        for model in ("none", "resnet50")
        if record.spec.method.name == "margin" and not record.spec.data.null_draw
    ]
    kept += [r for r in pool.store.records() if r.spec.data.trained_on == "nothing"]
    store = SimpleNamespace(records=lambda: kept, run_directory=lambda run: tmp_path / run)
    write_report(store, pool.ladder, tmp_path / "report.html")  # type: ignore[arg-type]
    page = Page(driver, tmp_path / "report.html")
    page.open()
    assert page.driver.get_log("browser") == []
    names = page.texts("#transfer .transfer-methods tbody th")
    assert len(names) == 60 and {"m0 @ none", "m29 @ resnet50"} <= set(names)
    assert page.run("return document.getElementById('transfer').offsetHeight") < 2600
    page.run("document.querySelector('[name=transfer-view][value=gain]').click()")
    # Only one of the two models was measured without training.
    assert len(page.all("#transfer .series .line")) == 30
    page.run("document.querySelector('[name=transfer-view][value=shift_cost]').click()")
    assert len(page.all("#transfer .series .line")) == 60
    page.run(
        """const select = document.getElementById('only-method');
        select.value = 'm7';
        select.dispatchEvent(new Event('change'));"""
    )
    names = page.texts("#transfer .transfer-methods tbody th")
    assert sorted(names) == ["m7 @ none", "m7 @ resnet50"]
    assert len(page.all("#transfer .series .line")) == 2
    assert page.text("#transfer h3").startswith("m7 @ ")
    page.open(400)
    assert page.run("return document.documentElement.scrollWidth") == 400


def test_without_a_reference_the_page_opens_with_the_curves(
    driver: Any, pool: Pool, tmp_path: Path
) -> None:
    plain = [record for record in pool.store.records() if not record.spec.is_reference]
    store = SimpleNamespace(records=lambda: plain, run_directory=lambda run: tmp_path / run)
    write_report(store, pool.ladder, tmp_path / "report.html")  # type: ignore[arg-type]
    page = Page(driver, tmp_path / "report.html")
    page.open()
    assert page.driver.get_log("browser") == []
    assert page.texts("#nav a")[0] == "Curves"
    assert page.run("return document.getElementById('transfer').hidden")
