"""The real slice that is most like a made one, shown beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import slicer

from .cases import CaseSet
from .job import Callbacks, Job
from .saving import Format, saveSteps
from .scene import addImageNode, addSegmentationNode
from .tasks import Tasks, removedOnError

NAME = "Nearest real slice"


@dataclass
class Nearest:
    """A real slice.

    Attributes:
        volume, segmentation: its nodes.
        patient: whose it is.
        words: patient, phase and distances, for people.
    """

    volume: slicer.vtkMRMLScalarVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode
    patient: str
    words: str


def startNearest(tasks: Tasks, cases: CaseSet, number: int, data: Path, callbacks: Callbacks) -> Job:
    """Ask for the real slice of a data set that is most like a case; `callbacks.result` gets a `Nearest`."""
    folder = tasks.newFolder()
    with removedOnError(folder):

        def load(job: Job, told: dict[str, Any]) -> None:
            callbacks.result(job, _show(told))

        wanted = {"data": data, "cases": folder / "made", "output": folder / "nearest"}
        prepare = saveSteps(cases, [number], folder / "made", Format.NNUNET)
        return tasks.start("nearest", wanted, load, callbacks, folder, prepare)


def _show(told: dict[str, Any]) -> Nearest:
    """Replace what was shown before by the slice that was found."""
    for name in (NAME, f"{NAME} mask"):
        node = slicer.mrmlScene.GetFirstNodeByName(name)
        if node is not None:
            slicer.mrmlScene.RemoveNode(node.GetDisplayNode())
            slicer.mrmlScene.RemoveNode(node)
    volume = addImageNode(sitk.ReadImage(told["image"]), NAME)
    segmentation = addSegmentationNode(sitk.ReadImage(told["mask"]), f"{NAME} mask", volume)
    words = f"{told['patient']} {told.get('phase') or ''}, slice {told['slice']}"
    return Nearest(volume, segmentation, str(told["patient"]), words)
