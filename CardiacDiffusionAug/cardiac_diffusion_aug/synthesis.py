"""Images for masks that somebody drew: any spacing, one slice or a stack; the result lies on the mask's own grid."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .attributes import Attributes
from .diffusion.sampling import case_noise
from .errors import CardiacError
from .generation import FIRST_IMAGE_STREAM, Generator
from .labels import MNMS_ORDER, LabelOrder, order_from_names, remap
from .slices import (
    GRID_SIZE,
    GRID_SPACING,
    as_stack,
    grid_around,
    heart_center,
    read_image,
    read_json,
    resample_image,
    resample_labels,
)

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
LABELS = "labelsTr"
SMALLEST, LARGEST = 32, 2048
SMALLEST_HEART_MM = 10.0


def find_masks(path: Path, order: LabelOrder | None) -> tuple[list[tuple[str, Path]], LabelOrder]:
    """Names and files of the masks at a path, and the order of their labels.

    Args:
        path: an image file, a folder of them, or an nnU-Net data set, whose own order is used.
        order: as the user states it; by default LV=1, MYO=2, RV=3.

    Raises:
        CardiacError: nothing is there.
    """
    # Unlike `Path.is_dir` these take any text, such as one that is too long for a path.
    if os.path.isfile(path):
        return [(_stem(path), path)], order or _order_beside(path.parent) or MNMS_ORDER
    if not os.path.isdir(path):
        raise CardiacError(f"There is no file or folder {path}; check the path of the masks.")
    folder = path / LABELS if (path / LABELS).is_dir() else path
    order = order or _order_beside(folder)
    found = [(_stem(p), p) for p in sorted(folder.iterdir()) if _is_mask(p)]
    if not found:
        raise CardiacError(f"{folder} holds no masks ({', '.join(SUFFIXES)}); check the path.")
    names = [name for name, _ in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CardiacError(f"{folder} holds {twice[0]} in two formats; keep one of them.")
    return found, order or MNMS_ORDER


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
    variation: int = 0,
    attributes: Attributes = Attributes(),  # noqa: B008 - immutable
    check: Callable[[], None] = lambda: None,
) -> sitk.Image:
    """An image for a mask.

    All slices start from the same noise, so that the chest looks alike from slice to slice. What lies beyond the
    model's 192 mm around the heart is black.

    Args:
        generator: the model.
        mask: stack of the labels used here, from `read_mask`.
        seed, case, variation: which image of the many that fit.
        attributes: asked of every slice.
        check: called between steps; may raise to cancel.

    Returns:
        uint8 stack with the geometry of `mask`.
    """
    grid = grid_around(mask, heart_center(sitk.GetArrayViewFromImage(mask)))
    slices = list(resample_labels(mask, grid))
    noise = case_noise(seed, case, FIRST_IMAGE_STREAM + variation, (1, GRID_SIZE, GRID_SIZE))
    images = generator.images(slices, [noise] * len(slices), [attributes] * len(slices), check)
    made = sitk.GetImageFromArray(np.stack(images))
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


def _order_beside(folder: Path) -> LabelOrder | None:
    """What an nnU-Net data set states for the masks in a folder."""
    description = (folder.parent if folder.name == LABELS else folder) / "dataset.json"
    if not description.is_file():
        return None
    labels = read_json(description).get("labels")
    if not isinstance(labels, dict):
        raise CardiacError(f"{description} names no labels; restore it, or pass the order as --labels LV=1,MYO=2,RV=3.")
    return order_from_names(labels, str(description))


def _is_mask(path: Path) -> bool:
    # What is hidden is unfinished, or was left by a file manager.
    return path.is_file() and path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def _stem(path: Path) -> str:
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return path.name[: -len(suffix)] if suffix else path.name
