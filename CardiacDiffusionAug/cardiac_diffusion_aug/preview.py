"""Contact sheets: masks as colours, and images with the masks' outlines over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from .disk import reason_not_written
from .labels import STRUCTURES
from .slices import FloatArray, LabelArray

TILE_SCALE = 2
GAP = 8
SHEET_WIDTH = 1600
ColorArray = npt.NDArray[np.uint8]
PNG_END = b"IEND\xaeB`\x82"


def contact_sheet(cases: Sequence[tuple[FloatArray | None, LabelArray]], path: Path) -> None:
    """Write a PNG of cases: image, image with outlines, mask in colours, side by side; the mask alone without image.

    Args:
        cases: image in [-1, 1] or None, and mask, both (H, W).
        path: of the PNG.

    Raises:
        OSError: it could not be written, such as on a full disk.
    """
    tiles = [case_tile(image, mask) for image, mask in cases]
    height, width = tiles[0].shape[:2]
    columns = min(len(tiles), max(1, SHEET_WIDTH // (width + GAP)))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (
            GAP + place * (size + GAP) for place, size in zip(divmod(index, columns), (height, width), strict=True)
        )
        sheet[top : top + height, left : left + width] = tile
    _write_png(sheet, path)


def case_tile(image: FloatArray | None, mask: LabelArray) -> ColorArray:
    """One case as an RGB picture."""
    colored = _enlarge(_colors(mask))
    if image is None:
        return colored
    grey = sitk.GetImageFromArray((image.clip(-1, 1).astype(np.float32) + 1) * 127.5)
    large = sitk.GetArrayFromImage(sitk.Expand(grey, [TILE_SCALE, TILE_SCALE], sitk.sitkBSpline))
    plain = np.repeat(np.rint(large.clip(0, 255)).astype(np.uint8)[..., None], 3, axis=2)
    return np.concatenate([plain, _with_outlines(plain, mask), colored], axis=1)


def _write_png(picture: ColorArray, path: Path) -> None:
    try:
        sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(path), useCompression=True)
        ok = path.read_bytes().endswith(PNG_END)
    except RuntimeError:
        ok = False
    # ITK does not always notice that a disk is full.
    if not ok:
        path.unlink(missing_ok=True)
        raise reason_not_written(path, picture.nbytes)


def _colors(mask: LabelArray) -> ColorArray:
    table = np.zeros((256, 3), np.uint8)
    for structure in STRUCTURES:
        table[structure.value] = structure.color
    return table[mask]


def _enlarge(array: npt.NDArray[np.uint8]) -> ColorArray:
    return array.repeat(TILE_SCALE, axis=0).repeat(TILE_SCALE, axis=1)


def _with_outlines(picture: ColorArray, mask: LabelArray) -> ColorArray:
    result = picture.copy()
    large = _enlarge(mask)
    for structure in STRUCTURES:
        inside = large == structure.value
        core = inside.copy()
        core[1:] &= inside[:-1]
        core[:-1] &= inside[1:]
        core[:, 1:] &= inside[:, :-1]
        core[:, :-1] &= inside[:, 1:]
        result[inside & ~core] = structure.color
    return result
