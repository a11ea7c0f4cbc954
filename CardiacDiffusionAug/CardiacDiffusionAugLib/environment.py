"""Which Python runs the worker: Slicer's own, or one that the user has chosen, such as an environment with CUDA."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import slicer

import qt

SETTINGS = "CardiacDiffusionAug"
PYTHON_SETTING = f"{SETTINGS}/WorkerPython"
MODULE_FOLDER = Path(__file__).resolve().parent.parent
START = (
    "import sys; sys.path.insert(0, sys.argv.pop()); from cardiac_diffusion_aug.worker import serve; sys.exit(serve())"
)
"""The engine's folder comes as an argument: Slicer's launcher changes PYTHONPATH."""


@dataclass(frozen=True)
class WorkerCommand:
    """How the worker is started.

    Attributes:
        program: path of a Python.
        arguments: its command line.
        environment: all of its environment variables.
    """

    program: str
    arguments: tuple[str, ...]
    environment: dict[str, str]


def chosenPython() -> str:
    """The Python that the user has chosen for the worker; empty for Slicer's own."""
    return str(qt.QSettings().value(PYTHON_SETTING, "") or "")


def choosePython(path: str) -> None:
    """Remember the Python for the worker; empty for Slicer's own."""
    qt.QSettings().setValue(PYTHON_SETTING, path)


def workerCommand() -> WorkerCommand:
    """How the worker is started now."""
    chosen = chosenPython()
    if chosen:
        # Slicer's libraries and Python settings would break another Python.
        environment = dict(slicer.util.startupEnvironment())
        for name in ("PYTHONHOME", "PYTHONPATH"):
            environment.pop(name, None)
    else:
        environment = dict(os.environ)
    environment.update(PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8", PYTHONNOUSERSITE="1")
    return WorkerCommand(chosen or slicerPython(), ("-X", "utf8", "-c", START, str(MODULE_FOLDER)), environment)


def slicerPython() -> str:
    """Slicer's own Python."""
    folders = os.pathsep.join((os.path.join(slicer.app.slicerHome, "bin"), os.path.dirname(sys.executable)))
    return shutil.which("PythonSlicer", path=folders) or shutil.which("PythonSlicer") or sys.executable
