"""The process that `run.py` starts: atheris on one reader, its coverage measured."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

try:
    import atheris
except ImportError:
    sys.exit("fuzzing by coverage needs atheris; type: pip install atheris")

# Imported before, so that only oodml is instrumented: what it calls is not ours to steer by.
import scipy.linalg  # noqa: F401

with atheris.instrument_imports(include=["oodml"]):
    from readers import accepts

from mutations import CHANGES
from seeds import seeds

_REPORTED = 1_000


def main() -> None:
    """Fuzz the reader named first from its seeds, written to the folder named second."""
    name, folder, *options = sys.argv[1:]
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    whole = seeds()[name]
    for number, data in enumerate(whole):
        (corpus / str(number)).write_bytes(data)
    seen = [0, 0]

    def try_input(data: bytes) -> None:
        seen[0] += 1
        seen[1] += accepts(name, data)
        if seen[0] % _REPORTED == 0:
            sys.stderr.write(f"accepted {seen[1]} of {seen[0]}\n")

    def change(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.7:
            # Half of the time from a whole record: the corpus fills with broken ones.
            data = random.choice((data, random.choice(whole)))
            try:
                changed = CHANGES[name](data, random)
                if len(changed) <= most:
                    return changed
            except Exception:  # an input that is broken already has no form to keep
                pass
        return bytes(atheris.Mutate(data, most))

    atheris.Setup([sys.argv[0], str(corpus), *options], try_input, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
