"""What every trained method is measured against."""

from __future__ import annotations

from oodml.train.registry import method


@method("frozen", paper="-", training="none")
def frozen(num_classes: int, embedding_dim: int) -> None:
    """The backbone's features as they are, without any training."""
