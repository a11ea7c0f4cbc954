"""Where and how precisely to compute, and what to do when memory runs out."""

from __future__ import annotations

import functools
import time

import torch
from torch import nn
from torch.nn.functional import conv2d

from .errors import CardiacError, shown

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "bf16", "fp32")
BYTES_PER_CASE = 160 << 20
"""Memory that one case of a batch takes at most while its image is made, measured on the shipped model."""
LARGEST_BATCH = 32
"""Of a GPU: twice as many gain a quarter, and one case would wait for all of them."""
MOST_TOGETHER = 8
"""Threads of a processor beyond which it makes one case at a time: a batch of one for each would take too long."""
BATCHES_OF_THREADS = 2
"""Cases for each thread of a processor at a time; more gain less than a tenth."""
WORTHWHILE = 1.3
"""How many times faster bfloat16 must be on a processor to be chosen; in hardware it is about twice as fast."""
TIMED_ROUNDS = 7


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


def on_device(network: nn.Module, device: torch.device, bfloat16: bool = False) -> nn.Module:
    """The network on a device, its weights laid out channels last, and cast where autocast would cast them."""
    # Not by `to` of diffusers, which imports much that only quantized networks need. Its types lack the memory format.
    placed: nn.Module = nn.Module.to(network, device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return with_cast_weights(placed) if bfloat16 else placed


def with_cast_weights(network: nn.Module) -> nn.Module:
    """The network with its convolutions and linear layers in bfloat16, as autocast would cast them at each call."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(torch.bfloat16)
    return network


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device gains from bfloat16: known of GPUs, measured once on the processor, in some 25 ms."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # Only where it is supported: elsewhere, measuring how slow it is would itself be slow.
        supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return bool(supported) and bfloat16_gain() >= WORTHWHILE
    return False


@functools.cache
def bfloat16_gain() -> float:
    """How many times faster the processor convolves in bfloat16 than in float32: below 1 where it only emulates it.

    Both take turns on a convolution such as the image network's, and the shortest time of each counts, so that a busy
    machine changes little.
    """
    shapes = (1, 48, 64, 64), (48, 48, 3, 3)
    operands = {
        kind: [torch.ones(shape, dtype=kind).to(memory_format=torch.channels_last) for shape in shapes]
        for kind in (torch.float32, torch.bfloat16)
    }
    seconds = dict.fromkeys(operands, float("inf"))
    with torch.inference_mode():
        for _ in range(TIMED_ROUNDS):
            for kind, (image, kernel) in operands.items():
                begun = time.perf_counter()
                conv2d(image, kernel, padding=1)
                seconds[kind] = min(seconds[kind], time.perf_counter() - begun)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: asked for, or `auto` where it is fast.

    Raises:
        CardiacError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise CardiacError(f"There is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    return precision == "bf16" or (precision == "auto" and has_fast_bfloat16(device))


def samples_together(device: torch.device, bfloat16: bool) -> int:
    """By what a batch must be divisible, so that a sample is the same to the bit whatever is computed beside it.

    A processor's kernels for bfloat16 give each thread whole samples where these come out even, and share a sample
    among threads otherwise, which rounds otherwise: with whole samples, results hang neither on the batch nor on the
    number of threads. In float32 only batches of one size are alike, which gains nothing over one at a time.
    """
    threads = torch.get_num_threads()
    return threads if device.type == "cpu" and bfloat16 and threads <= MOST_TOGETHER else 1


def suggested_batch_size(device: torch.device, together: int = 1) -> int:
    """Batch size that fits into the free memory; `together` is what `samples_together` says."""
    if device.type == "cpu":
        return together if together == 1 else BATCHES_OF_THREADS * together
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
