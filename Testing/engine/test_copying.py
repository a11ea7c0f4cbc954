"""Copies of training slices are found, new hearts are not taken for copies."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import PACK_SIZE, pack_cases
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.evaluation.copying import (
    Slices,
    aligned,
    copying,
    equal_masks,
    image_distance,
    mask_distance,
    nearest,
)
from cardiac_diffusion_aug.labels import LV, MYO, RV
from cardiac_diffusion_aug.slices import GRID_SIZE, LabelArray

TRAINED = 150


def heart(row: float, column: float, cavity: float, wall: float, width: float, angle: float) -> LabelArray:
    y, x = np.mgrid[:GRID_SIZE, :GRID_SIZE]
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    center = row + width * np.sin(angle), column - width * np.cos(angle)
    mask[np.hypot(y - center[0], x - center[1]) < cavity + wall] = RV
    mask[np.hypot(y - row, x - column) < cavity + wall] = MYO
    mask[np.hypot(y - row, x - column) < cavity] = LV
    return mask


def hearts(count: int, seed: int) -> Slices:
    """Random hearts in random chests."""
    random = np.random.default_rng(seed)
    low, high = (50, 55, 6, 3, 8, 0.0), (75, 80, 18, 9, 22, 0.8)
    masks = np.stack([heart(*random.uniform(low, high)) for _ in range(count)])
    signal = np.array([0.0, 0.8, -0.4, 0.5])[masks]
    chest = ndimage.gaussian_filter(random.normal(size=masks.shape), (0, 6, 6)) * 8
    images = np.where(masks > 0, signal, chest) + random.normal(0, 0.1, masks.shape)
    return Slices(images.astype(np.float32), masks)


def chosen(slices: Slices, index: npt.ArrayLike) -> Slices:
    return Slices(slices.images[np.asarray(index)], slices.masks[np.asarray(index)])


@pytest.fixture(scope="module")
def train() -> Slices:
    return hearts(TRAINED, 1)


@pytest.fixture(scope="module")
def validation() -> Slices:
    return hearts(200, 2)


# Distances


def test_a_mask_distance_is_one_minus_the_mean_dice() -> None:
    a, b = np.zeros((2, 1, GRID_SIZE, GRID_SIZE), np.uint8)
    a[0, 50:70, 50:70] = LV
    b[0, 50:70, 50:70] = MYO
    b[0, 50:60, 50:70] = LV
    # LV has Dice 2 * 200 / 600; the myocardium is in one of them alone, and the RV in none.
    assert mask_distance(a, b)[0, 0] == pytest.approx(1 - (2 / 3 + 0) / 2)
    assert mask_distance(a, a)[0, 0] == 0


def test_mask_distances_are_those_of_the_definition(train: Slices, validation: Slices) -> None:
    queries, references = train.masks[:4], validation.masks[:5]
    found = mask_distance(queries, references)
    for row, a in zip(found, aligned(queries), strict=True):
        for distance, b in zip(row, aligned(references), strict=True):
            dice = [
                2 * ((a == s) & (b == s)).sum() / size
                for s in (LV, MYO, RV)
                if (size := (a == s).sum() + (b == s).sum())
            ]
            assert distance == pytest.approx(1 - np.mean(dice), abs=1e-6)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-7, 12), (3, -15)])
def test_a_shifted_mask_is_at_no_distance(train: Slices, shift: tuple[int, int]) -> None:
    shifted = np.roll(train.masks[:30], shift, (1, 2))
    np.testing.assert_array_equal(aligned(shifted), aligned(train.masks[:30]))
    assert (np.diag(mask_distance(shifted, train.masks[:30])) == 0).all()


def test_a_centroid_halfway_between_pixels_is_shifted_the_same_way_everywhere() -> None:
    masks = np.zeros((20, 64, 64), np.uint8)
    for index, mask in enumerate(masks):
        mask[10 + index : 14 + index, 5 + 2 * index : 7 + 2 * index] = RV
    assert len(np.unique(aligned(masks), axis=0)) == 1


def test_masks_without_a_heart_are_far_from_hearts_alone() -> None:
    empty, full = np.zeros((1, GRID_SIZE, GRID_SIZE), np.uint8), hearts(1, 3).masks
    assert mask_distance(empty, full) == 1
    assert mask_distance(full, empty) == 1
    assert mask_distance(empty, empty) == 0


def test_an_image_distance_ignores_brightness_contrast_and_what_lies_outside(train: Slices) -> None:
    images = train.images[:5]
    outside = images * 40 + 1000
    outside[:, :10] = outside[:, :, -10:] = 0
    np.testing.assert_allclose(np.diag(image_distance(outside, images)), 0, atol=1e-4)
    np.testing.assert_allclose(np.diag(image_distance(-images, images)), 2, atol=1e-4)


def test_an_image_distance_is_one_minus_the_correlation(train: Slices, validation: Slices) -> None:
    # Where images are smooth already, blur and sampling change little.
    a, b = (ndimage.gaussian_filter(s.images[:6], (0, 5, 5)) for s in (train, validation))
    inner = slice(16, 112)
    expected = np.corrcoef(*(x[:, inner, inner].reshape(6, -1) for x in (a, b)))[:6, 6:]
    np.testing.assert_allclose(image_distance(a, b), 1 - expected, atol=0.03)


def test_noise_and_blur_leave_an_image_near_itself_and_far_from_others(train: Slices) -> None:
    images = train.images[:20]
    noisy = images + np.random.default_rng(4).normal(0, 0.2, images.shape)
    blurred = ndimage.gaussian_filter(images, (0, 1, 1))
    for changed in (noisy, blurred):
        distances, index = nearest(changed, images, "image")
        np.testing.assert_array_equal(index, np.arange(20))
        assert distances.max() < 0.05
        assert np.sort(image_distance(changed, images), 1)[:, 1].min() > 0.1


def test_whole_numbers_and_fractions_of_one_image_are_alike(train: Slices) -> None:
    images = train.images[:3].clip(-1, 1)
    levels = np.rint((images + 1) * 127.5).astype(np.uint8)
    assert np.diag(image_distance(levels, images)).max() < 1e-3


def test_a_constant_image_is_like_none() -> None:
    # Blur and mean of fractions leave a pattern of rounding errors.
    constant = np.full((20, GRID_SIZE, GRID_SIZE), np.linspace(-0.9, 0.7, 20)[:, None, None])
    np.testing.assert_array_equal(image_distance(constant, np.concatenate([constant, hearts(1, 5).images])), 1)


# Search


@pytest.mark.parametrize("kind", ["mask", "image"])
def test_the_nearest_of_many_is_found_over_all_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in ("MASK_BLOCK", "IMAGE_BLOCK"):
        monkeypatch.setattr(f"cardiac_diffusion_aug.evaluation.copying.{block}", 7)
    pool = hearts(30, 6)
    references = pool.masks if kind == "mask" else pool.images
    order = np.random.default_rng(7).permutation(30)[:20]
    distances, index = nearest(references[order], references, "mask" if kind == "mask" else "image")
    np.testing.assert_array_equal(index, order)
    np.testing.assert_allclose(distances, 0, atol=1e-5)


def test_a_search_of_real_size_is_fast() -> None:
    few = hearts(60, 8)
    start = time.process_time()
    nearest(np.tile(few.masks, (2, 1, 1)), np.tile(few.masks, (8, 1, 1)), "mask")
    nearest(np.tile(few.images, (2, 1, 1)), np.tile(few.images, (8, 1, 1)), "image")
    # A tenth of 400 x 1500.
    assert time.process_time() - start < 4


# The test as a whole


def test_other_real_slices_are_no_copies(train: Slices, validation: Slices) -> None:
    found = copying(train, validation, hearts(250, 9))
    assert found.masks.share < 0.04
    assert found.images.share < 0.04
    assert len(found.equal_masks) == 0


def test_the_validation_slices_themselves_have_one_in_a_hundred_below(train: Slices, validation: Slices) -> None:
    found = copying(train, validation, validation)
    for nearness in (found.masks, found.images):
        assert nearness.share == pytest.approx(0.01, abs=0.005)
        np.testing.assert_array_equal(nearness.synthetic, nearness.validation)
        assert nearness.threshold == pytest.approx(np.percentile(nearness.validation, 1))


def test_copies_are_all_found_and_named(train: Slices, validation: Slices) -> None:
    order = np.random.default_rng(10).permutation(TRAINED)[:40]
    found = copying(train, validation, chosen(train, order))
    for nearness in (found.masks, found.images):
        assert nearness.share == 1
        assert nearness.nearest.shape == (10, 2)
        np.testing.assert_array_equal(nearness.nearest[:, 1], order[nearness.nearest[:, 0]])
    np.testing.assert_array_equal(found.equal_masks, np.stack([np.arange(40), order], 1))


def test_a_few_copies_among_new_slices_come_first(train: Slices, validation: Slices) -> None:
    new = hearts(60, 11)
    mixed = Slices(np.concatenate([new.images, train.images[:4]]), np.concatenate([new.masks, train.masks[:4]]))
    found = copying(train, validation, mixed)
    for nearness in (found.masks, found.images):
        assert sorted(nearness.nearest[:4].tolist()) == [[60 + n, n] for n in range(4)]
        assert nearness.share >= 4 / 64
    assert len(found.equal_masks) == 4


def test_copied_images_under_new_masks_show_in_the_images_alone(train: Slices, validation: Slices) -> None:
    found = copying(train, validation, replace(hearts(50, 12), images=train.images[:50]))
    assert found.images.share == 1
    assert found.masks.share < 0.1


def test_blurred_and_noisy_copies_are_still_copies(train: Slices, validation: Slices) -> None:
    blurred = ndimage.gaussian_filter(train.images[:50], (0, 1, 1))
    noisy = blurred + np.random.default_rng(13).normal(0, 0.1, blurred.shape).astype(np.float32)
    found = copying(train, validation, Slices(noisy, np.roll(train.masks[:50], (2, -3), (1, 2))))
    assert found.images.share == 1
    assert found.masks.share == 1
    assert len(found.equal_masks) == 50


def test_pure_noise_is_far_from_everything(train: Slices, validation: Slices) -> None:
    noise = np.random.default_rng(14).normal(size=(30, GRID_SIZE, GRID_SIZE)).astype(np.float32)
    found = copying(train, validation, Slices(noise, hearts(30, 15).masks))
    assert found.images.share == 0
    assert found.images.synthetic.min() > found.images.validation.max()


def test_empty_training_slices_are_never_the_nearest(train: Slices, validation: Slices) -> None:
    masks = train.masks.copy()
    masks[::2] = 0
    synthetic = hearts(20, 16)
    synthetic.masks[3] = 0
    found = copying(replace(train, masks=masks), validation, synthetic)
    for nearness in (found.masks, found.images):
        assert (nearness.nearest[:, 1] % 2 == 1).all()
    assert found.masks.synthetic[3] == 1
    assert len(found.equal_masks) == 0


def test_real_patients_are_no_copies_of_each_other_but_of_themselves(acdc_root: Path, tmp_path: Path) -> None:
    margin = (PACK_SIZE - GRID_SIZE) // 2
    pack = pack_cases(read_cases(acdc_root)[1][:10], tmp_path)
    real = Slices(*(part[:, margin:-margin, margin:-margin] for part in (pack.images, pack.masks)))
    first, second, third = (np.isin(pack.patients, np.unique(pack.patients)[n::3]) for n in range(3))
    new = copying(chosen(real, first), chosen(real, second), chosen(real, third))
    copied = copying(chosen(real, first), chosen(real, second), chosen(real, first & real.masks.any((1, 2))))
    # So few patients have no share to rely on, but each distance between two persons is well above 0.
    assert new.images.share < copied.images.share == 1
    assert new.masks.share < copied.masks.share == 1
    assert len(new.equal_masks) == 0
    assert new.images.synthetic.min() > 0.01


def test_a_patient_in_both_sets_does_not_hide_copies(train: Slices, validation: Slices) -> None:
    # In ACDC one person was recorded as two patients; the images differ by a little noise, the masks by the hand.
    again = train.images[:30] + np.random.default_rng(22).normal(0, 0.02, (30, GRID_SIZE, GRID_SIZE))
    leaky = Slices(np.concatenate([again, validation.images]), np.concatenate([train.masks[:30], validation.masks]))
    clean, found = copying(train, validation, chosen(train, range(20))), copying(train, leaky, chosen(train, range(20)))
    np.testing.assert_array_equal(found.repeated, np.arange(30))
    assert clean.repeated.size == 0
    for kind in ("masks", "images"):
        assert vars(found)[kind].share == 1
        assert vars(found)[kind].threshold == vars(clean)[kind].threshold > 0


def test_validation_by_the_training_slices_is_refused(train: Slices) -> None:
    with pytest.raises(CardiacError, match="patients of its own"):
        copying(train, chosen(train, range(10)), train)


def test_equal_masks_need_every_pixel() -> None:
    masks = hearts(5, 17).masks
    changed = np.roll(masks, 4, 2)
    row, column = np.argwhere(changed[2] == MYO)[0]
    changed[2, row, column] = RV
    np.testing.assert_array_equal(equal_masks(changed, masks), [[0, 0], [1, 1], [3, 3], [4, 4]])


@pytest.mark.parametrize("name", ["train", "validation", "synthetic"])
def test_a_set_without_hearts_is_refused(name: str) -> None:
    sets = {"train": hearts(4, 18), "validation": hearts(4, 19), "synthetic": hearts(4, 20)}
    sets[name] = replace(sets[name], masks=np.zeros_like(sets[name].masks))
    with pytest.raises(CardiacError, match=name):
        copying(**sets)


def test_slices_that_do_not_fit_are_refused() -> None:
    masks = hearts(2, 21).masks
    with pytest.raises(CardiacError, match="one size"):
        mask_distance(masks, masks[:, 1:])
    with pytest.raises(CardiacError, match="too small"):
        image_distance(masks[:, :64], masks[:, :64])
    with pytest.raises(CardiacError, match="NaN"):
        image_distance(np.full(masks.shape, np.nan), masks)
    with pytest.raises(CardiacError, match="no slice to search"):
        nearest(masks, masks[:0], "mask")
    with pytest.raises(CardiacError, match="its mask"):
        Slices(np.zeros((3, 4, 4)), masks)
