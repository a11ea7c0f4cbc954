"""Anatomical plausibility of short-axis masks: the criteria of Painchaud et al. (IEEE TMI 39(11):3703-3713, 2020).

Pixels of a structure hold together at sides and corners, so that a wall of pixels that meet at corners is closed; blood
leaks through sides alone. A gap between two structures must be closed by sides: where outlines part, the stairs of 4 %
of ACDC's slices close off a pixel but for its corner. What lies beyond the slice counts as background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from .labels import BACKGROUND, LV, MYO, RV
from .slices import LabelArray

BoolArray = npt.NDArray[np.bool_]
Spacing = tuple[float, float]

ALL = "all"
"""Under this name `pass_rates` gives the share of slices that pass everything."""
ROUNDING = 1e-6
SIDES = ndimage.generate_binary_structure(2, 1)
CORNERS = ndimage.generate_binary_structure(2, 2)

MIN_CIRCULARITY = 0.2
MAX_LV_CONCAVITY_MM = 4.0
MAX_RV_CONCAVITY_MM = 30.0
MAX_MYO_CONCAVITY_MM = 3.0
"""The epicardium should have none; two pixels of the model's grid are what real masks show where the RV begins."""


@dataclass(frozen=True)
class Criterion:
    """What a plausible mask fulfils.

    Attributes:
        name: stable identifier.
        text: what is wrong with a mask that fails, in words for people.
        concavity: whether it measures concavity, which is tested only where asked for.
    """

    name: str
    text: str
    concavity: bool = False


def failures(mask: LabelArray, spacing: Spacing | float, concavity: bool = False) -> tuple[str, ...]:
    """Names of the criteria that a slice fails, in the order of `CRITERIA`.

    What is absent fails nothing, and an empty slice fails nothing; a cavity of the LV without any myocardium touches
    the background.

    Args:
        mask: (H, W) labels of one slice.
        spacing: pixel size in mm, (between rows, between columns) or one for both.
        concavity: whether concavities are tested too.
    """
    heart = _Heart.cut_from(mask, spacing)
    return tuple(c.name for c, fails in _TESTS if (concavity or not c.concavity) and fails(heart))


def passes(mask: LabelArray, spacing: Spacing | float, concavity: bool = False) -> bool:
    """Whether a slice fails no criterion; arguments as of `failures`."""
    return not failures(mask, spacing, concavity)


def pass_rates(masks: Iterable[LabelArray], spacing: Spacing | float, concavity: bool = False) -> dict[str, float]:
    """Share of the slices that pass each criterion, and under `all` of those that pass every one.

    Args:
        masks: slices (H, W); empty ones are not counted.
        spacing: pixel size of all of them in mm, as of `failures`.
        concavity: whether concavities are tested too.

    Returns:
        rates in 0..1 by name; NaN where no slice was counted.
    """
    return rates_of((failures(mask, spacing, concavity) for mask in masks if mask.any()), concavity)


def rates_of(failed: Iterable[tuple[str, ...]], concavity: bool = False) -> dict[str, float]:
    """What `pass_rates` gives, of slices for which `failures` is known, found with the same `concavity`."""
    names = [c.name for c in CRITERIA if concavity or not c.concavity]
    counts, total = dict.fromkeys([*names, ALL], 0), 0
    for slice_failures in failed:
        total += 1
        for name in (*slice_failures, ALL) if slice_failures else ():
            counts[name] += 1
    return {name: 1 - count / total if total else float("nan") for name, count in counts.items()}


def pixel_sides(spacing: Spacing | float) -> Spacing:
    """Pixel size in mm as (between rows, between columns), from both or one for both."""
    height, width = np.broadcast_to(np.asarray(spacing, float), 2).tolist()
    return height, width


def filled(region: BoolArray) -> BoolArray:
    """A region (H, W) without its holes."""
    outside, _ = ndimage.label(np.pad(~region, 1, constant_values=True), SIDES)
    return np.asarray(outside[1:-1, 1:-1] != outside[0, 0])


def circularity(region: BoolArray, spacing: Spacing) -> float:
    """4 pi area / perimeter^2 of a region (H, W), not empty: 1 for a disc, less for all else."""
    area = region.sum() * spacing[0] * spacing[1]
    return float(4 * np.pi * area / perimeter(region, spacing) ** 2)


