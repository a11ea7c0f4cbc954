"""Masks as distances to outlines, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from cardiac_diffusion_aug.anatomy import failures
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.labels import BACKGROUND, LV, MYO, RV
from cardiac_diffusion_aug.outlines import CRUMB_MM2, REACH_MM, masks_of, mended, signed_distances, without_crumbs
from cardiac_diffusion_aug.slices import GRID_SIZE, GRID_SPACING, LabelArray, grid_around, heart_center, resample_labels
from phantom import phantom_stack

SMALLEST = int(np.ceil(CRUMB_MM2 / GRID_SPACING**2))
"""Pixels of the smallest part that is no crumb."""
ENDO, EPI, RIGHT = range(3)


def on_grid(mask: sitk.Image) -> LabelArray:
    return resample_labels(mask, grid_around(mask, heart_center(sitk.GetArrayViewFromImage(mask))))


@pytest.fixture(scope="module")
def hearts(acdc_root: Path) -> LabelArray:
    """Masks (N, 128, 128) of a few patients and of phantoms."""
    loaded = [case.load() for case in read_cases(acdc_root)[1][:6]]
    masks = [on_grid(case.mask) for case in loaded if case.mask is not None]
    masks += [on_grid(phantom_stack(seed=seed, phase=phase)[1]) for seed in range(2) for phase in ("ED", "ES")]
    return np.concatenate(masks)


def disc(row: float, column: float, radius: float, size: int = GRID_SIZE) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[:size, :size]
    return np.asarray((y - row) ** 2 + (x - column) ** 2 <= radius**2)


def parts_of(mask: LabelArray, value: int) -> npt.NDArray[np.int64]:
    """Sizes of the parts of a structure."""
    parts, _ = ndimage.label(mask == value)
    return np.bincount(parts.ravel())[1:]


def touch(mask: LabelArray, a: int, b: int) -> bool:
    return bool((ndimage.binary_dilation(mask == a) & (mask == b)).any())


def test_masks_come_back_as_they_were(hearts: LabelArray) -> None:
    back = masks_of(signed_distances(hearts))
    assert back.shape == hearts.shape
    assert back.dtype == np.uint8
    for value in (LV, MYO, RV):
        a, b = hearts == value, back == value
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.99


def test_each_large_structure_comes_back(hearts: LabelArray) -> None:
    back = masks_of(signed_distances(hearts))
    for value in (LV, MYO, RV):
        a, b = hearts == value, back == value
        large = a.sum((1, 2)) > 5 * SMALLEST
        dice = 2 * (a & b).sum((1, 2))[large] / (a.sum((1, 2)) + b.sum((1, 2)))[large]
        assert dice.min() > 0.94


def test_what_is_absent_stays_absent(hearts: LabelArray) -> None:
    back = masks_of(signed_distances(hearts))
    for value in (LV, MYO, RV):
        absent = ~(hearts == value).any((1, 2))
        assert not (back[absent] == value).any()


def test_a_second_time_changes_almost_nothing(hearts: LabelArray) -> None:
    once = masks_of(signed_distances(hearts))
    assert (masks_of(signed_distances(once)) != once).mean() < 1e-4


def test_a_distance_is_a_distance() -> None:
    mask = np.zeros((1, GRID_SIZE, GRID_SIZE), np.uint8)
    mask[0, :, :64] = MYO
    mask[0, :, :50] = LV
    endo, epi, rv = signed_distances(mask)[0, :, 32] * REACH_MM
    # Halved pixels lie between two columns; the outlines are the edges before column 50 and column 64.
    columns = np.arange(0, GRID_SIZE, 2) + 0.5
    for distance, edge in ((endo, 49.5), (epi, 63.5)):
        expected = ((edge - columns) * GRID_SPACING).clip(-REACH_MM, REACH_MM)
        np.testing.assert_allclose(distance.numpy(), expected, atol=0.4)
    assert (rv == -REACH_MM).all()


@pytest.mark.parametrize("value", [BACKGROUND, LV, MYO, RV])
def test_slices_of_one_label_come_back(value: int) -> None:
    masks = np.full((2, GRID_SIZE, GRID_SIZE), value, np.uint8)
    distances = signed_distances(masks)
    assert set(distances.unique().tolist()) <= {-1.0, 1.0}
    np.testing.assert_array_equal(masks_of(distances), masks)


def test_no_masks_are_no_distances() -> None:
    assert signed_distances(np.zeros((0, GRID_SIZE, GRID_SIZE), np.uint8)).shape == (0, 3, 64, 64)


def smooth_distances(count: int, seed: int, sharpness: float) -> torch.Tensor:
    """What a network that learned nothing might make: smooth, but of no heart."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(size=(count, 3, 64, 64)), (0, 0, sharpness, sharpness))
    return torch.from_numpy((noise / noise.std()).clip(-1, 1).astype(np.float32))


