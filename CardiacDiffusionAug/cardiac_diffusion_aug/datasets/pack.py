"""All labelled slices of a data set on the model's grid, in memory and in a cache."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ..attributes import GROUPS, PHASES
from ..errors import CardiacError
from ..slices import (
    GRID_SIZE,
    LabelArray,
    grid_around,
    heart_center,
    intensity_window,
    require_finite,
    resample_image,
    resample_labels,
    rescale,
)
from .case import Case, LoadedCase

N = TypeVar("N", bound=np.generic)

PACK_SIZE = 176
"""Wider than the model's grid, so that turned and shifted slices still show real anatomy at their corners."""
WIDE_PACK_SIZE = 256
"""A whole field of view, for a network that must find the heart in it."""
PACK_VERSION = 2
GREY_LEVELS = 255


@dataclass(frozen=True)
class SlicePack:
    """Slices of a data set, and their table.

    Attributes:
        images: (N, S, S) uint8; 0 and 255 are the 1st and 99th percentile of the stack around the heart.
        masks: (N, S, S) uint8 labels.
        attributes: (N, 3) float32 rows of phase index, group index and level; -1 where unknown.
        patients: patient of each slice.
        cases: case of each slice.
    """

    images: npt.NDArray[np.uint8]
    masks: LabelArray
    attributes: npt.NDArray[np.float32]
    patients: npt.NDArray[np.str_]
    cases: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.images)

    def of_patients(self, patients: Collection[str]) -> SlicePack:
        """The slices of some patients."""
        return self.where(np.isin(self.patients, list(patients)))

    def where(self, chosen: npt.NDArray[np.bool_]) -> SlicePack:
        """The slices at which `chosen` is true."""
        return SlicePack(
            self.images[chosen], self.masks[chosen], self.attributes[chosen], self.patients[chosen], self.cases[chosen]
        )

    def attribute_table(self) -> list[list[float]]:
        """How often each combination of attributes occurs among slices with a heart: rows as `AttributeTable`."""
        shown = self.attributes[self.masks.any(axis=(1, 2))].round(2)
        rows, counts = np.unique(shown, axis=0, return_counts=True)
        return [[*map(float, np.round(row, 2)), int(count)] for row, count in zip(rows.tolist(), counts, strict=True)]

    def save(self, path: Path) -> None:
        """Write as compressed npz; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez_compressed(stream, **vars(self))
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> SlicePack:
        """Read what `save` wrote; nothing is unpickled."""
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in cls.__dataclass_fields__})


def cache_folder() -> Path:
    """`$CARDIAC_DIFFUSION_AUG_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("CARDIAC_DIFFUSION_AUG_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "cardiac-diffusion-aug"


def pack_cases(
    cases: Sequence[Case],
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    size: int = PACK_SIZE,
) -> SlicePack:
    """The labelled cases as a pack, from the cache where their files did not change.

    Args:
        cases: cases of one data set; those without a mask are left out.
        cache: folder of the cache, by default `cache_folder()`.
        progress: called with the number of cases done and in all.
        size: pixels of 1.5 mm along each side of a packed slice.

    Raises:
        CardiacError: no case has a labelled heart, or a case cannot be read.
    """
    labelled = [case for case in cases if case.labelled]
    path = (cache or cache_folder()) / f"slices-{fingerprint(labelled, size)}.npz"
    if path.is_file():
        try:
            return SlicePack.load(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            pass  # A damaged cache is only a lost shortcut; it is written anew below.
    parts = []
    for index, case in enumerate(labelled):
        part = _pack_case(case.load(), size)
        if part is not None:
            parts.append(part)
        progress(index + 1, len(labelled))
    if not parts:
        raise CardiacError("No mask of the data set labels any pixel; check the label files.")
    pack = SlicePack(*(np.concatenate([vars(p)[name] for p in parts]) for name in SlicePack.__dataclass_fields__))
    # Without room for the cache the work goes on; only the next start is slower.
    with suppress(OSError):
        pack.save(path)
    return pack


def fingerprint(cases: Sequence[Case], size: int = PACK_SIZE) -> str:
    """Changes when a file of the cases does, or the way of packing."""
    rows: list[object] = [PACK_VERSION, size]
    for case in cases:
        row: list[object] = [
            case.name,
            case.patient,
            case.phase,
            case.group,
            case.frame,
            case.window,
            sorted(case.order.items()),
        ]
        for path in (case.image_path, case.mask_path):
            if path is not None and path.is_file():
                row += [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]
        rows.append(row)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def centered(array: npt.NDArray[N]) -> npt.NDArray[N]:
    """The model's grid (..., 128, 128) in the middle of packed slices (..., S, S)."""
    margin = (array.shape[-1] - GRID_SIZE) // 2
    return array[..., margin : margin + GRID_SIZE, margin : margin + GRID_SIZE]


def _pack_case(loaded: LoadedCase, size: int) -> SlicePack | None:
    assert loaded.mask is not None
    mask = sitk.GetArrayViewFromImage(loaded.mask)
    if not mask.any():
        return None
    grid = grid_around(loaded.image, heart_center(mask), size)
    images = resample_image(loaded.image, grid)
    case = loaded.case
    require_finite(images, case.name)
    images = rescale(images, case.window or intensity_window(centered(images), case.name))
    levels = [-1.0 if level is None else level for level in loaded.levels()]
    phase = -1 if case.phase is None else PHASES.index(case.phase)
    group = -1 if case.group is None else GROUPS.index(case.group)
    count = len(images)
    return SlicePack(
        images=np.rint((images + 1) / 2 * GREY_LEVELS).astype(np.uint8),
        masks=resample_labels(loaded.mask, grid),
        attributes=np.array([(phase, group, level) for level in levels], np.float32),
        patients=np.full(count, case.patient),
        cases=np.full(count, case.name),
    )
