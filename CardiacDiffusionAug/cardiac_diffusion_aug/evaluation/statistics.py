"""Statistics that respect patients: slices of one heart look alike, so patients are what is split and resampled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..errors import CardiacError

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]
Halves = tuple[IndexArray, IndexArray]


def patient_halves(patients: npt.ArrayLike, count: int, seed: int = 0) -> list[Halves]:
    """Random halves of a real set, none of which shares a patient with the other.

    Args:
        patients: (N,) patient of each row.
        count: number of halvings.
        seed: of the choice at random; the same seed gives the same halves.

    Returns:
        `count` pairs of ascending row indices that together are all rows. Of an odd number of patients, the second
        half has one more.

    Raises:
        CardiacError: there are fewer than two patients.
    """
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < 2:
        raise CardiacError(
            f"The real set has {len(names)} patient(s), which cannot be split into two halves; "
            "give it at least two, better twenty."
        )
    random = np.random.default_rng(seed)
    halves = []
    for _ in range(count):
        first = np.isin(owner, random.permutation(len(names))[: len(names) // 2])
        halves.append((np.flatnonzero(first), np.flatnonzero(~first)))
    return halves


def bootstrap_interval(
    values: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    statistic: Callable[[FloatArray], float | np.floating] = np.mean,
    count: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic (Efron and Tibshirani, 1993, chapter 13).

    Args:
        values: (N, ...) observations along the first axis.
        groups: (N,) patient of each observation; whole patients are then drawn, as their observations are alike.
        statistic: takes resampled values (K, ...) and gives a number; K differs from N where groups differ in size.
        count: number of resamplings.
        level: share of the resampled statistics within the interval.
        seed: of the resampling.

    Returns:
        The lower and the upper end.

    Raises:
        CardiacError: a value is NaN or infinite, `groups` has another length, or there are fewer than two to draw from.
    """
    values = np.asarray(values, np.float64)
    owners = np.arange(len(values)) if groups is None else np.asarray(groups)
    if len(owners) != len(values):
        raise CardiacError(f"{len(values)} values have {len(owners)} patients; name one patient for each value.")
    if not np.isfinite(values).all():
        raise CardiacError("The values hold NaN or infinity, so they have no interval; leave those rows out.")
    _, owner, sizes = np.unique(owners, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        what = "value(s)" if groups is None else "patient(s)"
        raise CardiacError(f"An interval cannot be found from {len(sizes)} {what}; give at least two.")
    drawn: npt.NDArray[np.intp] | list[IndexArray]
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(count, len(sizes)))
    if groups is not None:
        members = np.split(np.argsort(owner, kind="stable"), np.cumsum(sizes)[:-1])
        drawn = [np.concatenate([members[group] for group in row]) for row in drawn]
    found = [float(statistic(values[rows])) for rows in drawn]
    low, high = np.percentile(found, (50 - 50 * level, 50 + 50 * level))
    return float(low), float(high)


def signed_rank_p(differences: npt.ArrayLike) -> float | None:
    """Two-sided p of the signed-rank test (Wilcoxon 1945) that paired differences lie around 0.

    Args:
        differences: (N,) one of each patient; NaN ones are left out.

    Returns:
        The probability, 1 where all are 0, or None where there are none.
    """
    from scipy.stats import wilcoxon

    values = np.asarray(differences, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return float(wilcoxon(values).pvalue) if values.any() else 1.0
