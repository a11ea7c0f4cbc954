"""How near a synthetic set lies to the real one in a feature space, beside how near two halves of the real set lie.

All measures depend on the number of rows, and real patients differ too. So each figure stands beside the same
measure, at the same number of rows, of two halves of the real set that share no patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from ..errors import CardiacError
from .statistics import FloatArray, Halves, bootstrap_interval, patient_halves

NEIGHBOURS = 5
SHARES = ("precision", "recall", "density", "coverage")
"""Measures that count rows. More is better up to the reference, which precision and density exceed in a set that is
less varied than the real one; of the two distances less is better."""


@dataclass(frozen=True)
class Comparison:
    """One measure of a synthetic set beside its reference, as means over random halvings of the real set.

    Both intervals are of 95 %, from a bootstrap over the halvings. They cover the chance of the split and of the draw,
    not the larger one of having met other patients.

    Attributes:
        value: of a half of the real set and the synthetic set.
        interval: of `value`.
        reference: of that half and the other half of the real set.
        ratio: of `value` to `reference`; 1 is as other real patients score.
        ratio_interval: of `ratio`.
    """

    value: float
    interval: tuple[float, float]
    reference: float
    ratio: float
    ratio_interval: tuple[float, float]


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets of features (Heusel et al., NeurIPS 2017).

    The trace of the square root of the product of the covariances is the sum of the singular values of the product of
    the centred features, which is exact and stable where there are fewer rows than features.

    The estimate is too large by an amount that falls with N / D and grows with the spread of the sets. Unless there are
    several times more rows than features, a set of too little variety may therefore seem nearer than a real one; the
    kernel distance has no such bias.

    Args:
        a: (N, D) features.
        b: (M, D) features.

    Returns:
        A number from 0.

    Raises:
        CardiacError: the features are not two matrices of one width, hold NaN, or have fewer than two rows.
    """
    a, b = _checked_pair(a, b, rows=2)
    roots = [_root_of_covariance(x) for x in (a, b)]
    spread = sum(float((root**2).sum()) for root in roots)
    overlap = float(linalg.svdvals(roots[0] @ roots[1].T, overwrite_a=True, check_finite=False).sum())
    offset = float(((a.mean(0) - b.mean(0)) ** 2).sum())
    # Rounding could leave the distance of a set to itself a little below 0.
    return max(offset + spread - 2 * overlap, 0.0)


def kernel_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Kernel inception distance: unbiased squared MMD with the kernel (x.y / D + 1)^3 (Binkowski et al., ICLR 2018).

    Args:
        a: (N, D) features.
        b: (M, D) features.

    Returns:
        A number that is 0 on average where both sets are of one distribution, so below 0 half the time.

    Raises:
        CardiacError: the features are not two matrices of one width, hold NaN, or have fewer than two rows.
    """
    a, b = _checked_pair(a, b, rows=2)
    return _mean_of_others(_kernel(a, a)) + _mean_of_others(_kernel(b, b)) - 2 * float(_kernel(a, b).mean())


def precision_recall_density_coverage(
    real: npt.ArrayLike, synthetic: npt.ArrayLike, neighbours: int = NEIGHBOURS
) -> dict[str, float]:
    """Shares of rows that lie within the balls around another set's rows; each ball reaches to a nearest neighbour.

    Precision is the share of synthetic rows within a real ball, and recall that of real rows within a synthetic one
    (Kynkaanniemi et al., NeurIPS 2019). Density counts the real balls around a synthetic row, over `neighbours`, and
    coverage is the share of real balls that hold a synthetic row (Naeem et al., ICML 2020).

    Args:
        real: (N, D) features.
        synthetic: (M, D) features.
        neighbours: the radius is the distance to the one of this rank in the same set, the row itself not counted.

    Returns:
        `precision`, `recall` and `coverage` in 0..1, and `density` from 0, about 1 for equal sets.

    Raises:
        CardiacError: the features are not two matrices of one width, hold NaN, or have no more rows than neighbours.
    """
    a, b = _checked_pair(real, synthetic, neighbours + 1, ("real", "synthetic"))
    # Distances come from products, which lose digits far from the origin.
    a, b = a - a.mean(0), b - a.mean(0)
    real_radius, synthetic_radius = (
        np.partition(_squared_distances(x, x), neighbours, axis=1)[:, neighbours] for x in (a, b)
    )
    distance = _squared_distances(a, b)
    in_real_ball = distance <= real_radius[:, None]
    return {
        "precision": float(in_real_ball.any(0).mean()),
        "recall": float((distance <= synthetic_radius).any(1).mean()),
        "density": float(in_real_ball.sum(0).mean() / neighbours),
        "coverage": float(in_real_ball.any(1).mean()),
    }


def compare(
    real: npt.ArrayLike, patients: npt.ArrayLike, synthetic: npt.ArrayLike, seed: int = 0, repeats: int = 20
) -> dict[str, Comparison]:
    """All measures of a synthetic set, each beside that of two halves of the real set at the same number of rows.

    Features are first standardized by the mean and standard deviation of the real set, so that none outweighs the
    others by its unit; one that is constant there is only centred. Each repeat then splits the patients into halves A
    and B, and draws n rows of A, of B and of the synthetic set: `value` is of A and the synthetic rows, `reference` of
    A and B. Over all repeats n is the size of the smallest half, or of the synthetic set if that is smaller.

    The ratio is that of the means over repeats. Its denominator has a floor, as the kernel distance of two halves
    averages exactly 0 over all splits where slices of a patient are no more alike than those of two patients: for the
    distances, the reference's standard error over the repeats, below which it is not told from 0; for the shares, one
    row in n. With the floor the ratio keeps its sign, and errs towards 0.

    Args:
        real: (N, D) features of real slices.
        patients: (N,) patient of each real slice.
        synthetic: (M, D) features of synthetic slices.
        seed: of splits and draws.
        repeats: number of halvings, at least 2.

    Returns:
        `frechet`, `kernel`, `precision`, `recall`, `density` and `coverage`.

    Raises:
        CardiacError: features are unusable or all constant, patients are fewer than two or not one for each row, or a
            half or the synthetic set has too few rows, or there are fewer than two repeats.
    """
    if repeats < 2:
        raise CardiacError(f"{repeats} halving(s) of the real set are no measure of chance; ask for at least two.")
    real, synthetic = _checked_pair(real, synthetic, NEIGHBOURS + 1, ("real", "synthetic"))
    names = np.asarray(patients)
    if names.shape != (len(real),):
        raise CardiacError(f"{len(real)} real rows have {names.size} patients; name one patient for each row.")
    real, synthetic = _standardized(real, synthetic)
    halves = patient_halves(names, repeats, seed)
    rows = min(len(synthetic), *(len(half) for pair in halves for half in pair))
    if rows <= NEIGHBOURS:
        raise CardiacError(
            f"A half of the real patients has only {rows} slices, and at least {NEIGHBOURS + 1} are needed; "
            "give more real patients."
        )
    random = np.random.default_rng([seed, repeats])
    found = [_one_repeat(real, pair, synthetic, rows, random) for pair in halves]
    return {name: _summary([pair[name] for pair in found], name, rows, seed) for name in found[0]}


def _one_repeat(
    real: FloatArray, halves: Halves, synthetic: FloatArray, rows: int, random: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Value and reference of each measure for one halving."""
    first, second = (real[random.choice(half, rows, replace=False)] for half in halves)
    drawn = synthetic[random.choice(len(synthetic), rows, replace=False)]
    value, reference = _measures(first, drawn), _measures(first, second)
    return {name: (value[name], reference[name]) for name in value}


