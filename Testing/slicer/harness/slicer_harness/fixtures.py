"""Fixtures for tests of scripted modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import slicer

from . import dialogs as dialogs_module
from .loop import UnhandledErrors, process_events
from .modules import load_module, unload_module
from .pythonqt import unknown_attributes
from .scene import clear_scene
from .start import start_application
from .vtk_errors import VtkErrors

MODULE = Path(__file__).resolve().parents[4] / "CardiacDiffusionAug" / "CardiacDiffusionAug.py"


@pytest.fixture(scope="session")
def slicer_app() -> Any:
    """The application: `slicer.app`."""
    return start_application()


@pytest.fixture
def dialogs(slicer_app: Any) -> Iterator[dialogs_module.Dialogs]:
    """What is shown to the user, and what the user answers."""
    dialogs_module.dialogs.reset()
    yield dialogs_module.dialogs
    dialogs_module.dialogs.reset()


@pytest.fixture
def scene(slicer_app: Any, dialogs: dialogs_module.Dialogs) -> Iterator[Any]:
    """An empty scene: `slicer.mrmlScene`.

    The test fails where VTK reports an error, which does not raise, or where a callback of Qt or VTK raises one, which
    they only print. A test that expects these asks for `vtk_errors` or `unhandled_errors` and clears them.
    """
    clear_scene()
    slicer.app.settings().clear()
    with VtkErrors() as errors, UnhandledErrors() as unhandled:
        slicer.app.vtkErrors, slicer.app.unhandledErrors = errors, unhandled
        yield slicer.mrmlScene
        process_events()
        clear_scene()
        process_events()
    assert not errors.text, f"VTK reported:\n{errors.text}"
    assert not unhandled.errors, f"errors in callbacks: {unhandled.errors!r}"


@pytest.fixture
def vtk_errors(scene: Any) -> VtkErrors:
    """What VTK has reported in this test; `clear()` for what was expected."""
    errors: VtkErrors = slicer.app.vtkErrors
    return errors


@pytest.fixture
def unhandled_errors(scene: Any) -> list[BaseException]:
    """What callbacks have raised in this test; `clear()` for what was expected."""
    errors: list[BaseException] = slicer.app.unhandledErrors.errors
    return errors


@pytest.fixture
def panel(scene: Any) -> Iterator[Any]:
    """The module's widget object, opened as by a user, and unloaded at the end."""
    before = _own_modules()
    widget = load_module(MODULE)
    yield widget
    unknown = unknown_attributes(widget.parent)
    unload_module(MODULE.stem)
    # A test that has pressed Reload leaves new classes, which are not those that other tests have imported.
    if any(sys.modules.get(name) is not module for name, module in before.items() if name != MODULE.stem):
        for name in _own_modules():
            del sys.modules[name]
        sys.modules.update(before)
    assert not unknown, f"widgets have no such properties: {', '.join(unknown)}"


def _own_modules() -> dict[str, ModuleType]:
    """What Python has imported from the module's folder."""
    folder = str(MODULE.parent)
    every = list(sys.modules.items())
    return {name: module for name, module in every if str(getattr(module, "__file__", None)).startswith(folder)}
