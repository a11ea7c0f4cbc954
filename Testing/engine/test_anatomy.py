"""Anatomical plausibility of masks, and the job that checks it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from cardiac_diffusion_aug.anatomy import (
    ALL,
    CRITERIA,
    circularity,
    concavity_depth,
    failures,
    filled,
    pass_rates,
    passes,
    perimeter,
)
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.masks import labelled_cases
from cardiac_diffusion_aug.errors import Cancelled, CardiacError
from cardiac_diffusion_aug.jobs.base import Context
from cardiac_diffusion_aug.jobs.check import Check, labelled_slices
from cardiac_diffusion_aug.labels import ACDC_ORDER, BACKGROUND, LV, MYO, RV, remap
from cardiac_diffusion_aug.slices import GRID_SIZE, GRID_SPACING, LabelArray
from phantom import write_acdc

CENTER, RV_CENTER = (64, 80), (64, 50)
ENDO, EPI, RIGHT = 16, 23, 20
"""Radii of the heart below, in pixels."""
BoolArray = npt.NDArray[np.bool_]


def disc(center: tuple[float, float], radius: float, spacing: tuple[float, float] = (1, 1)) -> BoolArray:
    y, x = np.mgrid[:GRID_SIZE, :GRID_SIZE]
    return np.asarray(np.hypot((y - center[0]) * spacing[0], (x - center[1]) * spacing[1]) <= radius)


def heart() -> LabelArray:
    """A round LV in a round myocardium, and an RV that leans on it."""
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[disc(RV_CENTER, RIGHT)] = RV
    mask[disc(CENTER, EPI)] = MYO
    mask[disc(CENTER, ENDO)] = LV
    return mask


def edited(*edits: tuple[Any, Any, int]) -> LabelArray:
    """The heart with rectangles of another label."""
    mask = heart()
    for rows, columns, value in edits:
        mask[rows, columns] = value
    return mask


def rv_apart() -> LabelArray:
    mask = heart()
    mask[mask == RV] = BACKGROUND
    mask[disc((64, 25), 15)] = RV
    return mask


def bar_of_blood() -> LabelArray:
    mask = heart()
    mask[mask == LV] = MYO
    mask[63:65, 62:98] = LV
    return mask


def bar_of_muscle() -> LabelArray:
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[60:63, 20:90] = MYO
    return mask


def rv_around() -> LabelArray:
    mask = heart()
    mask[mask == RV] = BACKGROUND
    mask[disc(CENTER, 28) & ~disc(CENTER, EPI)] = RV
    mask[:, 81:][mask[:, 81:] == RV] = BACKGROUND
    return mask


FAILING: dict[str, Callable[[], LabelArray]] = {
    "lv_hole": lambda: edited((slice(63, 66), slice(79, 82), BACKGROUND)),
    "rv_hole": lambda: edited((slice(63, 66), slice(44, 47), BACKGROUND)),
    "myo_hole": lambda: edited((slice(82, 84), slice(79, 81), BACKGROUND)),
    "lv_parts": lambda: edited((slice(83, 85), slice(79, 81), LV)),
    "rv_parts": lambda: edited((slice(10, 15), slice(10, 15), RV)),
    "myo_parts": lambda: edited((slice(10, 15), slice(10, 15), MYO)),
    "lv_myo_gap": lambda: edited((slice(63, 66), slice(95, 98), BACKGROUND)),
    "rv_myo_gap": lambda: edited((slice(63, 66), slice(55, 57), BACKGROUND)),
    "rv_myo_apart": rv_apart,
    "lv_touches_rv": lambda: edited((slice(62, 67), slice(57, 64), RV)),
    "lv_touches_background": lambda: edited((slice(62, 67), slice(97, 104), BACKGROUND)),
    "lv_circularity": bar_of_blood,
    "myo_circularity": bar_of_muscle,
    "lv_concavity": lambda: edited((slice(62, 67), slice(92, 97), MYO)),
    "rv_concavity": rv_around,
    "myo_concavity": lambda: edited((slice(62, 67), slice(100, 104), BACKGROUND)),
}
"""For each criterion a heart with that defect alone."""


def test_criteria_have_names_of_their_own_and_texts() -> None:
    assert [c.name for c in CRITERIA] == list(FAILING)
    assert len({c.text for c in CRITERIA}) == len(CRITERIA) == 16
    assert [c.name for c in CRITERIA if c.concavity] == ["lv_concavity", "rv_concavity", "myo_concavity"]


def test_a_normal_heart_fails_nothing() -> None:
    assert failures(heart(), GRID_SPACING, concavity=True) == ()
    assert passes(heart(), GRID_SPACING, concavity=True)


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: c.name)
def test_each_defect_fails_its_criterion_alone(criterion: Any) -> None:
    mask = FAILING[criterion.name]()
    assert failures(mask, GRID_SPACING, criterion.concavity) == (criterion.name,)
    assert not passes(mask, GRID_SPACING, criterion.concavity)


@pytest.mark.parametrize("name", ["lv_concavity", "rv_concavity", "myo_concavity"])
def test_concavities_are_tested_where_asked_for_only(name: str) -> None:
    assert passes(FAILING[name](), GRID_SPACING)


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize(
    "change",
    [
        np.rot90,
        np.fliplr,
        np.transpose,
        lambda mask: np.roll(mask, (-5, 9), (0, 1)),
        lambda mask: np.pad(mask, ((0, 40), (100, 0))),
        lambda mask: mask.astype(np.int32),
    ],
    ids=["turned", "mirrored", "transposed", "shifted", "larger", "int32"],
)
def test_where_a_defect_lies_does_not_matter(name: str, change: Callable[[LabelArray], LabelArray]) -> None:
    mask = FAILING[name]()
    assert failures(change(mask), GRID_SPACING, True) == failures(mask, GRID_SPACING, True)


def test_the_mask_is_left_as_it_was() -> None:
    mask = heart()
    failures(mask, GRID_SPACING, True)
    np.testing.assert_array_equal(mask, heart())


def test_an_empty_slice_fails_nothing() -> None:
    assert failures(np.zeros((GRID_SIZE, GRID_SIZE), np.uint8), GRID_SPACING, True) == ()


@pytest.mark.parametrize(
    ("absent", "expected"),
    [
        ((RV,), ()),
        ((LV, MYO), ()),
        ((LV, RV), ("myo_hole",)),
        ((MYO,), ("lv_touches_background",)),
        ((MYO, RV), ("lv_touches_background",)),
    ],
)
def test_what_is_absent_fails_nothing_but_a_bare_cavity(absent: tuple[int, ...], expected: tuple[str, ...]) -> None:
    mask = heart()
    mask[np.isin(mask, absent)] = BACKGROUND
    assert failures(mask, GRID_SPACING, True) == expected


def test_an_apex_of_muscle_alone_is_fine() -> None:
    mask = np.where(disc(CENTER, 10), MYO, BACKGROUND).astype(np.uint8)
    assert passes(mask, GRID_SPACING, True)


@pytest.mark.parametrize(("value", "expected"), [(LV, ("lv_touches_background",)), (MYO, ()), (RV, ())])
def test_beyond_the_slice_is_background(value: int, expected: tuple[str, ...]) -> None:
    assert failures(np.full((20, 20), value, np.uint8), GRID_SPACING, True) == expected


# Corners


def diamond(gap: bool = False) -> LabelArray:
    """A cavity in a wall of pixels that meet at their corners."""
    y, x = np.mgrid[:21, :21]
    distance = abs(y - 10) + abs(x - 10)
    mask = np.where(distance == 8, MYO, np.where(distance < 8, LV, BACKGROUND)).astype(np.uint8)
    if gap:
        mask[10, 5:8] = BACKGROUND
    return mask


def test_a_wall_holds_where_its_pixels_meet_at_corners() -> None:
    assert passes(diamond(), GRID_SPACING, True)
    assert failures(diamond(gap=True), GRID_SPACING) == ("lv_hole",)


def test_a_gap_that_opens_through_a_corner_is_none() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 10:18] = MYO
    mask[5:12, 2:10] = RV
    # Where RV and myocardium part, a step closes a pixel off, but for its corner.
    mask[11, 9], mask[12, 9] = BACKGROUND, MYO
    assert passes(mask, GRID_SPACING)
    mask[12, 8] = RV
    assert failures(mask, GRID_SPACING) == ("rv_myo_gap",)


def test_parts_that_meet_at_a_corner_are_one() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:6, 2:6] = mask[6:10, 6:10] = RV
    assert passes(mask, GRID_SPACING)
    mask[6, 6] = BACKGROUND
    assert failures(mask, GRID_SPACING) == ("rv_parts",)


def test_a_pocket_between_all_three_opens_the_cavity() -> None:
    assert failures(edited((slice(62, 67), slice(55, 64), BACKGROUND)), GRID_SPACING) == ("lv_touches_background",)


# Lengths


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.5, 1.5), (1.0, 2.0), (1.8, 1.2)])
@pytest.mark.parametrize("pixels", [8, 16, 30])
def test_a_disc_is_round(spacing: tuple[float, float], pixels: int) -> None:
    radius = pixels * max(spacing)
    region = disc((63.7, 64.2), radius, spacing)
    assert perimeter(region, spacing) == pytest.approx(2 * np.pi * radius, rel=0.015)
    assert circularity(region, spacing) == pytest.approx(1, abs=0.025)


def test_both_outlines_of_a_ring_count() -> None:
    ring = disc((64, 64), 30) & ~disc((64, 64), 20)
    assert perimeter(ring, (1, 1)) == pytest.approx(2 * np.pi * 50, rel=0.015)
    assert perimeter(filled(ring), (1, 1)) == pytest.approx(2 * np.pi * 30, rel=0.015)


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_an_ellipse_in_any_direction_has_its_circularity(angle: int) -> None:
    y, x = np.mgrid[:GRID_SIZE, :GRID_SIZE] - 63.5
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    region = ((x * c + y * s) / 50) ** 2 + ((y * c - x * s) / 15) ** 2 <= 1
    length = np.pi * (3 * (50 + 15) - np.sqrt((3 * 50 + 15) * (50 + 3 * 15)))  # Ramanujan's approximation.
    assert circularity(region, (1, 1)) == pytest.approx(4 * np.pi * np.pi * 50 * 15 / length**2, rel=0.1)
    assert concavity_depth(region, (1, 1)) == 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 2.0)])
@pytest.mark.parametrize("radius", [0.5, 3, 10, 31])
def test_a_disc_has_no_concavity(radius: float, spacing: tuple[float, float]) -> None:
    assert concavity_depth(disc((64.2, 63.6), radius, spacing), spacing) == 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize("depth", [1, 3, 12])
def test_a_notch_has_its_depth(depth: int, spacing: tuple[float, float]) -> None:
    region = np.zeros((60, 60), bool)
    region[10:50, 10:50] = True
    region[10 : 10 + depth, 25:35] = False
    assert concavity_depth(region, spacing) == pytest.approx(depth * spacing[0])
    assert concavity_depth(region.T, spacing) == pytest.approx(depth * spacing[1])


def test_a_crescent_is_as_deep_as_its_chord_is_far() -> None:
    crescent = disc((64, 64), 30) & ~disc((64, 64), 25)
    crescent[:, 65:] = False
    assert concavity_depth(crescent, (1, 1)) == pytest.approx(25.5, abs=1)


def test_parts_and_holes_are_no_concavities() -> None:
    region = np.zeros((60, 60), bool)
    region[5:15, 5:15] = region[40:50, 40:50] = True
    region[8:10, 8:10] = False
    assert concavity_depth(region, (1, 1)) == 0


@pytest.mark.parametrize("pixels", [[], [(3, 3)], [(3, 3), (3, 4)], [(i, i) for i in range(6)]])
def test_what_has_no_area_has_no_concavity(pixels: list[tuple[int, int]]) -> None:
    region = np.zeros((8, 8), bool)
    region[tuple(np.array(pixels, int).reshape(-1, 2).T)] = True
    assert concavity_depth(region, (1, 1)) == 0


def test_limits_are_in_millimetres() -> None:
    mask = FAILING["lv_concavity"]()
    assert passes(mask, 0.7, True)
    assert failures(mask, (0.7, 1.5), True) == ("lv_concavity",)
    # Its notch goes along a row, and so its depth is of the columns' spacing.
    assert passes(mask, (1.5, 0.7), True)
    assert failures(mask.T, (1.5, 0.7), True) == ("lv_concavity",)


def test_a_round_heart_on_pixels_that_are_not_square_passes() -> None:
    spacing = (1.0, 2.0)
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[disc((64, 50), 30, spacing)] = RV
    mask[disc((64, 68), 35, spacing)] = MYO
    mask[disc((64, 68), 24, spacing)] = LV
    assert failures(mask, spacing, True) == ()


# Rates


def test_rates_are_shares_of_slices_that_are_not_empty() -> None:
    empty = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    broken = edited((slice(63, 66), slice(79, 82), BACKGROUND), (slice(10, 15), slice(10, 15), RV))
    rates = pass_rates([heart(), empty, broken, heart(), FAILING["lv_hole"]()], GRID_SPACING)
    assert list(rates) == [c.name for c in CRITERIA if not c.concavity] + [ALL]
    assert (rates["lv_hole"], rates["rv_parts"], rates["rv_hole"], rates[ALL]) == (0.5, 0.75, 1.0, 0.5)


def test_rates_of_concavities_too() -> None:
    rates = pass_rates((FAILING[name]() for name in ("lv_concavity", "lv_hole")), GRID_SPACING, concavity=True)
    assert list(rates) == [c.name for c in CRITERIA] + [ALL]
    assert (rates["lv_concavity"], rates["myo_concavity"], rates[ALL]) == (0.5, 1.0, 0.0)


def test_rates_of_nothing_are_unknown() -> None:
    rates = pass_rates([np.zeros((9, 9), np.uint8)], 1.0)
    assert all(math.isnan(rate) for rate in rates.values())


def test_real_masks_are_plausible(acdc_root: Path) -> None:
    cases = labelled_cases(acdc_root)[::10]
    checked = [failures(mask, spacing, True) for case in cases for _, mask, spacing in labelled_slices(case)]
    assert len(checked) >= len(cases)
    plausible = [all("concavity" in name for name in failed) for failed in checked]
    assert np.mean(plausible) > 0.97
    assert np.mean([not failed for failed in checked]) > 0.93


# The job


class Listener(Context):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Mapping[str, Any]] = []
        self.steps: list[tuple[int, int]] = []

    def result(self, facts: Mapping[str, Any]) -> None:
        self.results.append(facts)

    def progress(self, done: int, total: int, message: str = "") -> None:
        self.steps.append((done, total))


def write(path: Path, mask: npt.ArrayLike, spacing: tuple[float, ...] = (1.5, 1.5, 8.0)) -> Path:
    image = sitk.GetImageFromArray(np.asarray(mask, np.uint8))
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def stack() -> LabelArray:
    """A plausible slice, an empty one, and one with two defects."""
    broken = edited((slice(63, 66), slice(79, 82), BACKGROUND), (slice(10, 15), slice(10, 15), RV))
    return np.stack([heart(), np.zeros_like(broken), broken])


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    return write_acdc(tmp_path / "acdc", patients=1, slices=3, shape=(128, 136))


def test_a_stack_is_checked_slice_by_slice(tmp_path: Path) -> None:
    output = tmp_path / "new" / "slices.csv"
    listener = Listener()
    facts = Check(masks=write(tmp_path / "anna.nii.gz", stack()), output=output).run(listener)
    assert facts["slices"] == 2
    assert (facts["lv_hole"], facts["rv_parts"], facts["rv_hole"], facts[ALL]) == ("0.500", "0.500", "1.000", "0.500")
    assert "lv_concavity" not in facts
    assert facts["output"] == str(output)
    with output.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows == [["name", "slice", "failed"], ["anna", "0", ""], ["anna", "2", "lv_hole rv_parts"]]
    assert listener.results == [{"name": "anna", "slices": 2, "failed": ["lv_hole", "rv_parts"]}]
    assert listener.steps == [(0, 1), (1, 1)]


def test_a_folder_is_checked_beside_a_real_data_set(tmp_path: Path, patients: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "made" / f"{name}.nrrd", stack())
    listener = Listener()
    facts = Check(masks=tmp_path / "made", data=patients, concavity=True).run(listener)
    assert facts["slices"] == 4
    assert facts["lv_hole"] == "0.500 (real 1.000)"
    assert facts["lv_concavity"] == "1.000 (real 1.000)"
    assert [r["name"] for r in listener.results] == ["a", "b"]
    assert listener.steps[-1] == (4, 4)


def test_a_data_set_is_read_in_its_own_order_and_without_its_images(patients: Path) -> None:
    for image in patients.glob("*/*[0-9].nii.gz"):
        image.write_bytes(b"damaged")
    listener = Listener()
    facts = Check(masks=patients).run(listener)
    assert facts["slices"] == 6
    assert facts[ALL] == "1.000"
    assert [r["name"] for r in listener.results] == [case.name for case in read_cases(patients)[1]]


def test_a_data_set_may_be_read_in_another_order(patients: Path) -> None:
    # With LV and RV exchanged the cavity lies bare.
    facts = Check(masks=patients, labels="LV=1,MYO=2,RV=3").run(Context())
    assert float(facts["lv_touches_background"]) < 0.5


def test_masks_of_nnunet_are_read_in_the_order_of_their_data_set(tmp_path: Path) -> None:
    inverse = {own: value for value, own in ACDC_ORDER.items()}
    write(tmp_path / "labelsTr" / "a.nii.gz", remap(heart()[None], inverse, "the heart"))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3}}))
    assert Check(masks=tmp_path).run(Context())[ALL] == "1.000"


def test_labels_are_taken_as_stated(tmp_path: Path) -> None:
    inverse = {own: value for value, own in ACDC_ORDER.items()}
    path = write(tmp_path / "a.mha", remap(heart()[None], inverse, "the heart"))
    assert Check(masks=path, labels="RV=1,MYO=2,LV=3").run(Context())[ALL] == "1.000"
    assert Check(masks=path).run(Context())["lv_touches_background"] == "0.000"


def test_a_single_slice_has_its_own_spacing(tmp_path: Path) -> None:
    mask = FAILING["lv_concavity"]()
    # A notch along a row is as deep as columns lie apart, which SimpleITK names first.
    for spacing, rate in (((1.5, 0.7), "0.000"), ((0.7, 1.5), "1.000")):
        path = write(tmp_path / "slice.mha", mask, spacing)
        assert Check(masks=path, concavity=True).run(Context())["lv_concavity"] == rate


def test_a_mask_may_be_larger_than_the_grid(tmp_path: Path) -> None:
    path = write(tmp_path / "large.nii.gz", np.kron(stack(), np.ones((1, 3, 3), np.uint8)))
    assert Check(masks=path).run(Context())["lv_hole"] == "0.500"


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ("nowhere", "There is no file or folder .*nowhere"),
        ("n" * 5000, "There is no file or folder"),
        ("empty.mha", "empty.mha is empty: no pixel is labelled"),
        ("strange.mha", "strange.mha holds the label 7"),
        ("text.nii", "text.nii cannot be read|text.nii is"),
        ("folder", "folder holds no masks"),
    ],
)
def test_what_cannot_be_checked_is_told(tmp_path: Path, masks: str, message: str) -> None:
    write(tmp_path / "empty.mha", np.zeros((2, 40, 40)))
    write(tmp_path / "strange.mha", np.full((2, 40, 40), 7))
    (tmp_path / "text.nii").write_text("no image")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CardiacError, match=message):
        Check(masks=tmp_path / masks).run(Context())


def test_the_table_never_replaces_a_mask(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", stack())
    with pytest.raises(CardiacError, match=r"must be a file that ends in \.csv"):
        Check(masks=path, output=path)


def test_a_table_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", stack())
    with pytest.raises(CardiacError, match="cannot be written") as caught:
        Check(masks=path, output=path / "table.csv").run(Context())
    assert caught.value.code == "bad_output"


def test_the_job_can_be_cancelled(tmp_path: Path) -> None:
    context = Context()
    context.cancelled = lambda: True
    with pytest.raises(Cancelled):
        Check(masks=write(tmp_path / "a.nii.gz", stack())).run(context)
