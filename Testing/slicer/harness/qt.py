"""Stand-in for Slicer's module `qt`: all classes of Qt, dressed as PythonQt does it."""

from typing import Any

from slicer_harness import pythonqt

pythonqt.dress()
globals().update(pythonqt.namespace())

from slicer_harness.ui_loader import UiLoader as QUiLoader  # noqa: E402, F401, RUF100


def __getattr__(name: str) -> Any:
    """Tell a wrong name from a gap of the harness."""
    raise AttributeError(f"qt has no {name}: PythonQt lacks it, or PySide6 does")
