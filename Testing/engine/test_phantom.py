"""The phantom is a heart: other tests lean on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from cardiac_diffusion_aug.attributes import GROUPS
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.labels import BACKGROUND, LV, MYO, RV
from cardiac_diffusion_aug.slices import LabelArray
from phantom import phantom_stack, write_acdc

Stack = tuple[sitk.Image, sitk.Image]
SEEDS = range(4)


def arrays(stack: Stack) -> tuple[np.ndarray, LabelArray]:
    image, mask = stack
    return sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(mask)


def areas(labels: LabelArray, value: int) -> list[int]:
    """Pixels of a structure in each slice."""
    return [int(n) for n in (labels == value).sum(axis=(1, 2))]


def neighbours(labels: LabelArray, value: int) -> set[int]:
    """Labels that touch a structure within the slices."""
    plus = ndimage.generate_binary_structure(2, 1)[None]
    ring = ndimage.binary_dilation(labels == value, plus) & (labels != value)
    return {int(v) for v in np.unique(labels[ring])}


def test_image_and_mask_share_the_geometry_asked_for() -> None:
    image, mask = phantom_stack(slices=5, shape=(120, 140), spacing=(1.5, 1.6, 9.0))
    assert image.GetSize() == mask.GetSize() == (140, 120, 5)
    assert image.GetSpacing() == mask.GetSpacing() == (1.5, 1.6, 9.0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_blood_is_bright_and_muscle_dark(seed: int, phase: str) -> None:
    image, labels = arrays(phantom_stack(phase=phase, seed=seed))
    lv, myo, rv = (image[labels == value].mean() for value in (LV, MYO, RV))
    assert lv > 2 * myo
    assert rv > 2 * myo


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_the_lv_is_enclosed_by_muscle_and_the_rv_touches_it(group: str, phase: str) -> None:
    _, labels = arrays(phantom_stack(phase=phase, group=group))
    assert neighbours(labels, LV) == {MYO}
    assert neighbours(labels, RV) == {BACKGROUND, MYO}


@pytest.mark.parametrize("seed", SEEDS)
def test_areas_shrink_to_the_apex_where_no_rv_is_left(seed: int) -> None:
    _, labels = arrays(phantom_stack(seed=seed))
    for value in (LV, MYO, RV):
        found = areas(labels, value)
        assert found == sorted(found, reverse=True)
        assert found[0] > found[-1]
    assert areas(labels, RV)[-1] == 0
    assert areas(labels, LV)[-1] > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_each_structure_is_in_one_part(seed: int) -> None:
    _, labels = arrays(phantom_stack(seed=seed))
    for slice_labels in labels:
        for value in np.unique(slice_labels):
            assert ndimage.label(slice_labels == value)[1] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_heart_contracts_at_end_systole(seed: int) -> None:
    _, diastole = arrays(phantom_stack(phase="ED", seed=seed))
    _, systole = arrays(phantom_stack(phase="ES", seed=seed))
    for value in (LV, RV):
        assert (systole == value).sum() < 0.8 * (diastole == value).sum()
    assert (systole == MYO).sum() > (diastole == MYO).sum()


def test_a_disease_shapes_the_heart() -> None:
    volume = {
        group: [int((arrays(phantom_stack(group=group))[1] == value).sum()) for value in (LV, MYO, RV)]
        for group in GROUPS
    }
    assert max(volume, key=lambda g: volume[g][0]) == "DCM"
    assert max(volume, key=lambda g: volume[g][1]) == "HCM"
    assert max(volume, key=lambda g: volume[g][2]) == "RV"


def test_a_seed_gives_the_same_heart_again_and_another_seed_another() -> None:
    first, again, other = (arrays(phantom_stack(slices=3, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()


def test_the_fixture_is_a_labelled_stack(phantom: Stack) -> None:
    _, labels = arrays(phantom)
    assert set(np.unique(labels)) == {BACKGROUND, LV, MYO, RV}


def test_the_written_data_set_reads_back_as_it_was(tmp_path: Path) -> None:
    reader, cases = read_cases(write_acdc(tmp_path, patients=2, slices=4, shape=(96, 104), seed=5))
    assert reader.NAME == "acdc"
    assert [case.name for case in cases] == ["patient001_ED", "patient001_ES", "patient002_ED", "patient002_ES"]
    assert [case.group for case in cases] == [GROUPS[0], GROUPS[0], GROUPS[1], GROUPS[1]]
    loaded = cases[3].load()
    assert loaded.mask is not None
    expected = arrays(phantom_stack(4, (96, 104), phase="ES", seed=6, group=GROUPS[1]))
    for got, wanted in zip(arrays((loaded.image, loaded.mask)), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_data_in_acdcs_layout_are_always_at_hand(acdc_root: Path) -> None:
    _, cases = read_cases(acdc_root)
    assert {case.phase for case in cases} == {"ED", "ES"}


def test_patients_show_the_contrast_of_the_phantom(real_acdc: Path) -> None:
    loaded = read_cases(real_acdc)[1][0].load()
    assert loaded.mask is not None
    image, labels = arrays((loaded.image, loaded.mask))
    assert image[labels == LV].mean() > 1.5 * image[labels == MYO].mean()
