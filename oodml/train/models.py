"""Models: the networks that runs freeze or train, beside the ruler that measured the ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.features import FeatureSource

if TYPE_CHECKING:
    from oodml.features.backbones.registry import Backbone
    from oodml.runs.spec import ModelSpec

Backbones = str | FeatureSource | Sequence[str | FeatureSource] | None
Weights = str | Path | Mapping[str, str | Path] | None


@dataclass(frozen=True)
class Model:
    """A network on the ladder's images, and the file with its weights, if one was given."""

    source: FeatureSource
    weights: Path | None = None

    def load(self) -> Backbone:
        """The network itself; raises as `load_backbone` does."""
        made = self.source
        return load_backbone(
            made.backbone, weights=self.weights, image_size=made.image_size, resize=made.resize
        )


def models_of(
    ruler: FeatureSource, backbones: Backbones = None, weights: Weights = None
) -> list[Model]:
    """The models that `backbones` name, in their order; the ruler's network if they name none.

    A backbone is a name of `backbone_names()`, or NAME@PIXELS for another side of its input; the
    bare name of the ruler stands for the ruler as it is, all others for the network's own input in
    fp32. The `source` of features of the ladder's data is a model too. `weights` is the file of the
    only backbone's weights, or one by name for several. Raises `UsageError` for unknown names, for
    weights of a backbone that is not there, and for one model twice; as `load_backbone` for the
    weights.
    """
    given = [backbones] if isinstance(backbones, str | FeatureSource) else list(backbones or [])
    files = _files(weights, [each for each in given if isinstance(each, str)])
    if not given:
        return [Model(ruler, files.get(""))]
    models = [
        _made_elsewhere(each, ruler)
        if isinstance(each, FeatureSource)
        else _named(each, ruler, files.get(each))
        for each in given
    ]
    networks = [model.source.network for model in models]
    for at, network in enumerate(networks):
        if network in networks[:at]:
            raise UsageError(f"backbone {given[at]} is given twice; name every model once.")
    return models


def is_of(model: ModelSpec, source: FeatureSource) -> bool:
    """Whether a run's model is the network that made these features.

    Whole networks are trained in another precision than features are extracted in.
    """
    same = (model.backbone, model.weights, model.preprocessing) == (
        source.backbone,
        source.weights,
        source.preprocessing,
    )
    return same and (model.train == "all" or model.precision == source.precision)


def _files(weights: Weights, names: Sequence[str]) -> dict[str, Path]:
    """The weights by backbone as it was given; by "" where none was."""
    if weights is None:
        return {}
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in names:
                known = ", ".join(names) or "none, so the ladder's own network"
                raise UsageError(
                    f"weights for {name!r}, which is not among the backbones of the runs ({known})."
                )
        return {name: Path(file) for name, file in weights.items()}
    if len(names) > 1:
        raise UsageError(
            f"weights={str(weights)!r} with {len(names)} backbones: say whose they are, as "
            f"{names[0]}={weights}."
        )
    return {names[0] if names else "": Path(weights)}


def _made_elsewhere(source: FeatureSource, ruler: FeatureSource) -> Model:
    if source.fingerprint != ruler.fingerprint:
        raise UsageError(
            f"the features of {source.backbone} are of dataset {source.dataset!r} with fingerprint "
            f"{source.fingerprint}, the ladder's is {ruler.fingerprint}."
        )
    return Model(source)


def _named(text: str, ruler: FeatureSource, weights: Path | None) -> Model:
    name, at, size = text.rpartition("@")
    side = int(size) if at and size.isascii() and size.isdecimal() and len(size) < 6 else None
    if side is None:
        name = text
    if name == ruler.backbone and side in (None, ruler.image_size) and weights is None:
        return Model(ruler)
    backbone = load_backbone(name, weights=weights, image_size=side)
    source = FeatureSource(
        dataset=ruler.dataset,
        fingerprint=ruler.fingerprint,
        backbone=backbone.name,
        weights=backbone.weights,
        preprocessing=backbone.preprocessing,
        precision="fp32",
        image_size=backbone.image_size,
    )
    if source.network == replace(ruler, precision="fp32").network:
        return Model(ruler, weights)
    return Model(source, weights)
