"""Volumes of the heart and its function, from masks of stacks, as a table that a spreadsheet opens."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .disk import write_whole, writing_to
from .labels import STRUCTURES

TABLE = "measurements.csv"
MYOCARDIAL_DENSITY = 1.05
"""Of myocardium, in g/ml."""
MM3_PER_ML = 1000.0
FUNCTION = ("EDV", "ESV", "SV", "EF")
COLUMNS = (
    "patient",
    "scan",
    "frame",
    "phase",
    *(f"{s.key}_ml" for s in STRUCTURES),
    *(f"{side}_{name}_{'percent' if name == 'EF' else 'ml'}" for side in ("LV", "RV") for name in FUNCTION),
    "myocardial_mass_g",
)


@dataclass(frozen=True)
class Frame:
    """One stack at one moment.

    Attributes:
        patient, scan: where it belongs.
        frame: number within a cine, from 0; None where the scan is a single stack.
        phase: `ED`, `ES`, or None when unknown.
        volumes: ml by structure; empty where no heart was found.
    """

    patient: str
    scan: str
    frame: int | None
    phase: str | None
    volumes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """What the heart pumps.

    Attributes:
        end_diastole, end_systole: the frames that it was measured on.
        values: EDV, ESV and SV in ml and EF in percent, by side and name such as `LV_EF`; a side without a cavity at
            end-diastole is left out.
        mass: of the myocardium at end-diastole, in g.
    """

    end_diastole: Frame
    end_systole: Frame
    values: dict[str, float]
    mass: float


def volumes_of(mask: sitk.Image) -> dict[str, float]:
    """Volume of each structure in ml; empty where nothing is labelled.

    Args:
        mask: stack of labels in the values used here; its spacing in z is the distance of the slices.
    """
    labels = sitk.GetArrayViewFromImage(mask)
    if not labels.any():
        return {}
    voxel = float(np.prod(mask.GetSpacing())) / MM3_PER_ML
    return {s.key: float(np.count_nonzero(labels == s.value)) * voxel for s in STRUCTURES}


def function_of(frames: Sequence[Frame]) -> Function | None:
    """Function of the heart over the frames of one patient, or None where they show one moment only.

    Of a cine, the frames of the largest and the smallest LV cavity are end-diastole and end-systole; of single stacks,
    those that are named so.
    """
    measured = [frame for frame in frames if frame.volumes]
    cine = [frame for frame in measured if frame.frame is not None]
    if len(cine) > 1:
        largest, smallest = (pick(cine, key=lambda f: f.volumes["LV"]) for pick in (max, min))
    else:
        phases = {frame.phase: frame for frame in measured}
        if not {"ED", "ES"} <= phases.keys():
            return None
        largest, smallest = phases["ED"], phases["ES"]
    values = {}
    for side in ("LV", "RV"):
        full, empty = largest.volumes[side], smallest.volumes[side]
        if full > 0:
            stroke = full - empty
            numbers = (full, empty, stroke, 100 * stroke / full)
            values.update({f"{side}_{name}": value for name, value in zip(FUNCTION, numbers, strict=True)})
    return Function(largest, smallest, values, largest.volumes["MYO"] * MYOCARDIAL_DENSITY)


def write_measurements(frames: Sequence[Frame], folder: Path) -> Path:
    """Write `measurements.csv`: a line a frame, and after those of a patient a line with the function of the heart.

    In the line of the function, `frame` names end-diastole and end-systole, and `phase` is `ED+ES`.

    Raises:
        CardiacError: the folder cannot be written.
    """
    path = folder / TABLE
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    table.writeheader()
    for patient in dict.fromkeys(frame.patient for frame in frames):
        own = [frame for frame in frames if frame.patient == patient]
        table.writerows(_frame_row(frame) for frame in own)
        # Several cines of one patient are each a study of their own.
        cines = dict.fromkeys(frame.scan for frame in own if frame.frame is not None)
        groups = [[f for f in own if f.scan == scan] for scan in cines] + [[f for f in own if f.frame is None]]
        table.writerows(_function_row(found) for group in groups if (found := function_of(group)) is not None)
    with writing_to(folder):
        write_whole(path, text.getvalue().encode("utf-8"))
    return path


def _frame_row(frame: Frame) -> dict[str, str]:
    row = {"patient": frame.patient, "scan": frame.scan, "phase": frame.phase or ""}
    if frame.frame is not None:
        row["frame"] = str(frame.frame)
    return {**row, **{f"{key}_ml": f"{value:.1f}" for key, value in frame.volumes.items()}}


def _function_row(found: Function) -> dict[str, str]:
    ends = (found.end_diastole, found.end_systole)
    row = {"patient": ends[0].patient, "phase": "ED+ES", "scan": "+".join(dict.fromkeys(f.scan for f in ends))}
    if ends[0].frame is not None:
        row["frame"] = f"{ends[0].frame}+{ends[1].frame}"
    for name, value in found.values.items():
        row[f"{name}_{'percent' if name.endswith('EF') else 'ml'}"] = f"{value:.1f}"
    return {**row, "myocardial_mass_g": f"{found.mass:.1f}"}
