"""The job that labels the heart in scans and measures it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CardiacError
from .base import Context, Job, option, warm_segmenter

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..datasets import Case
    from ..measurements import FrameVolumes
    from ..segmentation import Segmentation, Segmenter

MEASUREMENTS = "measurements.csv"
MASK_MARKS = ("_gt", "_mask", "_seg", "_label")
CHANNEL = "_0000"
"""What nnU-Net appends to the name of an image."""


@dataclass(frozen=True)
class Scan:
    """A file to segment, or one frame of it.

    Attributes:
        name: of the result.
        path: of the image.
        case: of a data set, where it is part of one.
    """

    name: str
    path: Path
    case: Case | None = None

    def load(self) -> sitk.Image:
        """The image: a slice, a stack or a cine."""
        from ..slices import read_image

        return read_image(self.path) if self.case is None else replace(self.case, mask_path=None).load().image


@dataclass(kw_only=True)
class Segment(Job):
    """Labels on each scan's own grid, volumes, and the function of the heart."""

    NAME: ClassVar[str] = "segment"
    HELP: ClassVar[str] = "label the heart in scans, and measure it"

    input: Path = option(..., "a scan (slice, stack or 4D cine), a folder of scans, or a data set")
    output: Path = option(..., "folder for the masks, measurements.csv and preview.png")
    model: str = option("acdc-unet", "name or folder of the segmentation model")
    split: str | None = option(
        None, "of a data set, only the patients that this rule keeps for validation, such as 'mod 5 == 4'"
    )
    device: str = option("auto", "auto, cuda, cuda:1, mps or cpu")
    precision: str = option("auto", "bfloat16 where it is fast", choices=("auto", "bf16", "fp32"))
    resume: bool = option(False, "go on with a folder that was interrupted")
    overwrite: bool = option(False, "replace earlier results in the folder")
