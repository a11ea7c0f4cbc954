"""The model's grid: 128 x 128 pixels of 1.5 mm around the heart, and the exact way back.

A stack is a 3D `SimpleITK.Image` whose third axis runs through the slices. The grid keeps the stack's own
direction and slice positions, so all resampling happens inside the slice planes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from .errors import CardiacError
from .image_files import require_whole
from .labels import BACKGROUND

GRID_SIZE = 128
GRID_SPACING = 1.5
LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.0

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.uint8]


def read_image(path: Path) -> sitk.Image:
    """An image file of any format that SimpleITK reads.

    Raises:
        CardiacError: the file is missing, not an image, truncated, or its geometry is unusable.
    """
    if not path.is_file():
        raise CardiacError(f"There is no file {path}; check the path.")
    require_whole(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        if "Zero-valued spacing" in str(error):
            raise CardiacError(
                f"{path} states a pixel spacing that is not a size in mm; correct its header."
            ) from error
        raise CardiacError(
            f"{path} cannot be read as an image (NIfTI, NRRD or MHA): it is of another kind or damaged; export it anew."
        ) from error
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise CardiacError(f"{path} holds colour, vector or complex pixels; grey levels or labels are needed.")
    return image


def as_stack(image: sitk.Image, name: str) -> sitk.Image:
    """A 3D stack from a 2D slice, a 3D stack, or a 4D image of a single frame.

    Raises:
        CardiacError: the image has several frames or another dimension.
    """
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = frame_of(image, 0)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    if image.GetDimension() != 3:
        raise CardiacError(
            f"{name} has {image.GetDimension()} dimensions; a single slice or a stack of slices is needed, "
            "so pick one frame of the cine first."
        )
    return image


def frame_of(image: sitk.Image, index: int) -> sitk.Image:
    """Frame `index` of a 4D image, as a stack."""
    size = list(image.GetSize())
    size[3] = 0
    return sitk.Extract(image, size, [0, 0, 0, index])


def same_geometry(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether two stacks share size, spacing, origin and direction within a thousandth of a millimetre."""
    return a.GetSize() == b.GetSize() and all(
        np.allclose(x, y, atol=1e-3)
        for x, y in (
            (a.GetSpacing(), b.GetSpacing()),
            (a.GetOrigin(), b.GetOrigin()),
            (a.GetDirection(), b.GetDirection()),
        )
    )


def heart_center(mask: npt.NDArray[np.generic]) -> tuple[float, float]:
    """In-plane centroid (row, column) in pixels of all labelled pixels of a stack, shape (slices, rows, columns).

    Raises:
        CardiacError: nothing is labelled.
    """
    _, rows, columns = np.nonzero(mask)
    if rows.size == 0:
        raise CardiacError("The mask is empty: no pixel is labelled LV, MYO or RV, so the heart cannot be found.")
    return float(rows.mean()), float(columns.mean())


def grid_around(
    stack: sitk.Image, center: tuple[float, float], size: int = GRID_SIZE, spacing: float = GRID_SPACING
) -> sitk.Image:
    """An empty image that holds the geometry of the model's grid over a stack.

    Args:
        stack: the 3D stack.
        center: (row, column) in pixels of `stack` that becomes the centre of the grid.
        size: pixels along each side of the grid.
        spacing: pixel size in mm.
    """
    row, column = center
    sx, sy, sz = stack.GetSpacing()
    half = (size - 1) / 2 * spacing
    corner = (column - half / sx, row - half / sy, 0.0)
    grid = sitk.Image([size, size, stack.GetSize()[2]], sitk.sitkUInt8)
    grid.SetSpacing((spacing, spacing, sz))
    grid.SetDirection(stack.GetDirection())
    grid.SetOrigin(stack.TransformContinuousIndexToPhysicalPoint(corner))
    return grid


def resample_image(image: sitk.Image, grid: sitk.Image, outside: float = 0.0) -> FloatArray:
    """Grey levels of a stack on another grid, shape (slices, rows, columns).

    Slices are smoothed first where the grid is coarser, so that nothing aliases.
    """
    # Here, so that data sets can be read and written where scipy is absent.
    from scipy import ndimage

    array = sitk.GetArrayFromImage(image).astype(np.float32)
    ratio = [g / s for g, s in zip(grid.GetSpacing()[1::-1], image.GetSpacing()[1::-1], strict=True)]
    # A pixel box of the coarse grid has the variance (ratio^2 - 1)/12 beyond the fine one's.
    sigma = [float(np.sqrt(max(r * r - 1, 0) / 12)) for r in ratio]
    array = ndimage.gaussian_filter(array, (0, *sigma), mode="nearest")
    smooth = sitk.GetImageFromArray(array)
    smooth.CopyInformation(image)
    result = sitk.Resample(smooth, grid, sitk.Transform(), sitk.sitkLinear, outside, sitk.sitkFloat32)
    return np.asarray(sitk.GetArrayFromImage(result), np.float32)


def resample_labels(mask: sitk.Image, grid: sitk.Image) -> LabelArray:
    """Labels of a stack on another grid, shape (slices, rows, columns), by linear weights of each label."""
    result = sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkLabelLinear, float(BACKGROUND), sitk.sitkUInt8)
    return np.asarray(sitk.GetArrayFromImage(result), np.uint8)


def require_finite(array: FloatArray, name: str) -> None:
    """Check grey levels.

    Raises:
        CardiacError: the array holds NaN or infinity.
    """
    if not np.isfinite(array).all():
        raise CardiacError(f"{name} holds NaN or infinite grey levels; replace them before use.")


def intensity_window(array: FloatArray, name: str) -> tuple[float, float]:
    """1st and 99th percentile of grey levels.

    Raises:
        CardiacError: the array holds NaN or infinity, or is constant.
    """
    require_finite(array, name)
    low, high = np.percentile(array, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if high <= low:
        raise CardiacError(f"{name} has the same grey level everywhere; it is not an MR image.")
    return float(low), float(high)


def rescale(array: FloatArray, window: tuple[float, float]) -> FloatArray:
    """Grey levels with the window mapped to [-1, 1], and clipped there."""
    low, high = window
    return np.clip((array - low) / (high - low) * 2 - 1, -1, 1).astype(np.float32)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CardiacError: it cannot be read or is not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CardiacError(f"{path} cannot be read as JSON; restore or correct it.") from error
    if not isinstance(content, dict):
        raise CardiacError(f"{path} does not hold a JSON object; restore or correct it.")
    return content
