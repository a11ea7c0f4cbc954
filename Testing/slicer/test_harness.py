"""The stand-in for Slicer itself: where it is relied on to be like the application."""

from __future__ import annotations

import enum
import os
import pathlib
import subprocess
import sys
import time
from typing import Annotated, Any

import numpy as np
import pytest
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

import ctk
import qt
import SampleData
from slicer_harness.loop import LongestPause, process_events, wait_until
from slicer_harness.modules import complete_startup, load_module, reload_module, unload_module
from slicer_harness.pythonqt import unknown_attributes
from slicer_harness.views import screenshot, set_dark, show_volume, slice_png

UI = """<ui version="4.0"><class>Toy</class><widget class="qMRMLWidget" name="Toy"><layout class="QVBoxLayout">
<item><widget class="ctkCollapsibleButton" name="section"><property name="text"><string>Section</string></property>
 <layout class="QFormLayout">
 <item row="0" column="1"><widget class="qMRMLNodeComboBox" name="selector">
  <property name="nodeTypes" stdset="0"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
  <property name="noneEnabled"><bool>true</bool></property>
  <property name="unheardOf" stdset="0"><bool>true</bool></property>
 </widget></item>
 <item row="1" column="1"><widget class="ctkPathLineEdit" name="path">
  <property name="filters"><set>ctkPathLineEdit::Files|ctkPathLineEdit::Writable</set></property></widget></item>
 <item row="2" column="1"><widget class="QSpinBox" name="count">
  <property name="SlicerParameterName" stdset="0"><string>count</string></property></widget></item>
 <item row="3" column="1"><widget class="QPushButton" name="button"><property name="text"><string>Go</string></property>
 </widget></item></layout></widget></item></layout></widget>
<connections><connection><sender>Toy</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>selector</receiver>
<slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""

MODULE = """
import slicer
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

ENDED = []

@parameterNodeWrapper
class Parameters:
    count: int = 4

