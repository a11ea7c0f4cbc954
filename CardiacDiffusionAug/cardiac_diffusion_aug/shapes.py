"""Size, shape and place of the structures of short-axis masks, and how far synthetic ones lie from real ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import wasserstein_distance

from .anatomy import SIDES, BoolArray, Spacing, perimeter, pixel_sides
from .labels import LV, MYO, RV, STRUCTURES
from .slices import LabelArray

Values = npt.NDArray[np.float64]

QUANTITIES: dict[str, str] = {
    "area_LV": "mm^2",
    "area_MYO": "mm^2",
    "area_RV": "mm^2",
    "area_ratio_LV_RV": "1",
    "wall_thickness": "mm",
    "eccentricity_LV": "1",
    "eccentricity_RV": "1",
    "distance_LV_RV": "mm",
    **{f"{axis}_{s.key}": "mm" for s in STRUCTURES for axis in "xy"},
}
"""Units of what `measure` gives. x and y are centroids from the centre of the grid, to the right and downwards."""


def measure(mask: LabelArray, spacing: Spacing | float) -> dict[str, float]:
    """All quantities of one slice.

    Args:
        mask: (H, W) labels.
        spacing: pixel size in mm, (between rows, between columns) or one for both.

    Returns:
        values by the names of `QUANTITIES`; NaN where a structure that they need is absent.
    """
    sides = pixel_sides(spacing)
    result = dict.fromkeys(QUANTITIES, float("nan"))
    centroids = {}
    for structure in STRUCTURES:
        places = _places(mask == structure.value, sides)
        if not len(places):
            continue
        y, x = centroids[structure.value] = places.mean(0)
        result[f"y_{structure.key}"], result[f"x_{structure.key}"] = float(y), float(x)
        result[f"area_{structure.key}"] = len(places) * sides[0] * sides[1]
        if structure.value != MYO:
            result[f"eccentricity_{structure.key}"] = _eccentricity(places, sides)
    if LV in centroids and RV in centroids:
        result["area_ratio_LV_RV"] = result["area_LV"] / result["area_RV"]
        result["distance_LV_RV"] = float(np.hypot(*(centroids[LV] - centroids[RV])))
    result["wall_thickness"] = wall_thickness(mask, sides)
    return result


def wall_thickness(mask: LabelArray, spacing: Spacing | float) -> float:
    """Mean thickness in mm of the myocardium: its area over the mean length of endocardium and epicardium.

    Nearest distances from outline to outline would come out a fifth of a pixel too small, since of the stairs of an
    outline the nearest counts. Where the wall does not go all the way round, its two ends count as outline too.

    Args:
        mask: (H, W) labels.
        spacing: pixel size in mm, (between rows, between columns) or one for both.

    Returns:
        the mean, or NaN where the cavity touches no myocardium.
    """
    sides = pixel_sides(spacing)
    cavity, wall = mask == LV, mask == MYO
    if not (wall & ndimage.binary_dilation(cavity, SIDES)).any():
        return float("nan")
    return float(2 * wall.sum() * sides[0] * sides[1] / perimeter(wall, sides))


def presence(masks: Iterable[LabelArray]) -> dict[str, float]:
    """Share of the slices (H, W) in which each structure occurs, by its key; NaN where there are no slices."""
    found = [[bool((mask == s.value).any()) for s in STRUCTURES] for mask in masks]
    shares = np.mean(found, axis=0) if found else [float("nan")] * len(STRUCTURES)
    return {s.key: float(share) for s, share in zip(STRUCTURES, shares, strict=True)}


def wasserstein_ratio(
    synthetic: npt.ArrayLike, halves: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], real: npt.ArrayLike
) -> float:
    """Wasserstein-1 distance of synthetic to real values, in units of the mean distance of halves of the real ones.

    Args:
        synthetic: (N,) values of one quantity; NaN is left out, here and below.
        halves: values of two halves of the real set, for each of several halvings.
        real: (M,) values of all of the real set.

    Returns:
        about 1 or less where synthetic values are as close as real ones are to each other; infinity where all halves
        are alike but synthetic values differ, and NaN where one side has no values.
    """
    distance = _distance(synthetic, real)
    between_halves = float(np.mean([_distance(a, b) for a, b in halves])) if halves else float("nan")
    if between_halves == 0:
        return float("inf") if distance > 0 else float("nan")
    return distance / between_halves


def _distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    first, second = (v[~np.isnan(v)] for v in (np.asarray(a, float), np.asarray(b, float)))
    return float(wasserstein_distance(first, second)) if first.size and second.size else float("nan")


def _places(region: BoolArray, sides: Spacing) -> Values:
    """Pixels of a region as (y, x) in mm from the centre of the grid."""
    centre = (np.array(region.shape) - 1) / 2
    return np.asarray((np.argwhere(region) - centre) * sides, float)


def _eccentricity(places: Values, sides: Spacing) -> float:
    """Eccentricity of the ellipse with the second moments of some pixels: 0 for a circle, towards 1 for a line."""
    # A pixel is no point, but a box with a spread of its own; without it a single row would have no width.
    spread = np.cov(places.T, bias=True) + np.diag(np.square(sides)) / 12
    narrow, wide = np.linalg.eigvalsh(spread)
    return float(np.sqrt(max(1 - narrow / wide, 0.0)))
