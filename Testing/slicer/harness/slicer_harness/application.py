"""`slicer.app` and what hangs on it: settings, layout manager, module manager."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import pythonqt

pythonqt.dress()

VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
DARK = {
    QtGui.QPalette.ColorRole.Window: "#353535",
    QtGui.QPalette.ColorRole.WindowText: "#ffffff",
    QtGui.QPalette.ColorRole.Base: "#2a2a2a",
    QtGui.QPalette.ColorRole.AlternateBase: "#353535",
    QtGui.QPalette.ColorRole.Text: "#ffffff",
    QtGui.QPalette.ColorRole.PlaceholderText: "#9a9a9a",
    QtGui.QPalette.ColorRole.Button: "#454545",
    QtGui.QPalette.ColorRole.ButtonText: "#ffffff",
    QtGui.QPalette.ColorRole.ToolTipBase: "#2a2a2a",
    QtGui.QPalette.ColorRole.ToolTipText: "#ffffff",
    QtGui.QPalette.ColorRole.Highlight: "#2a82da",
    QtGui.QPalette.ColorRole.HighlightedText: "#ffffff",
    QtGui.QPalette.ColorRole.Link: "#5aa5ef",
}


def _print_message(kind: QtCore.QtMsgType, context: Any, message: str) -> None:
    """Print what Qt warns of, but for a sentence that the off-screen platform says of every window."""
    if "propagateSizeHints" not in message:
        print(f"Qt: {message}", file=sys.stderr)


class ModuleManager(QtCore.QObject):
    """Knows the modules, and tells when one is unloaded."""

    moduleAboutToBeUnloaded = QtCore.Signal(str)
    moduleLoaded = QtCore.Signal(str)
    moduleUnloaded = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, Any] = {}

    def add(self, name: str, module: Any) -> None:
        self._modules[name.lower()] = module

    def remove(self, name: str) -> None:
        self._modules.pop(name.lower(), None)

    def module(self, name: str) -> Any:
        return self._modules.get(name.lower())

    def modulesNames(self) -> list[str]:
        return [module.name for module in self._modules.values()]

    def isLoaded(self, name: str) -> bool:
        return name.lower() in self._modules

    def factoryManager(self) -> Any:
        return SimpleNamespace(loadedModuleNames=self.modulesNames, isLoaded=self.isLoaded)


class SliceWidget:
    """A slice view without a window; `slice_png` draws what it would show."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class LayoutManager(QtCore.QObject):
    """Slice views with real logics; no view has a window."""

    layoutChanged = QtCore.Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._layout = 0
        self._widgets: dict[str, SliceWidget] = {}

    def setLogics(self, logics: dict[str, Any]) -> None:
        self._widgets = {name: SliceWidget(logic) for name, logic in logics.items()}

    def setLayout(self, layout: int) -> None:
        self._layout = layout
        self.layoutChanged.emit(layout)

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._widgets.get(name)

    def resetSliceViews(self) -> None:
        for widget in self._widgets.values():
            widget.fitSliceToBackground()

    threeDViewCount = plotViewCount = tableViewCount = 0
    layout = QtCore.Property(int, lambda self: self._layout, setLayout)


class Application(QtWidgets.QApplication):
    """What scripted modules ask of `slicer.app`; files go to a folder that is deleted at the end."""

    startupCompleted = QtCore.Signal()

    def __init__(self) -> None:
        QtCore.qInstallMessageHandler(_print_message)
        super().__init__([sys.argv[0]])
        self._folder = tempfile.TemporaryDirectory(prefix="SlicerHarness-", ignore_cleanup_errors=True)
        self.setOrganizationName("NA-MIC")
        self.setApplicationName("Slicer")
        self.setStyle("Fusion")
        self._palette = QtGui.QPalette(self.style().standardPalette())
        form = QtCore.QSettings.Format.IniFormat
        QtCore.QSettings.setDefaultFormat(form)
        for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
            QtCore.QSettings.setPath(form, scope, self._folder.name)
        self._settings = QtCore.QSettings()
        self._temporary = Path(self._folder.name) / "Temporary"
        self._temporary.mkdir()
        self._environment = QtCore.QProcessEnvironment.systemEnvironment()
        self._module_manager, self._layout_manager = ModuleManager(), LayoutManager()
        self._application_logic: Any = None
        self.keptAlive: tuple[Any, ...] = ()
        """Objects of MRML that nothing else refers to."""
        self.testing = False
        """Slicer's own test runs set it, and then errors are not shown; False shows what a user sees."""

    majorVersion, minorVersion = 5, 12
    revision = repositoryRevision = "0"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"
    slicerHome = property(lambda self: self._folder.name)
    slicerUserSettingsFilePath = property(lambda self: self._settings.fileName())
    launcherExecutableFilePath = ""

    def setTemporaryPath(self, path: str) -> None:
        self._temporary = Path(path)

    temporaryPath = property(lambda self: str(self._temporary), setTemporaryPath)

    def setDark(self, dark: bool) -> None:
        """Dark or light colours."""
        palette = QtGui.QPalette(self._palette)
        disabled, roles = QtGui.QPalette.ColorGroup.Disabled, QtGui.QPalette.ColorRole
        for role, color in DARK.items() if dark else ():
            palette.setColor(role, QtGui.QColor(color))
        for role in (roles.WindowText, roles.Text, roles.ButtonText) if dark else ():
            palette.setColor(disabled, role, QtGui.QColor("#7f7f7f"))
        self.setPalette(palette)

    def settings(self) -> QtCore.QSettings:
        return self._settings

    def userSettings(self) -> QtCore.QSettings:
        return self._settings

    def revisionUserSettings(self) -> QtCore.QSettings:
        return self._settings

    def testingEnabled(self) -> bool:
        return self.testing

    def setApplicationLogic(self, logic: Any) -> None:
        self._application_logic = logic

    def applicationLogic(self) -> Any:
        return self._application_logic

    def mrmlScene(self) -> Any:
        return self._application_logic.GetMRMLScene()

    def layoutManager(self) -> LayoutManager:
        return self._layout_manager

    def moduleManager(self) -> ModuleManager:
        return self._module_manager

    def pythonConsole(self) -> None:
        return None

    def mainWindow(self) -> None:
        return None

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        return self._environment

    def translate(self, context: str, text: str) -> str:
        return text

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def toSlicerHomeAbsolutePath(self, path: str) -> str:
        return os.path.join(self._folder.name, path)

    def setRenderPaused(self, paused: bool) -> None:
        """Nothing is drawn anyway."""

    def pauseRender(self) -> None:
        """Nothing is drawn anyway."""

    def resumeRender(self) -> None:
        """Nothing is drawn anyway."""
