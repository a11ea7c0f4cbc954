"""What the slice views show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from .cases import CaseSet

if TYPE_CHECKING:
    from .nearest import Nearest

MAIN_VIEW, SECOND_VIEW = "Red", "Yellow"


def showCase(cases: CaseSet) -> None:
    """Show the current case of a set in all slice views, the main one along its slices."""
    image, _mask = cases.shownNodes()
    if image is None:
        return
    slicer.util.setSliceViewerLayers(background=image, foreground=None, label=None)
    layouts = slicer.app.layoutManager()
    if layouts is None:
        return
    _face(layouts, MAIN_VIEW, image)


def showVolume(volume: slicer.vtkMRMLVolumeNode) -> None:
    """Show a volume in all slice views, the main one along its slices."""
    slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None)
    layouts = slicer.app.layoutManager()
    if layouts is not None:
        _face(layouts, MAIN_VIEW, volume)


def showSideBySide(cases: CaseSet, nearest: Nearest) -> None:
    """Show the current case on the left and a real slice on the right."""
    layouts = slicer.app.layoutManager()
    if layouts is None:
        return
    layouts.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    shown = ((MAIN_VIEW, *cases.shownNodes()), (SECOND_VIEW, nearest.volume, nearest.segmentation))
    for view, volume, _segmentation in shown:
        composite = layouts.sliceWidget(view).sliceLogic().GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(volume.GetID())
        _face(layouts, view, volume)
    # Both lie at the origin; each view shows its own mask alone.
    for view, _volume, segmentation in shown:
        node = layouts.sliceWidget(view).sliceLogic().GetSliceNode()
        segmentation.GetDisplayNode().SetViewNodeIDs([node.GetID()])


def _face(layouts: object, view: str, volume: slicer.vtkMRMLVolumeNode) -> None:
    logic = layouts.sliceWidget(view).sliceLogic()
    logic.GetSliceNode().RotateToVolumePlane(volume)
    logic.FitSliceToBackground()
