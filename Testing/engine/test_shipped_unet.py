"""What the shipped U-Net must do: find real hearts on patients it never saw, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy import ndimage

from cardiac_diffusion_aug.bundle import CARD_FILE, DEFAULT_SEGMENTER, available_models, load_bundle
from cardiac_diffusion_aug.datasets import Case, read_cases
from cardiac_diffusion_aug.labels import LV, MYO, RV
from cardiac_diffusion_aug.segmentation import Segmenter
from cardiac_diffusion_aug.slices import heart_center

PATIENTS = ("patient014", "patient044", "patient079")
GOOD = {LV: 0.9, MYO: 0.82, RV: 0.82}
ALL_WEIGHTS = 30e6


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(DEFAULT_SEGMENTER, "cpu")


@pytest.fixture(scope="module")
def cases(real_acdc: Path) -> list[Case]:
    return [case for case in read_cases(real_acdc)[1] if case.patient in PATIENTS]


def test_its_card_and_split() -> None:
    bundle = load_bundle(DEFAULT_SEGMENTER)
    split = bundle.info["training"]["facts"]["split"]
    assert not set(split["train"]) & set(split["validation"])
    assert set(PATIENTS) <= set(split["validation"])
    assert split["rule"] == "mod 5 == 4"
    card = (bundle.path / CARD_FILE).read_text(encoding="utf-8")
    assert "CC BY-NC-SA 4.0" in card
    assert "patient074" in card


def test_all_weights_together_are_small() -> None:
    shipped = [path for path in available_models().values() if "Resources" in path.parts]
    assert len(shipped) == 2
    assert sum(p.stat().st_size for path in shipped for p in path.rglob("*.safetensors")) < ALL_WEIGHTS


def test_unseen_patients_are_segmented_in_their_whole_field_of_view(segmenter: Segmenter, cases: list[Case]) -> None:
    reached: dict[int, list[float]] = {value: [] for value in GOOD}
    for case in cases:
        loaded = case.load()
        assert loaded.mask is not None
        found = segmenter.segment(loaded.image, case.name)
        assert found.warning == ""
        a, b = (sitk.GetArrayFromImage(mask) for mask in (found.mask, loaded.mask))
        for value in GOOD:
            reached[value].append(
                2 * float(((a == value) & (b == value)).sum()) / float((a == value).sum() + (b == value).sum())
            )
    assert len(reached[LV]) == 2 * len(PATIENTS)
    for value, dice in reached.items():
        assert np.mean(dice) > GOOD[value], (value, dice)


def long_axis(case: Case, axis: int) -> sitk.Image:
    """A few planes along the long axis, cut from a stack and brought to square pixels."""
    loaded = case.load()
    assert loaded.mask is not None
    row, column = heart_center(sitk.GetArrayViewFromImage(loaded.mask))
    array = sitk.GetArrayFromImage(loaded.image).astype(np.float32)
    width, height, distance = loaded.spacing
    fine = ndimage.zoom(array, (distance / 1.5, height / 1.5, width / 1.5), order=1)
    middle = int((row * height if axis == 1 else column * width) / 1.5)
    planes = np.moveaxis(fine.take([middle - 6, middle, middle + 6], axis), axis, 0)
    view = sitk.GetImageFromArray(np.ascontiguousarray(np.pad(planes, ((0, 0), (20, 20), (0, 0)))))
    view.SetSpacing((1.5, 1.5, 9.0))
    return view


@pytest.mark.parametrize("axis", [1, 2])
def test_long_axis_views_are_left_alone(segmenter: Segmenter, cases: list[Case], axis: int) -> None:
    for case in cases[::2]:
        found = segmenter.segment(long_axis(case, axis), "The view")
        assert "The view" in found.warning
        assert not sitk.GetArrayFromImage(found.mask).any()


def rings() -> npt.NDArray[np.float32]:
    y, x = np.mgrid[-80:80, -80:80]
    return np.asarray(np.stack([np.sin(np.hypot(y, x) / 6)] * 3), np.float32)


@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.0, 4.0])
def test_noise_is_left_alone(segmenter: Segmenter, sigma: float) -> None:
    noise = np.random.default_rng(0).normal(size=(5, 180, 180)).astype(np.float32)
    stack = sitk.GetImageFromArray(ndimage.gaussian_filter(noise, (0, sigma, sigma)))
    stack.SetSpacing((1.5, 1.5, 8.0))
    found = segmenter.segment(stack, "The noise")
    assert found.warning
    assert not sitk.GetArrayFromImage(found.mask).any()


def test_what_is_no_heart_is_left_alone_unless_one_insists(segmenter: Segmenter) -> None:
    stack = sitk.GetImageFromArray(rings())
    stack.SetSpacing((1.5, 1.5, 8.0))
    found = segmenter.segment(stack, "The rings")
    assert "--insist" in found.warning
    assert not sitk.GetArrayFromImage(found.mask).any()
    anyway = segmenter.segment(stack, "The rings", insist=True)
    assert "look at the labels" in anyway.warning
    assert sitk.GetArrayFromImage(anyway.mask).any()
