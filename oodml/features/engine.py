"""Exact rewrites for inference: batch normalisation folded into the convolution before it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

logger = logging.getLogger("oodml")


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        # Subclasses of Conv2d, such as those that pad themselves, stay one step of the graph.
        return isinstance(module, nn.Conv2d) or super().is_leaf_module(module, name)


def fold_batch_norm(module: nn.Module) -> int:
    """Fold every BatchNorm2d that alone reads a Conv2d into it, in place; how many were folded.

    The result equals the original in eval mode up to float32 rounding. A network whose `forward`
    cannot be traced is left as it is, which is slower and equally right.
    """
    try:
        graph = _Tracer().trace(module)
    except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError, AttributeError) as error:
        logger.info("batch normalisation is not folded, the network cannot be traced: %s", error)
        return 0
    modules = dict(module.named_modules())
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    pairs = [pair for node in graph.nodes if (pair := _pair(node, modules, calls))]
    for convolution, normalisation in pairs:
        fused = fuse_conv_bn_eval(modules[convolution], modules[normalisation])
        _replace(module, convolution, fused)
        _replace(module, normalisation, nn.Identity())
    return len(pairs)


def _pair(node: fx.Node, modules: dict[str, Any], calls: Counter[str]) -> tuple[str, str] | None:
    """The names of the convolution and the normalisation when `node` can be folded away."""
    if not _calls(node, modules, nn.BatchNorm2d) or not isinstance(node.args[0], fx.Node):
        return None
    before = node.args[0]
    if not _calls(before, modules, nn.Conv2d) or len(before.users) != 1:
        return None
    names = str(before.target), str(node.target)
    return names if all(calls[name] == 1 for name in names) else None


def _calls(node: fx.Node, modules: dict[str, Any], kind: type[nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(modules.get(str(node.target)), kind)


def _replace(module: nn.Module, name: str, child: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, child)
