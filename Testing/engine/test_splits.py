"""Splits by patient, and choices of few patients."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from cardiac_diffusion_aug.datasets.splits import Split, split_patients, take_patients
from cardiac_diffusion_aug.errors import CardiacError

PATIENTS = [f"patient{number:03d}" for number in range(1, 41)]


def shuffled(patients: list[str]) -> list[str]:
    result = list(patients)
    random.Random(3).shuffle(result)
    assert result != patients
    return result


@pytest.mark.parametrize("rule", ["none", "mod 5 == 4", "fraction 0.2"])
def test_each_patient_is_on_one_side_whatever_the_order(rule: str) -> None:
    split = split_patients(PATIENTS, rule)
    assert sorted(split.train + split.validation) == PATIENTS
    assert split_patients([*shuffled(PATIENTS), *PATIENTS[:3]], rule) == split
    assert split.rule == rule


def test_mod_takes_the_number_at_the_end_of_the_name() -> None:
    split = split_patients(["A7B04", "A7B05", "patient009", "patient010"], "mod 5 == 4")
    assert split.validation == ("A7B04", "patient009")
    assert split_patients(["p2", "p3", "p4"], " mod  2==1 ").validation == ("p3",)


def test_none_lets_nobody_validate() -> None:
    assert split_patients(PATIENTS, "none") == Split(tuple(PATIENTS), (), "none")


@pytest.mark.parametrize(("fraction", "count"), [("0.2", 8), (".1", 4), ("0.001", 1), ("0.97", 39)])
def test_fraction_takes_that_share(fraction: str, count: int) -> None:
    assert len(split_patients(PATIENTS, f"fraction {fraction}").validation) == count


def test_fraction_depends_on_the_seed() -> None:
    chosen = {split_patients(PATIENTS, "fraction 0.2", seed).validation for seed in range(5)}
    assert len(chosen) == 5


def test_fraction_chooses_as_it_always_did() -> None:
    # Another choice would let models that were trained before validate on patients they learnt from.
    assert split_patients(PATIENTS[:10], "fraction 0.2", 0).validation == ("patient004", "patient006")


def test_a_new_patient_moves_few_others() -> None:
    before = set(split_patients(PATIENTS, "fraction 0.2").validation)
    after = set(split_patients([*PATIENTS, "patient041"], "fraction 0.2").validation)
    assert len(before & after) >= len(before) - 1


def test_list_takes_the_named_patients(tmp_path: Path) -> None:
    path = tmp_path / "those who validate.txt"
    path.write_bytes("\ufeffpatient007\r\n\r\n  patient003  \r\npatient007\r\n".encode())
    assert split_patients(PATIENTS, f"list {path}").validation == ("patient003", "patient007")


@pytest.mark.parametrize(
    "rule",
    ["", "None", "mod 5", "mod 5 = 4", "mod five == 4", "fraction", "fraction -0.2", "fraction 20%", "list", "half"],
)
def test_an_unknown_rule_is_refused_with_the_known_ones(rule: str) -> None:
    with pytest.raises(CardiacError, match=r"is not understood; write it as 'fraction 0\.2'"):
        split_patients(PATIENTS, rule)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("mod 0 == 0", "No number satisfies"),
        ("mod 5 == 5", "No number satisfies"),
        ("mod 100 == 99", "No patient satisfies"),
        ("mod 1 == 0", "leaves none of 40 patients for training"),
        ("fraction 0", "not between 0 and 1"),
        ("fraction 1.0", "not between 0 and 1"),
        ("fraction 0.99", "leaves none of 40 patients for training"),
        ("list nowhere.txt", r"nowhere\.txt cannot be read"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rule: str, text: str) -> None:
    with pytest.raises(CardiacError, match=text):
        split_patients(PATIENTS, rule)


def test_mod_needs_numbers() -> None:
    with pytest.raises(CardiacError, match="anna does not end in a number"):
        split_patients(["anna", "b2"], "mod 5 == 4")


def test_a_single_patient_cannot_be_split() -> None:
    with pytest.raises(CardiacError, match="leaves none of 1 patients"):
        split_patients(["p1"], "fraction 0.2")


@pytest.mark.parametrize("choose", [lambda: split_patients([], "none"), lambda: take_patients([], 1)])
def test_no_patients_at_all_are_refused(choose: Callable[[], object]) -> None:
    with pytest.raises(CardiacError, match="no patient"):
        choose()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"patient003\npatient999\n", "names patient999, which the data set does not have"),
        (b"\n \n", "names no patient"),
        (b"\xff\xfe\x00\x9c", "cannot be read"),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(CardiacError, match=text):
        split_patients(PATIENTS, f"list {path}")
    with pytest.raises(CardiacError, match=text):
        take_patients(PATIENTS, path)


def test_a_split_survives_json() -> None:
    split = split_patients(PATIENTS, "mod 5 == 4")
    assert Split.from_dict(json.loads(json.dumps(split.as_dict()))) == split


@pytest.mark.parametrize(
    "change", [{"train": None}, {"train": "patient001"}, {"validation": [1, 2]}, {"rule": None}, {"validation": {}}]
)
def test_a_damaged_split_is_refused(change: dict[str, object]) -> None:
    stored = split_patients(PATIENTS, "none").as_dict() | change
    with pytest.raises(CardiacError, match="split is damaged"):
        Split.from_dict(stored)


@pytest.mark.parametrize("seed", range(4))
def test_smaller_choices_lie_within_larger_ones(seed: int) -> None:
    chosen = [set(take_patients(PATIENTS, count, seed)) for count in (4, 8, 16, 40)]
    assert [len(names) for names in chosen] == [4, 8, 16, 40]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3] == set(PATIENTS)


def test_a_choice_depends_on_the_seed_alone() -> None:
    assert take_patients(shuffled(PATIENTS), 8, 1) == take_patients(PATIENTS, 8, 1)
    assert take_patients(PATIENTS, 8, 1) != take_patients(PATIENTS, 8, 2)


def test_a_choice_is_no_second_validation_set() -> None:
    # If both used one order, the patients chosen first would always be those that another split keeps away.
    assert take_patients(PATIENTS, 8) != split_patients(PATIENTS, "fraction 0.2").validation


@pytest.mark.parametrize(
    ("amount", "count"), [(8, 8), ("8", 8), (0.1, 4), ("0.1", 4), (1.0, 40), ("1.0", 40), ("1", 1)]
)
def test_an_amount_is_a_count_or_a_share(amount: float | str, count: int) -> None:
    chosen = take_patients(PATIENTS, amount)
    assert len(chosen) == count
    assert list(chosen) == sorted(set(chosen))


def test_an_amount_may_be_a_list(tmp_path: Path) -> None:
    path = tmp_path / "few.txt"
    path.write_text("patient030\npatient002\n", encoding="utf-8")
    assert take_patients(PATIENTS, path) == take_patients(PATIENTS, str(path)) == ("patient002", "patient030")


@pytest.mark.parametrize("amount", [0, -1, 41, "41", 0.0, 1.5, "2.5", "nan", "some.txt"])
def test_an_impossible_amount_is_refused(amount: float | str) -> None:
    with pytest.raises(CardiacError, match="patients"):
        take_patients(PATIENTS, amount)