def perimeter(region: BoolArray, spacing: Spacing) -> float:
    """Length in mm of the outlines of a region (H, W), by Crofton's formula.

    An outline's length is half the integral, over all lines of the plane, of how often a line crosses it. Lines through
    the pixels along rows, columns and both diagonals stand for all: a disc comes out right within 1 or 2 percent, a
    straight edge on square pixels within 5.
    """
    inside = np.pad(region, 1)
    height, width = spacing
    diagonal, slope = float(np.hypot(height, width)), float(np.arctan2(height, width))
    # Neighbours along each direction, their distance, and the angles that are closer to it than to another direction.
    directions = (
        (inside[:, 1:], inside[:, :-1], width, slope),
        (inside[1:, 1:], inside[:-1, :-1], diagonal, np.pi / 4),
        (inside[1:], inside[:-1], height, np.pi / 2 - slope),
        (inside[1:, :-1], inside[:-1, 1:], diagonal, np.pi / 4),
    )
    # Parallel lines through all pixels lie a pixel's area over the distance of neighbours apart.
    total = sum(np.count_nonzero(a != b) * height * width / step * angle for a, b, step, angle in directions)
    return float(total / 2)


def concavity_depth(region: BoolArray, spacing: Spacing) -> float:
    """Depth in mm of the deepest concavity of a region (H, W).

    A bay is what the convex hull adds at one of its edges, and is as deep as its farthest wall lies from that edge.
    Each part has a hull of its own, and holes are filled first. What is convex before it is put on a grid measures 0,
    whatever stairs its outline has, and so does an empty region.
    """
    parts, _ = ndimage.label(filled(region), CORNERS)
    found = ndimage.find_objects(parts)
    return max((_depth(np.pad(parts[box] == part, 1), spacing) for part, box in enumerate(found, 1)), default=0.0)


def _depth(part: BoolArray, spacing: Spacing) -> float:
    outline = part & ~ndimage.binary_erosion(part, SIDES)
    try:
        edges = ConvexHull(np.argwhere(outline) * spacing).equations
    except QhullError:
        # Fewer than three pixels, or all on one line.
        return 0.0
    outside = np.nonzero(~part)
    # From the line of each edge to each pixel; what is negative for one edge lies without the hull.
    inwards = -(edges[:, :2] @ (np.array(outside) * np.array(spacing)[:, None]) + edges[:, 2:])
    within = np.full(part.shape, -np.inf)
    within[outside] = inwards.min(0)
    # The hull of the pixels of a convex shape holds no pixel more; the tolerance is for rounding.
    bays, count = ndimage.label(within > -ROUNDING, SIDES)
    if count == 0:
        return 0.0
    nearest = np.zeros(part.shape, int)
    nearest[outside] = inwards.argmin(0)
    mouths = np.array(ndimage.minimum_position(within, bays, np.arange(1, count + 1)))
    edge_of = np.array([0, *nearest[tuple(mouths.T)]])
    # For each side of a pixel: the walls there, and the edges of their bays.
    beside = [np.roll(bays, shift, (0, 1)) for shift in ((0, 1), (0, -1), (1, 0), (-1, 0))]
    walls = np.concatenate([np.argwhere(part & (bay > 0)) for bay in beside])
    facing = edges[edge_of[np.concatenate([bay[part & (bay > 0)] for bay in beside])]]
    return float(-((facing[:, :2] * walls * spacing).sum(1) + facing[:, 2]).min())


@dataclass(frozen=True)
class _Heart:
    """A slice cut to what is labelled, with a margin of one pixel of background; what the criteria share."""

    mask: LabelArray
    spacing: Spacing
    lv: BoolArray = field(init=False)
    myo: BoolArray = field(init=False)
    rv: BoolArray = field(init=False)

    def __post_init__(self) -> None:
        for name, value in (("lv", LV), ("myo", MYO), ("rv", RV)):
            object.__setattr__(self, name, self.mask == value)

    @classmethod
    def cut_from(cls, mask: LabelArray, spacing: Spacing | float) -> _Heart:
        found = ndimage.find_objects((mask != BACKGROUND).astype(np.uint8))
        return cls(np.pad(mask[found[0]] if found else mask[:0, :0], 1), pixel_sides(spacing))

    @cached_property
    def pockets(self) -> list[frozenset[int]]:
        """The structures that each part of the background touches; the first is all that lies around the heart."""
        parts, count = ndimage.label(self.mask == BACKGROUND, CORNERS)
        # The corner is background, so that the part that holds it is the first.
        touched: list[set[int]] = [set() for _ in range(count)]
        for value, structure in ((LV, self.lv), (MYO, self.myo), (RV, self.rv)):
            for part in np.unique(parts[ndimage.binary_dilation(structure, SIDES)]):
                if part:
                    touched[part - 1].add(value)
        return [frozenset(values) for values in touched]

    @cached_property
    def epicardium(self) -> BoolArray:
        """The myocardium with its cavity filled."""
        return filled(self.lv | self.myo)


