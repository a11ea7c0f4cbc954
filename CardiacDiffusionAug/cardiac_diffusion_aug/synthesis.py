"""Images for masks that somebody drew: any spacing, one slice or a stack; the result lies on the mask's own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .attributes import Attributes
from .errors import CardiacError
from .generation import FIRST_IMAGE_STREAM, Generator, GreyArray, image_noise
from .labels import LabelOrder, remap
from .slices import (
    GRID_SIZE,
    GRID_SPACING,
    as_stack,
    grid_around,
    heart_center,
    read_image,
    resample_image,
    resample_labels,
)

SMALLEST, LARGEST = 32, 2048
SMALLEST_HEART_MM = 10.0


def read_mask(path: Path, order: LabelOrder) -> sitk.Image:
    """A mask as a stack of the labels used here, fit to be made an image for.

    Raises:
        CardiacError: it is not a label map of a heart that fits on the model's grid.
    """
    stack = as_stack(read_image(path), str(path))
    columns, rows, _ = stack.GetSize()
    if min(rows, columns) < SMALLEST or max(rows, columns) > LARGEST:
        raise CardiacError(
            f"{path} has {rows} x {columns} pixels; from {SMALLEST} to {LARGEST} along each side are supported, "
            "so resample it to the pixel size of an MR slice."
        )
    labels = remap(sitk.GetArrayFromImage(stack), order, str(path))
    if not labels.any():
        raise CardiacError(f"{path} is empty: no pixel is labelled LV, MYO or RV; draw a heart in it first.")
    _check_size(labels, stack, path)
    result = sitk.GetImageFromArray(labels)
    result.CopyInformation(stack)
    return result


def synthesize_stack(
    generator: Generator,
    mask: sitk.Image,
    seed: int = 0,
    case: int = 0,
    variations: Sequence[int] = (0,),
    attributes: Attributes = Attributes(),  # noqa: B008 - immutable
    check: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda slices: None,
) -> list[sitk.Image]:
    """Images for a mask.

    All slices of an image start from the same noise, so that the chest looks alike from slice to slice. What lies
    beyond the model's 192 mm around the heart is black.

    Args:
        generator: the model.
        mask: stack of the labels used here, from `read_mask`.
        seed, case, variations: which images of the many that fit.
        attributes: asked of every slice.
        check: called between steps; may raise to cancel.
        progress: told how many slices are made.

    Returns:
        uint8 stacks with the geometry of `mask`, one for each variation.
    """
    grid = grid_around(mask, heart_center(sitk.GetArrayViewFromImage(mask)))
    slices = list(resample_labels(mask, grid))
    noise = [image_noise(seed, case, FIRST_IMAGE_STREAM + variation) for variation in variations]
    masks = slices * len(variations)
    images = generator.images(
        masks, [its for its in noise for _ in slices], [attributes] * len(masks), check, progress=progress
    )
    stacks = (images[first : first + len(slices)] for first in range(0, len(images), len(slices)))
    return [_on_own_grid(np.stack(stack), grid, mask) for stack in stacks]


def _on_own_grid(images: GreyArray, grid: sitk.Image, mask: sitk.Image) -> sitk.Image:
    made = sitk.GetImageFromArray(images)
    made.CopyInformation(grid)
    result = sitk.GetImageFromArray(np.rint(resample_image(made, mask)).clip(0, 255).astype(np.uint8))
    result.CopyInformation(mask)
    return result


def _check_size(labels: np.ndarray, stack: sitk.Image, path: Path) -> None:
    _, rows, columns = np.nonzero(labels)
    extent = (np.ptp(columns) + 1) * stack.GetSpacing()[0], (np.ptp(rows) + 1) * stack.GetSpacing()[1]
    field = GRID_SIZE * GRID_SPACING
    if max(extent) > field or max(extent) < SMALLEST_HEART_MM:
        raise CardiacError(
            f"The heart in {path} measures {extent[0]:.0f} x {extent[1]:.0f} mm; {SMALLEST_HEART_MM:.0f} to "
            f"{field:.0f} mm are possible, so correct the pixel spacing in its header or the stray labels."
        )
