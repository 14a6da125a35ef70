"""The report's glossary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oodml.splits.ladder import NOT_STATED

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder

_LEVELS = {
    "sample": "Gaussians fitted to all training images and to all test images of a rung",
    "class": "Gaussians fitted to the unweighted class means of each side of a rung",
}

_TERMS = (
    (
        "Rung",
        "One split of the classes into training and test classes. The rungs of a ladder rise "
        "strictly in FID: rung 0 is the easiest.",
    ),
    (
        "Null and excess FID",
        "The null is the FID of random splits of the same classes with as many on each side: its "
        "mean and standard deviation over several draws. Excess is FID minus the null's mean: how "
        "much harder than a random split this one is. FID alone also grows when classes are "
        "removed, even at random. Excess takes most of that off, but with few images it is no "
        "unbiased estimate of the shift: distrust any distance below a hundred classes a side.",
    ),
    (
        "Recall at k (recall_at_k)",
        "The share of queries with at least one image of their class among the k nearest, by "
        "cosine similarity. Every test image is a query against all others; it is left out itself, "
        "by its index. A query whose class has no other image is left out and counted "
        "(queries_left_out). Exact ties score their expectation over all orders.",
    ),
    (
        "R-precision (r_precision)",
        "The share of the query's class among its R nearest, where R is how many there are to be "
        "found: the size of the class minus one.",
    ),
    (
        "MAP@R (mean_average_precision_at_r)",
        "The mean over the ranks 1 to R of the precision at each rank that holds an image of the "
        "query's class, 0 at the others; R is the size of the class minus one (arXiv:2003.08505).",
    ),
    (
        "AGS, aggregated generalization score",
        "The trapezoid area under the metric against FID, with FID scaled to [0, 1] over the "
        "ladder's rungs (arXiv:2107.09562). One score per seed that has a run on every rung; a "
        "seed with a gap has none and is listed as missing.",
    ),
    (
        "Intervals",
        "95% intervals, Student's t: over seeds in the curves and for AGS, over episodes in the "
        "few-shot part. One seed has no interval. They cover the randomness of training on this "
        "one ladder, not the choice of its classes; where intervals overlap, the order of two "
        "methods is open.",
    ),
    (
        "Two methods at a time",
        "Runs are paired by rung and seed; a method that trains nothing is paired with every seed "
        "of the other. One is called above the other on average over the rungs only where the "
        "corrected p and the interval of the difference both say so; everything else is not "
        "separated, which is no proof that two methods are equal. Curves may cross all the same.",
    ),
    (
        "Selection",
        "How the weights that are tested were chosen: after the last step (last), or by the "
        "rung's validation classes, which are training classes. Test classes play no part in it.",
    ),
    (
        "Few-shot",
        "Each episode draws a few images of every test class to adapt on; zero-shot and few-shot "
        "values are measured on the same remaining images. Gain is few-shot minus zero-shot. "
        "Every episode is averaged over seeds first; intervals are over episodes.",
    ),
    (
        "Gallery",
        "Best and worst queries by average precision over the first min(R, 8) ranks, one a class; "
        "random queries are drawn once a rung, the same for every method. Of methods with several "
        "seeds the lowest seed with kept embeddings is shown.",
    ),
    (
        "Class means in a plane",
        "The two first principal components of the means of all classes, in the features that "
        "the ladder was built on; one plane for all rungs. What is far apart in it is far apart; "
        "what is near in it need not be near.",
    ),
)


# What a report of a matched reference shows besides.
_REFERENCE = (
    (
        "Matched reference: frozen, shifted, matched",
        "The test classes of a rung are halved at random, by seed. Each half is tested after "
        "training on m classes of the other half (matched), after training on m training classes "
        "of the rung (shifted), and without training (frozen); m is the size of the smaller half, "
        "or of the training side if that is less. Queries, gallery, number of classes, steps and "
        "seed are the same; a value is the mean over the two halves. They are not comparable with "
        "values on all test classes, which have more wrong answers to offer.",
    ),
    (
        "Shift cost, difficulty",
        "Shift cost = matched - shifted. Difficulty of a rung = matched on rung 0 - matched on it: "
        "whatever makes the rung's test classes harder, and also their number, if it differs. "
        "The fall of shifted from rung 0 is difficulty plus the rise of the shift cost, exactly. "
        "Area: the trapezoid area under the shift cost, FID scaled to [0, 1].",
    ),
    (
        "Gain, retained gain, break-even",
        "Gain = shifted - frozen, matched gain = matched - frozen. Retained gain = gain / matched "
        "gain, with Fieller's interval, not stated where the matched gain's interval reaches zero. "
        "Break-even: where the gain falls to zero, by straight lines between rungs; its interval "
        "holds every place at which the gain's own 95% interval holds zero.",
    ),
    (
        "Random splits",
        "The shift cost of random splits of the rung's classes, which have no shift: between the "
        "two numbers one such split lies with 95% probability (mean +- t x sd x sqrt(1 + 1 / "
        "draws)). A cost within them may be chance.",
    ),
)


def definitions(ladder: Ladder, *, reference: bool = False) -> list[tuple[str, str]]:
    """Terms and what they mean, FID as this ladder measures it first.

    With `reference` those of a matched reference come next.
    """
    terms = [*(_REFERENCE if reference else ()), *_TERMS]
    made = ladder.features
    if ladder.settings.level == NOT_STATED:
        fid = (
            "Frechet distance between training and test classes, as the imported file gives it; "
            "level, network and input are not stated, so compare it with nothing else."
        )
        return [("FID", fid), *terms]
    fid = (
        f"Frechet distance between training and test classes: {_LEVELS[ladder.settings.level]}, "
        f"in the features of {made.backbone} ({made.precision}; weights {made.weights[:16]}; "
        f"input: {made.preprocessing}). Values of other levels, networks or preprocessing are not "
        "comparable with these."
    )
    if not ladder.measured:
        fid += " Rungs that were not measured here show the published value."
    return [("FID", fid), *terms]
