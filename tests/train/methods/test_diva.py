"""DiVA: its four losses, whom they reach, its queue and its triplets within classes."""

from __future__ import annotations

from math import exp, log
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from train.methods.conftest import batch, make, of, samples, training, value

from oodml.errors import UsageError
from oodml.train.loop import fit, seeded
from oodml.train.methods.diva import DiVA, WithinClasses, distance_weighted_contrast
from oodml.train.methods.parts.several_heads import AcrossClasses
from oodml.train.objective import Encoded

NOTHING = {
    "mic": {"auxiliary": 0.0, "decorrelation": 0.0},
    "sharing": {"alpha": 0.0, "decorrelation": 0.0},
    "diva": {"alpha": 0.0, "decorrelation": 0.0},
}


class First(nn.Module):
    """The first 8 of what a layer of 32 gives: products of one shape round alike."""

    def forward(self, output: Tensor) -> Tensor:
        return output[:, :8]


def test_diva_without_weights_trains_its_first_slice_as_the_margin_loss_does(
    tmp_path: Path,
) -> None:
    """Bit for bit, as a head of its own; the other three slices stay as they were."""
    ours, margin = make("diva", 32, **NOTHING["diva"]), make("margin", 32)
    assert torch.equal(ours.model.head.weight, margin.model.head.weight)
    others = ours.model.head.weight[8:].detach().clone()
    margin.model.head = nn.Sequential(margin.model.head, First())  # type: ignore[assignment]
    for name, objective in (("ours", ours), ("margin", margin)):
        (tmp_path / name).mkdir()
        fit(objective, training(), tmp_path / name)
    assert torch.equal(ours.model.head.weight[:8], margin.model.head[0].weight[:8])
    assert torch.equal(ours.model.head.weight[8:], others)
    assert torch.equal(ours.criterion.loss.beta, margin.criterion.loss.beta)
    inputs = batch().inputs
    first = functional.normalize(ours.embed(inputs)[:, :8], dim=1)
    assert torch.allclose(first, margin.embed(inputs), atol=1e-6)


def test_diva_adds_three_losses_and_three_adversaries() -> None:
    ours = of(DiVA, "diva", dimension=32, alpha=0.3, decorrelation=500.0)
    ours.begin_epoch(training(), 0)
    ours.loader(training(), 0)
    given = batch()
    own, similar, shared, intra = (
        functional.normalize(part, dim=1) for part in ours.output(given.inputs).split(8, dim=1)
    )
    keys = functional.normalize(ours.output(given.views[1])[:, 8:16], dim=1)
    with seeded(0, "value"):
        classes = ours.criterion.of(Encoded(own, own, own), given.labels)
        groups = given.labels[torch.randperm(12)]
        triplets = AcrossClasses()(shared.detach(), given.labels, groups)
        across = ours.others[0].base(shared, groups, triplets)
        triplets = WithinClasses()(intra.detach(), given.labels)
        within = ours.others[1].loss(intra, given.labels, triplets)
    queue = ours.queue.held()[0]
    itself = distance_weighted_contrast(similar, keys, queue, temperature=0.01)
    weight = 500.0 * (8 / 128) ** 2
    apart = [
        adversary(own, other)
        for adversary, other in zip(ours.adversaries, (similar, shared, intra), strict=True)
    ]
    expected = classes + 0.3 * (itself + across + within) + weight * sum(apart)
    assert torch.allclose(value(ours, given), expected)
    assert min(float(each.detach()) for each in (itself, across, within)) > 0


def test_the_losses_of_diva_reach_their_own_slices_only() -> None:
    ours = of(DiVA, "diva", dimension=32, decorrelation=0.0)
    ours.begin_epoch(training(), 0)
    bare = make("diva", 32, **NOTHING["diva"])
    for objective in (ours, bare):
        value(objective, batch()).backward()
    whole, of_classes = ours.model.head.weight.grad, bare.model.head.weight.grad
    assert torch.equal(whole[:8], of_classes[:8]) and not of_classes[8:].any()
    assert all(whole[8 * i : 8 * i + 8].any() for i in (1, 2, 3))


def test_adversaries_reach_all_slices_and_no_boundary() -> None:
    ours = of(DiVA, "diva", dimension=32, alpha=0.0, decorrelation=500.0)
    value(ours, batch()).backward()
    assert all(ours.model.head.weight.grad[8 * i : 8 * i + 8].any() for i in range(4))
    assert all(loss.grad is None for loss in ours.other_criteria.parameters())
    assert all(p.grad is not None for p in ours.adversaries.parameters())


def test_diva_retrieves_by_four_unit_embeddings_with_fixed_weights() -> None:
    ours = make("diva", 32, class_weight=0.5)
    inputs = batch().inputs
    parts = [functional.normalize(part, dim=1) for part in ours.output(inputs).split(8, dim=1)]
    squares = (0.25, 1.0, 1.0, 1.0)
    expected = sum(s * part @ part.T for s, part in zip(squares, parts, strict=True)) / sum(squares)
    found = ours.embed(inputs)
    assert found.shape == (12, 32) and torch.allclose(found @ found.T, expected, atol=1e-6)


def test_the_heads_of_diva_share_the_dimensions() -> None:
    assert of(DiVA, "diva", dimension=512).sizes == [128] * 4
    assert sorted(of(DiVA, "diva", dimension=6).sizes) == [1, 1, 2, 2]
    with pytest.raises(UsageError, match="embedding_dim"):
        make("diva", 3)


