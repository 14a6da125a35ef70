"""Losses between samples and the learned proxies of their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oodml.train.registry import Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import Criterion


_STUDY = "arXiv:2107.09562, scripts of the published study"


@method("proxy_nca", paper="arXiv:1703.07464", source="arXiv:1703.07464")
def proxy_nca(num_classes: int, embedding_dim: int, *, scale: float = 3.0) -> Criterion:
    """ProxyNCA: nearer to the own proxy than to the others, which alone stand in the sum."""
    from oodml.train.losses.proxies import ProxyNCA
    from oodml.train.objective import Criterion

    return Criterion(ProxyNCA(num_classes, embedding_dim, scale), samplewise=True)


def _nca_plus_plus(factor: float = 1.0, **settings: int) -> Recipe:
    """Adam's epsilon of 1 takes most of its scaling away: the large rates belong to it."""
    network = {
        "learning_rate": factor * 4e-3,
        "criterion_learning_rate": factor * 4e2,
        "optimizer_epsilon": 1.0,
        "pooling": "max",
        "warmup_epochs": 5,
        "clip_value": 10.0,
        **settings,
    }
    return Recipe("github.com/euwern/proxynca_pp", {}, network)


@method(
    "proxy_nca_pp",
    paper="arXiv:2004.01113",
    source="arXiv:2004.01113",
    network={"pooling": "max", "warmup_epochs": 5, "clip_value": 10.0},
    recipes={
        "cub200": _nca_plus_plus(batch_size=32, samples_per_class=4),
        "cars196": _nca_plus_plus(batch_size=32, samples_per_class=4),
        "sop": _nca_plus_plus(6.0, batch_size=192, samples_per_class=3),
    },
)
def proxy_nca_pp(num_classes: int, embedding_dim: int, *, temperature: float = 1 / 9) -> Criterion:
    """ProxyNCA++: cross-entropy over squared distances to the proxies, over a temperature.

    The paper also puts a LayerNorm without weights before the head; here there is none.
    """
    from oodml.train.losses.proxies import ProxyNCAPlusPlus
    from oodml.train.objective import Criterion

    return Criterion(ProxyNCAPlusPlus(num_classes, embedding_dim, temperature), samplewise=True)


def _study_anchor(**settings: int) -> Recipe:
    return Recipe(_STUDY, network={"criterion_learning_rate": 0.02, **settings})


@method(
    "proxy_anchor",
    paper="arXiv:2003.13911",
    source="arXiv:2003.13911",
    recipes={
        "cub200": _study_anchor(),
        "cars196": _study_anchor(),
        "sop": _study_anchor(warmup_epochs=1),
    },
)
def proxy_anchor(
    num_classes: int, embedding_dim: int, *, margin: float = 0.1, alpha: float = 32.0
) -> Criterion:
    """Proxy Anchor: every proxy pulls its samples and pushes all others of the batch."""
    from pytorch_metric_learning import losses

    from oodml.train.objective import Criterion

    return Criterion(losses.ProxyAnchorLoss(num_classes, embedding_dim, margin, alpha))


_GML_NETWORK = {
    "batch_size": 32,
    "learning_rate": 1e-4,
    "criterion_learning_rate": 0.03,
    "optimizer_epsilon": 0.01,
    "weight_decay": 1e-4,
    "schedule": "step",
    "decay": 0.1,
    "decay_every": 20,
    "warmup_epochs": 1,
}


@method(
    "proxy_gml",
    paper="arXiv:2010.13636",
    source="github.com/YuehuaZhu/ProxyGML, for CUB200-2011 and Cars196",
    batches="shuffled",
    network=_GML_NETWORK,
    recipes={
        "sop": Recipe(
            "github.com/YuehuaZhu/ProxyGML",
            {"proxies_per_class": 1, "weight": 0.0},
            {"criterion_learning_rate": 0.3},
        )
    },
)
def proxy_gml(
    num_classes: int,
    embedding_dim: int,
    *,
    proxies_per_class: int = 12,
    ratio: float = 0.05,
    weight: float = 0.3,
) -> Criterion:
    """ProxyGML: softmax over the classes that a sample's nearest proxies lead to."""
    from oodml.train.losses.proxy_graph import ProxyGraph
    from oodml.train.objective import Criterion

    loss = ProxyGraph(num_classes, embedding_dim, proxies_per_class, ratio, weight)
    return Criterion(loss, samplewise=True)
