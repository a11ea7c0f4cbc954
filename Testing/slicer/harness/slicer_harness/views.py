"""Pictures: what a slice view shows, and what a panel looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtWidgets

from .loop import process_events

MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLModelSliceDisplayableManager")
LAYOUT_PASSES = 3


def slice_png(path: str | Path, size: tuple[int, int] = (400, 400), view: str = "Red") -> Path:
    """Draw a slice view of the application off screen: its volumes below, segmentations above.

    Args:
        path: of the PNG file.
        size: width and height, pixels.
        view: name of the view, whose slice node and composite node say what is shown.
    """
    window, _kept = _slice_window(view, size)
    window.Render()
    picture = vtk.vtkWindowToImageFilter()
    picture.SetInput(window)
    picture.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputConnection(picture.GetOutputPort())
    writer.Write()
    window.Finalize()
    return Path(path)


def show_volume(volume: Any, view: str = "Red", offset: float | None = None) -> None:
    """Show a volume in a slice view, as wide as it fits.

    Args:
        volume: for the background.
        view: name of the view.
        offset: position of the slice along its normal, mm; None leaves it in the middle.
    """
    logic = slicer.app.layoutManager().sliceWidget(view).sliceLogic()
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    logic.GetSliceNode().RotateToVolumePlane(volume)
    logic.FitSliceToBackground()
    if offset is not None:
        logic.SetSliceOffset(offset)


def _slice_window(view: str, size: tuple[int, int]) -> tuple[Any, list[Any]]:
    """The window, and objects that must live as long as it does."""
    logic = slicer.app.layoutManager().sliceWidget(view).sliceLogic()
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetNumberOfLayers(2)
    window.SetSize(*size)
    below, above = vtk.vtkRenderer(), vtk.vtkRenderer()
    above.SetLayer(1)
    for renderer in (below, above):
        window.AddRenderer(renderer)
        renderer.GetActiveCamera().ParallelProjectionOn()
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    node = logic.GetSliceNode()
    node.SetDimensions(*size, 1)
    logic.ResizeSliceNode(*size)
    logic.GetBlend().Update() if logic.HasInputs() else None
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    if logic.GetImageDataConnection() is not None:
        mapper.SetInputConnection(logic.GetImageDataConnection())
        below.AddActor2D(actor)
    group = _managers(above, node)
    _look_at_pixels(above, size)
    return window, [below, above, interactor, mapper, actor, group]


def _managers(renderer: Any, node: Any) -> Any:
    """Managers draw what MRML says of segmentations and models, in pixels of the view."""
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in MANAGERS:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = factory.InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(node)
    return group


def _look_at_pixels(renderer: Any, size: tuple[int, int]) -> None:
    camera = renderer.GetActiveCamera()
    width, height = size
    camera.SetParallelScale(height / 2)
    camera.SetFocalPoint(width / 2, height / 2, 0)
    camera.SetPosition(width / 2, height / 2, 1)
    renderer.ResetCameraClippingRange()


def screenshot(widget: Any, path: str | Path, width: int = 350) -> Path:
    """Grab a panel as wide as in the application, and as high as it needs.

    Args:
        widget: Qt widget, or the widget object of a scripted module.
        path: of the PNG file.
        width: pixels.
    """
    if not isinstance(widget, QtWidgets.QWidget):
        widget = widget.parent
    widget.show()
    # The height of wrapped labels depends on the width, which the layout learns step by step.
    for _ in range(LAYOUT_PASSES):
        layout = widget.layout()
        height = layout.heightForWidth(width) if layout is not None and layout.hasHeightForWidth() else -1
        widget.resize(width, max(height, widget.sizeHint().height()))
        process_events()
    widget.grab().save(str(path))
    return Path(path)


def set_dark(app: Any, dark: bool = True) -> None:
    """Colours of Slicer's dark style, or of its light one."""
    app.setDark(dark)
    process_events()
