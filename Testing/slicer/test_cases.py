"""Sets of cases: sequences, table, folder; what is saved with the scene; nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import STRUCTURES
from CardiacDiffusionAugLib.cases import KEPT, REJECTED, CaseSet, caseSets
from CardiacDiffusionAugLib.scene import addImageNode, loadTerminology, subjectHierarchy, terminologyEntry
from phantom import phantom_stack

FACTS = {
    "phase": "ED",
    "group": "HCM",
    "level": 0.5,
    "checks": "anatomy,adherence",
    "draws": 2,
    "rejected": "lv_parts",
    "dice_LV": 0.9,
    "dice_MYO": "0.8",
    "dice_RV": 0.7,
    "seed": 4,
    "model": "acdc-128",
    "model_version": "1.1.0",
}


def filled(count: int, name: str = "Hearts") -> tuple[CaseSet, list[tuple[sitk.Image, sitk.Image]]]:
    """A set, and its cases: slices of a phantom."""
    image, mask = phantom_stack()
    slices = image.GetSize()[2]
    pairs = [(image[:, :, i % slices : i % slices + 1], mask[:, :, i % slices : i % slices + 1]) for i in range(count)]
    for pair in pairs:
        for stack in pair:
            # A sequence of volumes has one geometry.
            stack.SetOrigin((0.0, 0.0, 0.0))
    cases = CaseSet.create(name)
    for i, (image, mask) in enumerate(pairs):
        cases.add(image, mask, {**FACTS, "name": f"case{i:03d}", "case": i, "variation": 0})
    return cases, pairs


def test_each_case_is_shown_with_its_own_mask(scene: object) -> None:
    cases, pairs = filled(4)
    for number, (image, mask) in enumerate(pairs):
        cases.show(number)
        assert cases.current == number
        volume, _segmentation = cases.shownNodes()
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), sitk.GetArrayFromImage(image))
        shownImage, shownMask = cases.stacks(number)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(shownMask), sitk.GetArrayFromImage(mask))
        assert shownImage.GetSpacing() == image.GetSpacing()


def test_segments_carry_names_colours_and_closed_terms(scene: object) -> None:
    loadTerminology()
    cases, _ = filled(2)
    segmentation = cases.shownNodes()[1].GetSegmentation()
    logic = slicer.modules.terminologies.logic()
    for i, structure in enumerate(STRUCTURES):
        segment = segmentation.GetNthSegment(i)
        assert segment.GetName() == structure.name
        np.testing.assert_allclose(segment.GetColor(), np.array(structure.color) / 255)
        tag = vtk.reference("")
        assert segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
        assert str(tag) == terminologyEntry(structure)
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(str(tag), entry)
        assert entry.GetTypeObject().GetCodeValue() == structure.snomed_ct
        found = slicer.vtkSlicerTerminologyEntry()
        assert logic.FindTypeInTerminologyBy3dSlicerLabel(entry.GetTerminologyContextName(), structure.name, found)
        assert found.GetTypeObject().GetCodeValue() == structure.snomed_ct
        assert found.GetTypeObject().GetRecommendedDisplayRGBValue() == structure.color
        assert found.GetCategoryObject().GetCodeValue() == entry.GetCategoryObject().GetCodeValue() == "123037004"


def test_all_nodes_lie_in_one_folder_and_have_names_for_people(scene: object) -> None:
    cases, _ = filled(2, "Hearts HCM")
    hierarchy = subjectHierarchy()
    nodes = (cases.browser, cases.images, cases.masks, cases.table, *cases.shownNodes())
    folders = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes}
    assert len(folders) == 1
    assert hierarchy.GetItemName(folders.pop()) == "Hearts HCM"
    assert [node.GetName() for node in nodes] == [
        "Hearts HCM",
        "Hearts HCM images",
        "Hearts HCM masks",
        "Hearts HCM table",
        "Hearts HCM image",
        "Hearts HCM mask",
    ]
    reference = cases.shownNodes()[1].GetNodeReference("referenceImageGeometryRef")
    assert reference is cases.shownNodes()[0]


def test_the_table_tells_what_the_engine_told(scene: object) -> None:
    cases, _ = filled(1)
    row = cases.row(0)
    assert row["phase"] == "ED"
    assert row["level"] == "0.50"
    assert row["adherence"] == "0.80"
    assert row["checks"] == "passed"
    assert row["redrawn"] == "1: lv_parts"
    assert row["model"] == "acdc-128 1.1.0"
    assert row["state"] == ""


def test_two_cases_of_one_name_both_stay(scene: object) -> None:
    cases, pairs = filled(1)
    cases.add(*pairs[0], {**FACTS, "name": "case000"})
    assert cases.column("name") == ["case000", "case000_2"]
    assert cases.browser.GetNumberOfItems() == 2


def test_a_case_for_a_set_that_was_removed_is_refused(scene: object) -> None:
    cases, pairs = filled(1)
    slicer.mrmlScene.RemoveNode(cases.masks)
    with pytest.raises(CardiacError, match="removed from the scene"):
        cases.add(*pairs[0], {**FACTS, "name": "late"})


def test_a_corrected_mask_stays_corrected(scene: object) -> None:
    cases, pairs = filled(2)
    cases.show(0)
    segment = cases.shownNodes()[1].GetSegmentation().GetSegment("RV")
    labels = sitk.GetArrayFromImage(pairs[0][1])
    layer = segment.GetRepresentation("Binary labelmap")
    layer.GetPointData().GetScalars().Fill(0)
    layer.Modified()
    cases.shownNodes()[1].Modified()
    cases.show(1)
    cases.show(0)
    assert labels.any()
    with pytest.raises(CardiacError, match="empty"):
        cases.stacks(0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(cases.stacks(1)[1]), sitk.GetArrayFromImage(pairs[1][1]))


@pytest.mark.parametrize("bundle", [False, True], ids=["mrml", "mrb"])
def test_a_saved_scene_brings_everything_back(scene: object, tmp_path: Path, bundle: bool) -> None:
    cases, pairs = filled(5)
    cases.judge(1, KEPT)
    cases.judge(3, REJECTED, "image is poor")
    save_scene(tmp_path, bundle)
    slicer.mrmlScene.Clear(False)
    assert caseSets() == []
    load_scene(tmp_path, bundle)
    (back,) = caseSets()
    assert back.name == "Hearts"
    assert back.column("state") == ["", KEPT, "", REJECTED, ""]
    assert back.row(3)["why"] == "image is poor"
    assert back.row(4)["adherence"] == "0.80"
    for number, (image, mask) in enumerate(pairs):
        shownImage, shownMask = back.stacks(number)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(shownImage), sitk.GetArrayFromImage(image))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(shownMask), sitk.GetArrayFromImage(mask))
    back.show(2)
    shown = slicer.util.arrayFromVolume(back.shownNodes()[0])
    np.testing.assert_array_equal(shown, sitk.GetArrayFromImage(pairs[2][0]))
    back.add(*pairs[0], {**FACTS, "name": "later"})
    assert back.count == 6


def save_scene(folder: Path, bundle: bool) -> None:
    """As the application saves a scene: each node by its storage node, or all in one file."""
    if bundle:
        assert slicer.mrmlScene.WriteToMRB(str(folder / "scene.mrb"))
        return
    slicer.mrmlScene.SetRootDirectory(str(folder))
    slicer.mrmlScene.SetURL(str(folder / "scene.mrml"))
    for i in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLStorableNode")):
        node = slicer.mrmlScene.GetNthNodeByClass(i, "vtkMRMLStorableNode")
        if (
            not node.GetSaveWithScene()
            or node.IsA("vtkMRMLColorNode")
            or slicer.mrmlScene.GetFirstNode(node.GetName(), node.GetClassName()) is not node
        ):
            continue
        storage = node.GetStorageNode() or (node.AddDefaultStorageNode() and node.GetStorageNode())
        storage = node.GetStorageNode()
        if storage is not None:
            ending = storage.GetDefaultWriteFileExtension()
            storage.SetFileName(str(folder / f"{node.GetName()}-{i}.{ending}"))
            assert storage.WriteData(node), node.GetName()
    assert slicer.mrmlScene.Commit()


def load_scene(folder: Path, bundle: bool) -> None:
    if bundle:
        assert slicer.mrmlScene.ReadFromMRB(str(folder / "scene.mrb"))
    else:
        slicer.mrmlScene.SetURL(str(folder / "scene.mrml"))
        assert slicer.mrmlScene.Connect()


def test_fifty_sets_made_and_removed_leave_nothing(scene: object) -> None:
    filled(2)[0].remove()
    before = slicer.mrmlScene.GetNumberOfNodes()
    items = subjectHierarchy().GetNumberOfItems()
    for _ in range(50):
        filled(2)[0].remove()
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert subjectHierarchy().GetNumberOfItems() == items


def test_removing_a_set_leaves_what_else_lies_in_its_folder(scene: object) -> None:
    cases, pairs = filled(2)
    scan = addImageNode(pairs[0][0], "her scan")
    hierarchy = subjectHierarchy()
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(cases.browser))
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(scan), folder)
    cases.remove()
    assert slicer.mrmlScene.IsNodePresent(scan)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(scan)) == folder


def test_a_set_whose_browser_shows_a_third_sequence_is_still_one(scene: object) -> None:
    cases, _ = filled(2)
    found = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Hearts images heart")
    cases.browser.AddSynchronizedSequenceNodeID(found.GetID())
    (same,) = caseSets()
    assert (same.images, same.masks) == (cases.images, cases.masks)
