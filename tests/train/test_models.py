"""Models beside the ruler: which networks a plan names, and whose features a run is done on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_features, turned
from torchvision.models import resnet18

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources, position_of
from oodml.train.models import models_of
from oodml.train.plan import filtered, ordered, plan
from oodml.train.run import train_run

SMALL = {"steps": 10, "batch_size": 24, "embedding_dim": 8}


@pytest.fixture(scope="session")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the layout of torchvision's ResNet-18."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18().state_dict(), path)
    return path


def test_without_a_name_the_model_is_the_ruler(ladder: Ladder) -> None:
    (model,) = models_of(ladder.features)
    assert model.source == ladder.features


def test_a_name_stands_for_its_own_input_and_pixels_for_another(
    ladder: Ladder, resnet18_file: Path
) -> None:
    names = ["resnet18", "tiny", "tiny@64"]
    resnet, tiny, wider = models_of(ladder.features, names, {"resnet18": resnet18_file})
    assert (resnet.source.backbone, resnet.source.image_size) == ("resnet18", 224)
    assert tiny.source.backbone == wider.source.backbone == "tiny"
    assert tiny.source.preprocessing != wider.source.preprocessing
    assert {m.source.fingerprint for m in (resnet, tiny)} == {ladder.features.fingerprint}
    assert resnet.load().weights == resnet.source.weights


@pytest.mark.parametrize(
    ("backbones", "weights", "words"),
    [
        (["resnet81"], None, "resnet18"),
        (["tiny", "tiny"], None, "given twice"),
        (["tiny@7"], None, "pixels"),
        (["tiny@64x64"], None, "tiny@64x64"),
        (["tiny"], {"resnet18": "file.pth"}, "not among the backbones"),
        (["tiny", "resnet18"], "file.pth", "say whose"),
        (["resnet18"], "no-such-file.pth", "no-such-file.pth"),
    ],
)
def test_what_names_no_model_is_one_line(
    ladder: Ladder, backbones: list[str], weights: object, words: str
) -> None:
    with pytest.raises((UsageError, DataError)) as caught:
        models_of(ladder.features, backbones, weights)  # type: ignore[arg-type]
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_one_line(ladder: Ladder, resnet18_file: Path) -> None:
    with pytest.raises(DataError) as caught:
        models_of(ladder.features, ["resnet50"], resnet18_file)
    assert "resnet50" in str(caught.value) and "\n" not in str(caught.value)


def test_features_of_other_data_are_no_model(ladder: Ladder) -> None:
    other = replace(ladder.features, fingerprint="0123", backbone="other")
    with pytest.raises(UsageError, match="0123"):
        models_of(ladder.features, other)


def test_a_plan_holds_every_method_on_every_model_and_orders_keep_them_apart(
    features: Features, ladder: Ladder
) -> None:
    other = turned(features).source
    both = [ladder.features, other]
    specs = plan(ladder, ["frozen", "margin"], range(2), rungs=[0], backbone=both, **SMALL)
    assert len({spec.id for spec in specs}) == len(specs) == 2 * (1 + 2)
    own = plan(ladder, ["frozen", "margin"], range(2), rungs=[0], **SMALL)
    assert own == [spec for spec in specs if spec.model.backbone == ladder.features.backbone]
    for order in ("curves", "seeds"):
        assert sorted(s.id for s in ordered(specs, order)) == sorted(s.id for s in specs)
    seeds = ordered(specs, "seeds")
    assert [(s.model.backbone, s.label) for s in seeds] == sorted(
        ((s.model.backbone, s.label) for s in seeds),
        key=lambda key: ([s.backbone for s in both].index(key[0]), key[1]),
    )
    left = filtered(specs, ladder, "backbone=turned,method=margin")
    assert {(s.model.backbone, s.method.name) for s in left} == {("turned", "margin")}


def test_a_run_is_done_on_the_features_of_its_model_and_records_the_ruler(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    other = turned(features)
    both = [Resources(features), Resources(other)]
    (spec,) = plan(ladder, ["margin"], [0], rungs=[1], backbone=other.source, **SMALL)
    assert position_of(spec.model, both) == 1
    split = ladder.rungs[1]
    ruler = ladder.features.network
    record = train_run(spec, split, both[1], tmp_path / "own", ruler=ruler)
    assert record.ruler == ruler and record.shift == split.shift.to_json()  # type: ignore[union-attr]
    with pytest.raises(DataError, match="features of turned"):
        train_run(spec, split, both[0], tmp_path / "other")


def test_a_model_without_resources_is_refused(features: Features, ladder: Ladder) -> None:
    third = turned(features, "third")
    (spec,) = plan(ladder, ["margin"], [0], rungs=[1], backbone=third.source, **SMALL)
    with pytest.raises(DataError, match="third"):
        position_of(spec.model, [Resources(features), Resources(turned(features))])


def test_what_a_model_gives_does_not_depend_on_the_others(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    other = turned(make_features())
    together = plan(
        ladder, ["margin"], [0], rungs=[0], backbone=[ladder.features, other.source], **SMALL
    )
    alone = plan(ladder, ["margin"], [0], rungs=[0], backbone=other.source, **SMALL)
    assert [spec for spec in together if spec.model.backbone == "turned"] == alone