class Toy(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "A toy"
        slicer.app.connect("startupCompleted()", lambda: setattr(parent, "started", True))

class ToyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self):
        super().setup()
        widget = slicer.util.loadUI(self.resourcePath("UI/Toy.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = ToyLogic()
        self.entered = 0
        self.parameters = Parameters(self.logic.getParameterNode())
        self.tag = self.parameters.connectGui(self.ui)

    def enter(self):
        self.entered += 1

    def cleanup(self):
        self.parameters.disconnectGui(self.tag)
        ENDED.append(self.entered)

class ToyLogic(ScriptedLoadableModuleLogic):
    pass
"""


class Size(enum.Enum):
    SMALL = "small ones"
    LARGE = "large ones"

    def label(self) -> str:
        return self.value


@parameterNodeWrapper
class Settings:
    count: Annotated[int, WithinRange(1, 10)] = 3
    share: Annotated[float, WithinRange(0.0, 1.0)] = 0.25
    name: str = "heart"
    wanted: bool = True
    size: Size = Size.LARGE
    device: Annotated[str, Choice(["cpu", "cuda"])] = "cpu"
    folder: pathlib.Path
    names: list[str]
    volume: slicer.vtkMRMLScalarVolumeNode | None
    limit: int | None = None


@pytest.fixture
def settings(scene: Any) -> Settings:
    return Settings(ScriptedLoadableModuleLogic().getParameterNode())


@pytest.fixture
def bound(settings: Settings) -> dict[str, Any]:
    """A widget for each setting that one can be bound to, by its name."""
    widgets = {
        "count": qt.QSpinBox(),
        "share": ctk.ctkSliderWidget(),
        "name": qt.QLineEdit(),
        "wanted": qt.QCheckBox(),
        "size": qt.QComboBox(),
        "device": qt.QComboBox(),
        "folder": ctk.ctkPathLineEdit(),
        "volume": slicer.qMRMLNodeComboBox(),
    }
    panel = qt.QWidget()
    form = qt.QFormLayout(panel)
    widgets["volume"].noneEnabled = True
    widgets["volume"].setMRMLScene(slicer.mrmlScene)
    for name, widget in widgets.items():
        widget.setProperty("SlicerParameterName", name)
        form.addRow(name, widget)
    return {**widgets, "panel": panel}


@pytest.fixture
def toy(scene: Any, tmp_path: pathlib.Path) -> Any:
    """A module of a few lines, opened; deleted afterwards."""
    path = tmp_path / "Toy.py"
    path.write_text(MODULE, encoding="utf-8")
    (tmp_path / "Resources" / "UI").mkdir(parents=True)
    (tmp_path / "Resources" / "UI" / "Toy.ui").write_text(UI, encoding="utf-8")
    yield load_module(path)
    unload_module("Toy")
    sys.path.remove(str(tmp_path))
    sys.modules.pop("Toy", None)


def volume(name: str = "scan", shape: tuple[int, int, int] = (3, 20, 20)) -> Any:
    return slicer.util.addVolumeFromArray(np.full(shape, 100, np.int16), name=name)


def test_properties_are_attributes_and_methods_stay_methods(slicer_app: Any) -> None:
    label, spin, timer, combo = qt.QLabel("one"), qt.QSpinBox(), qt.QTimer(), qt.QComboBox()
    label.text, spin.value, timer.singleShot = "two", 7, True
    combo.addItem("cpu", {"index": 0})
    assert (label.text, spin.value, timer.singleShot, spin.enabled) == ("two", 7, True, True)
    assert combo.currentData == {"index": 0}
    assert label.parent() is None
    label.name = "greeting"
    assert label.objectName == "greeting"
    with pytest.raises(AttributeError, match="Signal"):
        _ = qt.Signal
    label.enable = False
    assert unknown_attributes(label) == ["QLabel.enable"]


def test_signals_connect_by_name_and_by_signature(slicer_app: Any) -> None:
    button, heard = qt.QPushButton(), []

    def listen() -> None:
        heard.append("signature")

    button.connect("clicked()", listen)
    button.clicked.connect(lambda: heard.append("name"))
    button.click()
    assert heard == ["signature", "name"]
    button.disconnect("clicked()", listen)
    button.click()
    assert heard == ["signature", "name", "name"]
    with pytest.raises(RuntimeError, match="no signal"):
        button.connect("pressedTwice()", listen)
    once = []
    qt.QTimer.singleShot(0, lambda: once.append(1))
    wait_until(lambda: once)


def test_children_are_found_by_class_and_name(slicer_app: Any) -> None:
    parent = qt.QWidget()
    button = qt.QPushButton(parent)
    button.name = "go"
    assert parent.findChild(qt.QPushButton, "go") is button
    assert parent.findChild("QAbstractButton", "go") is button
    assert parent.findChild("go") is None, "as in PythonQt, where the first argument is a class"


def test_a_process_echoes_and_tells_its_end_in_numbers(slicer_app: Any) -> None:
    process, told, lines = qt.QProcess(), [], []
    process.finished.connect(lambda code, status: told.append((code, int(status), status == 0)))
    process.errorOccurred.connect(lambda error: told.append((error == 0, int(error))))
    process.readyReadStandardOutput.connect(lambda: lines.append(bytes(process.readAllStandardOutput().data())))
    process.start(sys.executable, ["-c", "import sys; sys.stdout.write(sys.stdin.readline())"])
    process.write("Größe\n")
    wait_until(lambda: told)
    assert b"".join(lines) == "Größe\n".encode()
    assert told == [(0, 0, True)]
    told.clear()
    process.start("/a/program/that/is/not/there", [])
    wait_until(lambda: told)
    assert told == [(True, 0)]
    assert process.state() == qt.QProcess.NotRunning == 0


def test_settings_are_bound_both_ways(settings: Any, bound: dict[str, Any]) -> None:
    tag = settings.connectGui(bound["panel"])
    assert [bound["size"].itemText(i) for i in range(2)] == ["small ones", "large ones"]
    assert (bound["count"].value, bound["size"].currentIndex, bound["share"].value) == (3, 1, 0.25)
    assert (bound["count"].minimum, bound["count"].maximum, bound["share"].maximum) == (1, 10, 1.0)
    node = volume()
    bound["count"].value = 7
    bound["share"].value = 0.5
    bound["name"].text = "aorta"
    bound["wanted"].checked = False
    bound["size"].currentIndex = 0
    bound["device"].currentIndex = 1
    bound["folder"].currentPath = "/data"
    bound["volume"].setCurrentNode(node)
    assert (settings.count, settings.share, settings.name, settings.wanted) == (7, 0.5, "aorta", False)
    assert (settings.size, settings.device, settings.folder) == (Size.SMALL, "cuda", pathlib.Path("/data"))
    assert settings.volume is node
    settings.count, settings.size, settings.volume, settings.folder = 2, Size.LARGE, None, pathlib.Path("/other")
    assert (bound["count"].value, bound["size"].currentIndex, bound["volume"].currentNode()) == (2, 1, None)
    assert bound["folder"].currentPath == "/other"
    settings.disconnectGui(tag)
    bound["count"].value = 9
    assert settings.count == 2


def test_settings_are_kept_in_the_scene_as_slicer_keeps_them(settings: Any) -> None:
    settings.names = ["a", "b"]
    settings.names.append("c")
    settings.limit = 5
    node = settings.parameterNode
    assert [node.GetParameter(name) for name in ("count", "size", "wanted")] == ["3", "LARGE", "True"]
    again = Settings(node)
    assert (list(again.names), again.limit, again.folder) == (["a", "b", "c"], 5, pathlib.Path())
    told = []
    settings.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *event: told.append(1))
    settings.count = 4
    assert told
    assert again.count == 4
    assert settings.default("count").value == 3


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("count", 11, ValueError), ("count", 2.5, TypeError), ("size", "LARGE", TypeError), ("name", None, ValueError)],
)
def test_wrong_settings_are_refused(settings: Any, name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        setattr(settings, name, value)


def test_the_node_box_follows_the_scene(scene: Any) -> None:
    box, told = slicer.qMRMLNodeComboBox(), []
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert not box.enabled
    box.setMRMLScene(scene)
    box.currentNodeChanged.connect(told.append)
    first, second = volume("first"), volume("second")
    assert box.currentNode() is first, "without None there is always a node"
    assert box.nodeCount() == 2
    box.setCurrentNodeID(second.GetID())
    first.SetName("renamed")
    assert [box._combo.itemText(i) for i in range(2)] == ["renamed", "second"]
    scene.RemoveNode(second)
    assert box.currentNode() is first
    assert told == [first, second, first]
    box.addAttribute("vtkMRMLScalarVolumeNode", "kind", "MR")
    assert box.currentNode() is None
    first.SetAttribute("kind", "MR")
    assert box.currentNode() is first


def test_the_node_box_offers_none_and_hides_children_where_it_is_told(scene: Any) -> None:
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.noneEnabled = True
    box.showChildNodeTypes = False
    box.setMRMLScene(scene)
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    volume()
    assert box.currentNode() is None
    assert box.nodeCount() == 1
    box.showChildNodeTypes = True
    assert box.nodeCount() == 2
    scene.Clear(False)
    assert box.nodeCount() == 0


def test_a_closed_section_hides_what_is_in_it(slicer_app: Any) -> None:
    section = ctk.ctkCollapsibleButton("Section")
    column, told = qt.QVBoxLayout(section), []
    shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
    for label in (shown, hidden):
        column.addWidget(label)
    hidden.visible = False
    section.contentsCollapsed.connect(told.append)
    section.show()
    section.collapsed = True
    shown.visible = True
    assert not shown.visible
    section.collapsed = False
    assert shown.visible
    assert not hidden.visible
    assert told == [True, False]


def test_a_module_is_loaded_reloaded_and_unloaded(toy: Any) -> None:
    entry = slicer.modules.toy
    assert entry.title == "A toy"
    assert toy.entered == 1
    assert toy.ui.selector.mrmlScene() is slicer.mrmlScene, "by the connection in the .ui file"
    assert toy.ui.path.filters == ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Writable
    assert toy.ui.count.value == 4
    complete_startup()
    assert entry.started
    assert slicer.util.getModuleLogic("Toy") is toy.logic
    ended = sys.modules["Toy"].ENDED
    again = reload_module("Toy")
    assert again is not toy
    assert slicer.util.getModuleWidget("Toy") is again
    assert ended == [1]
    unload_module("Toy")
    assert sys.modules["Toy"].ENDED == [0], "as the manager of modules has told it"
    assert not hasattr(slicer.modules, "toy")


def test_dialogs_are_recorded_and_answered(dialogs: Any) -> None:
    slicer.util.errorDisplay("too large")
    assert dialogs.errors == ["too large"]
    assert slicer.util.confirmOkCancelDisplay("Install?")
    dialogs.confirm = False
    assert not slicer.util.confirmYesNoDisplay("Remove?")
    assert dialogs.texts_of("confirmYesNoDisplay") == ["Remove?"]
    assert qt.QMessageBox.question(None, "title", "Really?") == qt.QMessageBox.No
    dialogs.paths = ["/chosen"]
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == "/chosen"
    assert qt.QFileDialog.getSaveFileName(None, "File") == ""
    assert qt.QDesktopServices.openUrl(qt.QUrl("https://example.org"))
    assert dialogs.opened == ["https://example.org"]
    with pytest.raises(ValueError, match="wrong"), slicer.util.tryWithErrorDisplay("It failed."):
        raise ValueError("wrong")
    assert dialogs.errors[-1].startswith("It failed.")


def test_errors_of_callbacks_and_of_vtk_are_caught(vtk_errors: Any, unhandled_errors: list[BaseException]) -> None:
    button, table = qt.QPushButton(), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")

    def fail(*arguments: Any) -> None:
        raise RuntimeError("in a callback")

    button.clicked.connect(fail)
    button.click()
    table.AddObserver(vtk.vtkCommand.ModifiedEvent, fail)
    table.Modified()
    assert [str(error) for error in unhandled_errors] == ["in a callback"] * 2
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLNoSuchNode")
    assert "vtkMRMLNoSuchNode" in vtk_errors.text
    unhandled_errors.clear()
    vtk_errors.clear()


def test_nodes_have_items_in_subject_hierarchy(scene: Any) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    before = hierarchy.GetNumberOfItems()
    node = volume()
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "folder")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), folder)
    assert hierarchy.GetNumberOfItems() == before + 2
    scene.RemoveNode(node)
    assert hierarchy.GetNumberOfItems() == before + 1


def test_a_slice_view_shows_image_and_segment(scene: Any, tmp_path: pathlib.Path) -> None:
    node = volume()
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevel(200, 100)
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[:, 5:15, 5:15] = 1
    labelmap = slicer.util.addVolumeFromArray(labels, nodeClassName="vtkMRMLLabelMapVolumeNode")
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    names = vtk.vtkStringArray()
    names.InsertNextValue("heart")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, segmentation, names)
    segmentation.GetSegmentation().GetSegment("heart").SetColor(1.0, 0.0, 0.0)
    segmentation.GetDisplayNode().SetOpacity2DFill(1.0)
    show_volume(node)
    picture = qt.QImage(str(slice_png(tmp_path / "slice.png", (200, 160))))
    assert (picture.width(), picture.height()) == (200, 160)
    inside, outside = qt.QColor(picture.pixel(100, 80)), qt.QColor(picture.pixel(40, 20))
    assert inside.red() > 200 > 60 > inside.green()
    assert outside.red() == outside.green() == outside.blue()
    assert 100 < outside.red() < 155


def test_a_panel_is_grabbed_in_light_and_dark(toy: Any, tmp_path: pathlib.Path) -> None:
    light = qt.QImage(str(screenshot(toy, tmp_path / "light.png")))
    set_dark(slicer.app)
    dark = qt.QImage(str(screenshot(toy, tmp_path / "dark.png")))
    set_dark(slicer.app, False)
    assert light.width() == dark.width() == 350
    assert qt.QColor(light.pixel(2, 2)).lightness() > 200
    assert qt.QColor(dark.pixel(2, 2)).lightness() < 80


def test_pauses_of_the_event_loop_are_measured(slicer_app: Any) -> None:
    with LongestPause() as pause:
        end = time.monotonic() + 0.1
        wait_until(lambda: time.monotonic() > end)
    assert pause.milliseconds < 80
    with LongestPause() as pause:
        process_events()
        time.sleep(0.12)
        process_events()
    assert 110 < pause.milliseconds < 400
    assert "time.sleep(0.12)" in str(pause)


def test_waiting_in_vain_says_for_what(slicer_app: Any) -> None:
    with pytest.raises(AssertionError, match="the moon"):
        wait_until(lambda: False, 0.05, "the moon")


def test_sample_data_are_registered_as_slicer_takes_them(scene: Any) -> None:
    register = SampleData.SampleDataLogic.registerCustomSampleDataSource
    register(category="Test", sampleName="made", customDownloader=lambda source: [volume("made")])
    assert SampleData.downloadSample("made").GetName() == "made"
    with pytest.raises(TypeError):
        register(category="Test", sampleName="other", sampleDescription="there is no such keyword")
    del slicer.modules.sampleDataSources["Test"]


def test_settings_and_files_of_the_application_are_its_own(scene: Any) -> None:
    qt.QSettings().setValue("Test/Key", "value")
    assert slicer.app.settings().value("Test/Key") == "value"
    assert slicer.app.temporaryPath in slicer.util.tempDirectory()
    assert pathlib.Path(slicer.app.slicerUserSettingsFilePath).is_relative_to(slicer.app.slicerHome)
    assert slicer.util.mainWindow() is None
    assert slicer.util.startupEnvironment()["PATH"] == os.environ["PATH"]
    assert slicer.app.layoutManager().sliceViewNames() == ("Red", "Yellow", "Green")


@pytest.mark.skipif("SLICER_SOURCE" in os.environ, reason="Slicer's own slicer.packaging installs for real")
def test_packages_are_checked_for_real_and_never_installed(dialogs: Any) -> None:
    from slicer import packaging

    packaging.reset()
    assert packaging.pip_check("numpy>=1.0")
    assert not packaging.pip_check(["numpy", "a-package-that-is-not-there"])
    packaging.pip_ensure("a-package-that-is-not-there", requester="Test")
    assert packaging.calls == [
        ("pip_ensure", ["a-package-that-is-not-there"], {"requester": "Test", "prompt_install": True})
    ]
    packaging.fail()
    with pytest.raises(subprocess.CalledProcessError):
        packaging.pip_install("a-package-that-is-not-there")
    packaging.reset()


def test_texts_pass_through_the_translation(slicer_app: Any) -> None:
    assert _("Generate") == "Generate"
