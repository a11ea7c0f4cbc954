"""What is known about this machine."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
import torch

from . import __version__
from .bundle import available_models
from .devices import choose_device, has_fast_bfloat16

PACKAGES = ("torch", "diffusers", "accelerate", "safetensors", "monai", "SimpleITK", "numpy", "scipy")
GIB = 1 << 30


def machine_facts() -> dict[str, Any]:
    """Device, memory, versions and models, by name."""
    device = choose_device()
    memory = psutil.virtual_memory()
    facts: dict[str, Any] = {
        "cardiac-diffusion-aug": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": str(device),
        "bfloat16": "fast" if has_fast_bfloat16(device) else "slow, so float32 is used",
        "cores": f"{psutil.cpu_count(logical=False) or psutil.cpu_count()} ({torch.get_num_threads()} threads)",
        "memory": f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free",
    }
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        facts[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "missing"
    return {**facts, "models": ", ".join(available_models()) or "none"}
