"""Whether better made slices help more: the quality of each set beside the gain that it gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...segmentation import Segmenter
from ..evaluate import projected, slice_dices
from ..fidelity import compare
from ..sections import adherence_section, anatomy_section, fidelity_section, shape_section
from ..sets import SliceSet
from ..statistics import FloatArray, bootstrap_interval

MEASURES = {
    "frechet_ratio": "Frechet ratio (less is better)",
    "kernel_ratio": "Kernel ratio (less is better)",
    "recall_ratio": "Recall ratio",
    "coverage_ratio": "Coverage ratio",
    "adherence": "Adherence, mean Dice",
    "anatomy": "Masks that are sound",
    "shape": "Shape, median Wasserstein ratio (less is better)",
}
"""What is set beside the gain."""
FEWEST_SETS = 4
"""Of fewer, ranks tell nothing."""


def quality(
    made: SliceSet,
    training: SliceSet,
    test: SliceSet,
    judge: Segmenter,
    check: Callable[[], None] = lambda: None,
    seed: int = 0,
) -> dict[str, float | None]:
    """The `MEASURES` of a made set, reckoned as `evaluate` does; None where one cannot be told.

    Args:
        made: the set.
        training: of the patients that its generator learned from.
        test: of patients whom it never saw.
        judge: looks for the masks in the images, and gives the features.
        check: called between batches; may raise to cancel.
        seed: of halvings and draws.
    """
    labels, features = judge.look(made.images, check)
    real_labels, real_features = judge.look(test.images, check)
    a, b = projected(np.asarray(real_features, float), np.asarray(features, float))
    dice, real_dice = (
        slice_dices({"labels": found}, one.masks) for found, one in ((labels, made), (real_labels, test))
    )
    sections = (
        anatomy_section(made, training),
        adherence_section(made, dice, real_dice),
        fidelity_section(compare(a, test.patients, b, seed)),
        shape_section(made, training, test, seed),
    )
    found = {figure.key: figure.value for section in sections for figure in section.figures}
    ratios = [value for key, value in found.items() if key.startswith("w1_")]
    own = {
        **found,
        "adherence": _mean([value for key, value in found.items() if key.startswith("dice_")]),
        "anatomy": found["pass_rate"],
        "shape": _median(ratios),
    }
    return {key: None if (value := own[key]) is None or not np.isfinite(value) else float(value) for key in MEASURES}


def quality_against_benefit(
    sets: Mapping[str, Mapping[str, float | None]], gains: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Rank correlation of each measure with the gain over the sets.

    Args:
        sets: measures of each set by its name.
        gains: points of Dice that each set gave to each test patient, by the set's name.

    Returns:
        `points`: measures and mean gain of each set that has both; `correlation`: by measure Spearman's rho, its 95 %
        interval by bootstrap over the patients, and the number of sets; None where there are too few, or all alike.
    """
    names = [name for name in sets if gains.get(name)]
    patients = sorted(set.intersection(*(set(gains[name]) for name in names))) if names else []
    table = np.array([[gains[name][patient] for name in names] for patient in patients])
    points = [
        {"name": name, "gain": float(np.mean([gains[name][p] for p in patients])), **sets[name]}
        for name in (names if patients else [])
    ]
    return {"points": points, "correlation": {key: _correlation(points, table, key) for key in MEASURES}}


def _correlation(points: Sequence[Mapping[str, Any]], table: FloatArray, key: str) -> dict[str, Any] | None:
    known = [index for index, point in enumerate(points) if point[key] is not None]
    values = np.array([points[index][key] for index in known], float)
    if len(known) < FEWEST_SETS or len(table) < 2:
        return None
    gains = table[:, known]
    rho = _rho(values, gains.mean(0))
    if rho is None:
        return None
    # Where a draw of patients makes all gains alike, ranks tell nothing.
    interval = bootstrap_interval(gains, statistic=lambda rows: _rho(values, rows.mean(0)) or 0.0)
    return {"rho": rho, "interval": list(interval), "sets": len(known)}


def _rho(values: npt.NDArray[np.float64], gains: npt.NDArray[np.float64]) -> float | None:
    from scipy.stats import spearmanr

    if np.ptp(values) == 0 or np.ptp(gains) == 0:
        return None
    return float(spearmanr(values, gains).statistic)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.median(known)) if known else None
