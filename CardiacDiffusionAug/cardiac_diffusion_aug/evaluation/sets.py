"""Real and synthetic slices on the model's grid, side by side, as the measures take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ..datasets import Case, read_cases
from ..datasets.pack import GREY_LEVELS, SlicePack, centered
from ..errors import CardiacError
from ..slices import (
    GRID_SIZE,
    GRID_SPACING,
    FloatArray,
    LabelArray,
    grid_around,
    heart_center,
    intensity_window,
    require_finite,
    resample_image,
    resample_labels,
    rescale,
)


@dataclass(frozen=True)
class SliceSet:
    """Slices with a heart.

    Attributes:
        images: (N, 128, 128) in [-1, 1].
        masks: (N, 128, 128) labels.
        patients: patient of each slice.
        names: case of each slice.
        attributes: (N, 3) rows of phase index, group index and level; -1 where unknown.
        indices: of each slice in its stack, from 0.
    """

    images: FloatArray
    masks: LabelArray
    patients: npt.NDArray[np.str_]
    names: npt.NDArray[np.str_]
    attributes: npt.NDArray[np.float32]
    indices: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.images)


def real_set(pack: SlicePack) -> SliceSet:
    """The slices of a pack, cut to the model's grid.

    Raises:
        CardiacError: none of them shows a heart.
    """
    masks = centered(pack.masks)
    shown = masks.any(axis=(1, 2))
    if not shown.any():
        raise CardiacError("None of the chosen real slices is labelled; choose other patients.")
    images = centered(pack.images[shown]).astype(np.float32) * (2 / GREY_LEVELS) - 1
    # A pack holds all slices of a stack, one after the other.
    _, first, case = np.unique(pack.cases, return_index=True, return_inverse=True)
    indices = np.arange(len(pack)) - first[case]
    return SliceSet(
        images, masks[shown], pack.patients[shown], pack.cases[shown], pack.attributes[shown], indices[shown]
    )


def synthetic_set(
    folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[SliceSet, str]:
    """The slices of a data set of made cases, and the layout that it was read as.

    Slices that lie on the model's grid are taken as they are; others are resampled around their heart.

    Raises:
        CardiacError: the folder cannot be read, or shows no heart.
    """
    reader, cases = read_cases(folder)
    labelled = [case for case in cases if case.labelled]
    parts = []
    for index, case in enumerate(labelled):
        parts.append(slices_of(case))
        progress(index + 1, len(labelled))
    if not sum(map(len, parts)):
        raise CardiacError(f"No mask in {folder} labels any pixel; check the label files.")
    fields = SliceSet.__dataclass_fields__
    return SliceSet(*(np.concatenate([vars(part)[name] for part in parts]) for name in fields)), reader.DESCRIPTION


def slices_of(case: Case) -> SliceSet:
    """The slices of a case of a data set of made cases; none where its mask is empty.

    Raises:
        CardiacError: it cannot be read.
    """
    images, masks, indices = _shown_slices(case)
    count = len(images)
    unknown = np.full((count, 3), -1, np.float32)
    return SliceSet(images, masks, np.full(count, case.patient), np.full(count, case.name), unknown, indices)


def _shown_slices(case: Case) -> tuple[FloatArray, LabelArray, npt.NDArray[np.intp]]:
    loaded = case.load()
    assert loaded.mask is not None
    labels = sitk.GetArrayFromImage(loaded.mask)
    if not labels.any():
        nothing = np.empty((0, GRID_SIZE, GRID_SIZE))
        return nothing.astype(np.float32), nothing.astype(np.uint8), np.empty(0, np.intp)
    size, spacing = loaded.image.GetSize()[:2], loaded.image.GetSpacing()[:2]
    if size == (GRID_SIZE, GRID_SIZE) and np.allclose(spacing, GRID_SPACING, atol=1e-3):
        images = sitk.GetArrayFromImage(loaded.image).astype(np.float32)
    else:
        grid = grid_around(loaded.image, heart_center(labels))
        images, labels = resample_image(loaded.image, grid), resample_labels(loaded.mask, grid)
    require_finite(images, case.name)
    window = case.window or intensity_window(images, case.name)
    shown = labels.any(axis=(1, 2))
    return rescale(images[shown], window), labels[shown], np.flatnonzero(shown)
