"""What docstrings say agrees with the signatures: names, shapes, errors, sources."""

from __future__ import annotations

import ast
import builtins
import re

from public_api import Module, Public, modules, public, words
from raised_errors import raised_by

ARRAY = re.compile(r"NDArray|Tensor|ArrayLike|ndarray")
SHAPE = re.compile(r"shape \(\)|\([\w .*/+-]*,[\w .,*/+-]*\)|[Aa]ny shape")
RAISES = re.compile(
    r"(?:[Rr]aises?|,? and|,? or) (?:an? )?`?([A-Z]\w*Error)\b"
    r"|\b([A-Z]\w*Error)`? (?:for|if|when|naming)\b"
)
# Words of the outside world that stand between backticks: file formats, datasets, the study.
FOREIGN = {
    "Boeing", "ClassLabel", "Image", "MLFLOW_EXPERIMENT_NAME", "Plantae", "Sanskrit", "class_id",
    "c", "class", "datasets", "f1", "fish", "i", "mAP_c", "nmi", "replace", "with",
}  # fmt: skip
# Raised where the source does not name what is called: a table of builders, a field's method, a
# stored error.
UNSEEN = {
    ("oodml.features.backbones.registry.load_backbone", "DataError"),
    ("oodml.splits.pool.Pool.units", "DataError"),
    ("oodml.train.checkpoint.Checkpoint.wait", "OSError"),
}


def test_there_is_a_public_api_to_walk() -> None:
    assert len(public()) > 800
    assert {"oodml.fid.frechet.frechet_distance", "oodml.runs.store.Store"} <= {
        p.place for p in public()
    }


def test_every_public_function_and_class_says_what_you_get() -> None:
    unsaid = [p.place for p in public() if not p.text and "." not in p.name]
    assert not unsaid, f"no docstring: {unsaid}"


def test_names_in_backticks_exist() -> None:
    """A name is of the function, its class or its module's head, or is defined in the package."""
    anywhere = FOREIGN | set(dir(builtins))
    for module in modules().values():
        anywhere |= {*module.name.split("."), *module.fields}
        anywhere |= {name.split(".")[-1] for name in module.definitions}
    wrong = [
        f"{each.place}: `{code}`"
        for each in public()
        for code in set(re.findall(r"`([A-Za-z_]\w*)`", each.text)) - anywhere
        if code not in each.module.head | each.module.strings | words(around(each))
    ]
    assert not wrong, wrong


def around(each: Public) -> ast.AST:
    """The function, or the class that it belongs to."""
    return each.module.definitions[each.name.split(".")[0]]


def test_dotted_names_in_backticks_exist() -> None:
    for each in public():
        for code in re.findall(r"`(oodml(?:\.\w+)+)`", each.text):
            module, _, name = code.rpartition(".")
            home = modules().get(module)
            exists = home and (name in home.definitions or name in home.imported)
            assert exists or code in modules(), f"{each.place}: `{code}`"


def test_shapes_of_arrays_are_stated() -> None:
    """In the docstring of the function, or for all of them in that of the module."""
    silent = [
        each.place
        for each in public()
        if takes_arrays(each) and not SHAPE.search(each.paragraphs) and not SHAPE.search(each.above)
    ]
    assert not silent, f"no shape like (n, d): {silent}"


def takes_arrays(each: Public) -> bool:
    node = each.node
    if not isinstance(node, ast.FunctionDef) or "." in each.name:
        return False
    named = array_names(each.module)
    given = [a.annotation for a in (*node.args.args, *node.args.kwonlyargs) if a.annotation]
    texts = [ast.unparse(annotation) for annotation in given]
    return any(ARRAY.search(text) or named & set(re.findall(r"\w+", text)) for text in texts)


def array_names(module: Module) -> set[str]:
    """The module's own and imported names of array types."""
    here = {name for name, value in module.aliases.items() if is_array(value)}
    for name, (home, there) in module.imported.items():
        value = modules()[home].aliases.get(there) if home in modules() else None
        here |= {name} if value is not None and is_array(value) else set()
    return here


def is_array(value: str) -> bool:
    return bool(ARRAY.search(value)) and not re.search(r"dict|Mapping|Callable|\(", value)


def test_errors_that_are_named_can_be_raised() -> None:
    named = [
        (each, first or second)
        for each in public()
        for first, second in RAISES.findall(each.paragraphs)
    ]
    assert len(named) > 150
    wrong = [
        (each.place, error)
        for each, error in named
        if error not in raised_by(each.module.name, each.name) and (each.place, error) not in UNSEEN
    ]
    assert not wrong, wrong


def test_methods_name_a_source_that_can_be_found() -> None:
    from oodml.train.registry import all_methods

    source = re.compile(r"arXiv:\d{4}\.\d{4,5}$|10\.\d{4,}/\S+$|papers\.nips\.cc/paper/\d+$")
    for entry in all_methods().values():
        parts = entry.paper.split(", ")
        assert entry.paper == "-" or all(map(source.match, parts)), f"{entry.name}: {entry.paper}"
        assert entry.summary.endswith("."), entry.name
    assert sum(entry.paper == "-" for entry in all_methods().values()) <= 2


def test_papers_are_cited_in_one_form() -> None:
    for each in public():
        for cited in re.findall(r"\b[aA]r[xX]iv[: ]*\d\S*", each.text):
            assert re.match(r"arXiv[: ]\d{4}\.\d{4,5}(?!\d)", cited), f"{each.place}: {cited}"
