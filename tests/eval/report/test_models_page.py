"""The report of several models in a real browser: what its two filters leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eval.report.conftest import Page, Pool, fill, keep_embeddings, make_pool, needs_browser

from oodml.eval.report.page import write_report
from oodml.runs.record import RunRecord

pytestmark = needs_browser
METHODS = ("frozen", "margin", "proxy_anchor")
MODELS = ("clip_vitb16", "dinov2_vits14", "none", "resnet50")


def on_model(record: RunRecord, place: int) -> RunRecord:
    model = {"backbone": MODELS[place], "weights": str(place) * 64}
    metrics = {name: value - 0.05 * place for name, value in record.metrics.items()}
    return replace(record, spec=record.spec.with_settings(**model), metrics=metrics)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    made = make_pool(tmp_path_factory.mktemp("models"))
    fill(made, METHODS, seeds=2, few_shot=True)
    for record in made.store.records():
        for place, name in enumerate(MODELS):
            if name != "none":
                made.store.finish(on_model(record, place))
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


def only(page: Page, **wanted: str) -> None:
    for key, name in wanted.items():
        page.run(
            """const select = document.getElementById(arguments[0]);
            select.value = arguments[1];
            select.dispatchEvent(new Event('change'));""",
            f"only-{key}",
            name,
        )


def lines(page: Page) -> list[str]:
    """The names of the lines that the curves hold."""
    return sorted(page.texts("#curves .legend .name"))


def test_lines_are_named_after_method_and_model(page: Page) -> None:
    assert page.driver.get_log("browser") == []
    assert lines(page) == sorted(f"{m} @ {b}" for m in METHODS for b in MODELS)
    assert "3 methods and 4 models on 3 class splits" in page.text("#lead")
    # The dashes of a model, in widths of the line, and the fill of its markers.
    looks = {
        name: page.run(
            """const button = [...document.querySelectorAll('#curves .legend button')].find(
                (each) => each.textContent.startsWith(arguments[0]));
            const fill = getComputedStyle(button.querySelector('.dot')).fill;
            return [button.querySelector('.line').getAttribute('stroke-dasharray'), fill];""",
            f"margin @ {name}",
        )
        for name in MODELS
    }
    assert [look[0] for look in looks.values()] == [None, "6 3.5", "8 3 2 3", "12.6 3.6"]
    assert len({look[1] for look in looks.values()}) == 3


def test_a_model_alone_is_shown_everywhere(page: Page) -> None:
    only(page, backbone="resnet50")
    names = [f"{method} @ resnet50" for method in METHODS]
    assert lines(page) == names
    assert len(page.all("#curves .series")) == 3
    assert sorted(page.texts("#table tbody th")) == names
    assert sorted(page.texts("#pairs-method option")) == names
    assert len(page.texts("#pairs tbody tr")) == 2
    assert sorted(page.texts("#few-shot .legend .name")) == names[1:]
    shown = len(page.all("#runs tr[data-run]:not([hidden])"))
    assert shown == 3 + 2 * 3 * 2
    assert "no gallery" in page.run(
        "return [...document.querySelectorAll('#gallery .note')].find((n) => !n.hidden).textContent"
    )
    only(page, backbone="none")
    assert page.texts("#gallery-method option")[-1] == "margin @ none"
    only(page, backbone="")
    assert len(lines(page)) == 12


def test_a_method_alone_sets_models_against_each_other(page: Page) -> None:
    only(page, method="margin")
    assert lines(page) == [f"margin @ {name}" for name in MODELS]
    assert len(page.texts("#pairs tbody tr")) == 3
    only(page, backbone="resnet50")
    assert lines(page) == ["margin @ resnet50"]
    assert page.texts("#pairs tbody tr") == []


def test_what_stands_alone_stays_so_while_it_is_shown(page: Page) -> None:
    for number in (3, 7):
        page.run(
            """document.querySelector(`#curves .legend [data-method="${arguments[0]}"]`)
            .dispatchEvent(new MouseEvent('click', {shiftKey: true, bubbles: true}))""",
            number,
        )
    assert len(page.all("#curves .series.away")) == 10
    only(page, method="margin")
    assert len(page.all("#curves .series.away")) == 3
    only(page, method="frozen")
    assert (len(page.all("#curves .series")), page.all("#curves .series.away")) == (4, [])
    assert not page.find("#curves .legend .all").is_displayed()


def test_a_link_to_a_run_that_is_filtered_shows_all_again(page: Page, pool: Pool) -> None:
    only(page, backbone="resnet50")
    other = next(r.id for r in pool.store.records() if r.spec.model.backbone == "none")
    page.run("location.hash = arguments[0]", f"#run-{other}")
    page.run("window.dispatchEvent(new HashChangeEvent('hashchange'))")
    assert page.find(f"#run-{other}").is_displayed()
    assert page.run("return document.getElementById('only-backbone').value") == ""


def test_one_model_has_no_filter(driver: Any, tmp_path: Path) -> None:
    pool = make_pool(tmp_path)
    fill(pool, METHODS[:2], seeds=1)
    write_report(pool.store, pool.ladder, tmp_path / "report.html")
    page = Page(driver, tmp_path / "report.html")
    page.open()
    assert page.texts("#curves .legend .name") and not page.all("[id^=only-]")
    assert "2 methods on 3" in page.text("#lead")