def test_the_queue_of_diva_starts_with_training_samples_and_takes_the_keys_of_every_step() -> None:
    ours = of(DiVA, "diva", dimension=32, queue_batches=3, momentum=0.5)
    ours.begin_epoch(training(), 0)
    held = ours.queue.held()[0].clone()
    everything = functional.normalize(ours.output(samples().values)[:, 8:16], dim=1)
    assert held.shape == (36, 8) and torch.cdist(held, everything).amin(1).max() < 1e-3
    keys = functional.normalize(ours.output(batch().views[1])[:, 8:16], dim=1)
    value(ours, batch())
    assert torch.equal(ours.queue.held()[0], held)
    before = ours.slow.model.head.weight.clone()
    with torch.no_grad():
        ours.model.head.weight += 1
    ours.after_step(training(), batch())
    assert torch.allclose(ours.queue.held()[0][:12], keys, atol=1e-6)
    assert torch.equal(ours.queue.held()[0][12:], held[12:])
    pushed = ours.queue.pushed.clone()
    ours.begin_epoch(training(), 1)
    assert torch.equal(ours.queue.pushed, pushed)
    assert torch.allclose(ours.slow.model.head.weight, before + 0.5)


def unit(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=random), dim=1)


@pytest.mark.parametrize(("copies", "expected"), [(7, 2.0794), (1, log(2)), (0, 0.0)])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_a_queue_of_copies_of_the_key_costs_the_logarithm_of_their_number(
    copies: int, expected: float, temperature: float
) -> None:
    # methods.md 5.7 and 6.2: ln(K + 1), K = 7: 2.0794.
    query, key = unit(1, 8), unit(1, 8, seed=1)
    loss = distance_weighted_contrast(query, key, key.expand(copies, 8), temperature=temperature)
    assert loss.item() == pytest.approx(expected, abs=1e-4)


def test_the_loss_is_that_of_its_formula() -> None:
    """In 3 dimensions the weight is 1/D; the nearest one's is 1 after each query's division."""
    queries, keys, queue = unit(4, 3), unit(4, 3, seed=1), unit(9, 3, seed=2)
    losses = []
    for query, key in zip(queries.tolist(), keys.tolist(), strict=True):
        cosines = [sum(a * b for a, b in zip(query, each, strict=True)) for each in queue.tolist()]
        distances = [max((2 - 2 * cosine) ** 0.5, 0.5) for cosine in cosines]
        inverse = [0.0 if distance >= 1.4 else 1 / distance for distance in distances]
        weights = [each / max(inverse) if max(inverse) else 0.0 for each in inverse]
        own = sum(a * b for a, b in zip(query, key, strict=True))
        total = exp(own / 0.3) + sum(
            exp(weight * cosine / 0.3) for weight, cosine in zip(weights, cosines, strict=True)
        )
        losses.append(-log(exp(own / 0.3) / total))
    found = distance_weighted_contrast(queries, keys, queue, temperature=0.3)
    assert found.item() == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_weights_are_normalised_for_each_query_by_itself() -> None:
    """The loss of a batch is the mean of its queries' losses, whoever else is in it."""
    queries, keys, queue = unit(5, 16), unit(5, 16, seed=1), unit(20, 16, seed=2)
    together = distance_weighted_contrast(queries, keys, queue, temperature=0.1)
    alone = [
        distance_weighted_contrast(queries[i : i + 1], keys[i : i + 1], queue, temperature=0.1)
        for i in range(5)
    ]
    assert torch.allclose(together, torch.stack(alone).mean())


def test_keys_beyond_the_cut_off_have_no_logit() -> None:
    query = torch.tensor([[1.0, 0.0, 0.0]])
    far = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = distance_weighted_contrast(query, query, far, temperature=0.5)
    assert found.item() == pytest.approx(log(exp(2) + 2) - 2, rel=1e-5)


def test_only_queries_get_a_gradient() -> None:
    queries, keys, queue = (unit(4, 6, seed=i).requires_grad_() for i in range(3))
    distance_weighted_contrast(queries, keys, queue, temperature=0.1).backward()
    assert queries.grad is not None and queries.grad.isfinite().all()
    assert keys.grad is None and queue.grad is None


def points(number: int = 28, dimension: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return functional.normalize(torch.randn(number, dimension, generator=random), dim=1)


def seeded_draws(count: int = 30) -> range:
    torch.manual_seed(0)
    return range(count)


def test_triplets_within_a_class_are_of_three_different_samples() -> None:
    # methods.md 5.7 (a): drawn with replacement, most of them would have a sample twice.
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
    seen = set()
    for _ in seeded_draws():
        anchors, positives, negatives = WithinClasses()(points(10), labels)
        assert anchors.tolist() == [0, 1, 2, 6, 7, 8, 9]
        assert torch.equal(labels[anchors], labels[positives])
        assert torch.equal(labels[anchors], labels[negatives])
        assert not ((anchors == positives) | (anchors == negatives)).any()
        assert not (positives == negatives).any()
        seen |= set(zip(anchors.tolist(), positives.tolist(), strict=True))
    assert len(seen) == 3 * 2 + 4 * 3


def test_two_samples_a_class_have_no_triplet_within() -> None:
    found = WithinClasses()(points(6), torch.arange(3).repeat_interleave(2))
    assert [len(part) for part in found] == [0, 0, 0]
