"""Networks: two that denoise, and one that segments; `diffusers` keeps their weights and configurations."""

import importlib
import sys

DYNAMO = "torch._dynamo"


def _import_diffusers() -> None:
    """Import `diffusers` without the compiler of torch, which takes longer to import than all the rest of it.

    Of the compiler `diffusers` takes one decorator for networks of its own, and does without where it cannot be
    imported. Whoever compiles a network afterwards finds it as ever.
    """
    if DYNAMO in sys.modules:
        return
    sys.modules[DYNAMO] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    try:
        importlib.import_module("diffusers.utils.torch_utils")
    finally:
        del sys.modules[DYNAMO]


_import_diffusers()
