"""Oxford 102 Category Flowers, read from its own label file."""

from __future__ import annotations

from pathlib import Path

from oodml.data.collections.matlab import read_mat
from oodml.data.collections.pool import Listed, pool
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset
from oodml.errors import DataError

_HOME = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
# In the order of the labels 1 to 102. The archive holds numbers only; these are the names of the
# collection's page, in the order and spelling of torchvision.datasets.Flowers102.
NAMES = tuple(
    """
pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger
lily, moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king
protea, spear thistle, yellow iris, globe-flower, purple coneflower, peruvian lily, balloon
flower, giant white arum lily, fire lily, pincushion flower, fritillary, red ginger, grape
hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet william,
carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped
cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil,
sword lily, poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common
dandelion, petunia, wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura,
geranium, orange dahlia, pink-yellow dahlia?, cautleya spicata, japanese anemone, black-eyed
susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris, windflower,
tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory, passion flower,
lotus, toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree
mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove,
bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper,
blackberry lily
""".replace("\n", " ")
    .strip()
    .split(", ")
)


@collection(
    "flowers102",
    "Oxford Flowers 102: 102 kinds of flowers, 8,189 photographs",
    classes=102,
    images=8_189,
    archives=tuple(
        # Checksums as in torchvision.datasets.Flowers102.
        Archive(f"{_HOME}{name}", name, checksum=checksum, into="flowers-102")
        for name, checksum in (
            ("102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
            ("imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
        )
    ),
    folder="flowers-102",
    landmarks=("jpg", "imagelabels.mat"),
    homepage=_HOME,
    licence="not stated",
)
def load_flowers102(home: Path) -> Dataset:
    """102 kinds of flowers; class names read `pink primrose`. There are no groups."""
    labels = _labels(home / "imagelabels.mat")
    listed = (
        Listed(NAMES[label - 1], f"image_{number:05d}.jpg", f"imagelabels.mat, entry {number}")
        for number, label in enumerate(labels, start=1)
    )
    return pool("flowers102", home / "jpg", listed)


def _labels(path: Path) -> list[int]:
    """The label of image 1, 2, ...; each from 1 to 102."""
    labels = read_mat(path, "labels", int)
    wrong = next((label for label in labels if not 1 <= label <= len(NAMES)), None)
    if wrong is not None:
        raise DataError(f"{path} holds the label {wrong}; labels are 1 to {len(NAMES)}.")
    return labels
