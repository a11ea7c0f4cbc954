"""Distances and shares of feature sets with known answers."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest
from scipy import linalg

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.evaluation.fidelity import (
    SHARES,
    compare,
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
)

Array = npt.NDArray[np.float64]
MEASURES = ("frechet", "kernel", *SHARES)


def exact_sample(rows: int, mean: Array, covariance: Array, seed: int = 0) -> Array:
    """Rows whose own mean and covariance are exactly these."""
    raw = np.random.default_rng(seed).normal(size=(rows, len(mean)))
    centred = raw - raw.mean(0)
    white = np.linalg.qr(centred)[0] * np.sqrt(rows - 1)
    return white @ linalg.sqrtm(covariance).real + mean


def random_covariance(width: int, seed: int) -> Array:
    factor = np.random.default_rng(seed).normal(size=(width, width))
    return factor @ factor.T / width + 0.1 * np.eye(width)


def cohort(patients: int, seed: int, slices: int = 8, width: int = 6, spread: float = 1.0) -> tuple[Array, Array]:
    """Features of patients whose slices are alike, and the patient of each."""
    random = np.random.default_rng(seed)
    own = random.normal(size=(patients, 1, width))
    rows = spread * (own + random.normal(size=(patients, slices, width)))
    return rows.reshape(-1, width), np.repeat(np.arange(patients), slices)


# Frechet distance


@pytest.mark.parametrize("rows", [40, 200])
def test_gaussians_along_the_axes_have_the_known_distance(rows: int) -> None:
    deviations, others = np.array([1.0, 2.0, 0.5]), np.array([2.0, 2.0, 1.5])
    a = exact_sample(rows, np.array([0.0, 1.0, 2.0]), np.diag(deviations**2), seed=1)
    b = exact_sample(rows + 7, np.array([3.0, 1.0, -2.0]), np.diag(others**2), seed=2)
    assert frechet_distance(a, b) == pytest.approx(9 + 16 + ((deviations - others) ** 2).sum())


def test_gaussians_in_any_direction_have_the_distance_of_the_formula() -> None:
    first, second = random_covariance(12, 1), random_covariance(12, 2)
    a, b = exact_sample(60, np.zeros(12), first, seed=3), exact_sample(50, np.ones(12), second, seed=4)
    expected = 12 + np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_fewer_rows_than_features_change_nothing() -> None:
    # Features of a subspace of 4 dimensions, turned into 300: the covariances are singular, the distance is not.
    turned = np.linalg.qr(np.random.default_rng(5).normal(size=(300, 300)))[0][:4]
    a = exact_sample(20, np.zeros(4), random_covariance(4, 6), seed=7)
    b = exact_sample(25, np.ones(4), random_covariance(4, 8), seed=9)
    assert frechet_distance(a @ turned, b @ turned) == pytest.approx(frechet_distance(a, b))


@pytest.mark.parametrize(("rows", "width"), [(50, 5), (20, 100)])
def test_a_set_is_at_no_distance_from_itself(rows: int, width: int) -> None:
    features = np.random.default_rng(0).normal(3, 2, (rows, width))
    assert 0 <= frechet_distance(features, features[::-1]) < 1e-9


# Kernel distance


def test_the_kernel_distance_of_two_pairs_is_that_by_hand() -> None:
    # k(0, 1) + k(0, 2) - 2 (k(0, 0) + k(0, 2) + k(1, 0) + k(1, 2)) / 4 = 1 + 1 - 2 * 30 / 4
    assert kernel_distance([[0.0], [1.0]], [[0.0], [2.0]]) == pytest.approx(-13)


def test_the_kernel_distance_is_0_on_average_for_one_distribution_alone() -> None:
    random = np.random.default_rng(0)
    same = [kernel_distance(*random.normal(size=(2, 15, 4))) for _ in range(300)]
    error = np.std(same) / np.sqrt(len(same))
    assert abs(np.mean(same)) < 3 * error
    shifted = [kernel_distance(random.normal(size=(15, 4)), random.normal(1, 1, (15, 4))) for _ in range(100)]
    # The mean over x, y of (x.y / 4 + 1)^3 is known from the moments of x.y; this is the exact answer.
    assert np.mean(shifted) == pytest.approx(expected_kernel_distance(1.0, 4), rel=0.15)


def expected_kernel_distance(shift: float, width: int) -> float:
    """Squared MMD of N(0, I) and N(shift, I)."""

    def kernel(first: float, second: float) -> float:
        x, y = (mean + np.sqrt(2) * np.polynomial.hermite.hermgauss(4)[0] for mean in (first, second))
        weights = np.polynomial.hermite.hermgauss(4)[1] / np.sqrt(np.pi)
        table = np.outer(x, y)
        moments = [float(weights @ table**power @ weights) for power in (1, 2, 3)]
        m1, m2, m3 = moments
        n = width
        second_moment = n * m2 + n * (n - 1) * m1**2
        third_moment = n * m3 + 3 * n * (n - 1) * m2 * m1 + n * (n - 1) * (n - 2) * m1**3
        return third_moment / n**3 + 3 * second_moment / n**2 + 3 * m1 + 1

    return kernel(0, 0) + kernel(shift, shift) - 2 * kernel(0, shift)


# Precision, recall, density and coverage


def test_shares_on_a_line_are_those_by_hand() -> None:
    real, synthetic = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([[0.5], [10.0], [20.0], [31.0]])
    found = precision_recall_density_coverage(real, synthetic, neighbours=1)
    # Only 0.5 is in balls, those of 0 and 1; its own ball reaches to 10 and so holds all real rows.
    assert found == {"precision": 0.25, "recall": 1.0, "density": 0.5, "coverage": 0.5}


def test_equal_sets_score_1() -> None:
    features = np.random.default_rng(0).normal(size=(200, 5))
    found = precision_recall_density_coverage(features, features)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["density"] == pytest.approx(1.2)  # a row is also in its own ball: 6 rows in each, over 5


def test_a_dropped_mode_costs_recall_and_coverage_alone() -> None:
    random = np.random.default_rng(1)
    left, right = random.normal(-20, 1, (300, 3)), random.normal(20, 1, (300, 3))
    found = precision_recall_density_coverage(np.concatenate([left, right]), random.normal(-20, 1, (600, 3)))
    assert found["precision"] > 0.9
    assert 0.4 < found["recall"] < 0.5
    assert 0.4 < found["coverage"] <= 0.5


def test_noise_far_away_is_neither_precise_nor_covering() -> None:
    random = np.random.default_rng(2)
    found = precision_recall_density_coverage(random.normal(size=(200, 8)), random.normal(50, 1, (200, 8)))
    assert found == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_shares_do_not_depend_on_where_the_origin_lies() -> None:
    random = np.random.default_rng(3)
    real, synthetic = random.normal(size=(80, 4)), random.normal(0.5, 1, (60, 4))
    near, far = (precision_recall_density_coverage(real + offset, synthetic + offset) for offset in (0, 1e8))
    assert near == pytest.approx(far, abs=0.01)


# Comparison


def test_other_patients_of_the_same_kind_are_as_good_as_real() -> None:
    real, patients = cohort(40, 1)
    found = compare(real, patients, cohort(60, 2)[0])
    assert set(found) == set(MEASURES)
    for name in ("frechet", *SHARES):
        assert found[name].ratio == pytest.approx(1, abs=0.25)
    for one in found.values():
        assert one.interval[0] < one.value < one.interval[1]
        assert one.ratio_interval[0] < one.ratio < one.ratio_interval[1]


@pytest.mark.parametrize(
    ("change", "worse"),
    [
        (lambda rows: rows + 3, ("frechet", "kernel", "precision", "recall", "density", "coverage")),
        (lambda rows: 0.2 * rows, ("frechet", "kernel", "recall")),
        (lambda rows: 4 * rows, ("frechet", "kernel", "precision", "density", "coverage")),
    ],
    ids=["shifted", "too alike", "too varied"],
)
def test_a_flaw_shows_in_the_measures_it_concerns(change: object, worse: tuple[str, ...]) -> None:
    assert callable(change)
    real, patients = cohort(40, 3)
    found = compare(real, patients, change(cohort(40, 4)[0]))
    for name in worse:
        low, high = found[name].ratio_interval
        assert (high < 0.8) if name in SHARES else (low > 1.5), name


def test_the_reference_is_of_patients_not_of_slices() -> None:
    real, patients = cohort(30, 5)
    by_patient = compare(real, patients, real)
    by_slice = compare(real, np.arange(len(real)), real)
    assert by_patient["kernel"].reference > 3 * abs(by_slice["kernel"].reference)
    assert by_patient["frechet"].reference > 1.2 * by_slice["frechet"].reference


def test_more_synthetic_slices_do_not_make_a_set_better() -> None:
    real, patients = cohort(30, 6)
    synthetic, _ = cohort(200, 7)
    few, many = (compare(real, patients, synthetic[:: len(synthetic) // count]) for count in (160, 1600))
    # The Frechet distance of all 1600 would be well below that of 160.
    for name in ("frechet", *SHARES):
        assert many[name].ratio == pytest.approx(few[name].ratio, rel=0.15)
        assert many[name].reference == few[name].reference


def test_few_synthetic_slices_are_compared_with_as_few_real_ones() -> None:
    real, patients = cohort(30, 8)
    synthetic, _ = cohort(3, 9)
    found = compare(real, patients, synthetic)
    assert found["frechet"].reference > 1.5 * compare(real, patients, cohort(30, 9)[0])["frechet"].reference
    assert found["frechet"].ratio < 2.5


def test_a_reference_about_0_leaves_the_ratio_its_sign_and_size() -> None:
    random = np.random.default_rng(10)
    negative = 0
    for seed in range(6):
        # Where slices of a patient are no more alike than any, the halves' kernel distance averages 0.
        real = random.normal(size=(60, 3))
        found = compare(real, np.arange(60), random.normal(1, 1, (60, 3)), seed=seed)["kernel"]
        negative += found.reference < 0
        assert found.value > 0
        assert 1 < found.ratio < np.inf
        assert 0 < found.ratio_interval[0] <= found.ratio <= found.ratio_interval[1]
    assert negative > 0


def test_units_of_features_do_not_matter() -> None:
    real, patients = cohort(20, 11)
    synthetic, _ = cohort(20, 12)
    units, offsets = np.array([1.0, 1e-3, 1e3, 5.0, 0.2, 40.0]), np.arange(6.0) * 100
    plain, scaled = (compare(real * u + o, patients, synthetic * u + o) for u, o in ((1, 0), (units, offsets)))
    for name in MEASURES:
        assert scaled[name].value == pytest.approx(plain[name].value, rel=1e-4)


def test_a_constant_feature_adds_nothing_where_it_is_the_same() -> None:
    real, patients = cohort(20, 13)
    synthetic, _ = cohort(20, 14)
    with_constant = compare(np.c_[real, np.full(160, 0.1)], patients, np.c_[synthetic, np.full(160, 0.1)])
    assert with_constant["frechet"].value == pytest.approx(compare(real, patients, synthetic)["frechet"].value)


def test_one_seed_gives_the_same_figures() -> None:
    real, patients = cohort(12, 15)
    assert compare(real, patients, real, seed=1) == compare(real, patients, real, seed=1)
    assert compare(real, patients, real, seed=1) != compare(real, patients, real, seed=2)


def test_it_is_fast_enough_to_follow_a_training() -> None:
    random = np.random.default_rng(16)
    real, synthetic = random.normal(size=(2, 1000, 256))
    start = time.process_time()
    compare(real, np.repeat(np.arange(100), 10), synthetic, repeats=4)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("patients", "synthetic", "message"),
    [
        (np.zeros(160), np.zeros((20, 6)), "at least two"),
        (np.arange(159), np.zeros((20, 6)), "one patient for each row"),
        (np.repeat([0, 1], [157, 3]), np.zeros((20, 6)), "more real patients"),
        (np.arange(160), np.zeros((5, 6)), "synthetic set has 5 slices"),
        (np.arange(160), np.zeros((20, 5)), "one width"),
        (np.arange(160), np.full((20, 6), np.nan), "synthetic set hold NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(patients: Array, synthetic: Array, message: str) -> None:
    with pytest.raises(CardiacError, match=message):
        compare(cohort(20, 17)[0], patients, synthetic)


def test_real_features_must_be_finite_and_varied() -> None:
    with pytest.raises(CardiacError, match="real set hold NaN"):
        compare(np.full((20, 2), np.inf), np.arange(20), np.zeros((20, 2)))
    with pytest.raises(CardiacError, match="same features"):
        compare(np.full((20, 2), 0.1), np.arange(20), np.zeros((20, 2)))
    with pytest.raises(CardiacError, match="two"):
        compare(*cohort(20, 18), np.zeros((20, 6)), repeats=1)


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance, precision_recall_density_coverage])
@pytest.mark.parametrize("features", [np.zeros(8), np.zeros((1, 3)), np.full((8, 3), np.nan)])
def test_each_measure_checks_its_features(measure: object, features: Array) -> None:
    assert callable(measure)
    with pytest.raises(CardiacError):
        measure(np.zeros((8, 3)), features)
