"""The MRML scene of the application with the logics of Slicer's own modules, all of them real."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import slicer
import vtk

from .application import VIEWS, Application
from .subject_hierarchy import SubjectHierarchyFollower
from .vtk_errors import VtkErrors

LOGICS = {
    "colors": "vtkSlicerColorLogic",
    "units": "vtkSlicerUnitsLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "tables": "vtkSlicerTablesLogic",
    "plots": "vtkSlicerPlotsLogic",
    "texts": "vtkSlicerTextsLogic",
    "models": "vtkSlicerModelsLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "transforms": "vtkSlicerTransformLogic",
}
"""Logics by name of the module, those that others ask for first."""
MODULE_NAMES = {
    "subjecthierarchy": "SubjectHierarchy",
    **{name: name.capitalize() for name in LOGICS if name != "subjecthierarchy"},
}


class Module:
    """A module of the application, which has a logic and no panel.

    Args:
        name: as in Slicer.
        logic: of the module.
    """

    def __init__(self, name: str, logic: Any) -> None:
        self.name, self.title, self.path = name, name, ""
        self._logic = logic

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> None:
        return None


class SequencesModule(Module):
    """Sequences, which remembers the browsers that its tool bar would show."""

    def __init__(self, name: str, logic: Any) -> None:
        super().__init__(name, logic)
        self.toolBarBrowsers: list[Any] = []

    def setToolBarActiveBrowserNode(self, node: Any) -> None:
        self.toolBarBrowsers.append(node)

    def showSequenceBrowser(self, node: Any) -> bool:
        self.toolBarBrowsers.append(node)
        return True


def build_scene(app: Application) -> Any:
    """Make the scene, its logics and `slicer.modules`; the objects live as long as the application."""
    # The wheel lacks files that two logics look for: colours and terminologies.
    with VtkErrors():
        return _build_scene(app)


def _build_scene(app: Application) -> Any:
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic() if hasattr(slicer, "vtkSlicerApplicationLogic") else None
    logic = logic or slicer.vtkMRMLApplicationLogic()
    logic.SetTemporaryPath(app.temporaryPath)
    # It keeps no reference to the logics: the modules do.
    logics = {name: getattr(slicer, kind)() for name, kind in LOGICS.items() if hasattr(slicer, kind)}
    remote, data = _remote_io(scene)
    logic.SetMRMLScene(scene)
    logic.SetMRMLSceneDataIO(scene, remote, data)
    for name, each in logics.items():
        each.SetMRMLApplicationLogic(logic)
        logic.SetModuleLogic(MODULE_NAMES[name], each)
    for each in logics.values():
        each.SetMRMLScene(scene)
    logic.SetColorLogic(logics["colors"])
    slices = _slice_logics(scene, logic)
    logic.SetViewLogics(vtk.vtkCollection())
    app.setApplicationLogic(logic)
    app.layoutManager().setLogics(slices)
    modules = {name: Module(MODULE_NAMES[name], each) for name, each in logics.items()}
    modules["sequences"] = SequencesModule("Sequences", logics["sequences"])
    for name, module in modules.items():
        app.moduleManager().add(name, module)
    slicer.mrmlScene = scene
    slicer.modules = SimpleNamespace(**modules)
    slicer.moduleNames = SimpleNamespace(**{name: name for name in MODULE_NAMES.values()})
    app.keptAlive = (scene, logic, remote, data, slices, SubjectHierarchyFollower(scene))
    return scene


def _remote_io(scene: Any) -> tuple[Any, Any]:
    """Reading and writing of `.mrb` files asks for these."""
    remote, data = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.SetMRMLScene(scene)
    data.SetMRMLScene(scene)
    return remote, data


def _slice_logics(scene: Any, application_logic: Any) -> dict[str, Any]:
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    collection = vtk.vtkCollection()
    logics = {}
    for name, orientation in VIEWS.items():
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        node = logic.AddSliceNode(name)
        node.SetOrientation(orientation)
        node.SetSingletonTag(name)
        node.SetLayoutName(name)
        collection.AddItem(logic)
        logics[name] = logic
    application_logic.SetSliceLogics(collection)
    return logics


def clear_scene() -> None:
    """Close the scene; the slice views stay.

    Parameter nodes go as well, which Slicer keeps and resets: no test is to find what another has set.
    """
    slicer.mrmlScene.Clear(False)
    for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
        slicer.mrmlScene.RemoveNode(node)
