"""Near duplicates: what is found, and how quickly, against imagehash.

    python benchmarks/duplicates.py

Rates: every drawing of the emoji collection is compared with every other, and some with copies of
themselves. No two drawings are copies of each other, but many are alike: families, flags, clocks.
Speed: the same JPEG files and the same hashes, in one process; processor time, which depends less
than the clock on what else runs. Writes benchmarks/results/duplicates.md.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from oodml.data import load_dataset, read_image
from oodml.data.check.duplicates import near_pairs
from oodml.data.check.images import look_at, perceptual_hash, small_colours

RESULT = Path(__file__).parent / "results" / "duplicates.md"
COPIES = ("JPEG 75", "JPEG 40", "half", "half, JPEG 75", "double, JPEG 75")
OURS, PEER = (0, 4, 8, 12, 16), (0, 2, 4, 6, 8)
Bits = npt.NDArray[np.uint8]
Hash = Callable[[Image.Image], bytes]


def copies(image: Image.Image) -> Iterator[Image.Image]:
    half, double = (
        image.resize((int(image.width * by), int(image.height * by)), Image.Resampling.BICUBIC)
        for by in (0.5, 2)
    )
    yield _jpeg(image, 75)
    yield _jpeg(image, 40)
    yield half
    yield _jpeg(half, 75)
    yield _jpeg(double, 75)


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def our_hash(image: Image.Image) -> bytes:
    return (perceptual_hash(image) or bytes(32)) + small_colours(image)


def peer_hash(image: Image.Image) -> bytes:
    return np.packbits(imagehash.phash(image).hash).tobytes()


def rates(every: int) -> list[str]:
    """One row per hash and distance: copies found in percent, and pairs of drawings found."""
    dataset = load_dataset("emoji")
    rows = []
    for name, hash_of, distances in (("oodml", our_hash, OURS), ("imagehash", peer_hash, PEER)):
        hashes = _hashes(hash_of, [dataset.paths[i] for i in range(len(dataset))])
        chosen = range(0, len(dataset), every)
        apart = [_apart(hash_of, dataset.paths[i], hashes[i]) for i in chosen]
        pairs = _pairs(hashes, max(distances), name)
        same = dataset.labels[pairs[0]] == dataset.labels[pairs[1]]
        for distance in distances:
            found = [f"{100 * share:.1f}" for share in np.mean(np.array(apart) <= distance, 0)]
            near = pairs[2] <= distance
            counts = [f"{(near & same).sum():,}", f"{(near & ~same).sum():,}"]
            bits = 256 if name == "oodml" else 64
            rows.append(f"| {name} | {distance} of {bits} | {' | '.join([*found, *counts])} |")
    return rows


def _hashes(hash_of: Hash, paths: list[Path]) -> Bits:
    with ThreadPoolExecutor(2) as pool:
        every = pool.map(lambda path: hash_of(read_image(path)), paths)
        return np.array([np.frombuffer(each, np.uint8) for each in every])


def _apart(hash_of: Hash, path: Path, own: Bits) -> list[float]:
    """Bits between a drawing and each of its copies; without end where the colours differ."""
    found = []
    for copy in copies(read_image(path)):
        other = np.frombuffer(hash_of(copy), np.uint8)
        size = 8 if len(own) == 8 else 32
        colours = np.abs(own[size:].astype(int) - other[size:])
        bits = float(np.unpackbits(own[:size] ^ other[:size]).sum())
        found.append(np.inf if colours.size and colours.mean() > 6 else bits)
    return found


def _pairs(hashes: Bits, most: int, name: str) -> tuple[npt.NDArray[np.int64], ...]:
    if name == "oodml":
        pairs = near_pairs(
            np.ascontiguousarray(hashes[:, :32]), np.ascontiguousarray(hashes[:, 32:]), most
        )
        return pairs.first, pairs.second, pairs.distance
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)
    found = []
    for start in range(0, len(bits), 1000):
        block = bits[start : start + 1000]
        apart = block @ (1 - bits.T) + (1 - block) @ bits.T
        first, second = np.nonzero(apart <= most)
        keep = first + start < second
        found.append((first[keep] + start, second[keep], apart[first, second][keep]))
    return tuple(np.concatenate(each) for each in zip(*found, strict=True))


def planted(count: int) -> Bits:
    """Random hashes; every tenth is the one before it with three bits turned."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, (count, 256), dtype=np.uint8)
    bits[1::10] = bits[::10]
    for row in range(1, count, 10):
        bits[row, random.choice(64, 3, replace=False)] ^= 1
    return np.packbits(bits, axis=1)


