"""Intra-batch connections: messages, both classifiers, and redrawn batches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_features
from torch import Tensor
from torch.nn import functional

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources, by_objective, objective_of
from oodml.train.data import FeatureSamples
from oodml.train.methods.mpn import (
    ClassifiedTwice,
    IntraBatchConnections,
    MessageClassifier,
    MessageLayer,
    MessagePassing,
    class_numbers,
)
from oodml.train.objective import Training
from oodml.train.plan import plan
from oodml.train.run import train_run

CLASSES, PER_CLASS, DIMENSION = 12, 6, 8

LABELS = torch.arange(4).repeat_interleave(3)


@pytest.fixture(scope="module")
def pool() -> Features:
    return make_features(CLASSES, PER_CLASS, DIMENSION)


@pytest.fixture(scope="module")
def small_ladder(pool: Features) -> Ladder:
    return build_ladder(pool, rungs=2)


def vectors(rows: int, size: int = DIMENSION, seed: int = 0) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pictures(
    image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Resources, Ladder]:
    dataset, backbone = load_dataset(image_folder), load_backbone("tiny")
    cached = extract_features(dataset, backbone, cache=tmp_path_factory.mktemp("cache"))
    return Resources(cached, dataset, backbone), build_ladder(cached, rungs=2)


IMAGES = {"train": "all", "image_size": 32, "steps": 3, "samples_per_class": 4}


def run(name: str, ladder: Ladder, resources: Resources, at: Path, **given: Any) -> RunRecord:
    chosen = {"batch_size": 12, "embedding_dim": 6, "steps": 6, **given}
    (spec,) = plan(ladder, [name], [3], rungs=[0], **chosen)
    return train_run(spec, ladder.rungs[0], resources, at, keep_embeddings=True)


def test_attention_reaches_every_sample_of_the_batch_itself_included() -> None:
    torch.manual_seed(0)
    layer, nodes = MessageLayer(DIMENSION, 2, 0.0), vectors(5)
    weight, bias = layer.attention.in_proj_weight, layer.attention.in_proj_bias
    query, key, value = functional.linear(nodes, weight, bias).view(5, 3, 2, 4).unbind(dim=1)
    message = torch.zeros(5, 2, 4)
    for head in range(2):
        for i in range(5):
            scores = torch.stack([query[i, head] @ key[j, head] / 2 for j in range(5)])
            shares = scores.softmax(dim=0)
            message[i, head] = sum(shares[j] * value[j, head] for j in range(5))
    message = layer.attention.out_proj(message.reshape(5, DIMENSION))
    middle = functional.layer_norm(nodes + message, (DIMENSION,))
    outer = layer.outer(functional.relu(layer.inner(middle)))
    expected = functional.layer_norm(middle + outer, (DIMENSION,))
    assert torch.allclose(layer(nodes), expected, atol=1e-5)
    assert layer.inner.out_features == 4 * DIMENSION


@pytest.mark.parametrize("concatenated", [False, True])
def test_messages_follow_a_permutation_of_the_batch(concatenated: bool) -> None:
    torch.manual_seed(0)
    network = MessagePassing(DIMENSION, 2, 2, 0.0, concatenated=concatenated)
    nodes, order = vectors(7), torch.tensor([3, 6, 0, 2, 5, 1, 4])
    assert torch.allclose(network(nodes[order]), network(nodes)[order], atol=1e-6)
    assert network(nodes).shape == (7, network.dimension) == (7, 16 if concatenated else 8)
    others = torch.cat([nodes[:6], vectors(1, seed=9)])
    assert not torch.allclose(network(others)[0], network(nodes)[0], atol=1e-3)


def test_messages_of_nothing_leave_a_layer_normed_identity() -> None:
    network = MessagePassing(DIMENSION, 3, 2, 0.1, concatenated=False)
    for layer in network.layers:
        for last in (layer.attention.out_proj, layer.outer):
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
    nodes = 2 + 3 * vectors(7)
    expected = functional.layer_norm(nodes, (DIMENSION,))
    assert torch.allclose(network(nodes), expected, atol=1e-4)


def smoothed(logits: Tensor, labels: Tensor) -> float:
    """Cross-entropy with 0.9 at the label and 0.1 spread over all classes, by hand."""
    chances = logits.detach().double().log_softmax(dim=1).numpy()
    own = chances[np.arange(len(labels)), labels.numpy()]
    return float(-(0.9 * own + 0.1 * chances.mean(axis=1)).mean())


def twice(layers: int) -> ClassifiedTwice:
    torch.manual_seed(0)
    network = MessagePassing(DIMENSION, layers, 2, 0.0, concatenated=False)
    messages = MessageClassifier(6, DIMENSION, network) if layers else None
    return ClassifiedTwice(6, DIMENSION, messages, 0.2, 0.1)


def test_without_messages_label_smoothed_cross_entropy_is_left() -> None:
    loss, outputs = twice(0), vectors(12)
    expected = smoothed(loss.classifier(outputs) / 0.2, LABELS)
    assert loss(outputs, LABELS).item() == pytest.approx(expected, rel=1e-5)


def test_both_classifiers_count_alike_and_messages_start_from_unit_vectors() -> None:
    loss, outputs = twice(1), vectors(12)
    assert loss.messages is not None
    torch.nn.init.normal_(loss.messages.classifier.weight)
    unit = functional.normalize(outputs, dim=1)
    parts = (loss.classifier(outputs) / 0.2, loss.messages(unit) / 0.2)
    expected = sum(smoothed(part, LABELS) for part in parts)
    assert loss(outputs, LABELS).item() == pytest.approx(expected, rel=1e-5)


def mpn(pool: Features, ladder: Ladder, method: str = "mpn", **given: Any) -> IntraBatchConnections:
    chosen = {"batch_size": 12, "embedding_dim": DIMENSION, **given}
    (spec,) = plan(ladder, [method], [0], rungs=[0], **chosen)
    samples = FeatureSamples(pool.values, pool.labels)
    made = objective_of(spec, samples, CLASSES, Resources(pool), 0)
    assert isinstance(made, IntraBatchConnections)
    return made


def test_no_message_is_passed_in_tests(
    pool: Features, small_ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = mpn(pool, small_ladder)
    samples = FeatureSamples(pool.values, pool.labels)

    def forbidden(*_: Any) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr(MessagePassing, "forward", forbidden)
    embedded = by_objective(objective, "cpu", samples)(samples)
    with torch.no_grad():
        expected = functional.normalize(objective.model(samples.values), dim=1)
    assert np.array_equal(embedded, expected.numpy())


def test_the_neck_has_no_shift(pool: Features, small_ladder: Ladder) -> None:
    loss = mpn(pool, small_ladder).criterion.loss
    assert isinstance(loss, ClassifiedTwice) and loss.messages is not None
    assert not loss.messages.neck.bias.requires_grad and not loss.messages.neck.bias.any()
    assert loss.messages.classifier.bias is None
    logits = loss.messages(functional.normalize(vectors(12), dim=1))
    assert torch.allclose(logits.mean(dim=0), torch.zeros(CLASSES), atol=1e-6)


def test_redrawn_batches_have_as_many_samples_of_other_numbers_of_classes(
    pool: Features, small_ladder: Ladder
) -> None:
    assert class_numbers(54) == [2, 3, 6, 9, 18, 27] and class_numbers(13) == []
    objective = mpn(pool, small_ladder, "mpn:redraw=true")
    training = Training(FeatureSamples(pool.values, pool.labels), 0)
    seen = set()
    for epoch in range(12):
        batches = list(objective.loader(training, epoch))
        assert len(batches) == objective.batches(training).batches == 6
        again = list(objective.loader(training, epoch))
        assert all(np.array_equal(one, two) for one, two in zip(batches, again, strict=True))
        sizes = {tuple(Counter(pool.labels[batch]).values()) for batch in batches}
        assert len(sizes) == 1
        (size,) = sizes
        assert sum(size) == 12 and len(set(size)) == 1
        seen.add(len(size))
    assert seen == {2, 3, 4, 6}
    plain = mpn(pool, small_ladder)
    batch = next(iter(plain.loader(training, 0)))
    assert list(Counter(pool.labels[batch]).values()) == [4, 4, 4]


@pytest.mark.parametrize(
    ("method", "given", "words"),
    [
        ("mpn:heads=3", {}, "heads=3 does not divide the embedding's 8 dimensions"),
        ("mpn:heads=0", {}, "heads=0"),
        ("mpn:redraw=true", {"batch_size": 13}, "another batch_size"),
        ("mpn:redraw=true", {"batches": "shuffled"}, "not shuffled ones"),
    ],
)
def test_what_does_not_divide_is_refused_in_one_line(
    pool: Features, small_ladder: Ladder, method: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        mpn(pool, small_ladder, method, **given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_messages_train_a_whole_network(pictures: tuple[Resources, Ladder], tmp_path: Path) -> None:
    resources, ladder = pictures
    record = run("mpn", ladder, resources, tmp_path, **IMAGES)
    assert np.isfinite(record.training["loss"]) and record.training["steps"] == 3
