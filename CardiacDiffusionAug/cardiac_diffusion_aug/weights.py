"""The weights of a network in a file, mostly as 8-bit integers, which takes half the room of half precision.

Of convolutions and linear layers each output channel has a scale of its own, which brings its largest weight to 127;
the rest, such as biases, is in half precision. An image of the shipped model changes by half a grey level so, which is
what it also changes by from one processor to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LARGEST = 127
WORTH_IT = 1024
"""Weights of a tensor from which on it is stored as integers."""
SCALE = ".scale"


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write the weights of a network.

    Args:
        state: of any floating-point type.
        path: of the file.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for name, weight in state.items():
        weight = weight.detach().cpu().float()
        if weight.ndim < 2 or weight.numel() < WORTH_IT:
            tensors[name] = weight.half().contiguous()
            continue
        rows = weight.flatten(1)
        # A channel of zeros alone has any scale.
        scale = rows.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
        integers = (rows / scale[:, None]).round().to(torch.int8)
        tensors[name], tensors[name + SCALE] = integers.reshape(weight.shape).contiguous(), scale
    save_file(tensors, path)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Weights that `save_weights` wrote, or that are stored in a floating-point type, in float32.

    Raises:
        OSError, SafetensorError: it cannot be read.
        LookupError, RuntimeError: integers lack their scale, or have one of another size.
        ValueError: a weight is no number.
    """
    tensors = load_file(path)
    integers = [name for name, tensor in tensors.items() if tensor.dtype == torch.int8]
    scales = {name: tensors.pop(name + SCALE) for name in integers}
    weights = {name: tensor.float() for name, tensor in tensors.items()}
    for name, scale in scales.items():
        weights[name] *= scale.view(len(weights[name]), *[1] * (weights[name].ndim - 1))
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise ValueError("NaN or infinite weights")
    return weights
