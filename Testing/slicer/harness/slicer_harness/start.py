"""Starts what stands in for the application."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

HARNESS = Path(__file__).resolve().parent.parent
STANDINS = HARNESS / "standins" / "slicer"

_started: Any = None


def set_environment() -> None:
    """Variables that must be set before Qt and VTK are imported: no window appears."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "2")
    if sys.platform == "linux":
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")


def missing_requirement() -> str:
    """Why the harness cannot run here; empty if it can."""
    set_environment()
    for name, package in (("slicer", "slicer-core"), ("PySide6.QtWidgets", "PySide6-Essentials")):
        before = list(sys.path)
        # From the folder above the tests, the wheel would take the folder `slicer` there for a part of itself.
        sys.path[:] = [entry for entry in before if Path(entry).resolve() != HARNESS.parent.parent]
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"{package} cannot be imported: {error}"
        finally:
            sys.path[:] = before
    return ""


def start_application() -> Any:
    """Make `slicer.app`, the scene and all the rest, once; later calls give the same application."""
    global _started
    if _started is not None:
        return _started
    set_environment()
    if str(HARNESS) not in sys.path:
        sys.path.insert(0, str(HARNESS))
    missing = missing_requirement()
    if missing:
        raise ImportError(missing)
    import slicer

    from .application import Application

    _add_slicer_files(slicer)
    app = Application()
    slicer.app = app
    _add_classes(slicer)

    from .dialogs import dialogs
    from .scene import build_scene

    build_scene(app)
    dialogs.install()
    _started = app
    return app


def slicer_source() -> Path | None:
    """Folder of Slicer's own Python files, where SLICER_SOURCE names a checkout of its sources."""
    named = os.environ.get("SLICER_SOURCE")
    if not named:
        return None
    folder = Path(named) / "Base" / "Python" / "slicer"
    if not (folder / "util.py").is_file():
        raise FileNotFoundError(f"SLICER_SOURCE names {named}, which holds no Base/Python/slicer/util.py")
    return folder


def _add_slicer_files(slicer: Any) -> None:
    """Add to the wheel's package what only the application has, from Slicer's sources or from the stand-ins."""
    source = slicer_source()
    if source is None:
        slicer.__path__.append(str(STANDINS))
        return
    # Before the wheel's own files, so that `util` is that of the sources too.
    slicer.__path__.insert(0, str(source))
    sys.modules.pop("slicer.util", None)
    slicer.util = importlib.import_module("slicer.util")


def _add_classes(slicer: Any) -> None:
    """Slicer's widgets are in its namespace."""
    from . import modules, mrml_widgets

    for name, value in mrml_widgets.WIDGETS.items():
        setattr(slicer, name, value)
    for value in (modules.qSlicerScriptedLoadableModule, modules.qSlicerScriptedLoadableModuleWidget):
        setattr(slicer, value.__name__, value)
