"""oodml: graded class splits, every deep metric learning method, and honest curves.

The public names are loaded on first use, so `import oodml` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load_dataset": "oodml.data",
    "Dataset": "oodml.data.dataset",
    "Features": "oodml.features.features",
    "extract_features": "oodml.features.extraction",
    "frechet_distance": "oodml.fid.frechet",
    "measure_shift": "oodml.fid.shift",
    "Split": "oodml.splits.split",
    "random_split": "oodml.splits.split",
    "Ladder": "oodml.splits.ladder",
    "build_ladder": "oodml.splits.construction.build_ladder",
    "method": "oodml.train.registry",
    "train_run": "oodml.train.run",
    "evaluate": "oodml.eval.retrieval.evaluate",
    "metric": "oodml.eval.retrieval.metrics",
    "RunSpec": "oodml.runs.spec",
    "Store": "oodml.runs.store",
    "plan": "oodml.train.plan",
    "run_grid": "oodml.launch",
    "summarize": "oodml.eval.statistics.curves",
    "aggregated_generalization_score": "oodml.eval.statistics.scores",
    "compare_methods": "oodml.eval.statistics.comparisons",
    "plot_curves": "oodml.eval.figures.curves",
    "write_report": "oodml.eval.report.page",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'oodml' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
