"""Groups and graphs: the samples of a batch decide together which class each belongs to."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from oodml.errors import UsageError
from oodml.train.registry import Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import Criterion, MakeObjective


_GROUP_CODE = "github.com/dvl-tum/group_loss"
_MESSAGE_CODE = "github.com/dvl-tum/intra_batch"


def _network(
    batch_size: int, samples_per_class: int, rate: float, weight_decay: float
) -> dict[str, Any]:
    """Whole networks as both papers train them, all at one rate, with Adam in place of RAdam.

    The papers lower the rate once, at epoch 30 of 70; here it falls again at 60.
    """
    return {
        "batch_size": batch_size,
        "samples_per_class": samples_per_class,
        "learning_rate": rate,
        "criterion_learning_rate": rate,
        "weight_decay": weight_decay,
        "schedule": "step",
        "decay": 0.1,
        "decay_every": 30,
    }


# CUB200-2011's in both.
_CUB = _network(54, 9, 1.56e-4, 6e-6)
_GROUP_RECIPES = {
    "cars196": Recipe(
        _GROUP_CODE, {"anchors": 3, "temperature": 79.0}, _network(35, 7, 2e-4, 4.9e-7)
    ),
    "sop": Recipe(_GROUP_CODE, {"temperature": 54.0}, _network(60, 6, 6.08e-4, 5.3e-12)),
}
_GROUP_SOURCE = f"{_GROUP_CODE}, CUB200-2011"


@method(
    "group_loss",
    paper="arXiv:1912.00385",
    source=_GROUP_SOURCE,
    heads="class + embedding; embedding retrieves",
    network=_CUB,
    recipes=_GROUP_RECIPES,
)
def group_loss(
    num_classes: int,
    embedding_dim: int,
    *,
    anchors: int = 2,
    temperature: float = 24.0,
    iterations: int = 1,
    auxiliary_weight: float = 1.0,
) -> Criterion:
    """Group Loss: soft labels spread within the batch along the correlation of its samples.

    The reference has no head: it correlates the pooled features, classifies them and retrieves by
    them. Here all three take the head's output as it is, so that embeddings have the size of all
    other methods', and frozen features are not asked to change. Anchors are drawn at random in
    every batch, and leave one sample of each class to be labelled; the reference takes the first.
    It trains the network as a classifier for 10 epochs before, which is left out.
    """
    from oodml.train.losses.replicator import GroupLoss
    from oodml.train.objective import Criterion

    loss = GroupLoss(num_classes, embedding_dim, anchors, temperature, iterations, auxiliary_weight)
    return Criterion(loss, normalized=False)


@method(
    "group_loss_pp",
    paper="arXiv:2204.01509",
    source=f"{_GROUP_SOURCE}; tricks of the evaluation set here",
    heads="class + embedding; embedding retrieves",
    network={**_CUB, "flip": True},
    recipes=_GROUP_RECIPES,
    mix=0.5,
)
def group_loss_pp(
    num_classes: int,
    embedding_dim: int,
    *,
    anchors: int = 2,
    temperature: float = 24.0,
    iterations: int = 1,
    auxiliary_weight: float = 1.0,
) -> Criterion:
    """Group Loss++: Group Loss in training; mirrored and un-normalised embeddings join retrieval.

    With `--mix 0 --no-flip` it is Group Loss to the last bit. The paper's exact mixture of these
    strategies was not found. Re-ranking, one of them, is the user's to ask for with `--rerank`: it
    uses the test images together, which the plain numbers of other methods do not.
    """
    trained: Criterion = group_loss(
        num_classes,
        embedding_dim,
        anchors=anchors,
        temperature=temperature,
        iterations=iterations,
        auxiliary_weight=auxiliary_weight,
    )
    return trained


@method(
    "mpn",
    paper="arXiv:2102.07753",
    source=f"{_MESSAGE_CODE}, CUB200-2011",
    heads="class + class after messages + embedding; embedding retrieves",
    network=_CUB,
    # The rate of heads on features: the paper trains everything at one.
    criterion_learning_rate=1e-3,
    recipes={
        "cub200": Recipe(_MESSAGE_CODE, {"redraw": True}),
        "cars196": Recipe(
            _MESSAGE_CODE,
            {"layers": 2, "heads": 8, "concatenated": True, "temperature": 0.111},
            _network(70, 7, 3.67e-4, 2.6e-9),
        ),
        "sop": Recipe(
            _MESSAGE_CODE,
            {"heads": 8, "temperature": 0.605},
            _network(90, 6, 2.47e-4, 2.8e-13),
        ),
    },
)
def mpn(
    num_classes: int,
    embedding_dim: int,
    *,
    layers: int = 1,
    heads: int = 2,
    concatenated: bool = False,
    dropout: float = 0.1,
    temperature: float = 0.2,
    smoothing: float = 0.1,
    redraw: bool = False,
) -> MakeObjective:
    """Intra-batch connections: samples attend to their batch before a second classifier.

    The attention is of training only; with `layers=0` it is left out. The code computes
    correlations between samples and does not use them, nor are they here. Its configuration for
    SOP names the first classifier alone; the paper's method has both. Random erasing, a part of
    its augmentation, is left out.
    """
    from oodml.train.message_passing import MessageClassifier, MessagePassing
    from oodml.train.methods.mpn import ClassifiedTwice, IntraBatchConnections
    from oodml.train.objective import Criterion

    if heads < 1 or embedding_dim % heads:
        raise UsageError(
            f"mpn: heads={heads} does not divide the embedding's {embedding_dim} dimensions; "
            "give a number that does."
        )
    messages = None
    if layers > 0:
        network = MessagePassing(embedding_dim, layers, heads, dropout, concatenated=concatenated)
        messages = MessageClassifier(num_classes, embedding_dim, network)
    loss = ClassifiedTwice(num_classes, embedding_dim, messages, temperature, smoothing)
    return partial(
        IntraBatchConnections, criterion=Criterion(loss, normalized=False), redraw=redraw
    )