def busy(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def our_search(hashes: Bits) -> int:
    return len(near_pairs(hashes, np.zeros((len(hashes), 192), np.uint8)).first)


def pairwise(hashes: Bits) -> int:
    """What the manual of imagehash shows: the difference of every pair, in a loop."""
    every = [imagehash.ImageHash(np.unpackbits(row[:8]).reshape(8, 8)) for row in hashes]
    return sum(one - other <= 8 for n, one in enumerate(every) for other in every[:n])


def search_rows() -> list[str]:
    hashes = planted(1_000)
    if not our_search(hashes) == pairwise(hashes) == 100:
        raise RuntimeError("the searches disagree about the planted pairs")
    ours = statistics.median(busy(lambda: our_search(hashes)) for _ in range(5))
    theirs = statistics.median(busy(lambda: pairwise(hashes)) for _ in range(3))
    row = f"| 1,000 | {ours:.3f} | {theirs:.2f} | {theirs / ours:.0f} |"
    many = planted(120_000)
    return [row, f"| 120,000 | {busy(lambda: our_search(many)):.1f} | not tried | - |"]


def hashing_rows(count: int) -> list[str]:
    """Processor milliseconds an image, medians of turns, from file to hash."""
    with tempfile.TemporaryDirectory() as folder:
        paths = list(_photographs(Path(folder), count))
        turns = {
            "oodml: size, pixel digest, 256 bits, colours": look_at,
            "imagehash.phash: 64 bits": lambda path: imagehash.phash(Image.open(path)),
        }
        spent: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(4):
            for name, work in turns.items():
                spent[name].append(busy(lambda w=work: [w(path) for path in paths]))
        middle = {name: 1000 * statistics.median(s[1:]) / count for name, s in spent.items()}
        own = next(iter(middle.values()))
        return [f"| {name} | {ms:.2f} | {ms / own:.2f} |" for name, ms in middle.items()]


def _photographs(folder: Path, count: int) -> Iterator[Path]:
    random = np.random.default_rng(0)
    for number in range(count):
        layers = [
            Image.fromarray(
                random.integers(0, 256, (400 // grain, 500 // grain, 3), dtype=np.uint8)
            ).resize((500, 400), Image.Resampling.BICUBIC)
            for grain in (80, 12, 2)
        ]
        path = folder / f"{number}.jpg"
        picture = Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.1)
        picture.save(path, quality=90)
        yield path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=24, help="copy every so many drawings")
    parser.add_argument("--photographs", type=int, default=60)
    arguments = parser.parse_args()
    heads = [
        ["hash", "bits apart", *COPIES, "pairs, one emoji", "pairs, two emoji"],
        ["hashes", "oodml, s", "imagehash, a loop over all pairs, s", "ratio"],
        ["from a 500x400 JPEG", "ms", "ratio"],
    ]
    titles = (
        f"Emoji: copies found, percent of every {arguments.every}th drawing; pairs of 11,847",
        "Search among hashes, processor seconds; ratio is peer to oodml",
        "Hashing, processor milliseconds an image, one thread; ratio to oodml",
    )
    blocks = [rates(arguments.every), search_rows(), hashing_rows(arguments.photographs)]
    text = [
        "# Near duplicates: what is found, and how quickly",
        "",
        "Measured on 2 cores that other work loaded heavily. `python benchmarks/duplicates.py`",
        "makes these tables; the script says what is compared.",
    ]
    for title, head, rows in zip(titles, heads, blocks, strict=True):
        rule = f"|{'---|' * len(head)}"
        text += ["", f"## {title}", "", f"| {' | '.join(head)} |", rule, *rows]
    RESULT.write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
