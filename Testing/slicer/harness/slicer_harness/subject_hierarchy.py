"""Keeps Subject Hierarchy in step with the scene, as plugins of the application do; the wheel has no plugins."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

OWNERS = {
    "vtkMRMLSegmentationNode": "Segmentations",
    "vtkMRMLLabelMapVolumeNode": "LabelMaps",
    "vtkMRMLScalarVolumeNode": "Volumes",
    "vtkMRMLModelNode": "Models",
    "vtkMRMLMarkupsNode": "Markups",
    "vtkMRMLTransformNode": "Transforms",
    "vtkMRMLTableNode": "Tables",
    "vtkMRMLTextNode": "Texts",
    "vtkMRMLPlotChartNode": "Plots",
    "vtkMRMLPlotSeriesNode": "Plots",
}
"""Plugins by the class of the nodes that they add, special classes before general ones."""


class SubjectHierarchyFollower:
    """Gives every node that the application shows in the tree an item, and removes it with the node."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        events = slicer.vtkMRMLScene
        scene.AddObserver(events.NodeAddedEvent, self._on_added)
        scene.AddObserver(events.NodeAboutToBeRemovedEvent, self._on_removing)
        scene.AddObserver(events.EndImportEvent, lambda *arguments: self._add_missing())
        scene.AddObserver(events.EndCloseEvent, lambda *arguments: self._hierarchy())
        scene.AddObserver(events.EndBatchProcessEvent, lambda *arguments: self._on_batch_end())

    def _hierarchy(self) -> Any:
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_added(self, caller: Any, event: str, node: Any) -> None:
        if not self._scene.IsImporting():
            self._add(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_removing(self, caller: Any, event: str, node: Any) -> None:
        if self._scene.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        item = self._hierarchy().GetItemByDataNode(node)
        if item:
            self._hierarchy().RemoveItem(item, False, False)

    def _add(self, node: Any) -> None:
        owner = next((plugin for kind, plugin in OWNERS.items() if node.IsA(kind)), None)
        if owner is not None and not node.GetHideFromEditors():
            hierarchy = self._hierarchy()
            item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
            hierarchy.SetItemOwnerPluginName(item, owner)

    def _add_missing(self) -> None:
        hierarchy = self._hierarchy()
        for i in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(i)
            if not hierarchy.GetItemByDataNode(node):
                self._add(node)

    def _on_batch_end(self) -> None:
        """Nodes may have gone without a word; folders and virtual branches have none."""
        hierarchy = self._hierarchy()
        items = vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
        virtual = slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyVirtualBranchAttributeName()
        for i in range(items.GetNumberOfIds()):
            item = items.GetId(i)
            if hierarchy.GetItemLevel(item) or hierarchy.HasItemAttribute(item, virtual):
                continue
            if hierarchy.GetItemDataNode(item) is None:
                hierarchy.RemoveItem(item, False, False)
        self._add_missing()
