"""The real slice that is most like a made one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..attributes import PHASES
from ..datasets import Case
from ..datasets.pack import GREY_LEVELS, pack_cases
from ..slices import GRID_SPACING
from .copying import Lookalikes, Slices
from .sets import SliceSet, real_set


@dataclass(frozen=True)
class Found:
    """A real slice that was found.

    Attributes:
        row: among the real slices.
        patient, slice, phase: where it comes from; the slice of its stack, from 0.
        made_slice: of the made case, the one that it is like.
        distance_image, distance_mask: to that one.
    """

    row: int
    patient: str
    slice: int
    phase: str | None
    made_slice: int
    distance_image: float
    distance_mask: float

    def facts(self) -> dict[str, Any]:
        """What is told of it, as plain values."""
        return {name: value for name, value in vars(self).items() if name != "row"}


class RealSlices:
    """The slices of real patients that show a heart, prepared for searches.

    Args:
        cases: of one data set.
        progress: called with the number of cases done and in all.

    Raises:
        CardiacError: no case has a labelled heart, or a case cannot be read.
    """

    def __init__(self, cases: Sequence[Case], progress: Callable[[int, int], None]) -> None:
        real = real_set(pack_cases(cases, progress=progress))
        self._lookalikes = Lookalikes(Slices(real.images, real.masks))
        # As whole numbers they take a quarter of the memory, and lose nothing.
        self._images = np.rint((real.images + 1) * (GREY_LEVELS / 2)).astype(np.uint8)
        self._masks, self._patients, self._names = real.masks, real.patients, real.names
        self._phases, self._indices = real.attributes[:, 0].astype(int), real.indices
        self._paths = {case.name: case.image_path for case in cases}

    def nearest(self, made: SliceSet) -> Found:
        """The real slice that is most like any slice of a made case."""
        rows, masks, images = self._lookalikes.nearest(Slices(made.images, made.masks))
        best = int((masks + images).argmin())
        row, phase = int(rows[best]), int(self._phases[rows[best]])
        return Found(
            row=row,
            patient=str(self._patients[row]),
            slice=int(self._indices[row]),
            phase=PHASES[phase] if phase >= 0 else None,
            made_slice=int(made.indices[best]),
            distance_image=round(float(images[best]), 4),
            distance_mask=round(float(masks[best]), 4),
        )

    def stacks(self, row: int) -> tuple[sitk.Image, sitk.Image]:
        """Image, 0 to 255, and mask of a slice on the model's grid, with the slice thickness of its scan."""
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self._paths[str(self._names[row])]))
        reader.ReadImageInformation()
        spacing = (GRID_SPACING, GRID_SPACING, (*reader.GetSpacing(), 1.0)[2])
        image, mask = (sitk.GetImageFromArray(array[row][None]) for array in (self._images, self._masks))
        for stack in (image, mask):
            stack.SetSpacing(spacing)
        return image, mask
