"""Halves by patient, and bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.evaluation.statistics import bootstrap_interval, patient_halves

PATIENTS = np.repeat([f"patient{number:03d}" for number in range(9)], [3, 8, 1, 5, 6, 2, 9, 4, 7])


def mean_half_width(values: np.ndarray, groups: np.ndarray | None = None, level: float = 0.95) -> float:
    low, high = bootstrap_interval(values, groups, count=400, level=level)
    return (high - low) / 2


# Halves


def test_halves_never_split_a_patient_and_lose_no_row() -> None:
    mixed = np.random.default_rng(0).permutation(PATIENTS)
    for first, second in patient_halves(mixed, 30, seed=1):
        assert not set(mixed[first]) & set(mixed[second])
        assert len(set(mixed[first])) == 4
        np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(len(mixed)))


def test_each_patient_is_met_in_either_half() -> None:
    met = [set(PATIENTS[first]) for first, _ in patient_halves(PATIENTS, 60)]
    for patient in set(PATIENTS):
        assert 5 < sum(patient in half for half in met) < 50


def test_one_seed_gives_the_same_halves_and_another_gives_others() -> None:
    a, b, c = ([first.tolist() for first, _ in patient_halves(PATIENTS, 5, seed)] for seed in (3, 3, 4))
    assert a == b != c


@pytest.mark.parametrize("patients", [[], ["patient001"] * 7])
def test_fewer_than_two_patients_cannot_be_halved(patients: list[str]) -> None:
    with pytest.raises(CardiacError, match="at least two") as caught:
        patient_halves(np.array(patients, np.str_), 1)
    assert caught.value.code == "bad_input"


# Bootstrap


@pytest.mark.parametrize(("level", "deviations"), [(0.95, 1.96), (0.5, 0.674)])
def test_an_interval_of_a_mean_is_that_of_a_normal_distribution(level: float, deviations: float) -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    expected = deviations * values.std() / np.sqrt(len(values))
    assert mean_half_width(values, level=level) == pytest.approx(expected, rel=0.15)
    low, high = bootstrap_interval(values, level=level)
    assert low < values.mean() < high


def test_equal_slices_of_a_patient_count_as_one() -> None:
    per_patient = np.random.default_rng(1).normal(size=100)
    values, groups = np.repeat(per_patient, 16), np.repeat(np.arange(100), 16)
    by_patient, by_slice = mean_half_width(values, groups), mean_half_width(values)
    assert by_patient == pytest.approx(mean_half_width(per_patient), rel=0.15)
    # Sixteen copies of each would seem to be a fourth of the error.
    assert by_slice == pytest.approx(by_patient / 4, rel=0.2)


def test_patients_are_drawn_whole_whatever_their_order() -> None:
    groups = np.array([0, 1, 0, 1, 1])
    values = np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    seen = set()

    def count_of(sample: np.ndarray) -> float:
        seen.add((len(sample), float(sample.sum())))
        return 0.0

    bootstrap_interval(values, groups, count_of, count=100)
    assert seen == {(4, 0.0), (5, 3.0), (6, 6.0)}


def test_rows_of_pairs_stay_pairs() -> None:
    first = np.random.default_rng(2).uniform(1, 2, 50)
    table = np.stack([3 * first, first], 1)
    low, high = bootstrap_interval(table, statistic=lambda rows: rows[:, 0].mean() / rows[:, 1].mean())
    assert low == pytest.approx(3)
    assert high == pytest.approx(3)


def test_one_seed_gives_the_same_interval() -> None:
    values = np.arange(20.0)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1) != bootstrap_interval(values)


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([], None, r"0 value\(s\)"),
        ([1.0], None, r"1 value\(s\)"),
        ([1.0, 2.0], ["a", "a"], r"1 patient\(s\)"),
        ([1.0, 2.0], ["a"], "one patient for each value"),
        ([1.0, np.nan], None, "NaN"),
    ],
)
def test_what_has_no_interval_is_refused(values: list[float], groups: list[str] | None, message: str) -> None:
    with pytest.raises(CardiacError, match=message):
        bootstrap_interval(values, groups)
