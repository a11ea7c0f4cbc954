"""Masks that lie somewhere, in a data set or not, and the order of their labels."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..errors import CardiacError
from ..labels import MNMS_ORDER, LabelOrder, order_from_names
from ..slices import read_json
from . import find_reader, read_cases
from .case import Case

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
LABELS = "labelsTr"


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
        return [(stem_of(path), path)], order or _order_beside(path.parent) or MNMS_ORDER
    if not os.path.isdir(path):
        raise CardiacError(f"There is no file or folder {path}; check the path of the masks.")
    folder = path / LABELS if (path / LABELS).is_dir() else path
    order = order or _order_beside(folder)
    found = [(stem_of(p), p) for p in sorted(folder.iterdir()) if _is_mask(p)]
    if not found:
        raise CardiacError(f"{folder} holds no masks ({', '.join(SUFFIXES)}); check the path.")
    names = [name for name, _ in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CardiacError(f"{folder} holds {twice[0]} in two formats; keep one of them.")
    return found, order or MNMS_ORDER


def labelled_cases(path: Path, order: LabelOrder | None = None) -> list[Case]:
    """The masks at a path as cases; images are not looked at.

    Args:
        path: an image file, a folder of them, or a data set in a layout that is known.
        order: of the labels, in place of what the data set states.

    Raises:
        CardiacError: there are no masks.
    """
    if not _is_data_set(path):
        found, order = find_masks(path, order)
        return [Case(name, name, mask, mask, order) for name, mask in found]
    labelled = [(case, case.mask_path) for case in read_cases(path)[1] if case.mask_path is not None]
    # In place of the image, which may be a cine of hundreds of megabytes or missing, the mask is read.
    return [replace(case, image_path=mask, order=order or case.order) for case, mask in labelled]


def _is_data_set(path: Path) -> bool:
    # Unlike `Path.is_dir` this takes any text, such as one that is too long for a path.
    if not os.path.isdir(path):
        return False
    try:
        find_reader(path)
    except CardiacError:
        return False
    return True


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


def stem_of(path: Path) -> str:
    """Name of an image file without its ending."""
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return path.name[: -len(suffix)] if suffix else path.name
