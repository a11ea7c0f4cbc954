"""Labelled short-axis cardiac MR made by two diffusion models, and a U-Net that learns from it.

Nothing heavy is imported here; the names below arrive on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Attributes", "Generator", "Segmenter", "__version__", "load_bundle"]

if TYPE_CHECKING:
    from .attributes import Attributes
    from .bundle import load_bundle
    from .generation import Generator
    from .segmentation import Segmenter


_HOMES = {
    "Attributes": "attributes",
    "Generator": "generation",
    "Segmenter": "segmentation",
    "load_bundle": "bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
