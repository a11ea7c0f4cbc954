"""A case of a data set: one stack, perhaps with its mask, and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import CardiacError
from ..labels import LabelOrder, remap
from ..slices import as_stack, frame_of, read_image, same_geometry


@dataclass(frozen=True)
class Case:
    """One stack of a data set, not yet read.

    Attributes:
        name: unique within the data set.
        patient: all cases of one person share it; splits are made by it.
        image_path: file with the grey levels, 3D, or 4D together with `frame`.
        mask_path: file with the labels on the same geometry, or None when there are none.
        order: the label order that the data set states.
        frame: index into the fourth axis of 4D files.
        phase, group: as in `Attributes`, None when unknown.
        window: grey levels that stand for -1 and 1, where the data set states them.
        facts: further facts by name, such as vendor and centre.
    """

    name: str
    patient: str
    image_path: Path
    mask_path: Path | None
    order: LabelOrder
    frame: int | None = None
    phase: str | None = None
    group: str | None = None
    window: tuple[float, float] | None = None
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """Whether the case has a mask."""
        return self.mask_path is not None

    def load(self) -> LoadedCase:
        """Read the files.

        Raises:
            CardiacError: a file is missing or damaged, image and mask differ in geometry, or a label is unknown.
        """
        image = self._stack(self.image_path)
        if self.mask_path is None:
            return LoadedCase(self, image, None)
        mask = self._stack(self.mask_path)
        if not same_geometry(image, mask):
            raise CardiacError(
                f"{self.mask_path} and {self.image_path} differ in size, spacing, origin or direction; "
                "resample the mask onto its image."
            )
        labels = sitk.GetImageFromArray(remap(sitk.GetArrayFromImage(mask), self.order, str(self.mask_path)))
        labels.CopyInformation(image)
        return LoadedCase(self, image, labels)

    def _stack(self, path: Path) -> sitk.Image:
        image = read_image(path)
        if image.GetDimension() == 4 and self.frame is not None:
            frames = image.GetSize()[3]
            if self.frame >= frames:
                raise CardiacError(
                    f"{path} has {frames} frames, but frame {self.frame} is asked for; correct the table."
                )
            image = frame_of(image, self.frame)
        return as_stack(image, str(path))


@dataclass(frozen=True)
class LoadedCase:
    """A case with its stacks.

    Attributes:
        case: where it comes from.
        image: grey levels as stored.
        mask: labels in the values used here, on the geometry of `image`, or None.
    """

    case: Case
    image: sitk.Image
    mask: sitk.Image | None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Pixel size and slice distance in mm: (column, row, slice)."""
        return self.image.GetSpacing()

    def levels(self) -> list[float | None]:
        """Slice level of each slice: 0 at the apex to 1 at the base, None where nothing is labelled.

        The base is the end of the labelled slices at which the labelled area is larger.
        """
        if self.mask is None:
            return [None] * self.image.GetSize()[2]
        areas = (sitk.GetArrayViewFromImage(self.mask) > 0).sum(axis=(1, 2)).astype(float)
        labelled = np.flatnonzero(areas)
        result: list[float | None] = [None] * len(areas)
        if labelled.size == 0:
            return result
        first, last = int(labelled[0]), int(labelled[-1])
        third = max((last - first + 1) // 3, 1)
        base_first = areas[first : first + third].sum() >= areas[last - third + 1 : last + 1].sum()
        for index in labelled:
            position = (index - first) / (last - first) if last > first else 0.5
            result[int(index)] = float(1 - position if base_first else position)
        return result
