"""What is known about this machine."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from . import __version__
from .bundle import available_models
from .devices import choose_device, has_fast_bfloat16

PACKAGES = ("torch", "diffusers", "accelerate", "safetensors", "monai", "SimpleITK", "numpy", "scipy")
GIB = 1 << 30


def machine_facts() -> dict[str, Any]:
    """What `facts_in_words` tells, and `devices`, the list of `devices()`, for programs."""
    return {**facts_in_words(), "devices": devices()}


def devices() -> list[dict[str, Any]]:
    """Where to compute: `id` as `--device` takes it, `name` for people, `free_gib` and `total_gib` of its memory.

    The CPU is always there, and comes first.
    """
    memory = psutil.virtual_memory()
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count()
    found = [_device("cpu", f"{_cpu_name()}, {cores} cores", memory.available, memory.total)]
    for index in range(torch.cuda.device_count()):
        found.append(_device(f"cuda:{index}", torch.cuda.get_device_name(index), *torch.cuda.mem_get_info(index)))
    if torch.backends.mps.is_available():
        # It shares the memory of the CPU.
        found.append(_device("mps", "GPU of this Mac", memory.available, memory.total))
    return found


def _device(identifier: str, name: str, free: int, total: int) -> dict[str, Any]:
    return {"id": identifier, "name": name, "free_gib": round(free / GIB, 1), "total_gib": round(total / GIB, 1)}


def _cpu_name() -> str:
    """As its maker calls it, where the system tells, else its kind."""
    told = ""
    try:
        if platform.system() == "Linux":
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            told = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
        elif platform.system() == "Darwin":
            command = ("sysctl", "-n", "machdep.cpu.brand_string")
            told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        pass
    return told.strip() or platform.processor() or platform.machine() or "CPU"


def facts_in_words() -> dict[str, Any]:
    """Device, memory, versions and models, by name, each as one text."""
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
