"""Stand-in for Slicer's module `ctk`: the widgets that scripted modules use most."""

from typing import Any

from slicer_harness import ctk_widgets

globals().update(ctk_widgets.WIDGETS)


def __getattr__(name: str) -> Any:
    """Tell a wrong name from a gap of the harness."""
    raise AttributeError(f"ctk has no {name} here; if Slicer has it, add a stand-in to slicer_harness/ctk_widgets.py")
