"""Volumes and function of hearts of known size, and the table that holds them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import LV, MYO, RV
from cardiac_diffusion_aug.measurements import (
    COLUMNS,
    MYOCARDIAL_DENSITY,
    TABLE,
    Frame,
    function_of,
    volumes_of,
    write_measurements,
)
from phantom import phantom_stack

SPACING = (1.25, 2.0, 8.0)
"""Of columns, rows and slices; a voxel is 0.02 ml."""
FULL = {"LV": 150.0, "MYO": 100.0, "RV": 160.0}
EMPTY = {"LV": 60.0, "MYO": 104.0, "RV": 80.0}


def stack_of(voxels: dict[int, int]) -> sitk.Image:
    """A stack with that many voxels of each label."""
    labels = np.zeros((5, 40, 30), np.uint8)
    flat = labels.reshape(-1)
    start = 0
    for value, count in voxels.items():
        flat[start : start + count] = value
        start += count
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(SPACING)
    return image


def frame(volumes: dict[str, float], number: int | None = None, phase: str | None = None, scan: str = "cine") -> Frame:
    return Frame("anna", scan, number, phase, volumes)


def cine(*volumes: dict[str, float], scan: str = "cine") -> list[Frame]:
    return [frame(one, index, scan=scan) for index, one in enumerate(volumes)]


def rows_of(frames: list[Frame], folder: Path) -> list[dict[str, str]]:
    path = write_measurements(frames, folder)
    assert path == folder / TABLE
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


# Volumes


def test_a_volume_is_voxels_by_their_size() -> None:
    found = volumes_of(stack_of({LV: 100, MYO: 250, RV: 35}))
    assert found == pytest.approx({"LV": 2.0, "MYO": 5.0, "RV": 0.7})


def test_what_is_absent_has_no_volume() -> None:
    assert volumes_of(stack_of({LV: 50})) == pytest.approx({"LV": 1.0, "MYO": 0.0, "RV": 0.0})


def test_an_empty_mask_is_not_measured() -> None:
    assert volumes_of(stack_of({})) == {}


def test_turning_a_stack_changes_no_volume() -> None:
    mask = phantom_stack(5)[1]
    turned = sitk.Image(mask)
    turned.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.3, 0.2, -0.4).GetMatrix())
    assert volumes_of(turned) == pytest.approx(volumes_of(mask))


def test_a_phantom_has_the_volume_of_its_discs() -> None:
    """At the level of one slice the cavity is a disc of a radius that ED alone tells from ES."""
    volumes = {phase: volumes_of(phantom_stack(1, phase=phase)[1])["LV"] for phase in ("ED", "ES")}
    # `SYSTOLE_FACTORS` of the phantom make the radius 0.68 of what it was.
    assert volumes["ES"] / volumes["ED"] == pytest.approx(0.68**2, rel=0.03)


# Function


def test_function_of_a_cine() -> None:
    between = {"LV": 100.0, "MYO": 102.0, "RV": 30.0}
    found = function_of(cine(between, FULL, between, EMPTY))
    assert found is not None
    assert (found.end_diastole.frame, found.end_systole.frame) == (1, 3)
    # The RV is measured where the LV is largest and smallest, not where itself is.
    expected = {"LV_EDV": 150, "LV_ESV": 60, "LV_SV": 90, "LV_EF": 60}
    expected |= {"RV_EDV": 160, "RV_ESV": 80, "RV_SV": 80, "RV_EF": 50}
    assert found.values == pytest.approx(expected)
    assert found.mass == pytest.approx(105.0)
    assert MYOCARDIAL_DENSITY == 1.05


def test_function_of_phantoms_is_that_of_their_masks() -> None:
    masks = [phantom_stack(5, phase=phase)[1] for phase in ("ED", "ES")]
    voxels = [np.bincount(sitk.GetArrayFromImage(mask).ravel(), minlength=4) for mask in masks]
    ml = 1.4 * 1.4 * 8 / 1000
    found = function_of(cine(*(volumes_of(mask) for mask in masks)))
    assert found is not None
    assert found.values["LV_EDV"] == pytest.approx(voxels[0][LV] * ml)
    assert found.values["RV_SV"] == pytest.approx((voxels[0][RV] - voxels[1][RV]) * ml)
    assert found.values["LV_EF"] == pytest.approx(100 * (1 - voxels[1][LV] / voxels[0][LV]))
    assert found.mass == pytest.approx(voxels[0][MYO] * ml * 1.05)


def test_function_of_two_stacks() -> None:
    found = function_of([frame(EMPTY, phase="ES", scan="anna_ES"), frame(FULL, phase="ED", scan="anna_ED")])
    assert found is not None
    assert (found.end_diastole.scan, found.end_systole.scan) == ("anna_ED", "anna_ES")
    assert found.values["LV_EF"] == pytest.approx(60.0)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        cine(FULL),
        cine(FULL, {}),
        cine({}, {}),
        [frame(FULL, phase="ED")],
        [frame(FULL), frame(EMPTY)],
        [frame(FULL, phase="ED"), frame(EMPTY, phase="ED")],
        [frame(FULL, phase="ED"), frame({}, phase="ES")],
    ],
    ids=["none", "one frame", "one with a heart", "no heart", "ED alone", "unnamed", "two EDs", "ES without a heart"],
)
def test_one_moment_tells_no_function(frames: list[Frame]) -> None:
    assert function_of(frames) is None


def test_frames_without_a_heart_are_passed_over() -> None:
    found = function_of(cine({}, FULL, {}, EMPTY))
    assert found is not None
    assert found.values["LV_ESV"] == 60.0
    assert (found.end_diastole.frame, found.end_systole.frame) == (1, 3)


def test_a_heart_without_rv_has_function_of_the_lv_alone() -> None:
    found = function_of(cine({**FULL, "RV": 0.0}, {**EMPTY, "RV": 0.0}))
    assert found is not None
    assert set(found.values) == {"LV_EDV", "LV_ESV", "LV_SV", "LV_EF"}


# The table


def test_the_table_of_a_cine(tmp_path: Path) -> None:
    *frames, function = rows_of(cine(FULL, {}, EMPTY), tmp_path)
    assert [row["frame"] for row in frames] == ["0", "1", "2"]
    assert [row["LV_ml"] for row in frames] == ["150.0", "", "60.0"]
    assert {row["patient"] for row in (*frames, function)} == {"anna"}
    assert all(row["LV_EF_percent"] == row["myocardial_mass_g"] == "" for row in frames)
    assert (function["frame"], function["phase"], function["scan"]) == ("0+2", "ED+ES", "cine")
    assert function["LV_ml"] == ""
    told = {name: function[name] for name in COLUMNS if name.startswith(("LV_E", "LV_S", "RV_E", "RV_S"))}
    assert told == {
        **{"LV_EDV_ml": "150.0", "LV_ESV_ml": "60.0", "LV_SV_ml": "90.0", "LV_EF_percent": "60.0"},
        **{"RV_EDV_ml": "160.0", "RV_ESV_ml": "80.0", "RV_SV_ml": "80.0", "RV_EF_percent": "50.0"},
    }
    assert function["myocardial_mass_g"] == "105.0"


def test_the_table_has_a_line_of_function_for_each_patient_and_cine(tmp_path: Path) -> None:
    berta = [Frame("berta", f"berta_{p}", None, p, v) for p, v in (("ED", FULL), ("ES", EMPTY))]
    clara = [Frame("clara", "clara_ED", None, "ED", FULL)]
    # The lines of a patient stand together, in whatever order they came.
    mixed = [berta[0], *cine(FULL, EMPTY, scan="rest"), *clara, *cine(FULL, FULL, EMPTY, scan="stress"), berta[1]]
    rows = rows_of(mixed, tmp_path)
    function = [row for row in rows if row["phase"] == "ED+ES"]
    assert [(row["patient"], row["scan"], row["frame"]) for row in function] == [
        ("berta", "berta_ED+berta_ES", ""),
        ("anna", "rest", "0+1"),
        ("anna", "stress", "0+2"),
    ]
    assert [row["patient"] for row in rows] == ["berta"] * 3 + ["anna"] * 7 + ["clara"]


def test_without_rv_its_columns_are_empty(tmp_path: Path) -> None:
    row = rows_of(cine({**FULL, "RV": 0.0}, {**EMPTY, "RV": 0.0}), tmp_path)[-1]
    assert row["LV_EF_percent"] == "60.0"
    assert {row[name] for name in COLUMNS if name.startswith("RV_")} == {""}


def test_a_table_replaces_an_earlier_one(tmp_path: Path) -> None:
    rows_of(cine(FULL, EMPTY), tmp_path)
    assert len(rows_of(cine(FULL), tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [TABLE]


def test_a_name_with_a_comma_stays_one(tmp_path: Path) -> None:
    assert rows_of([Frame("Doe, Jane", 'a"b', None, None, FULL)], tmp_path)[0]["patient"] == "Doe, Jane"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CardiacError, match="file cannot be written") as caught:
        write_measurements(cine(FULL), tmp_path / "file")
    assert caught.value.code == "bad_output"
