"""The device to compute on, checked before any work is done."""

from __future__ import annotations

import torch

from oodml.errors import UsageError


def usable_device(name: str | None = None) -> torch.device:
    """The device of that name; without one the GPU if there is one, else the CPU.

    A GPU is only counted, not touched, so that the process that starts the workers holds no memory
    on it. Raises `UsageError` for a name that torch does not know or a device that is not there.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type != "cuda":
            torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0][:100]
        raise UsageError(f"device {name!r} cannot be used here ({reason}); try cpu.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} cannot be used here (CUDA devices: {torch.cuda.device_count()}); "
            "try cpu."
        )
    return device
