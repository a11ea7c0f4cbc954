"""Masks from nodes: recognized structures, geometry, overlaps, and what cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from cardiac_diffusion_aug.errors import CardiacError
from CardiacDiffusionAugLib.masks import drawnMask, partsOf
from CardiacDiffusionAugLib.scene import addImageNode, addSegmentationNode, imageNode, stackOf
from phantom import phantom_stack


def oblique(stack: sitk.Image) -> sitk.Image:
    """The stack, tilted and away from the origin, as scans are."""
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.4, -0.3, 0.9)
    stack.SetDirection(turn.GetMatrix())
    stack.SetOrigin((-31.5, 42.25, 108.0))
    return stack


@pytest.fixture
def drawn(scene: object) -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode, np.ndarray]:
    """A scan, the heart drawn on it, and its labels."""
    image, mask = map(oblique, phantom_stack())
    volume = addImageNode(image, "scan")
    return volume, addSegmentationNode(mask, "heart", volume), sitk.GetArrayFromImage(mask)


def assert_same_place(one: sitk.Image, other: sitk.Image) -> None:
    assert one.GetSize() == other.GetSize()
    for name in ("Spacing", "Origin", "Direction"):
        np.testing.assert_allclose(getattr(one, f"Get{name}")(), getattr(other, f"Get{name}")(), atol=1e-6)


def test_a_volume_keeps_its_place_through_the_scene(scene: object) -> None:
    image, _ = map(oblique, phantom_stack())
    back = stackOf(imageNode(image))
    assert_same_place(back, image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))


def test_a_drawn_mask_lies_on_the_grid_of_its_scan(drawn: tuple) -> None:
    volume, segmentation, labels = drawn
    mask = drawnMask(segmentation)
    assert_same_place(mask.stack, stackOf(volume))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask.stack), labels)
    assert mask.remark == ""


def test_segments_are_recognized_by_their_term_whatever_their_name(drawn: tuple) -> None:
    _, segmentation, labels = drawn
    for i, name in enumerate(("a", "b", "c")):
        segmentation.GetSegmentation().GetNthSegment(i).SetName(name)
    assert [part.value for part in partsOf(segmentation)] == [1, 2, 3]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(drawnMask(segmentation).stack), labels)


def test_segments_are_recognized_by_their_name_where_the_term_is_another(drawn: tuple) -> None:
    _, segmentation, _ = drawn
    for i, name in enumerate(("RV", "LV cavity", "Myocardium")):
        segment = segmentation.GetSegmentation().GetNthSegment(i)
        segment.RemoveTag(slicer.vtkSegment.GetTerminologyEntryTagName())
        segment.SetName(name)
    assert [part.value for part in partsOf(segmentation)] == [3, 1, 2]


def test_the_user_may_say_which_segment_is_which(drawn: tuple) -> None:
    _, segmentation, labels = drawn
    mask = sitk.GetArrayFromImage(drawnMask(segmentation, {"LV": 3, "RV": 1, "MYO": None}).stack)
    np.testing.assert_array_equal(mask == 3, labels == 1)
    np.testing.assert_array_equal(mask == 1, labels == 3)
    assert not (mask == 2).any()


def test_a_transform_above_the_mask_counts(drawn: tuple) -> None:
    volume, segmentation, labels = drawn
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 25.0)
    transform.SetMatrixTransformToParent(matrix)
    before = drawnMask(segmentation).stack
    volume.SetAndObserveTransformNodeID(transform.GetID())
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    moved = drawnMask(segmentation).stack
    np.testing.assert_array_equal(sitk.GetArrayFromImage(moved), labels)
    # 25 mm to the right in Slicer's axes is 25 mm less in those of SimpleITK.
    np.testing.assert_allclose(np.subtract(moved.GetOrigin(), before.GetOrigin()), (-25, 0, 0), atol=1e-6)


def test_a_filled_epicardium_keeps_its_cavity(drawn: tuple) -> None:
    volume, segmentation, labels = drawn
    filled = sitk.GetImageFromArray(np.where(labels == 1, 2, 0).astype(np.uint8))
    filled.CopyInformation(stackOf(volume))
    # A second myocardium over the cavity, in a layer of its own, as where the Segment Editor allows overlap.
    other = addSegmentationNode(filled, "other", volume).GetSegmentation()
    segmentation.GetSegmentation().CopySegmentFromSegmentation(other, "MYO")
    names = [part.key for part in partsOf(segmentation)]
    mask = drawnMask(segmentation, {names[-1]: 2})
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask.stack), labels)
    assert str(np.count_nonzero(labels == 1)) in mask.remark


def test_a_label_map_is_read_by_the_names_of_its_colours(scene: object) -> None:
    _, stack = phantom_stack()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    plain = addImageNode(stack, "plain")
    node.SetAndObserveImageData(plain.GetImageData())
    node.CreateDefaultDisplayNodes()
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", "heart")
    colors.SetTypeToUser()
    colors.SetNumberOfColors(4)
    for value, name in enumerate(("background", "LV", "MYO", "RV")):
        colors.SetColor(value, name, 1, 1, 1, 1)
    node.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    assert [(part.key, part.value) for part in partsOf(node)] == [("1", 1), ("2", 2), ("3", 3)]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(drawnMask(node).stack), sitk.GetArrayFromImage(stack))


def test_without_a_scan_the_mask_lies_on_the_grid_of_its_segments(scene: object) -> None:
    _, stack = map(oblique, phantom_stack())
    node = addSegmentationNode(stack, "alone")
    mask = drawnMask(node).stack
    labels = sitk.GetArrayFromImage(stack)
    # The same voxels, whatever lies around them.
    for value in (1, 2, 3):
        assert np.count_nonzero(sitk.GetArrayFromImage(mask) == value) == np.count_nonzero(labels == value)
    moved = sitk.Resample(mask, stack, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(moved), labels)


def test_an_empty_segmentation_is_refused_in_a_sentence(scene: object) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing")
    with pytest.raises(CardiacError, match="nothing is empty: draw a heart"):
        drawnMask(node)


def test_segments_of_other_organs_are_refused_in_a_sentence(drawn: tuple) -> None:
    _, segmentation, _ = drawn
    for i in range(3):
        segment = segmentation.GetSegmentation().GetNthSegment(i)
        segment.RemoveTag(slicer.vtkSegment.GetTerminologyEntryTagName())
        segment.SetName(f"liver {i}")
    with pytest.raises(CardiacError, match="no segment for LV, myocardium or RV"):
        drawnMask(segmentation)


def test_a_segment_that_was_told_and_removed_since_is_passed_over(drawn: tuple) -> None:
    _, segmentation, labels = drawn
    segmentation.GetSegmentation().RemoveSegment("RV")
    mask = sitk.GetArrayFromImage(drawnMask(segmentation, {"RV": 3}).stack)
    np.testing.assert_array_equal(mask, np.where(labels == 3, 0, labels))


def test_a_mask_without_a_scan_is_found_where_a_transform_has_moved_it(scene: object) -> None:
    _, mask = map(oblique, phantom_stack())
    segmentation = addSegmentationNode(mask, "heart")
    before = drawnMask(segmentation).stack
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "far away")
    matrix = vtk.vtkMatrix4x4()
    for axis, shift in enumerate((400.0, -300.0, 200.0)):
        matrix.SetElement(axis, 3, shift)
    transform.SetMatrixTransformToParent(matrix)
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    after = drawnMask(segmentation).stack
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before))
    # The engine counts to the left and to the back.
    np.testing.assert_allclose(np.subtract(after.GetOrigin(), before.GetOrigin()), (-400, 300, 200), atol=1e-3)
