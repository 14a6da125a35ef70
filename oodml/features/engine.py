"""What runs a frozen network: batch normalisation folded, channels last, one precision."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from oodml.device import usable_device
from oodml.errors import UsageError
from oodml.features.backbones.registry import Backbone

logger = logging.getLogger("oodml")

PRECISIONS = ("fp32", "bf16")

Values = npt.NDArray[np.float32]
Embed = Callable[[torch.Tensor], Values]


def check_precision(precision: str) -> None:
    """Raise `UsageError` for anything but "fp32" and "bf16"."""
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}. Known: {', '.join(PRECISIONS)}.")


def frozen(backbone: Backbone, precision: str, device: str | None = None) -> Embed:
    """A function from images (B, 3, H, W) to features (B, d), by a frozen copy of the backbone.

    Batch normalisation is folded, memory is channels last, and "bf16" computes under bfloat16
    autocast; on CUDA, "fp32" means float32, not TF32. `backbone.module` itself stays trainable.
    """
    target = usable_device(device)
    module = copy.deepcopy(backbone.module).eval().requires_grad_(False)
    folded = fold_batch_norm(module)
    _log_form(backbone.name, target, precision, folded)
    module = module.to(target).to(memory_format=torch.channels_last)

    def embed(images: torch.Tensor) -> Values:
        inputs = images.to(target, memory_format=torch.channels_last)
        with torch.inference_mode(), _arithmetic(target, precision):
            values: Values = module(inputs).float().cpu().numpy()
        return values

    return embed


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


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        # Subclasses of Conv2d, such as those that pad themselves, stay one step of the graph.
        return isinstance(module, nn.Conv2d) or super().is_leaf_module(module, name)


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


def _log_form(name: str, device: torch.device, precision: str, folded: int) -> None:
    logger.info(
        "%s on %s in %s, channels last, %d batch normalisations folded",
        name,
        device,
        precision,
        folded,
    )
    if precision == "bf16" and device.type == "cpu" and not _computes_bf16():
        logger.warning("this processor has no bfloat16 arithmetic: fp32 will be faster")


def _computes_bf16() -> bool:
    try:
        return "bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return True


def _arithmetic(device: torch.device, precision: str) -> AbstractContextManager[object]:
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    if device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()