@pytest.mark.parametrize("sharpness", [2.0, 4.0, 8.0])
def test_whatever_is_made_has_no_crumbs(sharpness: float) -> None:
    for mask in masks_of(smooth_distances(20, 1, sharpness)):
        for value in (BACKGROUND, LV, MYO, RV):
            sizes = parts_of(mask, value)
            assert sizes.size == 0 or sizes.min() >= SMALLEST


@pytest.mark.parametrize("sharpness", [4.0, 8.0])
def test_whatever_is_made_has_no_gap_in_the_left_ventricle(sharpness: float) -> None:
    distances = smooth_distances(20, 2, sharpness)
    distances[:, RIGHT] = -1
    for mask, (_, epi, _) in zip(masks_of(distances), distances, strict=True):
        # All within the epicardium is cavity or muscle, but for crumbs at its edge: there is no room for a gap.
        inside = torch.nn.functional.interpolate(epi[None, None], scale_factor=2, mode="bicubic")[0, 0].numpy() > 0
        assert parts_of((inside & (mask == BACKGROUND)).astype(np.uint8), 1).max(initial=0) < SMALLEST
        assert not (mask == RV).any()


def test_the_cavity_stays_within_the_epicardium() -> None:
    distances = torch.full((1, 3, 64, 64), -1.0)
    distances[:, ENDO, 20:50, 20:50] = 1
    assert (masks_of(distances) == BACKGROUND).all()
    distances[:, EPI, 25:45, 25:45] = 1
    mask = masks_of(distances)[0]
    assert set(np.unique(mask)) == {BACKGROUND, LV}
    assert mask[32:40, 32:40].sum() == 0


@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_septum_and_right_ventricle_touch_over_a_gap_below_a_pixel(gap: float) -> None:
    y, x = np.mgrid[:64, :64] * 2 + 0.5
    epi = 20 - np.hypot(y - 64, x - 80)
    rv = np.minimum(25 - np.hypot(y - 64, x - 50), np.hypot(y - 64, x - 80) - 20 - gap)
    distances = np.stack([epi - 7, epi, rv])[None] * GRID_SPACING / REACH_MM
    mask = masks_of(torch.from_numpy(distances.clip(-1, 1).astype(np.float32)))[0]
    row = mask[64, 45:75]
    assert BACKGROUND not in row
    assert touch(mask, RV, MYO)
    assert not touch(mask, RV, LV)


def test_a_right_ventricle_that_lies_apart_stays_apart() -> None:
    masks = np.zeros((1, GRID_SIZE, GRID_SIZE), np.uint8)
    masks[0, disc(64, 85, 20)] = MYO
    masks[0, disc(64, 85, 12)] = LV
    masks[0, disc(64, 40, 18)] = RV
    back = masks_of(signed_distances(masks))[0]
    assert not touch(back, RV, MYO)


# Crumbs


def test_a_mask_without_crumbs_is_left_alone(hearts: LabelArray) -> None:
    clean = np.stack([without_crumbs(mask) for mask in hearts])
    np.testing.assert_array_equal(np.stack([without_crumbs(mask) for mask in clean]), clean)
    assert (clean != hearts).mean() < 1e-3


def test_the_mask_itself_is_never_changed() -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[4, 4] = LV
    before = mask.copy()
    assert not without_crumbs(mask).any()
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("value", [LV, MYO, RV])
@pytest.mark.parametrize(("pixels", "kept"), [(1, False), (SMALLEST - 1, False), (SMALLEST, True)])
def test_a_part_counts_from_twelve_pixels_on(value: int, pixels: int, kept: bool) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[10, 5 : 5 + pixels] = value
    np.testing.assert_array_equal(without_crumbs(mask), mask if kept else 0)


