"""Catches what VTK reports: its errors do not raise."""

from __future__ import annotations

from typing import Any

import vtk


class VtkErrors:
    """Collects the errors that VTK reports; warnings are left out.

    VTK's logger prints them to the terminal anyway.
    """

    def __init__(self) -> None:
        self._window = vtk.vtkStringOutputWindow()
        self._before: Any = None
        self._kept: list[str] = []
        self._window.AddObserver(vtk.vtkCommand.ErrorEvent, self._note)

    @vtk.calldata_type(vtk.VTK_STRING)
    def _note(self, caller: Any, event: str, text: str) -> None:
        self._kept.append(text.strip())

    @property
    def text(self) -> str:
        """All errors so far."""
        return "\n".join(self._kept)

    def clear(self) -> None:
        """Forget them."""
        self._kept.clear()

    def __enter__(self) -> VtkErrors:
        self._before = vtk.vtkOutputWindow.GetInstance()
        vtk.vtkOutputWindow.SetInstance(self._window)
        return self

    def __exit__(self, *error: object) -> None:
        vtk.vtkOutputWindow.SetInstance(self._before)