def _has_hole(structure: BoolArray) -> bool:
    return int(ndimage.label(~structure, SIDES)[1]) > 1


def _myo_has_hole(heart: _Heart) -> bool:
    parts, count = ndimage.label(~heart.myo, SIDES)
    with_cavity = np.unique(parts[heart.lv])
    # The part that holds the corner lies around the myocardium.
    return bool(np.setdiff1d(np.arange(2, count + 1), with_cavity).size)


def _in_parts(structure: BoolArray) -> bool:
    return int(ndimage.label(structure, CORNERS)[1]) > 1


def _rv_apart(heart: _Heart) -> bool:
    both = heart.rv.any() and heart.myo.any()
    return bool(both and not (ndimage.binary_dilation(heart.rv, CORNERS) & heart.myo).any())


def _lv_touches_rv(heart: _Heart) -> bool:
    return bool((ndimage.binary_dilation(heart.lv, SIDES) & heart.rv).any())


def _lv_touches_background(heart: _Heart) -> bool:
    # Pockets within the LV or between it and the myocardium are holes and gaps, with criteria of their own.
    around, *pockets = heart.pockets
    return LV in around or any({LV, RV} <= touched for touched in pockets)


def _not_round(region: BoolArray, spacing: Spacing) -> bool:
    return bool(region.any()) and circularity(region, spacing) < MIN_CIRCULARITY


_TESTS: tuple[tuple[Criterion, Callable[[_Heart], bool]], ...] = (
    (Criterion("lv_hole", "The LV cavity has a hole"), lambda h: _has_hole(h.lv)),
    (Criterion("rv_hole", "The RV cavity has a hole"), lambda h: _has_hole(h.rv)),
    (Criterion("myo_hole", "The myocardium has a hole other than the LV cavity"), _myo_has_hole),
    (Criterion("lv_parts", "The LV cavity is in several parts"), lambda h: _in_parts(h.lv)),
    (Criterion("rv_parts", "The RV cavity is in several parts"), lambda h: _in_parts(h.rv)),
    (Criterion("myo_parts", "The myocardium is in several parts"), lambda h: _in_parts(h.myo)),
    (
        Criterion("lv_myo_gap", "There is a gap between the LV cavity and the myocardium"),
        lambda h: frozenset((LV, MYO)) in h.pockets[1:],
    ),
    (
        Criterion("rv_myo_gap", "There is a gap between the RV cavity and the myocardium"),
        lambda h: frozenset((RV, MYO)) in h.pockets[1:],
    ),
    (Criterion("rv_myo_apart", "The RV cavity does not touch the myocardium"), _rv_apart),
    (Criterion("lv_touches_rv", "The LV cavity touches the RV cavity"), _lv_touches_rv),
    (Criterion("lv_touches_background", "The LV cavity touches the background"), _lv_touches_background),
    (
        Criterion("lv_circularity", f"The LV cavity is far from round: its circularity is below {MIN_CIRCULARITY}"),
        lambda h: _not_round(filled(h.lv), h.spacing),
    ),
    (
        Criterion("myo_circularity", f"The epicardium is far from round: its circularity is below {MIN_CIRCULARITY}"),
        lambda h: _not_round(h.epicardium, h.spacing),
    ),
    (
        Criterion("lv_concavity", f"The LV cavity has a concavity deeper than {MAX_LV_CONCAVITY_MM:.0f} mm", True),
        lambda h: concavity_depth(h.lv, h.spacing) > MAX_LV_CONCAVITY_MM,
    ),
    (
        Criterion("rv_concavity", f"The RV cavity has a concavity deeper than {MAX_RV_CONCAVITY_MM:.0f} mm", True),
        lambda h: concavity_depth(h.rv, h.spacing) > MAX_RV_CONCAVITY_MM,
    ),
    (
        Criterion("myo_concavity", f"The epicardium has a concavity deeper than {MAX_MYO_CONCAVITY_MM:.0f} mm", True),
        lambda h: concavity_depth(h.epicardium, h.spacing) > MAX_MYO_CONCAVITY_MM,
    ),
)

CRITERIA: tuple[Criterion, ...] = tuple(criterion for criterion, _ in _TESTS)
