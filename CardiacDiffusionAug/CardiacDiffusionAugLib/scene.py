"""Volumes and segmentations of the scene: from arrays and files, with closed terminology and true geometry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import STRUCTURES, Structure

TERMINOLOGY = "CardiacDiffusionAug short axis"
CATEGORY = "SCT^123037004^Anatomical Structure"
TERMINOLOGY_FILE = (
    Path(__file__).resolve().parent.parent / "Resources" / "Terminology" / "CardiacDiffusionAug.term.json"
)
BINARY = "Binary labelmap"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def loadTerminology() -> None:
    """Make the terms of the three structures known to Slicer; once is enough."""
    logic = slicer.modules.terminologies.logic()
    if TERMINOLOGY not in _loadedTerminologies(logic):
        logic.LoadTerminologyFromFile(str(TERMINOLOGY_FILE))


def _loadedTerminologies(logic: vtk.vtkObject) -> list[str]:
    names = vtk.vtkStringArray()
    logic.GetLoadedTerminologyNames(names)
    return [names.GetValue(i) for i in range(names.GetNumberOfValues())]


def terminologyEntry(structure: Structure) -> str:
    """The term of a structure, as Slicer writes it into a segment's tag."""
    return f"{TERMINOLOGY}~{CATEGORY}~SCT^{structure.snomed_ct}^{structure.name}~^^~~^^~^^"


def addImageNode(stack: sitk.Image, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """An image as a volume node of the scene, with its geometry."""
    node = imageNode(stack)
    node.SetName(name)
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    return node


def imageNode(stack: sitk.Image) -> slicer.vtkMRMLScalarVolumeNode:
    """An image as a volume node that is in no scene."""
    node = slicer.vtkMRMLScalarVolumeNode()
    _setImage(node, stack)
    return node


def _setImage(node: slicer.vtkMRMLVolumeNode, stack: sitk.Image) -> None:
    image = vtk.vtkImageData()
    _fill(image, sitk.GetArrayViewFromImage(stack))
    node.SetIJKToRASMatrix(ijkToRas(stack))
    node.SetAndObserveImageData(image)


def _fill(image: vtk.vtkImageData, array: np.ndarray) -> None:
    if array.dtype.kind == "b" or array.dtype in (np.float16, np.int64, np.uint64):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.int32)
    image.SetDimensions(*array.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True))


def ijkToRas(stack: sitk.Image) -> vtk.vtkMatrix4x4:
    """Slicer's matrix of a stack: SimpleITK counts to the left and back, Slicer to the right and front."""
    direction = LPS_TO_RAS @ np.reshape(stack.GetDirection(), (3, 3))
    origin = LPS_TO_RAS @ np.array(stack.GetOrigin())
    matrix = vtk.vtkMatrix4x4()
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, direction[row, column] * stack.GetSpacing()[column])
        matrix.SetElement(row, 3, origin[row])
    return matrix


def stackOf(node: slicer.vtkMRMLVolumeNode) -> sitk.Image:
    """A volume node as an image with its geometry.

    Transforms above the node count: what is seen is what is written.
    """
    array = slicer.util.arrayFromVolume(node)
    stack = sitk.GetImageFromArray(array)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    vtk.vtkMatrix4x4.Multiply4x4(toWorld(node), matrix, matrix)
    columns = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(3)])
    spacing = np.linalg.norm(columns[:, :3], axis=0)
    stack.SetSpacing(spacing.tolist())
    stack.SetDirection((LPS_TO_RAS @ (columns[:, :3] / spacing)).ravel().tolist())
    stack.SetOrigin((LPS_TO_RAS @ columns[:, 3]).tolist())
    return stack


def toWorld(node: slicer.vtkMRMLTransformableNode) -> vtk.vtkMatrix4x4:
    """From a node's own coordinates to those of the world.

    Raises:
        CardiacError: it is bent, not only moved.
    """
    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent is not None:
        if not parent.IsTransformToWorldLinear():
            raise CardiacError(f"{node.GetName()} is under a warping transform; harden the transform first.")
        parent.GetMatrixTransformToWorld(matrix)
    return matrix


def segmentationNode(mask: sitk.Image) -> slicer.vtkMRMLSegmentationNode:
    """A mask in the engine's labels as a segmentation node that is in no scene; all segments share one layer."""
    node = slicer.vtkMRMLSegmentationNode()
    setSegments(node, mask)
    return node


def addSegmentationNode(
    mask: sitk.Image, name: str, reference: slicer.vtkMRMLVolumeNode | None = None
) -> slicer.vtkMRMLSegmentationNode:
    """A mask as a segmentation node of the scene, with the reference geometry and role set."""
    node = segmentationNode(mask)
    node.SetName(name)
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    if reference is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
        placeBeside(node, reference)
    return node


def setSegments(node: slicer.vtkMRMLSegmentationNode, mask: sitk.Image) -> None:
    """Replace the segments of a node by those of a mask in the engine's labels."""
    image = slicer.vtkOrientedImageData()
    _fill(image, sitk.GetArrayViewFromImage(mask).astype(np.uint8, copy=False))
    image.SetGeometryFromImageToWorldMatrix(ijkToRas(mask))
    segmentation = node.GetSegmentation()
    segmentation.RemoveAllSegments()
    segmentation.SetSourceRepresentationName(BINARY)
    for structure in STRUCTURES:
        segment = slicer.vtkSegment()
        segment.SetName(structure.name)
        segment.SetColor(*(channel / 255 for channel in structure.color))
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terminologyEntry(structure))
        segment.SetLabelValue(structure.value)
        segment.AddRepresentation(BINARY, image)
        segmentation.AddSegment(segment, structure.key)


def subjectHierarchy() -> slicer.vtkMRMLSubjectHierarchyNode:
    """The one hierarchy of the scene."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def itemOf(node: slicer.vtkMRMLNode) -> int:
    """A node's item in the hierarchy; the application makes them by itself, but not in every process."""
    hierarchy = subjectHierarchy()
    item = hierarchy.GetItemByDataNode(node)
    return item or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def placeBeside(node: slicer.vtkMRMLNode, neighbour: slicer.vtkMRMLNode) -> None:
    """Put a node where another one is in the hierarchy."""
    hierarchy = subjectHierarchy()
    hierarchy.SetItemParent(itemOf(node), hierarchy.GetItemParent(itemOf(neighbour)))


def nodesOfClass(name: str) -> Iterator[slicer.vtkMRMLNode]:
    """Nodes of the scene of a class."""
    scene = slicer.mrmlScene
    return (scene.GetNthNodeByClass(i, name) for i in range(scene.GetNumberOfNodesByClass(name)))
