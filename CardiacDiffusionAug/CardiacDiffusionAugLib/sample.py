"""Data for the Sample Data module: a made stack with its mask, shipped with the module, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import SimpleITK as sitk
import slicer

from .scene import addImageNode, addSegmentationNode

CATEGORY = "CardiacDiffusionAug"
NAME = "MadeShortAxisStack"
RESOURCES = Path(__file__).resolve().parent.parent / "Resources"
IMAGE, MASK = (RESOURCES / "SampleData" / f"{NAME}{end}.nrrd" for end in ("", "-mask"))


def register() -> None:
    """Add the stack to the Sample Data module."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        thumbnailFileName=str(RESOURCES / "Icons" / f"{NAME}.png"),
        customDownloader=load,
    )


def load(source: Any = None) -> list[slicer.vtkMRMLNode]:
    """The stack and its mask as nodes of the scene."""
    volume = addImageNode(sitk.ReadImage(str(IMAGE)), NAME)
    return [volume, addSegmentationNode(sitk.ReadImage(str(MASK)), f"{NAME} mask", volume)]
