"""What runs a frozen network: OpenVINO on the CPU where it can, else torch, in one precision."""

from __future__ import annotations

import copy
import logging
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from oodml.device import usable_device
from oodml.errors import UsageError
from oodml.features.backbones.registry import Backbone

logger = logging.getLogger("oodml")

PRECISIONS = ("fp32", "bf16", "fp16")
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Where torch may be set to multiply float32 in TF32 or bfloat16. Its older switches, such as
# `set_float32_matmul_precision`, refuse to work in a process that uses these.
_BACKENDS: Any = torch.backends
_PLACES = (
    _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn.conv,
    _BACKENDS.mkldnn.matmul,
    _BACKENDS.mkldnn.conv,
)

# Exporting and compiling take 1 to 2 s of CPU, which about 110 images save with Inception or
# ResNet-50 and 320 with EfficientNet-Lite0 at 112 (two AMD EPYC cores). The size of the data set
# decides, not what is left of it, so that a resumed extraction repeats the choice.
LEAST_IMAGES = 256
# Of the largest feature: float32 rounding gives 1e-7 to 3e-6, half precision 1e-3.
_TOLERANCE = 3e-5

Values = npt.NDArray[np.float32]
# From batches of images (B, 3, H, W) to their features, row by row in parts of any length. A part
# may come only after the next batch was taken, so that computing overlaps with decoding.
Embed = Callable[[Iterable[torch.Tensor]], Iterator[Values]]


def check_precision(precision: str) -> None:
    """Raise `UsageError` for anything but "fp32", "bf16" and "fp16"."""
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}. Known: {', '.join(PRECISIONS)}.")


def frozen(
    backbone: Backbone, precision: str, device: str | None = None, images: int | None = None
) -> Embed:
    """A function from batches of images to features, by a frozen copy of the backbone.

    Batch normalisation is folded, memory is channels last, and "bf16" and "fp16" (CUDA only)
    compute under autocast; on CUDA, "fp32" means float32, not TF32. On the CPU, OpenVINO computes
    in float32 where it is installed, can convert the network and agrees with torch on the first
    images; `images` (None: many) is the size of the data set, since converting does not pay for a
    few. `backbone.module` itself stays trainable.
    """
    target = usable_device(device)
    if precision == "fp16" and target.type != "cuda":
        raise UsageError(f"precision 'fp16' needs a CUDA device, not {target}: give fp32 or bf16.")
    module = copy.deepcopy(backbone.module).eval().requires_grad_(False)
    folded = fold_batch_norm(module)
    _log_form(backbone.name, target, precision, folded)
    module.to(target).to(memory_format=torch.channels_last)
    if target.type == "cuda":
        return _on_cuda(module, target, precision)
    torch_embed = _in_torch(module, target, precision)
    if target.type != "cpu" or precision != "fp32" or (images or LEAST_IMAGES) < LEAST_IMAGES:
        return torch_embed
    chosen: list[Embed] = []

    def embed(batches: Iterable[torch.Tensor]) -> Iterator[Values]:
        batches = iter(batches)
        for first in batches:
            if not chosen:
                chosen.append(_faster(module, torch_embed, first, backbone.name))
            yield from chosen[0](chain((first,), batches))

    return embed


def chunk_size(side: int) -> int:
    """The images of `side` pixels that OpenVINO computes at once, on one thread.

    The shape is fixed and the last images are padded, so that a feature depends on neither the
    batch size nor the number of threads. EfficientNet-Lite0 at 112 takes 12% less time by 8 than by
    4, Inception at 299 takes 3% more (Intel Xeon, AVX2).
    """
    return 8 if side <= 160 else 4


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


def _in_torch(module: nn.Module, target: torch.device, precision: str) -> Embed:
    def embed(batches: Iterable[torch.Tensor]) -> Iterator[Values]:
        for images in batches:
            inputs = images.to(target, memory_format=torch.channels_last)
            with _arithmetic(target, precision):
                values: Values = module(inputs).float().cpu().numpy()
            yield values

    return embed


