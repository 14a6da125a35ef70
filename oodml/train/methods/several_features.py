"""Several kinds of features of one image, most of them not about its class."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oodml.train.published import STUDY
from oodml.train.registry import Base, Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import MakeObjective


_MIC = "arXiv:1909.11574 and its code"
_DIVA = "arXiv:2004.13458 and its code"
# No distance on the unit sphere is larger: the study cuts no far negatives off.
_UNCUT = {"base.upper_cutoff": 2.0}


@method(
    "mic",
    paper="arXiv:1909.11574",
    source=f"{_MIC}, clusters and update_every chosen here for short runs",
    heads="class + auxiliary; class head retrieves",
    needs="clusters of the training data, a second batch",
    samples_per_class=4,
    recipes={
        "cub200": Recipe(_MIC, {"clusters": 30, "decorrelation": 2500.0, "update_every": 3}),
        "cars196": Recipe(_MIC, {"clusters": 150, "decorrelation": 500.0, "update_every": 3}),
        "sop": Recipe(_MIC, {"clusters": 50, "auxiliary": 0.5, "update_every": 3}),
    },
)
def mic(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("margin"),  # noqa: B008 (a frozen record)
    clusters: int = 30,
    decorrelation: float = 250.0,
    auxiliary: float = 0.8,
    update_every: int = 1,
    samples_per_cluster: int = 4,
    substitution: float = 0.2,
) -> MakeObjective:
    """MIC: a second head learns clusters that classes have in common, and the first unlearns them.

    The base loss is taken on both heads, by class and by cluster. `auxiliary` is how often a step
    has a batch of clusters as well, `update_every` epochs pass between two clusterings, and
    `substitution` of its samples are replaced by others of their cluster. Both batches of a step
    count in one update; the published code takes two. `decorrelation` is the adversary's weight
    for 128 dimensions, from which it is scaled by (dimension / 128)^2. On cached features the
    first clusters are of the pooled features minus class means: a stage before them is not there.
    """
    from oodml.train.methods.mic import InterclassMining, Surrogates
    from oodml.train.objective import as_criterion

    return partial(
        InterclassMining,
        criterion=as_criterion(base.criterion(num_classes, embedding_dim)),
        other=as_criterion(base.criterion(clusters, embedding_dim)),
        decorrelation=decorrelation,
        surrogates=Surrogates(clusters, auxiliary, update_every, samples_per_cluster, substitution),
    )


@method(
    "sharing",
    paper="arXiv:2004.05582",
    source=f"{_DIVA}, SOP: two of its features; weights published for these two alone not found",
    heads="class + shared; class head retrieves",
    recipes={
        "cub200": Recipe(_DIVA, {"alpha": 0.3, "decorrelation": 1500.0}),
        "cars196": Recipe(_DIVA, {"alpha": 0.15, "decorrelation": 100.0}),
        "sop": Recipe(_DIVA),
    },
)
def sharing(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("margin"),  # noqa: B008 (a frozen record)
    alpha: float = 0.2,
    decorrelation: float = 150.0,
    permuted: bool = False,
    shared_weight: float = 0.0,
) -> MakeObjective:
    """Sharing matters: a second head learns from triplets whose samples are of three classes.

    `alpha` weighs their loss, `decorrelation` the adversary between the heads, for 128 dimensions;
    it is scaled by (dimension / 128)^2. Positives are any samples of another class, or, if
    `permuted`, of the same label after the batch's labels were shuffled. Retrieval uses the class
    head alone; a `shared_weight` puts the other one beside it, and doubles the dimensions.
    """
    from oodml.train.losses.across_classes import SharedByClasses
    from oodml.train.methods.parts.several_heads import check_takes_triplets
    from oodml.train.methods.sharing import SharingFeatures
    from oodml.train.objective import Criterion, as_criterion

    criterion = as_criterion(base.criterion(num_classes, embedding_dim))
    check_takes_triplets("sharing", base.name, criterion, embedding_dim)
    shared = as_criterion(base.criterion(num_classes, embedding_dim))
    return partial(
        SharingFeatures,
        criterion=criterion,
        shared=Criterion(SharedByClasses(shared.loss, permuted), normalized=shared.normalized),
        alpha=alpha,
        decorrelation=decorrelation,
        shared_weight=shared_weight,
    )


def _study(
    alpha: float, decorrelation: float, class_weight: float, queue_batches: int = 30
) -> Recipe:
    hyperparameters = {
        "alpha": alpha,
        "decorrelation": decorrelation,
        "class_weight": class_weight,
        "queue_batches": queue_batches,
    }
    return Recipe(f"{STUDY}; {_DIVA}", hyperparameters | _UNCUT, {"batch_size": 108})


@method(
    "diva",
    paper="arXiv:2004.13458",
    source=f"{STUDY}, SOP; samples_per_class chosen here: triplets within a class need three; "
    "class_weight for heads on frozen features, by validation classes",
    heads="4 slices, concatenated",
    needs="two views",
    samples_per_class=4,
    cached_views=4,
    recipes={
        "cub200": _study(0.3, 1500.0, 0.5),
        "cars196": _study(0.15, 100.0, 0.5),
        "sop": _study(0.2, 150.0, 1.0, queue_batches=70),
    },
)
def diva(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("margin"),  # noqa: B008 (a frozen record)
    alpha: float = 0.2,
    decorrelation: float = 150.0,
    class_weight: float = 3.0,
    temperature: float = 0.01,
    momentum: float = 0.9,
    queue_batches: int = 30,
) -> MakeObjective:
    """DiVA: four heads, for classes, self-similarity, what classes share, and what varies in them.

    The dimensions are divided among the heads, so that the four together are as many as another
    method's (4 x 128 beside 512 in the study). Retrieval compares the four unit embeddings side by
    side, that of classes times `class_weight` (1 or less in the paper, which trains the network).
    `alpha` weighs the losses of the other three, `decorrelation` the adversaries, for heads of
    128; it is scaled by (dimension / 128)^2. The queue holds `queue_batches` batches of keys of a
    copy that follows with `momentum`. Triplets within a class are of three different samples, so
    there are none with two samples a class.
    """
    from oodml.train.losses.across_classes import SharedByClasses
    from oodml.train.methods.diva import SHARES, DiverseFeatures
    from oodml.train.methods.parts.several_heads import check_takes_triplets
    from oodml.train.mining import WithinClasses
    from oodml.train.objective import Criterion, as_criterion
    from oodml.train.slices import slice_sizes

    sizes = slice_sizes(embedding_dim, SHARES)
    own, _, shared, intra = (as_criterion(base.criterion(num_classes, size)) for size in sizes)
    check_takes_triplets("diva", base.name, own, sizes[0])
    return partial(
        DiverseFeatures,
        criterion=own,
        shared=Criterion(SharedByClasses(shared.loss, True), normalized=shared.normalized),
        intra=Criterion(intra.loss, WithinClasses(), normalized=intra.normalized),
        alpha=alpha,
        decorrelation=decorrelation,
        class_weight=class_weight,
        temperature=temperature,
        momentum=momentum,
        queue_batches=queue_batches,
    )
