"""A set of made cases in the scene: an image sequence, a segmentation sequence, their browser, and a table.

The table is the memory of the review: it is saved with the scene, as the sequences are, and so is what was kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk
import slicer
import vtk

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import STRUCTURES

from .masks import drawnMask
from .scene import imageNode, itemOf, nodesOfClass, segmentationNode, stackOf, subjectHierarchy

BROWSER_CLASS = "vtkMRMLSequenceBrowserNode"
KIND = "CardiacDiffusionAug.Cases"
TABLE_ROLE = "CardiacDiffusionAug.Table"
KEPT, REJECTED, OPEN = "kept", "rejected", ""
COLUMNS = (
    "name",
    "state",
    "why",
    "phase",
    "group",
    "level",
    "checks",
    "adherence",
    "redrawn",
    "seed",
    "case",
    "variation",
    "model",
)
WINDOW, LEVEL = 255.0, 127.5


@dataclass
class CaseSet:
    """Cases that are looked through together.

    Attributes:
        browser: of both sequences; it shows one case at a time in the slice views.
        images, masks: the sequences; index values are the names of the cases.
        table: a line a case, with the columns `COLUMNS`.
    """

    browser: slicer.vtkMRMLSequenceBrowserNode
    images: slicer.vtkMRMLSequenceNode
    masks: slicer.vtkMRMLSequenceNode
    table: slicer.vtkMRMLTableNode

    @classmethod
    def create(cls, name: str) -> CaseSet:
        """An empty set in a folder of its own, under a name that no other node has."""
        name = slicer.mrmlScene.GenerateUniqueName(name)
        images = _addSequence(f"{name} images")
        masks = _addSequence(f"{name} masks")
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", f"{name} table")
        table.SetUseColumnTitleAsColumnHeader(True)
        for column in COLUMNS:
            array = vtk.vtkStringArray()
            array.SetName(column)
            table.AddColumn(array)
        browser = slicer.mrmlScene.AddNewNodeByClass(BROWSER_CLASS, name)
        browser.SetAttribute(KIND, "1")
        browser.SetAndObserveMasterSequenceNodeID(images.GetID())
        browser.AddSynchronizedSequenceNodeID(masks.GetID())
        browser.SetNodeReferenceID(TABLE_ROLE, table.GetID())
        browser.SetPlaybackActive(False)
        # A mask that is corrected in the Segment Editor stays corrected.
        browser.SetSaveChanges(masks, True)
        hierarchy = subjectHierarchy()
        folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name)
        for node in (browser, images, masks, table):
            hierarchy.SetItemParent(itemOf(node), folder)
        return cls(browser, images, masks, table)

    @classmethod
    def of(cls, browser: slicer.vtkMRMLSequenceBrowserNode | None) -> CaseSet | None:
        """The set of a browser node, or None where it is none or has lost a part."""
        if browser is None or browser.GetAttribute(KIND) is None:
            return None
        sequences = vtk.vtkCollection()
        browser.GetSynchronizedSequenceNodes(sequences, True)
        table = browser.GetNodeReference(TABLE_ROLE)
        # What is found in the images may be shown by the same browser.
        if sequences.GetNumberOfItems() < 2 or table is None:
            return None
        return cls(browser, sequences.GetItemAsObject(0), sequences.GetItemAsObject(1), table)

    @property
    def name(self) -> str:
        """For people."""
        return str(self.browser.GetName())

    @property
    def alive(self) -> bool:
        """Whether all of its nodes are in the scene."""
        nodes = (self.browser, self.images, self.masks, self.table)
        return all(slicer.mrmlScene.IsNodePresent(node) for node in nodes)

    @property
    def count(self) -> int:
        """Number of cases."""
        return int(self.table.GetNumberOfRows())

    @property
    def current(self) -> int:
        """Number of the case that is shown, from 0; -1 when there is none."""
        return int(self.browser.GetSelectedItemNumber()) if self.count else -1

    def add(self, image: sitk.Image, mask: sitk.Image, facts: Mapping[str, Any]) -> int:
        """Add a case, and return its number.

        Args:
            image, mask: stacks of one geometry; labels as the engine counts.
            facts: as the engine's manifest tells them.

        Raises:
            CardiacError: nodes of the set were removed from the scene.
        """
        if not self.alive:
            raise CardiacError("The cases were removed from the scene, so no more are made.")
        name = self._freeName(str(facts["name"]))
        imageData, maskData = imageNode(image), segmentationNode(mask)
        for node, sequence in ((imageData, self.images), (maskData, self.masks)):
            node.SetName(name)
            sequence.SetDataNodeAtValue(node, name)
        row = self.table.AddEmptyRow()
        for column, value in tableRow(name, facts).items():
            self.table.SetCellText(row, COLUMNS.index(column), value)
        if row == 0:
            self._showFirst()
        return int(row)

    def _freeName(self, name: str) -> str:
        others = (f"{name}_{i}" for i in range(2, self.count + 3))
        return next(n for n in (name, *others) if self.images.GetItemNumberFromIndexValue(n, True) < 0)

    def _showFirst(self) -> None:
        """Make the nodes that show the current case, and give them a look."""
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(self.browser)
        image, mask = self.shownNodes()
        for node in (image, mask):
            if node.GetDisplayNode() is None:
                node.CreateDefaultDisplayNodes()
        image.SetName(f"{self.name} image")
        mask.SetName(f"{self.name} mask")
        display = image.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(WINDOW, LEVEL)
        mask.SetReferenceImageGeometryParameterFromVolumeNode(image)
        hierarchy = subjectHierarchy()
        for node in (image, mask):
            hierarchy.SetItemParent(itemOf(node), hierarchy.GetItemParent(itemOf(self.browser)))

    def shownNodes(self) -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]:
        """The volume and the segmentation that show the current case; None where they were removed."""
        return self.browser.GetProxyNode(self.images), self.browser.GetProxyNode(self.masks)

    def show(self, number: int) -> None:
        """Show a case."""
        if 0 <= number < self.count:
            self.browser.SetSelectedItemNumber(number)

    def column(self, name: str) -> list[str]:
        """All values of a column."""
        index = COLUMNS.index(name)
        return [self.table.GetCellText(row, index) for row in range(self.count)]

    def row(self, number: int) -> dict[str, str]:
        """What the table says of a case."""
        return {column: self.table.GetCellText(number, index) for index, column in enumerate(COLUMNS)}

    def judge(self, number: int, state: str, why: str = "") -> None:
        """Note that a case is `KEPT`, `REJECTED` or `OPEN`, and why."""
        self.table.SetCellText(number, COLUMNS.index("state"), state)
        self.table.SetCellText(number, COLUMNS.index("why"), why)
        self.table.Modified()

    def stacks(self, number: int) -> tuple[sitk.Image, sitk.Image]:
        """Image and mask of a case as the sequences hold them, the mask in the engine's labels."""
        image = self.images.GetNthDataNode(number)
        return stackOf(image), drawnMask(self.masks.GetNthDataNode(number), reference=image).stack

    def imageArray(self, number: int) -> Any:
        """Pixels of a case's image (slices, rows, columns)."""
        return slicer.util.arrayFromVolume(self.images.GetNthDataNode(number))

    def remove(self) -> None:
        """Remove the set with all its nodes, and its folder where nothing else lies in it."""
        hierarchy = subjectHierarchy()
        folder = hierarchy.GetItemParent(itemOf(self.browser)) if slicer.mrmlScene.IsNodePresent(self.browser) else 0
        shown = self.shownNodes()
        nodes = [node for node in (self.browser, *shown, self.images, self.masks, self.table) if node is not None]
        theirs = [own for node in nodes for own in _ownNodes(node)]
        for node in (*nodes, *theirs):
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        if folder and folder != hierarchy.GetSceneItemID() and not hierarchy.GetNumberOfItemChildren(folder):
            hierarchy.RemoveItem(folder, False, False)


