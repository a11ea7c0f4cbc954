"""Large volumes to disk a piece at a time: uncompressed MetaImage, which is nothing but a head and the voxels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import slicer

from cardiac_diffusion_aug.disk import whole, writing_to
from cardiac_diffusion_aug.errors import CardiacError

from .scene import stackOf

ELEMENT_TYPES = {
    "int8": "MET_CHAR",
    "uint8": "MET_UCHAR",
    "int16": "MET_SHORT",
    "uint16": "MET_USHORT",
    "int32": "MET_INT",
    "uint32": "MET_UINT",
    "float32": "MET_FLOAT",
    "float64": "MET_DOUBLE",
}
FRAME_SPACING = 1.0


def writeMetaImage(nodes: Sequence[slicer.vtkMRMLVolumeNode], path: Path) -> Iterator[None]:
    """Write a volume, or the frames of a cine, one a step; the file appears whole or not at all.

    Args:
        nodes: volumes of one geometry and type.
        path: of a `.mha` file.

    Raises:
        CardiacError: a volume is empty, of colour, unlike the others, or the disk is full.
    """
    with writing_to(path.parent, "try again"), whole(path) as part, part.open("wb") as stream:
        head = None
        for node in nodes:
            if node.GetImageData() is None or node.GetImageData().GetNumberOfScalarComponents() != 1:
                raise CardiacError(f"{node.GetName()} holds no grey levels; choose a short-axis volume.")
            stack = stackOf(node)
            array = slicer.util.arrayFromVolume(node)
            its = _head(stack, array.dtype, len(nodes))
            if head is None:
                stream.write(its)
            elif its != head:
                raise CardiacError(
                    f"{node.GetName()} differs in size, position or type from the other frames; resample it onto them."
                )
            head = its
            stream.write(np.ascontiguousarray(array).tobytes())
            yield None


def _head(stack: object, dtype: np.dtype, frames: int) -> bytes:
    size, spacing = list(stack.GetSize()), list(stack.GetSpacing())
    origin, direction = list(stack.GetOrigin()), np.reshape(stack.GetDirection(), (3, 3))
    if frames > 1:
        size, spacing, origin = [*size, frames], [*spacing, FRAME_SPACING], [*origin, 0.0]
        wider = np.eye(4)
        wider[:3, :3] = direction
        direction = wider
    if str(dtype) not in ELEMENT_TYPES:
        raise CardiacError(f"Voxels of type {dtype} are not supported; cast the volume to 16 bits.")
    # MetaImage lists the axes one after the other: the columns of the direction.
    lines = {
        "ObjectType": "Image",
        "NDims": len(size),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": _words(direction.T.ravel()),
        "Offset": _words(origin),
        "ElementSpacing": _words(spacing),
        "DimSize": " ".join(map(str, size)),
        "ElementType": ELEMENT_TYPES[str(dtype)],
        "ElementDataFile": "LOCAL",
    }
    return "".join(f"{name} = {value}\n" for name, value in lines.items()).encode("ascii")


def _words(values: Sequence[float]) -> str:
    return " ".join(f"{float(value):.17g}" for value in values)
