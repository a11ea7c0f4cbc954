"""Masks from whatever the user has drawn: which segment or label is which structure, on which geometry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import LV, MYO, RV, STRUCTURES, value_of_name

from .scene import BINARY, LPS_TO_RAS, ijkToRas, stackOf, toWorld

PAINT_ORDER = (RV, MYO, LV)
"""Where segments overlap the last one wins: a filled epicardium keeps its cavity."""


@dataclass(frozen=True)
class Part:
    """A segment, or a label of a label map.

    Attributes:
        key: id of the segment, or the label.
        name: for people.
        value: of the structure that it is taken for, as the engine counts; None for none.
    """

    key: str
    name: str
    value: int | None


def partsOf(node: slicer.vtkMRMLNode) -> list[Part]:
    """What a segmentation or label map holds, and which structure each part is taken for.

    Segments are recognized by their terminology, then by their name; labels by their name in the colour table.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        segmentation = node.GetSegmentation()
        ids = [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())]
        parts = [_partOfSegment(key, segmentation.GetSegment(key)) for key in ids]
    else:
        parts = _partsOfLabelmap(node)
    return _eachOnce(parts)


def _partOfSegment(key: str, segment: slicer.vtkSegment) -> Part:
    return Part(key, segment.GetName(), _valueOfTerm(segment) or value_of_name(segment.GetName()))


def _valueOfTerm(segment: slicer.vtkSegment) -> int | None:
    term = vtk.reference("")
    if not segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), term):
        return None
    fields = str(term).split("~")
    codes = [field.split("^") for field in fields[2:4]]
    return next((s.value for s in STRUCTURES if any(code[:2] == ["SCT", s.snomed_ct] for code in codes)), None)


def _partsOfLabelmap(node: slicer.vtkMRMLLabelMapVolumeNode) -> list[Part]:
    colors = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() else None
    values = [int(v) for v in np.unique(slicer.util.arrayFromVolume(node)) if v > 0] if node.GetImageData() else []
    names = {value: (colors.GetColorName(value) if colors else None) or str(value) for value in values}
    return [Part(str(value), name, value_of_name(name)) for value, name in names.items()]


def _eachOnce(parts: Iterable[Part]) -> list[Part]:
    """A structure belongs to the first part that looks like it; the user may say otherwise."""
    taken: set[int] = set()
    result = []
    for part in parts:
        value = part.value if part.value not in taken else None
        taken |= {value} if value is not None else set()
        result.append(Part(part.key, part.name, value))
    return result


@dataclass(frozen=True)
class DrawnMask:
    """A mask, ready for the engine.

    Attributes:
        stack: labels as the engine counts.
        remark: a sentence about what was decided on the way; often empty.
    """

    stack: sitk.Image
    remark: str = ""


def drawnMask(
    node: slicer.vtkMRMLNode,
    chosen: Mapping[str, int | None] | None = None,
    reference: slicer.vtkMRMLVolumeNode | None = None,
) -> DrawnMask:
    """The mask in a segmentation or label map.

    Args:
        node: segmentation or label map.
        chosen: structure by key of a part, where it is not the recognized one; None leaves the part out.
        reference: volume whose geometry the mask takes; by default the one that it was drawn on.

    Raises:
        CardiacError: there is no such node, it is empty, or none of its parts is a structure.
    """
    parts = {part.key: part.value for part in partsOf(node)}
    # One that was told may have been removed since.
    parts |= {key: value for key, value in (chosen or {}).items() if key in parts}
    keys = {value: [key for key, its in parts.items() if its == value] for value in PAINT_ORDER}
    if not any(keys.values()):
        raise CardiacError(
            f"{node.GetName()} has no segment for LV, myocardium or RV; say in the table which one is which."
            if parts
            else f"{node.GetName()} is empty: draw a heart in it first."
        )
    if node.IsA("vtkMRMLSegmentationNode"):
        return _fromSegmentation(node, keys, reference)
    stack = stackOf(node)
    array = sitk.GetArrayViewFromImage(stack)
    return _painted(stack, {value: [array == int(key) for key in own] for value, own in keys.items()}, node)


