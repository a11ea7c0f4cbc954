"""Small pictures of cases: thumbnails with the mask's outlines, and sheets of them, as PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from cardiac_diffusion_aug.labels import STRUCTURES

RgbArray = npt.NDArray[np.uint8]
MARGIN = 4


def thumbnail(image: sitk.Image, mask: sitk.Image) -> RgbArray:
    """The slice with most of the heart (rows, columns, 3), with outlines in the structures' colours."""
    # Not before it is needed: it would slow the opening of the module.
    from scipy import ndimage

    labels = sitk.GetArrayViewFromImage(mask)
    index = int(np.count_nonzero(labels, axis=(1, 2)).argmax())
    grey = sitk.GetArrayViewFromImage(image)[index]
    if grey.dtype != np.uint8:
        low, high = np.percentile(grey, (1, 99))
        grey = ((np.clip(grey, low, high) - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for structure in STRUCTURES:
        own = labels[index] == structure.value
        picture[own & ~ndimage.binary_erosion(own)] = structure.color
    return picture


def png(picture: RgbArray) -> bytes:
    """A picture (rows, columns, 3) as the content of a PNG file."""
    image = vtk.vtkImageData()
    # VTK counts rows from the bottom.
    flipped = np.ascontiguousarray(picture[::-1])
    image.SetDimensions(picture.shape[1], picture.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(flipped.reshape(-1, 3), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.WriteToMemoryOn()
    writer.SetInputData(image)
    writer.Write()
    return vtk_to_numpy(writer.GetResult()).tobytes()


def contactSheet(pairs: Sequence[tuple[sitk.Image, sitk.Image]]) -> bytes:
    """Thumbnails of cases side by side, as the content of a PNG file."""
    tiles = [thumbnail(image, mask) for image, mask in pairs]
    rows, columns = (max(tile.shape[axis] for tile in tiles) + MARGIN for axis in (0, 1))
    across = math.ceil(math.sqrt(len(tiles)))
    sheet = np.full((rows * math.ceil(len(tiles) / across) + MARGIN, columns * across + MARGIN, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = rows * (i // across) + MARGIN, columns * (i % across) + MARGIN
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return png(sheet)