def _on_cuda(module: nn.Module, target: torch.device, precision: str) -> Embed:
    """While a batch is computed, the next is decoded and copied to the GPU, on a stream of its own.

    Pinned memory lets the copies run beside the kernels; features come back one batch late.
    """
    copies = torch.cuda.Stream(target)  # type: ignore[no-untyped-call]

    def embed(batches: Iterable[torch.Tensor]) -> Iterator[Values]:
        computing = torch.cuda.current_stream(target)
        begun: deque[tuple[torch.Tensor, torch.cuda.Event]] = deque()
        for images in batches:
            with torch.cuda.stream(copies):
                inputs = images.pin_memory().to(target, non_blocking=True)
            computing.wait_stream(copies)
            inputs.record_stream(computing)
            with torch.cuda.stream(computing), _arithmetic(target, precision):
                features = module(inputs.contiguous(memory_format=torch.channels_last))
                kept = features.float().to("cpu", non_blocking=True)
                begun.append((kept, computing.record_event()))
            if len(begun) > 1:
                yield _copied(*begun.popleft())
        while begun:
            yield _copied(*begun.popleft())

    return embed


def _copied(features: torch.Tensor, done: torch.cuda.Event) -> Values:
    done.synchronize()
    values: Values = features.numpy()
    return values


def _faster(module: nn.Module, torch_embed: Embed, images: torch.Tensor, name: str) -> Embed:
    """OpenVINO's form of `module` where there is one that repeats torch, else `torch_embed`."""
    images = images[: chunk_size(images.shape[-1])]
    try:
        embed = _in_openvino(module, tuple(images.shape[1:]))
        if embed is None:
            return torch_embed
        values, expected = (np.concatenate(list(run([images]))) for run in (embed, torch_embed))
    except Exception as error:  # exporting ends in nearly any error, and so does converting
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        logger.info("OpenVINO cannot run %s, torch runs it (%s)", name, reason)
        return torch_embed
    if values.shape == expected.shape:
        difference = np.abs(values - expected).max()
        if difference <= _TOLERANCE * np.abs(expected).max():
            logger.info("OpenVINO runs %s", name)
            return embed
    logger.warning("OpenVINO's features of %s are not torch's: torch runs it", name)
    return torch_embed


def _in_openvino(module: nn.Module, shape: tuple[int, ...]) -> Embed | None:
    """`module` for images of that shape, or None without the package.

    The frontend is called without `openvino.convert_model`, which warns of operators that torch no
    longer has, with tracebacks. Each stream is one thread with a chunk of its own.
    """
    # Importing OpenVINO reports to Google Analytics and writes to the user's home directory, but
    # not where its package for this is missing, which it allows.
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
    try:
        openvino = import_module("openvino")
        frontend = import_module("openvino.frontend")
        decoder = import_module("openvino.frontend.pytorch.fx_decoder").TorchFXPythonDecoder
    except ImportError:
        _say_that_openvino_is_missing()
        return None
    chunk = chunk_size(shape[-1])
    with torch.no_grad():
        program = torch.export.export(module, (torch.zeros(chunk, *shape),))
    manager = frontend.FrontEndManager()  # has to outlive what it loads
    converter = manager.load_by_framework("pytorch")
    graph = program.run_decompositions().module()
    source = decoder(graph)
    model = converter.convert(converter.load(source))
    model.reshape([chunk, *shape])
    threads = torch.get_num_threads()
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "EXECUTION_MODE_HINT": "ACCURACY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        # Several processes would be pinned to the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    # One request a stream is computed while another waits, filled.
    requests = [compiled.create_infer_request() for _ in range(2 * threads)]

    def embed(batches: Iterable[torch.Tensor]) -> Iterator[Values]:
        begun = deque((request, 0) for request in requests)
        for images in chain.from_iterable(torch.split(given, chunk) for given in batches):
            request, rows = begun.popleft()
            yield _computed(request, rows)
            request.get_input_tensor(0).data[: len(images)] = images.numpy()
            request.start_async()
            begun.append((request, len(images)))
        for request, rows in begun:
            yield _computed(request, rows)

    return embed


def _computed(request: Any, rows: int) -> Values:
    request.wait()
    values: Values = request.get_output_tensor(0).data[:rows].copy()
    return values


@cache
def _say_that_openvino_is_missing() -> None:
    logger.info(
        "torch runs the networks; OpenVINO, which is faster on a CPU, is not "
        "installed: pip install 'oodml[openvino]'"
    )


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


@contextmanager
def _arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """No gradients, and products in that precision; the process's settings are restored."""
    if precision in _HALVES:
        with torch.inference_mode(), torch.autocast(device.type, dtype=_HALVES[precision]):
            yield
        return
    found = [place.fp32_precision for place in _PLACES]
    for place in _PLACES:
        place.fp32_precision = "ieee"
    try:
        with torch.inference_mode():
            yield
    finally:
        for place, before in zip(_PLACES, found, strict=True):
            place.fp32_precision = before
