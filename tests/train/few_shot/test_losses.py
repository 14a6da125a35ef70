"""Losses of many episodes at once against the methods' own, episode by episode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from oodml.train.few_shot.losses import (
    Margin,
    Pairs,
    Triplet,
    Triplets,
    distance_weighted,
    episodes_loss,
    pairs_of_blocks,
    pick,
    semi_hard,
)
from oodml.train.methods.parts.mining import DistanceWeighted
from oodml.train.objective import as_criterion
from oodml.train.registry import get_method, parse_method

EPISODES, CLASSES, SAMPLES, DIMENSION = 3, 5, 3, 6
SIZE = CLASSES * SAMPLES
PAIRS = pairs_of_blocks(CLASSES, SAMPLES)


def made(spread: float = 0.6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit embeddings (E, B, D) in clusters, and labels (E, B) in another order an episode."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(EPISODES, CLASSES, DIMENSION, generator=random)
    values = centres.repeat_interleave(SAMPLES, 1)
    values = values + spread * torch.randn(values.shape, generator=random)
    order = torch.stack([torch.randperm(CLASSES, generator=random) for _ in range(EPISODES)])
    return functional.normalize(values, dim=2), order.repeat_interleave(SAMPLES, 1)


def draws(episodes: int = EPISODES) -> Tensor:
    return torch.rand(episodes, 2, SIZE, generator=torch.Generator().manual_seed(1))


def cosines(values: Tensor) -> Tensor:
    return values @ values.transpose(1, 2)


@pytest.mark.parametrize(
    "name",
    ["contrastive", "contrastive:positive_margin=0.3", "multi_similarity", "margin", "triplet",
     "margin:per_class=false", "margin:beta=0.6", "triplet:mining=distance"],
)  # fmt: skip
def test_losses_and_gradients_equal_those_of_the_method(name: str) -> None:
    """With the same tuples, where there is something to choose."""
    outputs, labels = made()
    outputs = (2.5 * outputs).requires_grad_()
    values = functional.normalize(outputs, dim=2)
    at_once = episodes_loss(name, EPISODES, CLASSES, DIMENSION)
    assert at_once is not None
    mined = mined_by(at_once, values)
    found = at_once(cosines(values), labels, PAIRS, draws())
    found.sum().backward()
    gradients, boundaries = outputs.grad, dict(at_once.named_parameters()).get("beta")
    method, changed = parse_method(name)
    for episode in range(EPISODES):
        output = outputs[episode].detach().clone().requires_grad_()
        own = functional.normalize(output, dim=1)
        criterion = as_criterion(get_method(method).build_with(CLASSES, DIMENSION, changed))
        tuples = criterion.miner(own.detach(), labels[episode]) if criterion.miner else None
        if mined is not None:
            kept = mined.kept[episode]
            anchors = torch.arange(SIZE)[kept]
            tuples = anchors, mined.positive[episode][kept], mined.negative[episode][kept]
        expected = criterion(own, labels[episode], tuples)
        expected.backward()
        assert float(expected.detach()) > 0
        torch.testing.assert_close(found[episode], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradients[episode], output.grad, atol=1e-5, rtol=1e-4)
        if boundaries is not None:
            torch.testing.assert_close(boundaries.grad[episode], criterion.loss.beta.grad)


def mined_by(loss: object, values: Tensor) -> Triplets | None:
    if not isinstance(loss, Margin | Triplet):
        return None
    return loss.mine(cosines(values.detach()), PAIRS, draws())


@pytest.mark.parametrize(
    "name",
    ["arcface", "margin:nu=0.1", "triplet:squared=true", "triplet:mining=hard",
     "contrastive:reduction=pairs"],
)  # fmt: skip
def test_what_has_no_batched_form_is_left_to_the_loop(name: str) -> None:
    assert episodes_loss(name, EPISODES, CLASSES, DIMENSION) is None


def test_negatives_are_drawn_as_often_as_their_distances_are_rare() -> None:
    """The frequencies of many draws are the weights of the method's own miner."""
    many = 4000
    values = made()[0][:1]
    mine = distance_weighted(0.5, 1.4, DIMENSION)
    chosen = mine(cosines(values).expand(many, -1, -1), PAIRS, draws(many))
    distances = (2 - 2 * cosines(values)[0]).clamp(min=0).sqrt()
    logits = DistanceWeighted(0.5, 1.4).log_weights(distances, DIMENSION)
    allowed = PAIRS.negative & (distances < 1.4)
    expected = functional.softmax(logits.masked_fill(~allowed, -torch.inf), dim=1)
    found = functional.one_hot(chosen.negative, SIZE).float().mean(0)
    rows = allowed.any(1)
    assert torch.equal(chosen.kept[0], rows) and rows.any()
    torch.testing.assert_close(found[rows], expected[rows], atol=0.05, rtol=0)
    positives = functional.one_hot(chosen.positive, SIZE).float().mean(0)
    torch.testing.assert_close(positives, PAIRS.positive / (SAMPLES - 1), atol=0.05, rtol=0)


def test_an_anchor_without_an_allowed_negative_does_not_count() -> None:
    """Opposite classes lie farther apart than any allowed distance."""
    values = torch.zeros(1, 4, DIMENSION)
    values[0, :2, 0], values[0, 2:, 0] = 1, -1
    pairs = pairs_of_blocks(2, 2)
    chosen = distance_weighted(0.5, 1.4, DIMENSION)(cosines(values), pairs, draws(1)[:, :, :4])
    assert not chosen.kept.any()
    loss = Margin(torch.ones(1, 1), 0.2, lambda *_: chosen)
    assert loss(cosines(values), torch.zeros(1, 4), pairs, draws(1)).tolist() == [0.0]


def test_semi_hard_negatives_lie_beyond_the_positive_where_there_are_any() -> None:
    values = made(spread=1.0)[0]
    margin = 0.3
    chosen = semi_hard(margin)(cosines(values), PAIRS, draws())
    distances = torch.cdist(values, values)
    reach = distances.gather(2, chosen.positive[:, :, None])
    found = distances.gather(2, chosen.negative[:, :, None])
    band = PAIRS.negative & (distances > reach) & (distances < reach + margin)
    exists = band.any(2)
    assert exists.any() and not exists.all()
    assert bool(((found > reach) & (found < reach + margin))[exists].all())
    assert bool(PAIRS.negative.expand_as(distances).gather(2, chosen.negative[:, :, None]).all())


def test_a_draw_never_takes_an_index_without_weight() -> None:
    weights = torch.tensor([[[0.0, 3.0, 0.0, 1.0, 0.0]] * 4])
    at = torch.tensor([[0.0, 0.7499, 0.7501, 0.99999994]])
    assert pick(weights, at).tolist() == [[1, 1, 3, 3]]


def test_no_sample_makes_a_pair_with_itself() -> None:
    pairs: Pairs = pairs_of_blocks(3, 2)
    assert not pairs.positive.diagonal().any() and not pairs.negative.diagonal().any()
    assert pairs.positive.sum() == 6 and pairs.negative.sum() == 24
