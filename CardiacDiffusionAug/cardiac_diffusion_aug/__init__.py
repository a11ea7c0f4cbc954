"""Labelled short-axis cardiac MR made by two diffusion models: masks from noise, images from masks.

Nothing heavy is imported here; `Generator` and `load_bundle` arrive on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Generator", "__version__", "load_bundle"]

if TYPE_CHECKING:
    from .bundle import load_bundle
    from .generation import Generator


def __getattr__(name: str) -> Any:
    if name == "Generator":
        from .generation import Generator

        return Generator
    if name == "load_bundle":
        from .bundle import load_bundle

        return load_bundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