def _fromSegmentation(
    node: slicer.vtkMRMLSegmentationNode,
    keys: Mapping[int, list[str]],
    reference: slicer.vtkMRMLVolumeNode | None,
) -> DrawnMask:
    segmentation = node.GetSegmentation()
    reference = reference or node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    if not segmentation.ContainsRepresentation(BINARY):
        if reference is not None:
            node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
        if not segmentation.CreateRepresentation(BINARY):
            raise CardiacError(f"{node.GetName()} cannot be turned into a label map; draw it on a volume.")
    geometry = _geometry(node, reference)
    frame = sitk.Image(*_frame(geometry))
    place = toWorld(node)
    wanted = {
        value: [_onGeometry(segmentation.GetSegment(key), geometry, place) for key in own]
        for value, own in keys.items()
    }
    _placeLike(frame, geometry)
    return _painted(frame, wanted, node)


def _geometry(
    node: slicer.vtkMRMLSegmentationNode, reference: slicer.vtkMRMLVolumeNode | None
) -> slicer.vtkOrientedImageData:
    """The grid of the reference volume, or else the one that the segments share."""
    geometry = slicer.vtkOrientedImageData()
    if reference is not None and reference.GetImageData() is not None:
        stack = stackOf(reference)
        geometry.SetDimensions(*stack.GetSize())
        geometry.SetGeometryFromImageToWorldMatrix(ijkToRas(stack))
    else:
        text = node.GetSegmentation().DetermineCommonLabelmapGeometry(
            slicer.vtkSegmentation.EXTENT_UNION_OF_SEGMENTS_PADDED, None
        )
        if not text or not slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False):
            raise CardiacError(f"{node.GetName()} is empty: draw a heart in it first.")
        # What the segments share lies in their own coordinates, and may be moved by a transform.
        matrix = vtk.vtkMatrix4x4()
        geometry.GetImageToWorldMatrix(matrix)
        vtk.vtkMatrix4x4.Multiply4x4(toWorld(node), matrix, matrix)
        geometry.SetGeometryFromImageToWorldMatrix(matrix)
    geometry.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    return geometry


def _onGeometry(
    segment: slicer.vtkSegment, geometry: slicer.vtkOrientedImageData, place: vtk.vtkMatrix4x4
) -> np.ndarray:
    """Whether each voxel of a grid in the world is in a segment, whose own coordinates are moved by a matrix."""
    layer = segment.GetRepresentation(BINARY)
    shape = geometry.GetDimensions()[::-1]
    if layer is None or layer.IsEmpty():
        return np.zeros(shape, bool)
    moved, resampled, matrix = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    moved.ShallowCopy(layer)
    layer.GetImageToWorldMatrix(matrix)
    vtk.vtkMatrix4x4.Multiply4x4(place, matrix, matrix)
    moved.SetGeometryFromImageToWorldMatrix(matrix)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(moved, geometry, resampled)
    return vtk_to_numpy(resampled.GetPointData().GetScalars()).reshape(shape) == segment.GetLabelValue()


def _frame(geometry: slicer.vtkOrientedImageData) -> tuple[tuple[int, int, int], int]:
    return geometry.GetDimensions(), sitk.sitkUInt8


def _placeLike(stack: sitk.Image, geometry: slicer.vtkOrientedImageData) -> None:
    matrix = vtk.vtkMatrix4x4()
    geometry.GetImageToWorldMatrix(matrix)
    columns = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(3)])
    # The extent of a union of segments need not begin at 0.
    origin = columns[:, 3] + columns[:, :3] @ np.array(geometry.GetExtent()[::2])
    spacing = np.linalg.norm(columns[:, :3], axis=0)
    stack.SetSpacing(spacing.tolist())
    stack.SetDirection((LPS_TO_RAS @ (columns[:, :3] / spacing)).ravel().tolist())
    stack.SetOrigin((LPS_TO_RAS @ origin).tolist())


def _painted(frame: sitk.Image, wanted: Mapping[int, list[np.ndarray]], node: slicer.vtkMRMLNode) -> DrawnMask:
    labels = np.zeros(frame.GetSize()[::-1], np.uint8)
    covered = 0
    for value in PAINT_ORDER:
        for where in wanted[value]:
            labels[where] = value
            covered += np.count_nonzero(where)
    if not labels.any():
        raise CardiacError(f"{node.GetName()} is empty: draw a heart in it first.")
    overlap = covered - np.count_nonzero(labels)
    stack = sitk.GetImageFromArray(labels)
    stack.CopyInformation(frame)
    remark = f"{overlap} voxels lie in two segments; LV goes before myocardium, and that before RV." if overlap else ""
    return DrawnMask(stack, remark)
