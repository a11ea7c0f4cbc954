"""Scripted modules, loaded, reloaded and unloaded as the application does it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .loop import process_events
from .mrml_widgets import qMRMLWidget


class qSlicerScriptedLoadableModule:
    """What a scripted module gets as its parent, and finds under `slicer.modules`."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = str(path), path.stem
        self.title = self.helpText = self.acknowledgementText = ""
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self.associatedNodeTypes: list[str] = []
        self.icon = QtGui.QIcon()
        self.hidden = False
        self.index = -1
        self._widget: Any = None

    def logic(self) -> Any:
        return slicer.vtkSlicerScriptedLoadableModuleLogic()

    def widgetRepresentation(self) -> Any:
        """The panel, made when it is first asked for."""
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self.name)
            self._widget.reload()
        return self._widget


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What the panel of a scripted module is put into."""

    def __init__(self, name: str) -> None:
        super().__init__()
        QtWidgets.QVBoxLayout(self)
        self.setObjectName(f"qSlicer{name}ModuleWidget")
        self._name = name
        self._self: Any = None
        self.setMRMLScene(slicer.mrmlScene)

    def self(self) -> Any:
        """The object that the module's file makes."""
        return self._self

    def reload(self) -> None:
        """Make the panel from the file as it was last read."""
        self._self = getattr(sys.modules[self._name], f"{self._name}Widget")(self)
        setattr(slicer.modules, f"{self._name}Widget", self._self)
        self._self.setup()

    def enter(self) -> None:
        """The user opens the module."""
        _call(self._self, "enter")

    def exit(self) -> None:
        """The user opens another module."""
        _call(self._self, "exit")


def _call(thing: Any, name: str) -> None:
    if hasattr(thing, name):
        getattr(thing, name)()


def load_module(path: str | Path, open_it: bool = True) -> Any:
    """Load a scripted module from its file.

    Args:
        path: of the `.py` file.
        open_it: make its panel and enter it, as when a user opens the module.

    Returns:
        The module's widget object, or the entry under `slicer.modules` where it was not opened.
    """
    path = Path(path).resolve()
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.modules[name] = code
    spec.loader.exec_module(code)
    entry = qSlicerScriptedLoadableModule(path)
    setattr(slicer.modules, f"{name}Instance", getattr(code, name)(entry))
    setattr(slicer.modules, name.lower(), entry)
    setattr(slicer.moduleNames, name, name)
    slicer.app.moduleManager().add(name, entry)
    _call(getattr(slicer.modules, f"{name}Instance"), "setup")
    if not open_it:
        return entry
    # Off screen, but shown: `visible` is False for all widgets of a panel that is not.
    entry.widgetRepresentation().show()
    entry.widgetRepresentation().enter()
    return entry.widgetRepresentation().self()


def reload_module(name: str) -> Any:
    """Press the button Reload: the module's own `onReload`; the new widget object comes back."""
    getattr(slicer.modules, f"{name}Widget").onReload()
    process_events()
    return getattr(slicer.modules, f"{name}Widget")


def unload_module(name: str) -> None:
    """Let go of a module as the application does when it ends; safe to call twice."""
    entry = getattr(slicer.modules, name.lower(), None)
    if entry is None:
        return
    manager = slicer.app.moduleManager()
    manager.moduleAboutToBeUnloaded.emit(name)
    if entry._widget is not None:
        entry._widget.deleteLater()
        entry._widget._self = entry._widget = None
    for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
        vars(slicer.modules).pop(attribute, None)
    manager.remove(name)
    manager.moduleUnloaded.emit(name)
    _forget_startup()
    process_events()


def complete_startup() -> None:
    """Tell the modules that the application has started, which they hear once."""
    slicer.app.startupCompleted.emit()
    _forget_startup()
    process_events()


def _forget_startup() -> None:
    """Modules of earlier tests are not to hear of a start."""
    if slicer.app.receivers(QtCore.SIGNAL("startupCompleted()")):
        slicer.app.startupCompleted.disconnect()
