"""Plain folders of pairs: `images` and `masks` (or `labels`) with files of the same name, and `labels.json`.

A mask's name may end in `_gt`, `_mask`, `_seg` or `_label`. Patients and phases are told by names, as in
`patient_and_phase`: `anna_ED_slice03.nii.gz` is of the patient `anna`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import CardiacError
from ..slices import read_json
from .case import Case
from .pairing import EXAMPLE, files_by_stem, order_from_json, patient_and_phase, require_images

NAME = "pairs"
DESCRIPTION = f"folders of pairs (images and masks with files of the same name, and labels.json such as {EXAMPLE})"

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
IMAGES, MASKS, LABELS = "images", ("masks", "labels"), "labels.json"
_MASK_MARK = re.compile(r"_(?:gt|mask|seg|label)$", re.IGNORECASE)


def recognizes(root: Path) -> bool:
    """Whether the folder holds both folders."""
    return (root / IMAGES).is_dir() and _mask_folder(root) is not None


def cases(root: Path) -> Iterator[Case]:
    """The images by name; those without a mask too.

    Raises:
        CardiacError: `labels.json` is missing or not understood, or files do not pair up.
    """
    if not (root / LABELS).is_file():
        raise CardiacError(
            f"{root} lacks {LABELS}, which tells what the values of the masks mean; add it with the right values, "
            f"such as {EXAMPLE}."
        )
    order = order_from_json(read_json(root / LABELS), str(root / LABELS))
    images = files_by_stem(root / IMAGES, ENDINGS)
    masks = _masks_by_image(root, images)
    for name, image in images.items():
        patient, phase = patient_and_phase(name)
        yield Case(name, patient, image, masks.get(name), order, phase=phase)


def _mask_folder(root: Path) -> Path | None:
    return next((root / name for name in MASKS if (root / name).is_dir()), None)


def _masks_by_image(root: Path, images: dict[str, Path]) -> dict[str, Path]:
    folder = _mask_folder(root)
    found: dict[str, Path] = {}
    for stem, path in files_by_stem(folder, ENDINGS).items() if folder else ():
        name = stem if stem in images else _MASK_MARK.sub("", stem)
        if name in found:
            raise CardiacError(f"{found[name]} and {path.name} are masks of one image; remove one of them.")
        found[name] = path
    require_images(found, images, root / IMAGES)
    return found
