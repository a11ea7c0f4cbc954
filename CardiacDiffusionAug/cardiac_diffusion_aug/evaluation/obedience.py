"""Whether a generator gives what it is asked for: pairs of masks from the same noise, asked for opposite attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..attributes import LEVELS, Attributes
from ..generation import Generator
from ..labels import LV, MYO
from ..shapes import measure
from ..slices import GRID_SPACING, LabelArray

TOGETHER = 8
"""Masks that are asked for at a time, so that progress is told now and then."""
PAIRS = 40


def cavity_area(mask: LabelArray) -> float:
    """Area of the LV cavity in mm^2."""
    return float(np.sum(mask == LV)) * GRID_SPACING**2


def heart_area(mask: LabelArray) -> float:
    """Area within the epicardium in mm^2."""
    return float(np.sum((mask == LV) | (mask == MYO))) * GRID_SPACING**2


def wall_thickness(mask: LabelArray) -> float:
    """Mean wall thickness in mm, 0 where there is no wall."""
    return float(np.nan_to_num(measure(mask, GRID_SPACING)["wall_thickness"]))


@dataclass(frozen=True)
class Question:
    """A pair of requests, of which the first must measure more.

    Attributes:
        key, name: for programs and for people.
        more, less: what is asked; both from the same noise.
        quantity: what is measured on the masks.
    """

    key: str
    name: str
    more: Attributes
    less: Attributes
    quantity: Callable[[LabelArray], float]


MID, APICAL, BASAL = LEVELS["mid"], LEVELS["apical"], LEVELS["basal"]
QUESTIONS = (
    Question(
        "phase",
        "ED has a larger LV cavity than ES (mid-ventricular)",
        Attributes(phase="ED", level=MID),
        Attributes(phase="ES", level=MID),
        cavity_area,
    ),
    Question(
        "group",
        "HCM has a thicker wall than NOR (mid-ventricular, ED)",
        Attributes(phase="ED", group="HCM", level=MID),
        Attributes(phase="ED", group="NOR", level=MID),
        wall_thickness,
    ),
    Question(
        "level",
        "the base has a larger heart than the apex (ED)",
        Attributes(phase="ED", level=BASAL),
        Attributes(phase="ED", level=APICAL),
        heart_area,
    ),
)


def answers(
    generator: Generator,
    question: Question,
    pairs: int = PAIRS,
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda masks: None,
) -> npt.NDArray[np.float64]:
    """What was measured on pairs of masks, (pairs, 2): asked for more, asked for less.

    Args:
        generator: to ask.
        question: what to ask.
        pairs: number of pairs; both masks of pair k come from the noise of case k.
        seed: of the noise.
        check: called between steps; may raise to cancel.
        progress: called with the number of masks that were just made.
    """
    rows: list[tuple[float, ...]] = []
    for first in range(0, pairs, TOGETHER):
        cases = range(first, min(first + TOGETHER, pairs))
        columns: list[list[float]] = []
        for asked in (question.more, question.less):
            columns.append([question.quantity(mask) for mask in generator.masks(seed, cases, asked, check)])
            progress(len(cases))
        rows += zip(*columns, strict=True)
    return np.array(rows)
