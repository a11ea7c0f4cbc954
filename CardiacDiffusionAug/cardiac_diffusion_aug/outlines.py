"""Masks as smooth outlines: signed distances of nested contours, which the label diffusion works on.

Three distances describe a mask: to the endocardium (LV), to the epicardium (LV and MYO together) and to the RV.
Nesting makes a gap between LV and myocardium impossible; distances make outlines smooth, and let half the pixels carry
them without loss.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from .labels import BACKGROUND, LV, MYO, RV
from .slices import GRID_SPACING, LabelArray

CHANNELS = 3
CORNERS = np.ones((3, 3), bool)
"""Pixels that meet at corners belong together."""
REACH_MM = 15.0
"""Distances are cut off here; it maps to 1."""
SEPTUM_GAP_MM = 1.5
"""RV and epicardium closer together than this touch: one pixel, below what the grid can show."""
CRUMB_MM2 = 27.0
"""Parts of a structure smaller than this (12 pixels) are crumbs."""
MARGIN = 4
"""Pixels around a heart that are looked at with it."""


def signed_distances(masks: LabelArray) -> Tensor:
    """Masks (N, H, W) as distances (N, 3, H/2, W/2) in -1..1, positive inside, of endocardium, epicardium and RV."""
    result = np.empty((len(masks), CHANNELS, *masks.shape[1:]), np.float32)
    for index, mask in enumerate(masks):
        for channel, inside in enumerate((mask == LV, (mask == LV) | (mask == MYO), mask == RV)):
            result[index, channel] = _signed_distance(inside)
    return F.avg_pool2d(torch.from_numpy(result), 2)


def masks_of(distances: Tensor) -> LabelArray:
    """Distances (N, 3, h, w) as masks (N, 2h, 2w): the inverse of `signed_distances`, mended by `mended`."""
    fine = F.interpolate(distances.float(), scale_factor=2, mode="bicubic", align_corners=False)
    endo, epi, rv = fine.unbind(1)
    gap = SEPTUM_GAP_MM / REACH_MM
    # Between RV and epicardium the two distances add up to minus the gap: what is nearer takes the pixel.
    touching = (epi + rv > -gap) & (epi <= 0) & (rv <= 0)
    masks = torch.full(endo.shape, BACKGROUND, dtype=torch.uint8, device=distances.device)
    masks[(rv > 0) | (touching & (rv > epi))] = RV
    masks[(epi > 0) | (touching & (rv <= epi))] = MYO
    masks[(endo > 0) & (epi > 0)] = LV
    return np.stack([mended(mask) for mask in masks.cpu().numpy()])


def mended(mask: LabelArray) -> LabelArray:
    """A mask (H, W) without crumbs, with its RV in one part and no pocket of background between RV and myocardium.

    A thin RV is easily pinched off where its distance is nearly zero. Fewer than one real slice in a hundred shows an
    RV in parts or such a pocket, so that they are taken for what they mostly are: slips of the drawing.
    """
    result = mask.copy()
    found = ndimage.find_objects((mask != BACKGROUND).astype(np.uint8))
    if found:
        # The heart is a quarter of the slice or less. What is left around it is no crumb, however small the heart.
        box = tuple(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in found[0])
        result[box] = _mended(mask[box])
    return result


def _mended(mask: LabelArray) -> LabelArray:
    result = without_crumbs(mask)
    parts, count = ndimage.label(result == RV, CORNERS)
    if count > 1:
        largest = np.bincount(parts.ravel())[1:].argmax() + 1
        result[(parts > 0) & (parts != largest)] = BACKGROUND
    pocket = ndimage.binary_fill_holes(result != BACKGROUND) & (result == BACKGROUND)
    if pocket.any():
        # The LV cavity is left out: a pocket lies outside its wall.
        nearest = ndimage.distance_transform_edt(
            ~np.isin(result, (MYO, RV)), return_distances=False, return_indices=True
        )
        result[pocket] = result[tuple(nearest)][pocket]
    # What was taken away or filled may leave some of its own.
    return without_crumbs(result) if count > 1 or pocket.any() else result


def without_crumbs(mask: LabelArray, spacing: float = GRID_SPACING) -> LabelArray:
    """A mask without parts too small to be anatomy, each given to the label that surrounds it most."""
    result = mask.copy()
    smallest = CRUMB_MM2 / spacing**2
    for value in (BACKGROUND, LV, MYO, RV):
        parts, count = ndimage.label(result == value)
        if count < (1 if value != BACKGROUND else 2):
            continue
        sizes = np.bincount(parts.ravel())[1:]
        for part in np.flatnonzero(sizes < smallest) + 1:
            inside = parts == part
            rim = ndimage.binary_dilation(inside) & ~inside
            result[inside] = np.bincount(result[rim], minlength=1).argmax()
    return result


def _signed_distance(inside: np.ndarray) -> np.ndarray:
    if inside.all() or not inside.any():
        # There is no edge to measure from.
        return np.full(inside.shape, 1 if inside.any() else -1, np.float32)
    # Half a pixel is taken off, so that the zero lies on the pixels' common edge.
    inner = ndimage.distance_transform_edt(inside) - 0.5
    outer = ndimage.distance_transform_edt(~inside) - 0.5
    distance = np.where(inside, inner, -outer) * GRID_SPACING
    return np.clip(distance / REACH_MM, -1, 1).astype(np.float32)
