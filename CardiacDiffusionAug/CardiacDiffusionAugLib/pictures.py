"""Small pictures of cases: thumbnails with the mask's outlines, and sheets of them, as PNG."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from cardiac_diffusion_aug.disk import whole
from cardiac_diffusion_aug.labels import STRUCTURES

RgbArray = npt.NDArray[np.uint8]
TILE, MARGIN = 160, 4
"""Of a contact sheet, pixels."""


def thumbnail(image: sitk.Image, mask: sitk.Image) -> RgbArray:
    """The slice with most of the heart (rows, columns, 3), with outlines in the structures' colours."""
    labels = sitk.GetArrayViewFromImage(mask)
    index = int(np.count_nonzero(labels, axis=(1, 2)).argmax())
    grey = sitk.GetArrayViewFromImage(image)[index]
    if grey.dtype != np.uint8:
        low, high = np.percentile(grey, (1, 99))
        grey = ((np.clip(grey, low, high) - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    # By SimpleITK, which is there already: to import SciPy here would stop the window for a tenth of a second.
    contours = sitk.GetArrayFromImage(sitk.LabelContour(mask[:, :, index]))
    for structure in STRUCTURES:
        picture[contours == structure.value] = structure.color
    return picture


def png(picture: RgbArray) -> bytes:
    """A picture (rows, columns, 3) as the content of a PNG file."""
    return b"".join(_pngParts([picture], *picture.shape[:2]))


def contactSheet(pairs: Iterable[tuple[sitk.Image, sitk.Image]], count: int, path: Path) -> Iterator[None]:
    """Write thumbnails of cases side by side, one a step; the file appears whole or not at all.

    Args:
        pairs: images with their masks.
        count: number of pairs.
        path: of a PNG file.
    """
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    side = TILE + MARGIN
    with whole(path) as part, part.open("wb") as stream:
        rows = _rows(iter(pairs), across, down)
        for piece in _pngParts(rows, down * side + MARGIN, across * side + MARGIN):
            stream.write(piece)
            yield None


def _rows(pairs: Iterator[tuple[sitk.Image, sitk.Image]], across: int, down: int) -> Iterator[RgbArray]:
    empty = np.full((TILE + MARGIN, across * (TILE + MARGIN) + MARGIN, 3), 255, np.uint8)
    for _ in range(down):
        row = empty.copy()
        for i, (image, mask) in enumerate(islice(pairs, across)):
            tile = _fitted(thumbnail(image, mask))
            left = i * (TILE + MARGIN) + MARGIN
            row[MARGIN : MARGIN + tile.shape[0], left : left + tile.shape[1]] = tile
            # A step of its own, without rows for the file yet.
            yield row[:0]
        yield row
    yield empty[:MARGIN]


def _fitted(tile: RgbArray) -> RgbArray:
    """A picture no larger than a tile of the sheet."""
    step = math.ceil(max(tile.shape[:2]) / TILE)
    return tile[::step, ::step]


def _pngParts(pieces: Iterable[RgbArray], rows: int, columns: int) -> Iterator[bytes]:
    """A PNG file piece by piece, since a large one would take too long at once (PNG specification, 2nd edition)."""
    packer = zlib.compressobj(1)
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0))
    for piece in pieces:
        # Each line begins with the number of its filter, none.
        lines = np.zeros((len(piece), 1 + 3 * columns), np.uint8)
        lines[:, 1:] = piece.reshape(len(piece), 3 * columns)
        packed = packer.compress(lines.tobytes())
        yield _chunk(b"IDAT", packed) if packed else b""
    yield _chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