def _measures(real: FloatArray, other: FloatArray) -> dict[str, float]:
    return {
        "frechet": frechet_distance(real, other),
        "kernel": kernel_distance(real, other),
        **precision_recall_density_coverage(real, other),
    }


def _summary(pairs: list[tuple[float, float]], name: str, rows: int, seed: int) -> Comparison:
    table = np.array(pairs)
    value, reference = table.mean(0)
    floor = 1 / rows if name in SHARES else float(table[:, 1].std(ddof=1) / np.sqrt(len(table)))
    # Halves that are copies of each other leave a floor of 0.
    floor = max(floor, float(np.finfo(np.float64).eps))

    def ratio(sample: FloatArray) -> float:
        return float(sample[:, 0].mean() / max(sample[:, 1].mean(), floor))

    return Comparison(
        value=float(value),
        interval=bootstrap_interval(table[:, 0], seed=seed),
        reference=float(reference),
        ratio=ratio(table),
        ratio_interval=bootstrap_interval(table, statistic=ratio, seed=seed),
    )


def _checked_pair(
    a: npt.ArrayLike, b: npt.ArrayLike, rows: int, names: tuple[str, str] = ("first", "second")
) -> tuple[FloatArray, FloatArray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise CardiacError(
            f"Features of the shapes {a.shape} and {b.shape} cannot be compared; give two matrices of one width."
        )
    for name, features in zip(names, (a, b), strict=True):
        if len(features) < rows:
            raise CardiacError(f"The {name} set has {len(features)} slices; give it at least {rows}.")
        if not np.isfinite(features).all():
            raise CardiacError(f"Features of the {name} set hold NaN or infinity; leave those slices out.")
    return a, b


def _standardized(real: FloatArray, synthetic: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean, deviation = real.mean(0), real.std(0)
    # Of a constant feature, rounding of its mean may leave a deviation that is not quite 0.
    constant = deviation <= 1e-12 * (1 + np.abs(mean))
    if constant.all():
        raise CardiacError("All real slices have the same features; check the network and the images they come from.")
    deviation = np.where(constant, 1.0, deviation)
    return (real - mean) / deviation, (synthetic - mean) / deviation


def _root_of_covariance(features: FloatArray) -> FloatArray:
    """R with R'R the covariance of features (N, D), of no more than D rows."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    rows, width = centred.shape
    return np.asarray(np.linalg.qr(centred, mode="r")) if rows > width else centred


def _kernel(a: FloatArray, b: FloatArray) -> FloatArray:
    product = a @ b.T / a.shape[1] + 1
    # Far faster than a power.
    return np.asarray(product * product * product)


def _mean_of_others(kernel: FloatArray) -> float:
    """Mean of a kernel matrix (N, N) off its diagonal."""
    rows = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (rows * (rows - 1)))


def _squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    distance = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T)
    return np.asarray(np.maximum(distance, 0, out=distance))
