"""Where and how precisely to compute, and what to do when memory runs out."""

from __future__ import annotations

import torch

from .errors import CardiacError, shown

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "bf16", "fp32")
BYTES_PER_CASE = 160 << 20
"""Memory that one case of a batch takes at most while its image is made, measured on the shipped model."""
LARGEST_BATCH = 64


def choose_device(name: str = "auto") -> torch.device:
    """The device asked for: `auto` takes cuda, then mps, then cpu; `cuda:1` picks one of several.

    Raises:
        CardiacError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    known = kind in DEVICES[1:] and (not index or (index.isascii() and index.isdigit()))
    if not known:
        raise CardiacError(f"There is no device {shown(name)}; choose one of {', '.join(DEVICES)}.", "no_device")
    present = {
        "cuda": torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
        "cpu": not index,
    }
    if not present[kind]:
        raise CardiacError(f"The device {shown(name)} is not on this machine; use --device cpu.", "no_device")
    return torch.device(name)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: asked for, or `auto` where it is fast.

    Raises:
        CardiacError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise CardiacError(f"There is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    return precision == "bf16" or (precision == "auto" and has_fast_bfloat16(device))


def suggested_batch_size(device: torch.device) -> int:
    """Batch size that fits into the free memory of a GPU."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return int(max(1, min(LARGEST_BATCH, free * 0.8 // BYTES_PER_CASE)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        s in text for s in ("out of memory", "not enough memory", "can't allocate")
    )
