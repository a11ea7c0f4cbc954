"""Stand-in for `slicer.i18n`: nothing is translated."""

from __future__ import annotations


def tr(text: str) -> str:
    """The text itself; Slicer looks the caller's context up."""
    return text


def translate(context: str, text: str) -> str:
    """The text itself."""
    return text


def getContext(sourceFile: str) -> str:
    """Name under which Slicer would look translations up."""
    return sourceFile.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".py")
