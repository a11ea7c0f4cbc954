"""Group normalization, modulation and SiLU of a U-Net in two passes over the memory of a GPU.

PyTorch takes some ten passes, with two changes of the memory layout, and in networks as narrow as these a GPU then
spends its time on them instead of on the convolutions. For inference only: there are no gradients.
"""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

VALUES_AT_A_TIME = 8192
"""That a program holds."""
PIXELS_OF_A_SUM = 256
OLDEST = (8, 0)
"""Compute capability of the GPUs that the kernels are for: those that have bfloat16."""
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether the kernels run on the processor, slowly, to be tested without a GPU."""


def can_fuse(x: Tensor) -> bool:
    """Whether `fused_activation` takes a tensor: on an NVIDIA GPU, without gradients, and where Triton can compile."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return _is_new_enough(x.device) and has_triton() if x.is_cuda else INTERPRETED


@functools.cache
def _is_new_enough(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= OLDEST


@functools.cache
def has_triton() -> bool:
    """Whether Triton is there, and what it compiles the start of its kernels with: a compiler and Python's headers."""
    compilers = (os.environ.get("CC"), "gcc", "clang", "cc")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return (
        find_spec("triton") is not None and any(shutil.which(name) for name in compilers if name) and headers.is_file()
    )


def fused_activation(
    x: Tensor, norm: nn.GroupNorm, modulation: tuple[Tensor, Tensor] | None, condition: Tensor | None
) -> Tensor:
    """What `blocks.activation` computes, in the type of `x`, with sums in float32.

    Args:
        x: (N, C, H, W); the result is laid out channels last.
        norm: with or without its own scale and shift of channels.
        modulation: scale and shift (N, C, H, W) of each pixel.
        condition: (N, 2 C): of each channel, what is added to a scale of 1, and the shift.
    """
    from .kernels import apply_kernel, line_kernel, sums_kernel

    x = x.contiguous(memory_format=torch.channels_last)
    count, channels, height, width = x.shape
    pixels = height * width
    parts = -(-pixels // PIXELS_OF_A_SUM)
    # Kernels work on powers of two.
    block = 1 << (channels - 1).bit_length()
    at_a_time = max(1, VALUES_AT_A_TIME // block)
    sums = torch.empty(count, parts, 2, channels, device=x.device)
    line = torch.empty(count, 2, channels, device=x.device)
    out = torch.empty_like(x)
    # A kernel takes some tensor for each argument, and reads those alone that it is told of.
    weight, bias = (norm.weight, norm.bias) if norm.affine else (x, x)
    scale, shift = (x, x) if modulation is None else modulation
    scale, shift = (t.contiguous(memory_format=torch.channels_last) for t in (scale, shift))
    rows = x if condition is None else condition.contiguous()
    with torch.cuda.device_of(x):
        sums_kernel[count, parts](x, sums, pixels, channels, PIXELS_OF_A_SUM, min(at_a_time, PIXELS_OF_A_SUM), block)
        line_kernel[(count,)](
            sums, line, weight, bias, pixels, channels, norm.eps, parts, norm.num_groups, block, norm.affine
        )
        apply_kernel[count, -(-pixels // at_a_time)](
            x,
            line,
            scale,
            shift,
            rows,
            out,
            pixels,
            channels,
            at_a_time,
            block,
            modulation is not None,
            condition is not None,
        )
    return out
