"""Quantities of masks, against shapes whose quantities are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from cardiac_diffusion_aug.labels import BACKGROUND, LV, MYO, RV
from cardiac_diffusion_aug.shapes import QUANTITIES, measure, presence, wall_thickness, wasserstein_ratio
from cardiac_diffusion_aug.slices import GRID_SIZE, GRID_SPACING, LabelArray

SPACINGS = [(1.5, 1.5), (1.0, 1.0), (1.0, 2.0), (1.8, 1.2)]
PLACES = ("x_", "y_")


def ellipse(
    center: tuple[float, float], half_axes: tuple[float, float], spacing: tuple[float, float], angle: float = 0
) -> npt.NDArray[np.bool_]:
    """Pixels within an ellipse; its centre in mm from the grid's, down and to the right."""
    middle = (GRID_SIZE - 1) / 2
    y, x = np.mgrid[:GRID_SIZE, :GRID_SIZE]
    y, x = (y - middle) * spacing[0] - center[0], (x - middle) * spacing[1] - center[1]
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(((x * c + y * s) / half_axes[0]) ** 2 + ((y * c - x * s) / half_axes[1]) ** 2 <= 1)


def annulus(
    inner: float, outer: float, spacing: tuple[float, float], center: tuple[float, float] = (0.4, -0.7)
) -> LabelArray:
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[ellipse(center, (outer, outer), spacing)] = MYO
    mask[ellipse(center, (inner, inner), spacing)] = LV
    return mask


def heart() -> LabelArray:
    """A heart of no symmetry."""
    spacing = (GRID_SPACING, GRID_SPACING)
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[ellipse((12, -24), (32, 20), spacing, 1.1)] = RV
    mask[ellipse((-6, 10), (30, 27), spacing, 0.3)] = MYO
    mask[ellipse((-5, 9), (21, 17), spacing, 0.4)] = LV
    return mask


def same(a: dict[str, float], b: dict[str, float], leave_out: tuple[str, ...] = ()) -> bool:
    names = [name for name in QUANTITIES if not name.startswith(leave_out)] if leave_out else list(QUANTITIES)
    return all(a[name] == pytest.approx(b[name], abs=1e-6, nan_ok=True) for name in names)


def test_every_quantity_has_a_unit_and_a_value() -> None:
    values = measure(heart(), GRID_SPACING)
    assert list(values) == list(QUANTITIES)
    assert set(QUANTITIES.values()) == {"mm", "mm^2", "1"}
    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("inner", "outer"), [(8, 13), (12, 20), (25, 34), (25, 29), (30, 44)])
def test_an_annulus_has_its_thickness_and_areas(inner: float, outer: float, spacing: tuple[float, float]) -> None:
    values = measure(annulus(inner, outer, spacing), spacing)
    assert values["wall_thickness"] == pytest.approx(outer - inner, abs=0.2)
    assert values["area_LV"] == pytest.approx(np.pi * inner**2, rel=0.03)
    assert values["area_MYO"] == pytest.approx(np.pi * (outer**2 - inner**2), rel=0.03)


def test_areas_and_their_ratio_are_of_pixels() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:4, 2:7] = LV
    mask[10:14, 2:7] = RV
    values = measure(mask, (2.0, 1.5))
    assert (values["area_LV"], values["area_RV"], values["area_ratio_LV_RV"]) == (30.0, 60.0, 0.5)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("angle", [0.0, 0.7, 1.57])
@pytest.mark.parametrize(("structure", "name"), [(LV, "eccentricity_LV"), (RV, "eccentricity_RV")])
def test_an_ellipse_has_its_eccentricity(structure: int, name: str, angle: float, spacing: tuple[float, float]) -> None:
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[ellipse((0, 0), (40, 24), spacing, angle)] = structure
    assert measure(mask, spacing)[name] == pytest.approx(0.8, abs=0.01)


def test_a_pixel_and_a_row_have_eccentricities_too() -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[1, 1] = LV
    mask[4, 1:5] = RV
    values = measure(mask, 1.0)
    assert values["eccentricity_LV"] == 0
    # A box of 4 x 1 has variances of 16 and 1 twelfth.
    assert values["eccentricity_RV"] == pytest.approx(np.sqrt(1 - 1 / 16))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_places_are_in_millimetres_from_the_centre(spacing: tuple[float, float]) -> None:
    mask = annulus(12, 20, spacing, center=(9, -15))
    mask[ellipse((-21, 25), (10, 10), spacing)] = RV
    values = measure(mask, spacing)
    expected = {"y_LV": 9, "x_LV": -15, "y_MYO": 9, "x_MYO": -15, "y_RV": -21, "x_RV": 25}
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=0.3)
    assert values["distance_LV_RV"] == pytest.approx(50, abs=0.3)


def test_the_centre_of_an_odd_grid_is_a_pixel() -> None:
    mask = np.zeros((5, 7), np.uint8)
    mask[2, 3] = LV
    values = measure(mask, 1.5)
    assert (values["y_LV"], values["x_LV"]) == (0, 0)


