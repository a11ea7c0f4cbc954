"""A U-Net of the study on patients whom it never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...datasets import Case
from ...errors import CardiacError
from ...export import SUFFIX, write_stack
from ...labels import STRUCTURES, dice
from ...segmentation import Segmenter
from ...slices import LabelArray, heart_center, read_image
from ..scores import Score

SMALL_OBJECT_MM2 = 500.0
"""Area in a slice below which a structure is small: a disc of 25 mm. An outline that is one pixel of the model's grid
(1.5 mm) off all around it costs it 11 points of Dice, and about one in seven structures of ACDC's slices, near the apex
and at the ends of the RV, is smaller."""


def label_cases(
    cases: Sequence[Case],
    segmenter: Segmenter,
    folder: Path,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write what a network finds in labelled cases, each on its own grid; those that are there already stay.

    The place of the heart is taken from the reference, for all networks alike, and what was found is kept however
    unsure the network is of it. To find hearts in a field of view is another task, which networks without augmentation
    and such of made slices alone have never seen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index, case in enumerate(cases):
        check()
        progress(index, len(cases))
        path = mask_path(folder, case)
        if path.is_file():
            continue
        loaded = case.load()
        assert loaded.mask is not None
        center = heart_center(sitk.GetArrayViewFromImage(loaded.mask))
        found = segmenter.segment(loaded.image, case.name, center, check, insist=True)
        write_stack(found.mask, path)
    progress(len(cases), len(cases))


def mask_path(folder: Path, case: Case) -> Path:
    """Where the labels of a case lie."""
    return folder / f"{case.name}{SUFFIX}"


def with_heart(cases: Sequence[Case]) -> list[Case]:
    """The labelled cases whose mask labels anything.

    Raises:
        CardiacError: there is none.
    """
    chosen = []
    for case in cases:
        if case.mask_path is not None:
            mask = case.load().mask
            if mask is not None and sitk.GetArrayViewFromImage(mask).any():
                chosen.append(case)
    if not chosen:
        raise CardiacError("No mask of the data to test on labels any pixel; check the label files.")
    return chosen


def small_scores(cases: Sequence[Case], folder: Path) -> list[Score]:
    """Dice of the small objects: over those slices of a volume in which a structure is small, all together."""
    scores = []
    for case in cases:
        true = case.load().mask
        assert true is not None
        width, height, _ = true.GetSpacing()
        found = sitk.GetArrayFromImage(read_image(mask_path(folder, case)))
        for key, value in small_dice(found, sitk.GetArrayFromImage(true), width * height).items():
            scores.append(Score(case.name, case.patient, case.phase, key, value, float("nan"), float("nan")))
    return scores


def small_dice(found: LabelArray, true: LabelArray, pixel_mm2: float) -> dict[str, float]:
    """Dice by structure over the slices of a volume in which it is small; structures that never are have none."""
    result = {}
    for structure in STRUCTURES:
        a, b = found == structure.value, true == structure.value
        areas = b.sum(axis=(1, 2)) * pixel_mm2
        rows = np.flatnonzero((areas > 0) & (areas < SMALL_OBJECT_MM2))
        if len(rows):
            result[structure.key] = dice(a[rows], b[rows])
    return result
