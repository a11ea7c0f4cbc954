"""Hearts found in scans: on the scan's own grid, wherever they lie, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy import ndimage

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import LV, MYO, RV
from cardiac_diffusion_aug.segmentation import Segmenter, segment_cine, without_strays
from phantom import phantom_stack

pytest_plugins = ["tiny_unet"]

GOOD = {LV: 0.9, MYO: 0.75, RV: 0.75}


@pytest.fixture(scope="module")
def segmenter(tiny_unet: Path) -> Segmenter:
    return Segmenter(tiny_unet, "cpu")


def dice(found: sitk.Image, true: sitk.Image) -> dict[int, float]:
    a, b = (sitk.GetArrayFromImage(image) for image in (found, true))
    return {v: 2 * float(((a == v) & (b == v)).sum()) / float((a == v).sum() + (b == v).sum()) for v in GOOD}


def require_found(segmenter: Segmenter, image: sitk.Image, mask: sitk.Image) -> None:
    found = segmenter.segment(image, "It")
    assert found.warning == ""
    assert found.mask.GetSize() == image.GetSize()
    for attribute in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(found.mask, attribute)(), getattr(image, attribute)())
    for value, reached in dice(found.mask, mask).items():
        assert reached > GOOD[value], (value, reached)


def moved(image: sitk.Image, **geometry: tuple[float, ...]) -> sitk.Image:
    result = sitk.Image(image)
    for name, value in geometry.items():
        getattr(result, f"Set{name.capitalize()}")(value)
    return result


def both(kind: str) -> tuple[sitk.Image, sitk.Image]:
    """A phantom of the kind and its mask."""
    image, mask = phantom_stack(slices=5, seed=40)
    if kind == "oblique":
        tilt = sitk.Euler3DTransform((0, 0, 0), 0.3, 0.2, -0.4).GetMatrix()
        return moved(image, direction=tilt), moved(mask, direction=tilt)
    if kind == "left-handed":
        left = (1.0, 0, 0, 0, 1, 0, 0, 0, -1)
        return moved(image, direction=left), moved(mask, direction=left)
    if kind == "turned around":
        return image[:, :, ::-1], mask[:, :, ::-1]
    if kind == "one slice":
        return image[:, :, 1:2], mask[:, :, 1:2]
    if kind == "fine":
        return phantom_stack(slices=2, shape=(512, 512), spacing=(0.6, 0.6, 8.0), seed=40)
    if kind == "unequal pixels":
        return phantom_stack(slices=3, shape=(200, 150), spacing=(2.0, 1.4, 8.0), seed=40)
    if kind == "off centre":
        return image[:, 40:, :], mask[:, 40:, :]
    return sitk.Cast(image, getattr(sitk, kind)), mask


@pytest.mark.parametrize(
    "kind",
    [
        "sitkInt16",
        "sitkUInt16",
        "sitkFloat64",
        "oblique",
        "left-handed",
        "turned around",
        "one slice",
        "fine",
        "unequal pixels",
        "off centre",
    ],
)
def test_a_heart_is_found_on_its_own_grid(segmenter: Segmenter, kind: str) -> None:
    require_found(segmenter, *both(kind))


def test_grey_levels_of_eight_bits_do(segmenter: Segmenter) -> None:
    image, mask = both("sitkInt16")
    require_found(segmenter, sitk.Cast(sitk.RescaleIntensity(image, 0, 255), sitk.sitkUInt8), mask)


@pytest.mark.parametrize("place", [(90.0, 60.0), (60.0, 110.0)])
def test_the_heart_is_found_wherever_it_lies(segmenter: Segmenter, place: tuple[float, float]) -> None:
    image, mask = both("sitkInt16")
    wide = [
        sitk.GetImageFromArray(np.pad(sitk.GetArrayFromImage(one), ((0, 0), (0, int(place[0])), (int(place[1]), 0))))
        for one in (image, mask)
    ]
    for one in wide:
        one.SetSpacing(image.GetSpacing())
    require_found(segmenter, *wide)


def noise(shape: tuple[int, int, int] = (4, 160, 160)) -> npt.NDArray[np.int16]:
    return np.random.default_rng(0).integers(0, 800, shape).astype(np.int16)


def test_noise_holds_no_heart(segmenter: Segmenter) -> None:
    stack = sitk.GetImageFromArray(ndimage.gaussian_filter(noise().astype(np.float32), (0, 2, 2)))
    stack.SetSpacing((1.5, 1.5, 8))
    found = segmenter.segment(stack, "The noise")
    assert "The noise" in found.warning
    assert not sitk.GetArrayFromImage(found.mask).any()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (sitk.GetImageFromArray(np.full((2, 64, 64), 7, np.int16)), "same grey level"),
        (sitk.GetImageFromArray(np.full((2, 64, 64), np.nan, np.float32)), "NaN"),
        (sitk.GetImageFromArray(noise((2, 16, 16))), "16 x 16"),
        (sitk.GetImageFromArray(noise((1, 40, 2049))), "40 x 2049"),
    ],
)
def test_what_is_no_scan_is_refused(segmenter: Segmenter, image: sitk.Image, words: str) -> None:
    with pytest.raises(CardiacError, match=words):
        segmenter.segment(image, "It")


def test_a_slice_axis_in_the_wrong_place_is_refused(segmenter: Segmenter) -> None:
    stack = sitk.GetImageFromArray(noise())
    stack.SetSpacing((8.0, 1.4, 1.4))
    with pytest.raises(CardiacError, match="third axis"):
        segmenter.segment(stack, "It")


def test_a_few_bad_pixels_are_refused(segmenter: Segmenter) -> None:
    image, _ = both("sitkInt16")
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    array[2, 100, 100] = np.nan
    damaged = sitk.GetImageFromArray(array)
    damaged.CopyInformation(image)
    with pytest.raises(CardiacError, match="NaN"):
        segmenter.segment(damaged, "It")


def test_the_frames_of_a_cine_are_labelled_each_by_itself(segmenter: Segmenter) -> None:
    pairs = [phantom_stack(slices=3, seed=40, phase=phase) for phase in ("ED", "ES", "ED")]
    told: list[tuple[int, int]] = []
    found = segment_cine(segmenter, [i for i, _ in pairs], progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    areas = [int((sitk.GetArrayFromImage(one.mask) == LV).sum()) for one in found]
    assert areas[0] > 1.5 * areas[1]
    for one, (_, mask) in zip(found, pairs, strict=True):
        assert dice(one.mask, mask)[LV] > GOOD[LV]


def test_each_structure_keeps_its_largest_part() -> None:
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, 2:8, 2:8] = LV
    labels[1, 2:4, 2:4] = LV
    labels[1, 15:18, 15:18] = LV
    labels[0, 12, 12] = RV
    kept = without_strays(labels)
    assert (kept[:, :10] == labels[:, :10]).all()
    assert not (kept[1, 15:18, 15:18]).any()
    assert kept[0, 12, 12] == RV


def test_probabilities_add_up(segmenter: Segmenter) -> None:
    images = np.zeros((5, 128, 128), np.float32)
    made = segmenter.probabilities(images)
    assert made.shape == (5, 4, 128, 128)
    np.testing.assert_allclose(made.sum(1), 1, atol=1e-5)


def test_labels_and_what_is_seen_agree_with_single_looks(segmenter: Segmenter) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (5, 128, 128)).astype(np.float32)
    told: list[int] = []
    labels, features = segmenter.look(images, progress=told.append)
    assert sum(told) == 5
    assert len(features) == 5
    np.testing.assert_array_equal(labels, segmenter.labels(images))
