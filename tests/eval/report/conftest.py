"""A store of made-up runs on a small pool of drawings, and a browser, for tests of the report."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_features
from PIL import Image

from oodml.data.dataset import Dataset
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.splits.measure import add_null
from oodml.splits.reference import halves_of
from oodml.splits.split import Split

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
)
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)

# A class and a method that would run as code if a page took them for markup.
HOSTILE_CLASS = "class 000 </script><img src=x onerror=boom()>\u2028&lt;"
HOSTILE_METHOD = "<b onmouseover=boom()>&amp;</script>"
METRICS = ("recall_at_1", "recall_at_2", "recall_at_10", "mean_average_precision_at_r")


@dataclass(frozen=True)
class Pool:
    """Images, their features, the ladder on them and a store for runs."""

    dataset: Dataset
    features: Features
    ladder: Ladder
    store: Store


def make_pool(root: Path, rungs: int = 3, classes: int = 24, per_class: int = 6) -> Pool:
    """24 classes of 6 one-coloured pictures, a ladder with nulls, no runs yet."""
    plain = make_features(classes, per_class)
    names = (HOSTILE_CLASS, *plain.class_names[1:])
    samples = tuple(f"{label:03d}/{place}.png" for place, label in enumerate(plain.labels))
    dataset = Dataset(
        name="drawings",
        class_names=names,
        labels=plain.labels,
        sample_names=samples,
        paths=tuple(_picture(root / "images" / name) for name in samples),
        sizes=np.ones(len(samples), np.int64),
        groups=tuple(f"group {number % 3}" for number in range(classes)),
    )
    source = replace(plain.source, dataset=dataset.name, fingerprint=dataset.fingerprint)
    features = Features(plain.values, plain.labels, names, source, samples, dataset.groups)
    ladder = build_ladder(features, rungs=rungs, swap_size=2, min_classes=4)
    ladder = add_null(ladder, features, draws=8)
    return Pool(dataset, features, ladder, Store(root / "runs"))


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    red = (int(path.parent.name) * 37) % 256
    Image.new("RGB", (20, 12), (red, 90, 160)).save(path)
    return path


def fill(pool: Pool, methods: Sequence[str], seeds: int, few_shot: bool = False) -> None:
    """Finished runs of every method on every rung; frozen has one seed."""
    for number, method in enumerate(methods):
        for rung, split in enumerate(pool.ladder.rungs):
            for seed in range(1 if method == "frozen" else seeds):
                record = _record(pool, method, number, rung, split, seed)
                if few_shot and method != "frozen":
                    record = replace(record, few_shot=_few_shot(record))
                pool.store.finish(record)


def _record(pool: Pool, method: str, number: int, rung: int, split: Split, seed: int) -> RunRecord:
    source = pool.features.source
    spec = RunSpec.on(
        source,
        split.id,
        method,
        train="none" if method == "frozen" else "head",
        seed=seed,
    )
    random = np.random.default_rng([number, rung, seed, False])
    slope = (0.12 + 0.004 * (number % 7)) / max(1, len(pool.ladder.rungs) - 1)
    first = 0.8 - 0.012 * number - slope * rung
    metrics = {
        name: float(first - 0.1 * place + 0.006 * random.standard_normal())
        for place, name in enumerate(METRICS)
    }
    metrics |= {"queries": 72, "queries_left_out": 0, "queries_tied": 0}
    shift = split.shift.to_json() if split.shift else {}
    return RunRecord(
        spec, shift, metrics, {"loss": 0.25}, {"torch": "2.0"}, 1.5, geometry={"test": {"rho": 0.5}}
    )


def _few_shot(record: RunRecord) -> dict[str, dict[str, object]]:
    before = record.metrics["recall_at_1"]
    return {
        str(shots): {
            "episodes": [
                {
                    "zero_shot": {"recall_at_1": before + 0.001 * episode, "queries": 60},
                    "few_shot": {"recall_at_1": before + 0.002 * episode + 0.01 * shots},
                }
                for episode in range(4)
            ],
            "left_out": 2 * (shots == 5),
        }
        for shots in (2, 5)
    }


def keep_embeddings(pool: Pool, record: RunRecord, noise: float = 0.0) -> Features:
    """Write `embeddings.npz` of a run: the features of its test classes, with noise."""
    split = pool.ladder.split_of(record.spec.data.split)
    assert split is not None
    test = pool.features.subset(split.test_classes)
    values = test.values + noise * np.random.default_rng(0).standard_normal(test.values.shape)
    source = replace(test.source, backbone=f"run {record.id}")
    embeddings = Features(values, test.labels, test.class_names, source, test.sample_names)
    embeddings.save(pool.store.run_directory(record.id) / "embeddings.npz")
    return embeddings


def fill_reference(
    pool: Pool, methods: Sequence[str], seeds: int, null: int = 0, backbone: str = "none"
) -> None:
    """Reference runs of every method on every rung, and of the network itself.

    Matched training gains 0.1 everywhere; shifted training loses 0.08 more on every rung.
    """
    for rung, split in enumerate(pool.ladder.rungs):
        level = 0.5 - 0.05 * rung
        for seed in range(seeds):
            frozen = _reference(pool, "frozen", split, seed, level, "nothing", backbone)
            pool.store.finish(frozen)
            for number, method in enumerate(methods):
                matched = level + 0.1 - 0.001 * number
                for side, value in (("matched", matched), ("shifted", matched - 0.08 * rung)):
                    record = _reference(pool, method, split, seed, value, side, backbone)
                    pool.store.finish(record)
        for method in methods:
            for draw in range(1, null + 1):
                for side, value in (("matched", 0.5 + 0.01 * (-1) ** draw), ("shifted", 0.5)):
                    record = _reference(
                        pool, method, split, draw - 1, value, side, backbone, null_draw=draw
                    )
                    pool.store.finish(record)


def _reference(
    pool: Pool,
    method: str,
    split: Split,
    seed: int,
    value: float,
    side: str,
    backbone: str,
    null_draw: int = 0,
) -> RunRecord:
    plain = _record(pool, method, 0, 0, split, seed)
    spec = plain.spec.with_settings(trained_on=side, null_draw=null_draw, backbone=backbone)
    random = np.random.default_rng([seed, len(method), len(side), int(split.id, 16) % 2**31])
    noise = 0.004 * float(random.standard_normal())
    metrics = {name: value - 0.02 * at + noise for at, name in enumerate(METRICS)}
    return replace(plain, spec=spec, metrics=metrics)


def keep_halves(pool: Pool, record: RunRecord, noise: float) -> list[Features]:
    """Write the `embeddings.npz` of both halves of a reference run, with noise; return them."""
    split = pool.ladder.split_of(record.spec.data.split)
    assert split is not None
    made = []
    for number, half in enumerate(halves_of(split, record.spec.seed, record.spec.data.trained_on)):
        test = pool.features.subset(half.test_classes)
        random = np.random.default_rng([number, int(noise * 100)])
        values = test.values + noise * random.standard_normal(test.values.shape)
        source = replace(test.source, backbone=f"run {record.id}")
        kept = Features(values, test.labels, test.class_names, source, test.sample_names)
        path = pool.store.run_directory(record.id) / f"half{number}" / "embeddings.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        kept.save(path)
        made.append(kept)
    return made


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    started = webdriver.Chrome(options=options, service=service)
    yield started
    started.quit()


class Page:
    """The report, open at a width and under a colour scheme."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver, self.path = driver, path

    def open(self, width: int = 1200, scheme: str = "light", fragment: str = "") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.media("screen", scheme)
        self.driver.get("about:blank")
        self.driver.get(f"{self.path.as_uri()}{fragment}")

    def media(self, media: str, scheme: str) -> None:
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        settings = {"media": media, "features": features}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", settings)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((n) => n.textContent)"
        return list(self.run(script, selector))

    def keys(self, selector: str, *keys: str) -> None:
        self.find(selector).send_keys(*keys)

    def hover(self, selector: str) -> None:
        from selenium.webdriver import ActionChains

        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        ActionChains(self.driver, duration=0).move_to_element(self.find(selector)).perform()

    def click_there(self) -> None:
        """Press where the pointer is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver, duration=0).click().perform()

    def color(self, selector: str, name: str) -> str:
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        channels = re.findall(r"\d+", self.run(script, selector, name))[:3]
        return "#" + "".join(f"{int(channel):02x}" for channel in channels)
