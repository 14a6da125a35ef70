"""One run: from its spec to its record, on features and on images, with its tricks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from oodml.data import load_dataset
from oodml.data.dataset import Dataset
from oodml.errors import DataError, UsageError
from oodml.eval.figures.pair_weights import FILE as PAIRS
from oodml.eval.figures.pair_weights import BinnedWeights
from oodml.eval.retrieval.evaluate import evaluate
from oodml.eval.retrieval.geometry import geometry
from oodml.eval.retrieval.nearest import nearest_neighbors
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.episodes import validation_fold
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources, check_network, concatenated, samples_of
from oodml.train.members import members_of
from oodml.train.plan import plan
from oodml.train.run import EMBEDDINGS, train_member, train_run

QUICK = {"steps": 20, "batch_size": 24, "embedding_dim": 8}


@pytest.mark.parametrize("name", ["frozen", "margin", "pca_whitening"])
def test_a_run_measures_the_test_classes_and_repeats_itself(
    name: str, features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    (spec,) = plan(ladder, [name], [0], rungs=[1], **QUICK)
    split = ladder.rungs[1]
    torch.manual_seed(1)
    one = train_run(spec, split, Resources(features), tmp_path / "one")
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    other = train_run(spec, split, Resources(features), tmp_path / "other")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.metrics == other.metrics and one.training == other.training
    assert one.metrics["queries"] == len(features.of_classes(split.test_classes))
    assert one.shift["fid"] == split.fid
    assert one.to_json() == json.loads(json.dumps(one.to_json()))
    assert one.geometry["train"].keys() == one.geometry["test"].keys() != set()


def test_kept_embeddings_are_what_was_measured(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    (spec,) = plan(ladder, ["margin"], [0], rungs=[0], **QUICK)
    split = ladder.rungs[0]
    record = train_run(spec, split, Resources(features), tmp_path, keep_embeddings=True)
    kept = Features.load(tmp_path / EMBEDDINGS)
    assert kept.class_names == split.test_classes
    assert kept.source.backbone == f"run {spec.id}"
    assert evaluate(kept) == record.metrics
    assert geometry(kept) == record.geometry["test"]


def test_pair_weights_are_kept_on_request_and_change_nothing(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    (spec,) = plan(ladder, ["margin"], [0], rungs=[0], **QUICK)
    split, resources = ladder.rungs[0], Resources(features)
    plain = train_run(spec, split, resources, tmp_path / "plain")
    asked = train_run(spec, split, resources, tmp_path / "asked", keep_pair_weights=True)
    assert asked.metrics == plain.metrics
    assert not list((tmp_path / "plain").rglob(PAIRS))
    (path,) = (tmp_path / "asked").rglob(PAIRS)
    assert BinnedWeights.load(path).positive


def test_a_run_refuses_other_data_and_other_splits(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    (spec,) = plan(ladder, ["margin"], [0], rungs=[0])
    with pytest.raises(DataError, match=ladder.rungs[1].id):
        train_run(spec, ladder.rungs[1], Resources(features), tmp_path)
    other = replace(features, source=replace(features.source, fingerprint="f" * 16))
    with pytest.raises(DataError, match="f" * 16):
        train_run(spec, ladder.rungs[0], Resources(other), tmp_path)
    (whole,) = plan(ladder, ["margin"], [0], rungs=[0], train="all")
    with pytest.raises(DataError, match="images"):
        train_run(whole, ladder.rungs[0], Resources(features), tmp_path)


def test_validation_classes_are_never_fitted_on_and_never_test_classes(ladder: Ladder) -> None:
    split = ladder.rungs[0]
    (spec,) = plan(ladder, ["margin"], [0], rungs=[0], selection="best_validation")
    (member,) = members_of(spec, split)
    fold = validation_fold(split)
    assert member.validation_classes == fold.validation_classes != ()
    assert set(member.fit_classes) | set(member.validation_classes) == set(split.train_classes)
    assert not set(member.fit_classes) & set(member.validation_classes)
    (last,) = members_of(spec.with_settings(selection="last"), split)
    assert last.fit_classes == split.train_classes and last.validation_classes == ()
    folds = members_of(spec.with_settings(folds=4), split)
    assert sorted(name for each in folds for name in each.validation_classes) == sorted(
        split.train_classes
    )
    assert [each.name for each in folds] == ["fold0", "fold1", "fold2", "fold3"]


def test_the_test_classes_choose_nothing(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    """Other values of the test classes leave the trained model as it is."""
    split = ladder.rungs[0]
    (spec,) = plan(
        ladder, ["margin"], [0], rungs=[0], selection="best_validation",
        **{**QUICK, "evaluate_every": 2},
    )  # fmt: skip
    one = train_run(spec, split, Resources(features), tmp_path / "one")
    values = features.values.copy()
    values[features.of_classes(split.test_classes)] *= -3
    other = train_run(spec, split, Resources(replace(features, values=values)), tmp_path / "other")
    assert one.training == other.training and "validation" in one.training
    assert one.geometry["train"] == other.geometry["train"]
    assert one.metrics != other.metrics


def test_an_ensemble_is_the_mean_of_cosines_and_of_one_the_plain_run(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    split, resources = ladder.rungs[0], Resources(features)

    def run(**settings: int) -> tuple[Features, dict[str, float]]:
        (spec,) = plan(ladder, ["margin"], [0], rungs=[0], **QUICK, **settings)
        directory = tmp_path / spec.id
        record = train_run(spec, split, resources, directory, keep_embeddings=True)
        return Features.load(directory / EMBEDDINGS), record.metrics

    alone, metrics = run()
    of_two, two = run(ensemble=2)
    assert run(ensemble=1)[1] == metrics
    assert of_two.values.shape[1] == 16
    first, second = of_two.values[:, :8], of_two.values[:, 8:]
    np.testing.assert_allclose(first * 2**0.5, alone.values, atol=1e-6)
    assert not np.allclose(first, second)
    np.testing.assert_allclose(
        of_two.values @ of_two.values.T, first @ first.T + second @ second.T, atol=1e-6
    )
    assert two["separated_queries"] == two["queries"]
    assert two["separated_recall_at_1"] != two["recall_at_1"]


def ranking(pool: Features) -> npt.NDArray[np.int64]:
    found = nearest_neighbors(torch.from_numpy(pool.values), k=20)
    return torch.cat([block.index for block in found]).numpy()


@pytest.mark.parametrize("copies", [2, 4])
def test_copies_of_one_model_rank_exactly_as_it_does(features: Features, copies: int) -> None:
    whole = concatenated([features] * copies)
    assert whole.values.shape[1] == copies * features.values.shape[1]
    assert np.array_equal(ranking(whole), ranking(features))


def test_the_order_of_the_models_changes_no_ranking(features: Features) -> None:
    random = np.random.default_rng(0)
    others = [
        replace(features, values=random.normal(size=features.values.shape).astype(np.float32))
        for _ in range(2)
    ]
    one, two = concatenated([features, *others]), concatenated([*others, features])
    assert np.array_equal(ranking(one), ranking(two))
    assert not np.array_equal(ranking(one), ranking(features))


def trained(features: Features, ladder: Ladder, directory: Path, **settings: int) -> RunRecord:
    (spec,) = plan(ladder, ["margin"], [3], rungs=[0], batch_size=24, steps=4, **settings)  # type: ignore[arg-type]
    return train_run(spec, ladder.rungs[0], Resources(features), directory / spec.id)


def test_the_total_dimension_is_reported_and_can_be_that_of_a_single_model(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    large = trained(features, ladder, tmp_path, ensemble=3, embedding_dim=12)
    equal = trained(features, ladder, tmp_path, ensemble=3, embedding_dim=4)
    single = trained(features, ladder, tmp_path, embedding_dim=12)
    assert large.training["dimensions"] == 36
    assert equal.training["dimensions"] == 12 == single.spec.model.embedding_dim
    assert "dimensions" not in single.training
    assert len({record.spec.id for record in (large, equal, single)}) == 3


def test_members_are_independent_and_the_first_is_the_plain_run(ladder: Ladder) -> None:
    (spec,) = plan(ladder, ["margin"], [3], rungs=[0], ensemble=3)
    members = members_of(spec, ladder.rungs[0])
    assert [member.name for member in members] == ["member0", "member1", "member2"]
    assert members[0].seed == 3 and len({member.seed for member in members}) == 3
    assert {member.fit_classes for member in members} == {ladder.rungs[0].train_classes}
    with pytest.raises(UsageError, match="2 folds"):
        members_of(spec.with_settings(folds=2), ladder.rungs[0])


def test_folds_report_the_concatenation_and_the_models_alone(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    (spec,) = plan(
        ladder, ["margin"], [0], rungs=[0], folds=3, selection="best_validation", **QUICK
    )
    record = train_run(spec, ladder.rungs[0], Resources(features), tmp_path, keep_embeddings=True)
    assert Features.load(tmp_path / EMBEDDINGS).values.shape[1] == 24
    assert (tmp_path / "fold2" / "epochs.jsonl").exists()
    assert 0 < record.metrics["separated_recall_at_1"] <= 1
    assert record.spec.label == "margin +3 folds"


def test_mixing_adds_the_length_of_the_output_and_none_of_it_is_the_cosine(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    def run(mix: float) -> Features:
        (spec,) = plan(ladder, ["margin"], [0], rungs=[0], **QUICK, mix=mix)
        train_run(spec, ladder.rungs[0], Resources(features), tmp_path, keep_embeddings=True)
        return Features.load(tmp_path / EMBEDDINGS)

    plain, mixed = run(0.0).values, run(0.5).values
    np.testing.assert_allclose(mixed[:, :8], 0.5 * plain, atol=1e-6)
    directions = mixed[:, 8:] / np.linalg.norm(mixed[:, 8:], axis=1, keepdims=True)
    np.testing.assert_allclose(directions, plain, atol=1e-5)
    assert np.linalg.norm(mixed[:, 8:], axis=1).std() > 0.01


def test_reranking_is_named_in_the_label_and_changes_the_numbers(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    (plain,) = plan(ladder, ["frozen"], [0], rungs=[0])
    (spec,) = plan(ladder, ["frozen"], [0], rungs=[0], rerank=True)
    one = train_run(plain, ladder.rungs[0], Resources(features), tmp_path)
    other = train_run(spec, ladder.rungs[0], Resources(features), tmp_path)
    assert spec.label == "frozen +re-ranking"
    assert (
        one.metrics["mean_average_precision_at_r"] != other.metrics["mean_average_precision_at_r"]
    )
    assert one.metrics["queries"] == other.metrics["queries"]


@pytest.fixture(scope="module")
def pictures(
    image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Resources, Ladder, Dataset]:
    dataset = load_dataset(image_folder)
    backbone = load_backbone("tiny")
    cache = tmp_path_factory.mktemp("cache")
    pool = extract_features(dataset, backbone, cache=cache)
    return Resources(pool, dataset, backbone), build_ladder(pool, rungs=2), dataset


NETWORK = {
    "train": "all",
    "batch_size": 12,
    "learning_rate": 3e-3,
    "embedding_dim": 8,
    "image_size": 32,
}


def test_the_whole_network_trains_on_images(
    pictures: tuple[Resources, Ladder, Dataset], tmp_path: Path
) -> None:
    resources, ladder, _ = pictures
    assert resources.backbone is not None
    original = {k: v.clone() for k, v in resources.backbone.module.state_dict().items()}

    def run(steps: int, directory: str) -> dict[str, float]:
        (spec,) = plan(ladder, ["multi_similarity"], [0], rungs=[0], **NETWORK, steps=steps)  # type: ignore[arg-type]
        return train_run(spec, ladder.rungs[0], resources, tmp_path / directory).metrics

    untrained, trained = run(0, "none"), run(40, "some")
    assert run(40, "again") == trained
    assert trained["mean_average_precision_at_r"] > untrained["mean_average_precision_at_r"]
    # The next run must start from the same weights.
    for key, value in resources.backbone.module.state_dict().items():
        assert torch.equal(value, original[key])


def test_a_network_is_held_against_the_sizes_and_poolings_of_all_its_runs(
    pictures: tuple[Resources, Ladder, Dataset],
) -> None:
    resources, ladder, _ = pictures
    assert resources.backbone is not None
    tokens = replace(resources.backbone, pool=None)
    whole = {**NETWORK, "image_size": 0}
    plain, pooled = (
        plan(ladder, ["margin"], [0], **whole, **more)  # type: ignore[arg-type]
        for more in ({}, {"pooling": "gem"})
    )
    check_network([*plain, *pooled], resources.backbone)
    check_network([*plain, *plan(ladder, ["margin"], [0])], tokens)
    with pytest.raises(UsageError, match=r"pools no feature map.*'gem'"):
        check_network([*plain, *pooled], tokens)
    with pytest.raises(UsageError, match="does not take images of 1 pixels"):
        check_network([plain[0].with_settings(image_size=1)], resources.backbone)


def test_flip_evaluation_is_the_same_for_an_image_and_its_mirror_image(
    pictures: tuple[Resources, Ladder, Dataset], tmp_path: Path
) -> None:
    resources, ladder, _ = pictures
    split = ladder.rungs[0]
    (spec,) = plan(ladder, ["margin"], [0], rungs=[0], **NETWORK, steps=2, flip=True)  # type: ignore[arg-type]
    assert spec.label == "margin +flip"
    (member,) = members_of(spec, split)
    model = train_member(spec, member, resources, tmp_path)
    samples = samples_of(spec, split.test_classes, resources)
    plain = model.embed(samples)
    mirrored = samples_of(spec, split.test_classes, resources)
    evaluation = mirrored.evaluation
    mirrored.evaluation = lambda index, *, flip=False: evaluation(index, flip=not flip)  # type: ignore[method-assign]
    np.testing.assert_allclose(model.embed(mirrored), plain, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("pooling", ["max", "avg+max", "gem"])
def test_poolings_train_and_give_other_results(
    pooling: str, pictures: tuple[Resources, Ladder, Dataset], tmp_path: Path
) -> None:
    resources, ladder, _ = pictures

    def run(**settings: object) -> dict[str, float]:
        (spec,) = plan(ladder, ["margin"], [0], rungs=[0], **NETWORK, steps=2, **settings)  # type: ignore[arg-type]
        return train_run(spec, ladder.rungs[0], resources, tmp_path / spec.id).training

    assert run(pooling=pooling)["loss"] != run()["loss"]
