"""Label orders of the world and the one used here."""

from __future__ import annotations

import numpy as np
import pytest

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import (
    ACDC_ORDER,
    BACKGROUND,
    LV,
    MNMS_ORDER,
    MYO,
    NUM_CLASSES,
    RV,
    STRUCTURES,
    LabelOrder,
    describe_order,
    order_from_names,
    parse_order,
    remap,
    value_of_name,
)

SPELLINGS = {
    BACKGROUND: ("background", "Background", "BG"),
    LV: (
        "LV",
        "lv",
        "LVC",
        "LV cavity",
        "LV_cavity",
        "lv-cavity",
        "LVBP",
        "LV blood pool",
        "Left Ventricle",
        "left ventricle cavity",
        "left_ventricular_cavity",
        "Left ventricular blood pool",
    ),
    MYO: (
        "MYO",
        "Myocardium",
        "MLV",
        "LVM",
        "LV-Myo",
        "LV myocardium",
        "left ventricle myocardium",
        "Left Ventricular Myocardium",
    ),
    RV: (
        "RV",
        "rvc",
        "RV cavity",
        "RVBP",
        "RV_blood_pool",
        "right ventricle",
        "Right Ventricle Cavity",
        "right ventricular cavity",
        "right-ventricular-blood-pool",
    ),
}


@pytest.mark.parametrize(("value", "name"), [(value, name) for value, names in SPELLINGS.items() for name in names])
def test_common_spellings_are_understood(value: int, name: str) -> None:
    assert value_of_name(name) == value


@pytest.mark.parametrize("name", ["", "atrium", "LA", "lvrv", "ventricle", "1"])
def test_other_names_are_unknown(name: str) -> None:
    assert value_of_name(name) is None


def test_structures_are_those_of_the_values() -> None:
    assert [s.value for s in STRUCTURES] == [LV, MYO, RV]
    assert [value_of_name(s.key) for s in STRUCTURES] == [value_of_name(s.name) for s in STRUCTURES] == [LV, MYO, RV]
    assert len({s.color for s in STRUCTURES}) == len({s.snomed_ct for s in STRUCTURES}) == NUM_CLASSES - 1


def test_acdc_and_mnms_state_opposite_orders() -> None:
    mask = np.array([[0, 1], [2, 3]])
    np.testing.assert_array_equal(remap(mask, ACDC_ORDER, "m"), [[BACKGROUND, RV], [MYO, LV]])
    np.testing.assert_array_equal(remap(mask, MNMS_ORDER, "m"), [[BACKGROUND, LV], [MYO, RV]])


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64, np.float32, np.float64])
def test_any_type_of_whole_numbers_is_taken(kind: type[np.generic]) -> None:
    result = remap(np.array([[3, 0], [1, 2]]).astype(kind), ACDC_ORDER, "m")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, [[LV, BACKGROUND], [RV, MYO]])


def test_true_and_minus_zero_are_numbers_like_others() -> None:
    np.testing.assert_array_equal(remap(np.array([True, False]), MNMS_ORDER, "m"), [LV, BACKGROUND])
    np.testing.assert_array_equal(remap(np.array([-0.0, 1.0]), MNMS_ORDER, "m"), [BACKGROUND, LV])


def test_an_empty_array_stays_empty() -> None:
    assert remap(np.zeros((0, 4, 4), np.uint8), MNMS_ORDER, "m").shape == (0, 4, 4)


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, -np.inf])
def test_floats_that_are_no_labels_are_refused(bad: float) -> None:
    with pytest.raises(CardiacError, match=r"^scan\.nii is not a label map: it holds fractions or NaN"):
        remap(np.array([0.0, 1.0, bad]), MNMS_ORDER, "scan.nii")


@pytest.mark.parametrize("value", [4, 7, 255, -1, -3, 1e18])
def test_a_value_that_the_order_lacks_is_refused(value: float) -> None:
    with pytest.raises(CardiacError, match=rf"scan\.nii holds the label {int(value)} that its order"):
        remap(np.array([0, 1, value]), MNMS_ORDER, "scan.nii")


def test_only_the_first_unknown_values_are_named() -> None:
    with pytest.raises(CardiacError, match="label 4, 5, 6, 7, 8 that"):
        remap(np.arange(200), MNMS_ORDER, "m")


def test_negative_and_huge_values_never_wrap_around() -> None:
    order = {0: BACKGROUND, -1: LV, 10**12: MYO, 5: RV}
    mask = np.array([-1, 0, 5, 10**12, 5])
    np.testing.assert_array_equal(remap(mask, order, "m"), [LV, BACKGROUND, RV, MYO, RV])


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("LV=1,MYO=2,RV=3", MNMS_ORDER),
        ("RV=1,MYO=2,LV=3", ACDC_ORDER),
        (" lv = 500 , Myocardium=600,right ventricle=0007", {0: BACKGROUND, 500: LV, 600: MYO, 7: RV}),
        ("background=0,LV=1,MYO=2,RV=3,background=4", {**MNMS_ORDER, 4: BACKGROUND}),
        ("LV=1,LV=4,MYO=2,RV=3", {**MNMS_ORDER, 4: LV}),
    ],
)
def test_an_order_is_read_and_written_again(text: str, order: LabelOrder) -> None:
    assert parse_order(text) == order
    assert parse_order(describe_order(order)) == order


def test_an_order_is_described_as_it_is_typed() -> None:
    assert describe_order(MNMS_ORDER) == "LV=1,MYO=2,RV=3"
    assert describe_order(ACDC_ORDER) == "RV=1,MYO=2,LV=3"


@pytest.mark.parametrize(
    "text", ["", "LV", "LV=", "LV=one", "LV=-1,MYO=2,RV=3", "LV=1.0,MYO=2,RV=3", "LV=1;MYO=2;RV=3", "LV=²,MYO=2,RV=3"]
)
def test_other_texts_are_no_order(text: str) -> None:
    with pytest.raises(CardiacError, match="is not understood; write it as LV=1,MYO=2,RV=3"):
        parse_order(text)


def test_a_number_too_long_for_an_image_is_no_label() -> None:
    with pytest.raises(CardiacError, match="is not understood"):
        parse_order(f"LV={'9' * 5000},MYO=2,RV=3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LV=1,MYO=2,RV=3,LA=4", "names a label 'LA' that is neither LV, MYO nor RV"),
        ("LV=1,MYO=2", "has no label for RV; all of LV, MYO and RV are needed"),
        ("LV=1", "has no label for MYO and RV"),
        ("LV=0,MYO=2,RV=3", "gives 'LV' the value 0, which is the background"),
        ("LV=1,MYO=1,RV=3", "gives 'MYO' the value 1, which is another structure"),
        ("LV=1,MYO=2,RV=3,background=1", "gives 'background' the value 1, which is another structure"),
    ],
)
def test_an_order_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(CardiacError, match=message):
        parse_order(text)


@pytest.mark.parametrize("value", [-1, 1.5, "1", [1, 2], None, True])
def test_a_table_of_other_than_whole_numbers_is_refused(value: object) -> None:
    with pytest.raises(CardiacError, match=r"dataset\.json gives .* as the value of 'LV'"):
        order_from_names({"LV": value, "MYO": 2, "RV": 3}, "dataset.json")  # type: ignore[dict-item]


def test_a_table_of_names_states_an_order() -> None:
    assert order_from_names({"background": 0, "RV": 1, "MLV": 2, "LVC": 3}, "dataset.json") == ACDC_ORDER