def test_a_crumb_goes_to_what_surrounds_it_most() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[disc(32, 32, 20, 64)] = MYO
    mask[disc(32, 32, 12, 64)] = LV
    clean = mask.copy()
    mask[32, 32] = BACKGROUND
    mask[28:30, 28] = MYO
    mask[32, 15:17] = RV
    mask[2, 2] = LV
    np.testing.assert_array_equal(without_crumbs(mask), clean)


def test_a_crumb_within_a_crumb_goes_too() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[disc(32, 32, 20, 64)] = MYO
    clean = mask.copy()
    mask[30:33, 30:33] = RV
    mask[31, 31] = LV
    np.testing.assert_array_equal(without_crumbs(mask), clean)


def test_two_large_parts_both_stay() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[disc(20, 20, 6, 64)] = RV
    mask[disc(45, 45, 6, 64)] = RV
    np.testing.assert_array_equal(without_crumbs(mask), mask)


def test_the_size_of_a_crumb_is_in_millimetres() -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[10:12, 10:12] = LV
    assert not without_crumbs(mask, spacing=1.5).any()
    np.testing.assert_array_equal(without_crumbs(mask, spacing=3.0), mask)


def test_a_slice_smaller_than_a_crumb_is_no_reason_to_fail() -> None:
    assert without_crumbs(np.full((2, 3), LV, np.uint8)).shape == (2, 3)


def test_a_right_ventricle_in_parts_keeps_the_largest() -> None:
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[disc(64, 80, 24)], mask[disc(64, 80, 16)] = MYO, LV
    mask[disc(40, 50, 12) & (mask == 0)] = RV
    mask[disc(95, 60, 8) & (mask == 0)] = RV
    assert len(parts_of(mask, RV)) == 2
    result = mended(mask)
    assert len(parts_of(result, RV)) == 1
    np.testing.assert_array_equal(result == RV, (mask == RV) & disc(40, 50, 12))
    np.testing.assert_array_equal(result == LV, mask == LV)


def test_a_pocket_between_the_ventricles_is_closed() -> None:
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[disc(64, 64, 40)] = RV
    mask[disc(64, 84, 30)] = 0
    mask[disc(64, 86, 26)], mask[disc(64, 86, 18)] = MYO, LV
    mask[30:98, 88:][mask[30:98, 88:] == 0] = MYO
    before = ndimage.binary_fill_holes(mask > 0)
    result = mended(mask)
    np.testing.assert_array_equal(result > 0, before)
    assert not failures(result, GRID_SPACING)
    np.testing.assert_array_equal(result[mask > 0], mask[mask > 0])


def test_real_hearts_are_hardly_changed(hearts: LabelArray) -> None:
    changed = np.array([(mended(mask) != mask).any() for mask in hearts])
    assert changed.mean() < 0.1


@pytest.mark.parametrize("row", [0, 1, 40, 88])
@pytest.mark.parametrize("column", [0, 3, 88])
def test_it_is_mended_alike_wherever_it_lies(row: int, column: int) -> None:
    random = np.random.default_rng(0)
    whole = np.zeros((40, 40), np.uint8)
    whole[disc(20, 24, 14, 40)], whole[disc(20, 24, 8, 40)] = MYO, LV
    whole[(disc(20, 14, 13, 40) & ~disc(20, 24, 14, 40)) & ~disc(20, 9, 3, 40)] = RV
    # Crumbs, holes and a pocket, but none at the rim, where a slice that ends would cut them off.
    torn = random.random(whole.shape) < 0.08
    torn[[0, -1]], torn[:, [0, -1]] = False, False
    whole[torn] = random.integers(0, 4, torn.sum())
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[row : row + 40, column : column + 40] = whole
    middle = np.zeros_like(mask)
    middle[44:84, 44:84] = whole
    result = mended(mask)
    np.testing.assert_array_equal(result[row : row + 40, column : column + 40], mended(middle)[44:84, 44:84])
    assert (result != mask).any()
    assert not mended(np.zeros_like(mask)).any()
