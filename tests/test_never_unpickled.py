"""The source calls nothing that could run what a file holds: the promise of SECURITY.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import oodml

PACKAGE = Path(oodml.__file__).parent
# Modules that read pickles, alone or in disguise, and what of them may be named. pickletools only
# takes files apart, and dumping is writing.
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
ALLOWED = {"pickle": {"dump", "dumps"}}
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"),
    *("pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.package.PackageImporter"),
    *("torch.serialization.add_safe_globals", "np.core.records.fromfile"),
}
NEEDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "np.lib.format.read_array": ("allow_pickle", False),
    "npy.read_array": ("allow_pickle", False),
    "torch.hub.load_state_dict_from_url": ("weights_only", True),
}


def faults(source: str) -> list[str]:
    """What the source does that could run a file, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, a.name) for a in node.names if a.name in PICKLES - set(ALLOWED)]
        elif isinstance(node, ast.ImportFrom) and node.module in PICKLES:
            found.append((node.lineno, f"from {node.module}"))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ALLOWED:
            if node.attr not in ALLOWED[ast.unparse(node.value)]:
                found.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.Call) and not _is_safe(node):
            found.append((node.lineno, ast.unparse(node)))
    return [f"line {line}: {what}" for line, what in sorted(found)]


def _is_safe(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    given = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
    if name in NEEDED:
        word, value = NEEDED[name]
        return given.get(word) is value
    return name not in FORBIDDEN and given.get("shell") is not True


def test_nothing_runs_what_a_file_holds() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert len(sources) > 100
    found = {str(path): faults(source) for path, source in sources.items()}
    assert not {path: lines for path, lines in found.items() if lines}


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "pickle.Unpickler(file)",
        "import joblib",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_check_sees(line: str) -> None:
    assert faults(line)


def test_the_readers_that_the_page_speaks_of_are_there() -> None:
    page = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:oodml|tests)/[\w/.]+)`", page):
        assert (Path(__file__).parents[1] / path).exists(), path
