"""The heart in volumes and cines of the scene: segmentation nodes, a table of its function, curves over the cycle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import slicer
import vtk

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import STRUCTURES
from cardiac_diffusion_aug.measurements import MYOCARDIAL_DENSITY, Frame, Function, function_of, volumes_of

from .files import writeMetaImage
from .job import Callbacks, Job
from .plots import Curves, showCurves
from .saving import fileName
from .scene import addSegmentationNode, nodesOfClass, placeBeside, segmentationNode
from .tasks import Tasks, removedOnError

SEQUENCE_CLASS, BROWSER_CLASS = "vtkMRMLSequenceNode", "vtkMRMLSequenceBrowserNode"
UNITS = {"EDV": "ml", "ESV": "ml", "SV": "ml", "EF": "%"}


@dataclass
class Found:
    """What was found in a scan.

    Attributes:
        segmentation: of a stack; of a cine, the node that follows its browser. None where there is no heart.
        sequence: of a cine, the segmentations of all frames.
        table: of volumes, and of the function of the heart where several moments are known.
        chart: volumes over the cycle, of a cine.
        values: EDV, ESV, SV, EF by side such as `LV_EF`, and `mass` in g; of a single stack its volumes in ml.
        warning: why there is no heart, or what else is to be known.
    """

    segmentation: slicer.vtkMRMLSegmentationNode | None = None
    sequence: slicer.vtkMRMLSequenceNode | None = None
    table: slicer.vtkMRMLTableNode | None = None
    chart: slicer.vtkMRMLPlotChartNode | None = None
    values: dict[str, float] = field(default_factory=dict)
    warning: str = ""


def framesOf(node: slicer.vtkMRMLNode) -> list[slicer.vtkMRMLVolumeNode]:
    """The volumes of a node: itself, or those of a sequence.

    Raises:
        CardiacError: there are none.
    """
    if not node.IsA(SEQUENCE_CLASS):
        return [node]
    frames = [node.GetNthDataNode(i) for i in range(node.GetNumberOfDataNodes())]
    if not frames or not all(frame.IsA("vtkMRMLScalarVolumeNode") for frame in frames):
        raise CardiacError(f"{node.GetName()} is not a sequence of volumes; choose a cine.")
    return frames


def startSegmenting(
    tasks: Tasks, node: slicer.vtkMRMLNode, callbacks: Callbacks, settings: Mapping[str, Any]
) -> tuple[Job, Found]:
    """Ask for the heart in a volume or a sequence of volumes.

    Raises:
        CardiacError: the node holds no volumes.
    """
    frames = framesOf(node)
    found = Found()
    folder = tasks.newFolder()
    with removedOnError(folder):
        # The name comes back in what the engine says of the scan.
        path = folder / f"{fileName(node.GetName())}.mha"

        def load(job: Job, made: dict[str, Any]) -> Iterator[None]:
            found.warning = made["warning"]
            yield from _load(found, node, frames, Path(made["mask"]))
            callbacks.result(job, found)

        wanted = {**settings, "input": path, "output": folder / "found"}
        return tasks.start("segment", wanted, load, callbacks, folder, writeMetaImage(frames, path)), found


def _load(found: Found, node: slicer.vtkMRMLNode, frames: list[slicer.vtkMRMLVolumeNode], path: Path) -> Iterator[None]:
    masks = sitk.ReadImage(str(path))
    yield None
    if not slicer.mrmlScene.IsNodePresent(node):
        raise CardiacError("The scan was removed from the scene, so what was found in it is dropped.")
    measured: list[Frame] = []
    if masks.GetDimension() == 3:
        measured.append(Frame(node.GetName(), node.GetName(), None, None, volumes_of(masks)))
        if measured[0].volumes:
            found.segmentation = addSegmentationNode(masks, f"{node.GetName()} heart", node)
    else:
        yield from _loadCine(found, node, masks, measured)
    _measure(found, node, measured)


def _loadCine(
    found: Found, node: slicer.vtkMRMLSequenceNode, masks: sitk.Image, measured: list[Frame]
) -> Iterator[None]:
    sequence = slicer.mrmlScene.AddNewNodeByClass(SEQUENCE_CLASS, f"{node.GetName()} heart")
    sequence.SetIndexType(node.GetIndexType())
    sequence.SetIndexName(node.GetIndexName())
    sequence.SetIndexUnit(node.GetIndexUnit())
    for i in range(masks.GetSize()[3]):
        mask = masks[..., i]
        measured.append(Frame(node.GetName(), node.GetName(), i, None, volumes_of(mask)))
        frame = segmentationNode(mask)
        frame.SetName(sequence.GetName())
        sequence.SetDataNodeAtValue(frame, node.GetNthIndexValue(i))
        yield None
    if not any(frame.volumes for frame in measured):
        slicer.mrmlScene.RemoveNode(sequence)
        return
    found.sequence = sequence
    browser = _browserOf(node)
    browser.AddSynchronizedSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    found.segmentation = browser.GetProxyNode(sequence)
    if found.segmentation.GetDisplayNode() is None:
        found.segmentation.CreateDefaultDisplayNodes()
    shown = browser.GetProxyNode(node)
    found.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(shown)
    for own in (sequence, found.segmentation):
        placeBeside(own, shown)


def _browserOf(sequence: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode:
    """The browser that shows a sequence, or a new one."""
    for browser in nodesOfClass(BROWSER_CLASS):
        if browser.IsSynchronizedSequenceNodeID(sequence.GetID(), True):
            return browser
    browser = slicer.mrmlScene.AddNewNodeByClass(BROWSER_CLASS, f"{sequence.GetName()} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser


def _measure(found: Found, node: slicer.vtkMRMLNode, measured: list[Frame]) -> None:
    if not any(frame.volumes for frame in measured):
        return
    function = function_of(measured)
    if function is None:
        volumes = measured[0].volumes
        found.values = {**volumes, "mass": volumes["MYO"] * MYOCARDIAL_DENSITY}
        rows = [(f"{s.key} volume", volumes[s.key], "ml") for s in STRUCTURES]
    else:
        found.values = {**function.values, "mass": function.mass}
        rows = list(_rows(function))
    rows.append(("Myocardial mass", found.values["mass"], "g"))
    found.table = _table(f"{node.GetName()} measurements", rows)
    placeBeside(found.table, found.segmentation)
    if len(measured) > 1:
        values = {s.name: [frame.volumes.get(s.key, 0.0) for frame in measured] for s in STRUCTURES}
        colors = {s.name: s.color for s in STRUCTURES}
        curves = Curves(f"{node.GetName()} volumes over the cycle", range(len(measured)), values, colors)
        found.chart = showCurves(f"{node.GetName()} volumes", ("frame", "ml"), [curves])


def _rows(function: Function) -> Iterator[tuple[str, float, str]]:
    for name, value in function.values.items():
        side, quantity = name.split("_")
        yield f"{side} {quantity}", value, UNITS[quantity]
    yield "End-diastole, frame", float(function.end_diastole.frame or 0), ""
    yield "End-systole, frame", float(function.end_systole.frame or 0), ""


def _table(name: str, rows: list[tuple[str, float, str]]) -> slicer.vtkMRMLTableNode:
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    table.SetUseColumnTitleAsColumnHeader(True)
    texts = {
        "quantity": [row[0] for row in rows],
        "value": [f"{row[1]:.1f}" if row[2] else f"{row[1]:.0f}" for row in rows],
        "unit": [row[2] for row in rows],
    }
    for title, values in texts.items():
        array = vtk.vtkStringArray()
        array.SetName(title)
        for value in values:
            array.InsertNextValue(value)
        table.AddColumn(array)
    return table
