"""How well segmentations agree with references: Dice, 95 % Hausdorff distance and volume error, volume by volume."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import CardiacError
from ..labels import STRUCTURES, dice
from ..slices import LabelArray
from .statistics import bootstrap_interval

BoolArray = npt.NDArray[np.bool_]
MM3_PER_ML = 1000.0
PERCENTILE = 95
MEASURES = {"dice": "", "hausdorff_95_mm": "mm", "volume_error_ml": "ml"}
WORST = 0.1


@dataclass(frozen=True)
class Score:
    """One structure of one volume.

    Attributes:
        case, patient, phase: of the volume.
        structure: its key.
        dice: 0..1; NaN where neither has the structure.
        hausdorff_95_mm: NaN where one of the two lacks the structure.
        volume_error_ml: prediction minus reference.
    """

    case: str
    patient: str
    phase: str | None
    structure: str
    dice: float
    hausdorff_95_mm: float
    volume_error_ml: float


@dataclass(frozen=True)
class Summary:
    """Figures of one measure over volumes; NaN ones are left out.

    Attributes:
        count: volumes.
        mean, spread, median: spread is the standard deviation over volumes.
        worst: mean of the worst tenth of the volumes, at least one; of errors, of their sizes.
        interval: of the mean, 95 %, by bootstrap over patients; None for a single patient.
    """

    count: int
    mean: float
    spread: float
    median: float
    worst: float
    interval: tuple[float, float] | None


def score_volume(
    prediction: LabelArray,
    reference: LabelArray,
    spacing: tuple[float, float, float],
    case: str,
    patient: str,
    phase: str | None,
) -> list[Score]:
    """All measures of a volume, a score for each structure.

    Args:
        prediction, reference: labels (slices, rows, columns) in the values used here.
        spacing: between slices, rows and columns, in mm.
        case, patient, phase: of the volume.
    """
    voxel = float(np.prod(spacing)) / MM3_PER_ML
    scores = []
    for structure in STRUCTURES:
        a, b = prediction == structure.value, reference == structure.value
        error = (int(a.sum()) - int(b.sum())) * voxel
        scores.append(Score(case, patient, phase, structure.key, dice(a, b), hausdorff_95(a, b, spacing), error))
    return scores


def hausdorff_95(a: BoolArray, b: BoolArray, spacing: tuple[float, float, float]) -> float:
    """95th percentile of the distances between two surfaces, the larger of both directions, in mm.

    Measured by MONAI, whose surface is the outermost pixels of a structure; of a single slice it is the outline, since
    all of its pixels would be outermost otherwise. NaN where one of the two is empty.

    Args:
        a, b: (slices, rows, columns).
        spacing: between slices, rows and columns, in mm.
    """
    if not (a.any() and b.any()):
        return float("nan")
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    size = list(spacing)
    if len(a) == 1:
        a, b, size = a[0], b[0], size[1:]
    # Far background only costs time.
    (box,) = ndimage.find_objects((a | b).astype(np.uint8))
    first, second = (torch.from_numpy(np.pad(one[box], 1))[None, None] for one in (a, b))
    with warnings.catch_warnings():
        # MONAI warns of how it calls itself.
        warnings.simplefilter("ignore", FutureWarning)
        found = compute_hausdorff_distance(first, second, include_background=True, percentile=PERCENTILE, spacing=size)
    return float(found)


def summarize(scores: Sequence[Score], measure: str) -> Summary | None:
    """Figures of one measure over scores, or None where it was never defined."""
    told = [(float(getattr(score, measure)), score.patient) for score in scores]
    told = [(value, patient) for value, patient in told if np.isfinite(value)]
    if not told:
        return None
    values = np.array([value for value, _ in told])
    patients = [patient for _, patient in told]
    # A small Dice is bad, and so is a large distance or error, to either side.
    badness = np.sort(-values if measure == "dice" else np.abs(values))[::-1][: max(1, round(WORST * len(values)))]
    worst = np.abs(badness)
    interval = bootstrap_interval(values, patients) if len(set(patients)) > 1 else None
    return Summary(
        len(values), float(values.mean()), float(values.std()), float(np.median(values)), float(worst.mean()), interval
    )


def scores_table(scores: Sequence[Score]) -> bytes:
    """Scores as a CSV file with a line each; what is NaN or unknown is left empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(Score)], lineterminator="\n")
    table.writeheader()
    for score in scores:
        table.writerow({name: _cell(value) for name, value in asdict(score).items()})
    return text.getvalue().encode("utf-8")


def read_scores(path: Path) -> list[Score]:
    """The scores of a file that `scores_table` made.

    Raises:
        CardiacError: it is not there, or not of this kind.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [_score(row) for row in csv.DictReader(stream)]
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise CardiacError(f"{path} is not a table of scores; remove its folder, and score again.") from error


def _score(row: dict[str, str]) -> Score:
    figures = {name: float(row[name] or "nan") for name in MEASURES}
    return Score(row["case"], row["patient"], row["phase"] or None, row["structure"], **figures)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4f}"
    return "" if value is None else value
