"""The library's further losses, and an account of all of them."""

from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn import functional

from oodml.train.objective import Criterion
from oodml.train.registry import all_methods, get_method

METHODS = {
    "AngularLoss": "angular",
    "ArcFaceLoss": "arcface",
    "CircleLoss": "circle",
    "ContrastiveLoss": "contrastive",
    "CosFaceLoss": "cosface",
    "DynamicSoftMarginLoss": "dynamic_soft_margin",
    "FastAPLoss": "fast_ap",
    "GeneralizedLiftedStructureLoss": "generalized_lifted_structure",
    "HistogramLoss": "histogram",
    "InstanceLoss": "instance",
    "IntraPairVarianceLoss": "intra_pair_variance",
    "LargeMarginSoftmaxLoss": "large_margin_softmax",
    "LiftedStructureLoss": "lifted_structure",
    "ManifoldLoss": "manifold",
    "MarginLoss": "margin",
    "MultiSimilarityLoss": "multi_similarity",
    "NCALoss": "neighbourhood_components",
    "NPairsLoss": "n_pair",
    "NTXentLoss": "nt_xent",
    "NormalizedSoftmaxLoss": "normalized_softmax",
    "P2SGradLoss": "p2s_grad",
    "PNPLoss": "pnp",
    "ProxyAnchorLoss": "proxy_anchor",
    "ProxyNCALoss": "proxy_nca",
    "RankedListLoss": "ranked_list",
    "SignalToNoiseRatioContrastiveLoss": "snr_contrastive",
    "SmoothAPLoss": "smooth_ap",
    "SoftTripleLoss": "soft_triple",
    "SphereFaceLoss": "sphereface",
    "SubCenterArcFaceLoss": "sub_center_arcface",
    "SupConLoss": "sup_con",
    "ThresholdConsistentMarginLoss": "threshold_consistent_margin",
    "TripletMarginLoss": "triplet",
    "TupletMarginLoss": "tuplet_margin",
}

# Every other name in pytorch_metric_learning.losses is a method under a name of its own.
NO_METHOD = {
    "BaseLossWrapper": "what other classes derive from",
    "BaseMetricLossFunction": "what other classes derive from",
    "EmbeddingRegularizerMixin": "what other classes derive from",
    "GenericPairLoss": "what other classes derive from",
    "WeightRegularizerMixin": "what other classes derive from",
    "CrossBatchMemory": "a memory for another loss, not a loss",
    "MultipleLosses": "a sum of other losses",
    "SelfSupervisedLoss": "takes two views of every image in the place of labels",
    "VICRegLoss": "refuses labels: it compares two views of every image",
}


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(13, 6, generator=random), dim=1)
    return embeddings, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4])


def test_every_loss_of_the_library_is_a_method_or_has_a_reason() -> None:
    public = {name for name in dir(losses) if name[0].isupper()}
    assert set(METHODS) | set(NO_METHOD) == public
    assert not set(METHODS) & set(NO_METHOD)
    assert set(METHODS.values()) <= set(all_methods())


def test_the_library_refuses_labels_where_it_is_said_to(batch: tuple[Tensor, Tensor]) -> None:
    for loss in (losses.VICRegLoss(), losses.ManifoldLoss(6)):
        with pytest.raises(ValueError, match="labels"):
            loss(*batch)


def test_the_instance_loss_classifies_where_the_library_compares_with_the_first_samples(
    batch: tuple[Tensor, Tensor],
) -> None:
    embeddings, labels = batch
    criterion = get_method("instance").build(5, 6)
    assert isinstance(criterion, Criterion) and not criterion.normalized
    (weights,) = criterion.parameters()
    expected = functional.cross_entropy(3 * embeddings @ weights.T, labels)
    found = criterion(3 * embeddings, labels)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    library = losses.InstanceLoss()
    backwards = library(embeddings.flip(0), labels.flip(0))
    assert abs(float(backwards - library(embeddings, labels))) > 1


def test_p2s_grad_is_the_squared_error_of_cosines(batch: tuple[Tensor, Tensor]) -> None:
    embeddings, labels = batch
    loss = get_method("p2s_grad").build(5, 6)
    cosines = embeddings @ functional.normalize(loss.weight.detach(), dim=1).T
    expected = (cosines - torch.eye(5)[labels]).square().mean()
    found = float(loss(embeddings, labels).detach())
    assert found == pytest.approx(float(expected), rel=1e-5)
    library = losses.P2SGradLoss(6, 5)
    library.weight.data = loss.weight.detach().T
    assert found == pytest.approx(float(library(embeddings, labels).detach()), rel=1e-5)


@pytest.mark.parametrize("proxies", [3, 50])
def test_manifold_equals_the_library_told_the_groups(
    proxies: int, batch: tuple[Tensor, Tensor]
) -> None:
    embeddings, labels = batch
    own = get_method("manifold").build(5, 6, proxies=proxies, context=0.7, walk=0.6, margin=0.05)
    count = min(proxies, 5)
    library = losses.ManifoldLoss(6, count, lambdaC=0.7, alpha=0.6, margin=0.05)
    library.proxies.data = own.proxies.data
    expected = library(embeddings, indices_tuple=own.groups[labels])
    assert float(own(embeddings, labels).detach()) == pytest.approx(
        float(expected.detach()), rel=1e-4
    )
    assert sorted(set(own.groups.tolist())) == list(range(count))


def test_manifold_keeps_its_groups_with_its_state() -> None:
    torch.manual_seed(0)
    first = get_method("manifold").build(40, 6, proxies=7)
    second = get_method("manifold").build(40, 6, proxies=7)
    assert first.groups.tolist() != second.groups.tolist()
    second.load_state_dict(first.state_dict())
    assert first.groups.tolist() == second.groups.tolist()
