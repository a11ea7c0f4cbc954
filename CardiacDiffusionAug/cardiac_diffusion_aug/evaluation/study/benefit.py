"""Whether better made slices help more: the quality of each set beside the gain that it gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...segmentation import Segmenter
from ..copying import Slices, copying
from ..evaluate import projected, slice_dices
from ..fidelity import compare
from ..sections import adherence_section, anatomy_section, copying_section, fidelity_section, shape_section
from ..sets import SliceSet
from ..statistics import FloatArray, bootstrap_interval

MEASURES = {
    "frechet_ratio": "Frechet ratio",
    "kernel_ratio": "Kernel ratio",
    "precision_ratio": "Precision ratio",
    "recall_ratio": "Recall ratio",
    "coverage_ratio": "Coverage ratio",
    "adherence": "Mean Dice of adherence",
    "anatomy": "Masks that are sound",
    "shape": "Median Wasserstein ratio of shape",
    "near_images": "Images near to training ones",
}
"""What is set beside the gain."""
LESS_IS_BETTER = ("frechet_ratio", "kernel_ratio", "shape", "near_images")
FEWEST_SETS = 5
"""Of fewer, ranks tell nothing."""
SHUFFLES = 9999


def quality(
    made: SliceSet,
    training: SliceSet,
    test: SliceSet,
    judge: Segmenter,
    check: Callable[[], None] = lambda: None,
    seed: int = 0,
) -> dict[str, float | None]:
    """The figures of a made set by their keys in a report of `evaluate`, and the `MEASURES`; None where there is none.

    What the generator gives when asked for attributes is left out: it would have to make hundreds of masks for that.

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
    check()
    copied = copying(*(Slices(one.images, one.masks) for one in (training, test, made)))
    check()
    sections = (
        anatomy_section(made, training),
        adherence_section(made, dice, real_dice),
        fidelity_section(compare(a, test.patients, b, seed)),
        copying_section(copied, made, training, test),
        shape_section(made, training, test, seed),
    )
    figures = {figure.key: _finite(figure.value) for section in sections for figure in section.figures}
    return {
        **figures,
        "adherence": _over(np.mean, [value for key, value in figures.items() if key.startswith("dice_")]),
        "anatomy": figures["pass_rate"],
        "shape": _over(np.median, [value for key, value in figures.items() if key.startswith("w1_")]),
    }


def quality_against_benefit(
    sets: Mapping[str, Mapping[str, float | None]], gains: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Rank correlation of each measure with the gain over the sets.

    Args:
        sets: figures of each set by its name, among them the measures.
        gains: points of Dice that each set gave to each test patient, by the set's name.

    Returns:
        `points`: measures and mean gain of each set that has both; `correlation`: by measure Spearman's rho, its 95 %
        interval by bootstrap over the patients, p of a permutation test over the sets, and their number; None where
        there are too few, or all alike.
    """
    names = [name for name in sets if gains.get(name)]
    patients = sorted(set.intersection(*(set(gains[name]) for name in names))) if names else []
    table = np.array([[gains[name][patient] for name in names] for patient in patients])
    points = [
        {
            "name": name,
            "gain": float(np.mean([gains[name][p] for p in patients])),
            **{key: sets[name].get(key) for key in MEASURES},
        }
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
    return {"rho": rho, "interval": list(interval), "p": _chance(values, gains.mean(0)), "sets": len(known)}


def _rho(values: npt.NDArray[np.float64], gains: npt.NDArray[np.float64]) -> float | None:
    from scipy.stats import spearmanr

    if np.ptp(values) == 0 or np.ptp(gains) == 0:
        return None
    return float(spearmanr(values, gains).statistic)


def _chance(values: npt.NDArray[np.float64], gains: npt.NDArray[np.float64]) -> float:
    """How often shuffled ranks go together as much, for better or worse: a few sets may do so by chance."""
    from scipy.stats import rankdata

    a, b = (rankdata(column) - (len(column) + 1) / 2 for column in (values, gains))
    shuffled = np.random.default_rng(0).permuted(np.tile(a, (SHUFFLES, 1)), axis=1)
    # The sums of products of ranks are whole or quarters, which a float holds exactly.
    return float((1 + np.sum(np.abs(shuffled @ b) >= abs(a @ b))) / (1 + SHUFFLES))


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _over(statistic: Callable[[list[float]], np.floating], values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return float(statistic(known)) if known else None