@pytest.mark.parametrize("change", [np.rot90, np.flipud, np.transpose], ids=["turned", "mirrored", "transposed"])
def test_only_places_change_with_direction(change: Callable[[LabelArray], LabelArray]) -> None:
    assert same(measure(heart(), GRID_SPACING), measure(change(heart()), GRID_SPACING), leave_out=PLACES)
    assert same(measure(heart(), (1.0, 2.0)), measure(heart().T, (2.0, 1.0)), leave_out=PLACES)


def test_a_shift_moves_places_by_as_much() -> None:
    before, after = measure(heart(), GRID_SPACING), measure(np.roll(heart(), (-4, 7), (0, 1)), GRID_SPACING)
    assert same(before, after, leave_out=PLACES)
    for name in QUANTITIES:
        if name.startswith(PLACES):
            moved = 7 if name.startswith("x_") else -4
            assert after[name] - before[name] == pytest.approx(moved * GRID_SPACING)


def test_larger_pixels_make_a_larger_heart() -> None:
    once, twice = measure(heart(), 1.0), measure(heart(), 2.0)
    for name, unit in QUANTITIES.items():
        assert twice[name] == pytest.approx(once[name] * {"1": 1, "mm": 2, "mm^2": 4}[unit])


@pytest.mark.parametrize(
    ("absent", "unknown"),
    [
        (LV, {"area_LV", "area_ratio_LV_RV", "wall_thickness", "eccentricity_LV", "distance_LV_RV", "x_LV", "y_LV"}),
        (MYO, {"area_MYO", "wall_thickness", "x_MYO", "y_MYO"}),
        (RV, {"area_RV", "area_ratio_LV_RV", "eccentricity_RV", "distance_LV_RV", "x_RV", "y_RV"}),
    ],
)
def test_what_is_absent_has_no_values(absent: int, unknown: set[str]) -> None:
    mask = heart()
    mask[mask == absent] = BACKGROUND
    values = measure(mask, GRID_SPACING)
    assert {name for name, value in values.items() if math.isnan(value)} == unknown


def test_an_empty_slice_has_no_values() -> None:
    values = measure(np.zeros((GRID_SIZE, GRID_SIZE), np.uint8), GRID_SPACING)
    assert list(values) == list(QUANTITIES)
    assert all(math.isnan(value) for value in values.values())


def test_an_open_wall_has_a_thickness() -> None:
    mask = annulus(20, 28, (GRID_SPACING, GRID_SPACING))
    mask[(np.mgrid[:GRID_SIZE, :GRID_SIZE][1] > 72) & (mask == MYO)] = BACKGROUND
    # The two ends count as outline: it comes out a little thinner.
    assert 6.5 < wall_thickness(mask, GRID_SPACING) < 8


def test_muscle_apart_from_the_cavity_has_no_thickness() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:5, 2:5], mask[10:14, 10:14] = LV, MYO
    assert math.isnan(wall_thickness(mask, 1.0))


# Sets


def test_presence_is_a_share_of_slices() -> None:
    empty = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    alone = np.where(heart() == MYO, MYO, BACKGROUND).astype(np.uint8)
    assert presence([heart(), empty, alone, heart()]) == {"LV": 0.5, "MYO": 0.75, "RV": 0.5}


def test_presence_in_nothing_is_unknown() -> None:
    shares = presence([])
    assert list(shares) == ["LV", "MYO", "RV"]
    assert all(math.isnan(share) for share in shares.values())


def test_a_ratio_is_a_distance_in_units_of_the_halves() -> None:
    real = [0.0, 1.0, 2.0, 3.0]
    halves = [([0.0, 1.0], [2.0, 3.0]), ([0.0, 2.0], [1.0, 3.0])]
    # A shift by 6 is a distance of 6; the halves lie 2 and 1 apart.
    assert wasserstein_ratio([6.0, 7.0, 8.0, 9.0], halves, real) == pytest.approx(6 / 1.5)
    assert wasserstein_ratio(real, halves, real) == 0


def test_unknown_values_are_left_out() -> None:
    nan = float("nan")
    assert wasserstein_ratio([nan, 5.0], [([0.0, nan], [2.0])], [1.0, nan, nan]) == pytest.approx(4 / 2)


@pytest.mark.parametrize(
    ("synthetic", "halves", "real"),
    [([float("nan")], [([0.0], [1.0])], [0.0]), ([1.0], [], [0.0]), ([1.0], [([], [1.0])], [0.0]), ([], [], [])],
)
def test_the_ratio_of_nothing_is_unknown(
    synthetic: list[float], halves: list[tuple[list[float], list[float]]], real: list[float]
) -> None:
    assert math.isnan(wasserstein_ratio(synthetic, halves, real))


def test_halves_that_are_alike_measure_nothing() -> None:
    assert wasserstein_ratio([2.0], [([1.0], [1.0])], [1.0]) == math.inf
    assert math.isnan(wasserstein_ratio([1.0], [([1.0], [1.0])], [1.0]))


def test_random_values_of_one_kind_lie_as_close_as_halves() -> None:
    random = np.random.default_rng(0)
    real, alike, other = random.normal(size=400), random.normal(size=400), random.normal(1, 1, size=400)
    orders = [random.permutation(400) for _ in range(20)]
    halves = [(real[order[:200]], real[order[200:]]) for order in orders]
    assert wasserstein_ratio(alike, halves, real) < 2
    assert wasserstein_ratio(other, halves, real) > 5