def caseSets() -> list[CaseSet]:
    """All sets of the scene."""
    found = (CaseSet.of(node) for node in nodesOfClass(BROWSER_CLASS))
    return [cases for cases in found if cases is not None]


def tableRow(name: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """A line of the table, from what the engine's manifest tells."""
    dice = [facts[f"dice_{s.key}"] for s in STRUCTURES if facts.get(f"dice_{s.key}") not in (None, "")]
    draws = int(facts.get("draws") or 1)
    level = facts.get("level")
    return {
        "name": name,
        "phase": str(facts.get("phase") or ""),
        "group": str(facts.get("group") or ""),
        "level": "" if level in (None, "") else f"{float(level):.2f}",
        "checks": "passed" if facts.get("checks") else "not checked",
        "adherence": f"{sum(map(float, dice)) / len(dice):.2f}" if dice else "",
        "redrawn": f"{draws - 1}: {facts.get('rejected')}" if draws > 1 else "",
        **{key: str(facts.get(key, "")) for key in ("seed", "case", "variation")},
        "model": f"{facts.get('model', '')} {facts.get('model_version', '')}".strip(),
    }


def _ownNodes(node: slicer.vtkMRMLNode) -> Iterator[slicer.vtkMRMLNode]:
    """Display and storage nodes, which the scene does not remove with their node."""
    if node.IsA("vtkMRMLDisplayableNode") and node.GetDisplayNode() is not None:
        yield node.GetDisplayNode()
    if node.IsA("vtkMRMLStorableNode") and node.GetStorageNode() is not None:
        yield node.GetStorageNode()


def _addSequence(name: str) -> slicer.vtkMRMLSequenceNode:
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexType(slicer.vtkMRMLSequenceNode.TextIndex)
    sequence.SetIndexName("case")
    sequence.SetIndexUnit("")
    return sequence
