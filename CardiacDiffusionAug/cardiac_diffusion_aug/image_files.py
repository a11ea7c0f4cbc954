"""Whether an image file holds what its header promises, told before any memory is taken for its pixels.

ITK alone does not tell: where a NIfTI or a compressed MetaImage file breaks off it reads on as if zeros followed. Of
NIfTI it also takes NaN for 0, and a spacing of 0 for 1.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from .errors import CardiacError

CHUNK = 1 << 20
TEXT_HEADER = 1 << 16
GZIP_MAGIC = b"\x1f\x8b"
NIFTI_LENGTH, NIFTI_MAGIC, NIFTI_MAGIC_AT = 348, b"n+1\0", 344
NIFTI_FLOATS = {16: "f4", 64: "f8"}
DEFLATE_LIMIT = 1032
"""Deflate makes data at most this many times smaller (zlib's technical details)."""

Stream = BinaryIO | gzip.GzipFile


def require_whole(path: Path) -> None:
    """Check a file as far as ITK does not; whether it is an image at all is left to ITK.

    Raises:
        CardiacError: the file cannot be opened, breaks off, states a spacing that is no size, or holds NaN.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    whole = _is_whole_nifti(path, unpacked)
            else:
                whole = _is_whole_nifti(path, raw) and _is_whole_meta_image(path) and _can_be_whole_nrrd(path)
    except PermissionError as error:
        raise CardiacError(f"{path} cannot be opened; ask for the right to read it.") from error
    except (OSError, EOFError, zlib.error):
        whole = False
    if not whole:
        raise CardiacError(f"{path} cannot be read as an image: the file breaks off or is damaged; copy it anew.")


def _is_whole_nifti(path: Path, stream: Stream) -> bool:
    header = stream.read(NIFTI_LENGTH)
    if not header.startswith(NIFTI_MAGIC, NIFTI_MAGIC_AT):
        return True
    order = "<" if struct.unpack_from("<i", header)[0] == NIFTI_LENGTH else ">"
    dimensions, *size = struct.unpack_from(f"{order}8h", header, 40)
    kind, bits = struct.unpack_from(f"{order}2h", header, 70)
    spacing = struct.unpack_from(f"{order}3f", header, 80)
    (offset,) = struct.unpack_from(f"{order}f", header, 108)
    for mm in spacing[: max(dimensions, 0)]:
        if mm == 0 or not math.isfinite(mm):
            raise CardiacError(f"{path} states a pixel spacing of {mm:g}; correct its header, since sizes are in mm.")
    if not math.isfinite(offset):
        return False
    stream.read(max(int(offset) - NIFTI_LENGTH, 0))
    held = 0
    # Reading on to the end also compares the checksum of compressed data.
    for chunk in _chunks(stream):
        held += len(chunk)
        if kind in NIFTI_FLOATS and not _is_finite(chunk, np.dtype(order + NIFTI_FLOATS[kind])):
            raise CardiacError(f"{path} holds NaN or infinite values; replace them before use.")
    return held >= math.prod(max(n, 1) for n in size[: max(dimensions, 0)]) * bits / 8


def _is_finite(chunk: bytes, kind: np.dtype[np.floating]) -> bool:
    return bool(np.isfinite(np.frombuffer(chunk, kind, len(chunk) // kind.itemsize)).all())


def _is_whole_meta_image(path: Path) -> bool:
    with path.open("rb") as stream:
        text = stream.read(TEXT_HEADER)
    end = re.search(rb"^\s*ElementDataFile\s*=[ \t]*([^\r\n]+)\r?\n?", text, re.MULTILINE)
    if end is None or not re.search(
        rb"^\s*CompressedData\s*=\s*True", text[: end.start()], re.MULTILINE | re.IGNORECASE
    ):
        return True
    local = end[1].strip() == b"LOCAL"
    pixels = path if local else path.parent / end[1].strip().decode(errors="replace")
    if not pixels.is_file():
        return True
    unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
    with pixels.open("rb") as stream:
        stream.seek(end.end() if local else 0)
        held = sum(len(unpacker.decompress(chunk)) for chunk in _chunks(stream))
    return held >= _promised_pixels(path)


def _can_be_whole_nrrd(path: Path) -> bool:
    with path.open("rb") as stream:
        text = stream.read(TEXT_HEADER)
    if not text.startswith(b"NRRD") or re.search(rb"^data ?file:", text, re.MULTILINE | re.IGNORECASE):
        return True
    return path.stat().st_size * DEFLATE_LIMIT >= _promised_pixels(path)


def _promised_pixels(path: Path) -> int:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        one = sitk.Image([1, 1], reader.GetPixelID(), reader.GetNumberOfComponents())
    except RuntimeError:
        return 0
    return int(math.prod(reader.GetSize()) * one.GetNumberOfComponentsPerPixel() * one.GetSizeOfPixelComponent())


def _chunks(stream: Stream) -> Iterator[bytes]:
    return iter(lambda: stream.read(CHUNK), b"")
