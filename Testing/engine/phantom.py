"""An analytic short-axis phantom: hearts of known shape, and a data set of them in ACDC's layout.

It stands in for patients where no patient data are at hand. All sizes are in mm, positions are (row, column)
from the centre of the slice, and slices run from the base to the apex, as in ACDC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from cardiac_diffusion_aug.attributes import GROUPS
from cardiac_diffusion_aug.labels import ACDC_ORDER, LV, MYO, RV, remap

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Vector = tuple[float, float]

# Signal of bright-blood cine MR; blood is near the top, since fat reaches it too.
AIR, LUNG, MUSCLE, LIVER, FAT = 0.0, 50.0, 230.0, 330.0, 820.0
MYOCARDIUM, RV_BLOOD, LV_BLOOD = 220.0, 640.0, 740.0
NOISE = 22.0

# What a disease does to (cavity radius, wall thickness, RV width), in ACDC's groups.
GROUP_FACTORS = {
    "NOR": (1.0, 1.0, 1.0),
    "MINF": (1.1, 0.85, 1.0),
    "DCM": (1.3, 0.85, 1.0),
    "HCM": (0.85, 1.6, 1.0),
    "RV": (0.95, 1.0, 1.5),
}
SYSTOLE_FACTORS = (0.68, 1.35, 0.8)

RV_WALL = 3.0
RV_END_LEVEL = 0.15
"""Slice level below which there is no RV: it is shorter than the LV."""


@dataclass(frozen=True)
class Anatomy:
    """One heart in its chest.

    Attributes:
        center: of the LV.
        cavity: radius of the LV cavity at the base.
        wall: thickness of the myocardium at the base.
        rv_width: width of the RV between septum and free wall at the base.
        rv_side: unit vector from the LV to the RV.
        chest: half axes of the body.
    """

    center: Vector
    cavity: float
    wall: float
    rv_width: float
    rv_side: Vector
    chest: Vector

    def scaled(self, factors: tuple[float, float, float]) -> Anatomy:
        """The heart with another cavity radius, wall thickness and RV width."""
        cavity, wall, rv_width = factors
        return replace(self, cavity=self.cavity * cavity, wall=self.wall * wall, rv_width=self.rv_width * rv_width)

    def radii_at(self, level: float) -> Vector:
        """Radii of the LV cavity and of the epicardium at a slice level, 0 at the apex to 1 at the base."""
        cavity = self.cavity * (0.35 + 0.65 * np.sqrt(level))
        return cavity, cavity + self.wall * (0.8 + 0.2 * level)

    def rv_disc_at(self, level: float) -> tuple[Vector, float] | None:
        """Centre and radius of the disc that, less the LV, is the RV; None towards the apex."""
        if level <= RV_END_LEVEL:
            return None
        epicardium = self.radii_at(level)[1]
        width = self.rv_width * ((level - RV_END_LEVEL) / (1 - RV_END_LEVEL)) ** 0.6
        distance, radius = width + 0.05 * epicardium, 0.95 * epicardium
        row, column = (c + distance * side for c, side in zip(self.center, self.rv_side, strict=True))
        return (row, column), radius


class Plane:
    """The pixels of a slice, and shapes on them."""

    def __init__(self, shape: tuple[int, int], spacing: Vector) -> None:
        """Take a shape (rows, columns) with the distances between rows and between columns."""
        rows, columns = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True))
        self.row, self.column = np.meshgrid(rows, columns, indexing="ij")

    def ellipse(self, center: Vector, half_axes: Vector) -> BoolArray:
        """Pixels within an upright ellipse."""
        return ((self.row - center[0]) / half_axes[0]) ** 2 + ((self.column - center[1]) / half_axes[1]) ** 2 <= 1

    def disc(self, center: Vector, radius: float) -> BoolArray:
        """Pixels within a circle."""
        return self.ellipse(center, (radius, radius))


def phantom_stack(
    slices: int = 8,
    shape: tuple[int, int] = (200, 216),
    spacing: tuple[float, float, float] = (1.4, 1.4, 8.0),
    phase: str = "ED",
    seed: int = 0,
    group: str = "NOR",
) -> tuple[sitk.Image, sitk.Image]:
    """One heart, base first.

    Args:
        slices: number of slices from base to apex.
        shape: (rows, columns) of a slice.
        spacing: (column, row, slice) in mm, as SimpleITK orders it.
        phase: `ED`, or `ES` for the same heart with a smaller cavity and a thicker wall.
        seed: chooses the heart; ED and ES of one seed differ in phase and noise alone.
        group: one of ACDC's groups, which shapes the heart.

    Returns:
        image: grey levels, int16, from 0 to about 1000.
        mask: labels in the order of `cardiac_diffusion_aug.labels`, uint8.
    """
    anatomy = _anatomy(seed).scaled(GROUP_FACTORS[group])
    if phase == "ES":
        anatomy = anatomy.scaled(SYSTOLE_FACTORS)
    plane = Plane(shape, (spacing[1], spacing[0]))
    levels = np.linspace(1, 0, slices) if slices > 1 else [0.5]
    labels = np.stack([_labels(plane, anatomy, level) for level in levels])
    tissue = np.stack([_tissue(plane, anatomy, level, mask) for level, mask in zip(levels, labels, strict=True)])
    signal = ndimage.gaussian_filter(tissue, (0, 0.6, 0.6)) * _coil_shading(plane)
    noisy = _add_rician_noise(signal, np.random.default_rng([seed, phase == "ES"]))
    return _as_image(np.rint(noisy).astype(np.int16), spacing), _as_image(labels, spacing)


def write_acdc(
    root: Path, patients: int = 3, slices: int = 8, shape: tuple[int, int] = (200, 216), seed: int = 0
) -> Path:
    """Phantoms as ACDC's training set lies on disk: patient001 and so on, ED and ES, the groups in turn.

    Returns:
        `root`, made if need be.
    """
    for index in range(patients):
        folder = root / f"patient{index + 1:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        group = GROUPS[index % len(GROUPS)]
        (folder / "Info.cfg").write_text(f"ED: 1\nES: 12\nGroup: {group}\nNbFrame: 30\n", encoding="utf-8")
        for phase, frame in (("ED", 1), ("ES", 12)):
            image, mask = phantom_stack(slices, shape, phase=phase, seed=seed + index, group=group)
            stem = folder / f"{folder.name}_frame{frame:02d}"
            sitk.WriteImage(image, f"{stem}.nii.gz")
            sitk.WriteImage(_in_acdc_order(mask), f"{stem}_gt.nii.gz")
    return root


def _anatomy(seed: int) -> Anatomy:
    random = np.random.default_rng(seed)
    # The RV lies towards the breastbone, at the left of the picture, and a little below.
    angle = np.deg2rad(random.uniform(5, 40))
    return Anatomy(
        center=(random.uniform(-12, 4), random.uniform(-12, 4)),
        cavity=random.uniform(21, 26),
        wall=random.uniform(7.5, 9.5),
        rv_width=random.uniform(21, 27),
        rv_side=(float(np.sin(angle)), float(-np.cos(angle))),
        chest=(random.uniform(115, 125), random.uniform(112, 122)),
    )


def _labels(plane: Plane, anatomy: Anatomy, level: float) -> npt.NDArray[np.uint8]:
    cavity, epicardium = anatomy.radii_at(level)
    labels = np.zeros(plane.row.shape, np.uint8)
    rv = anatomy.rv_disc_at(level)
    if rv is not None:
        labels[_largest_part(plane.disc(*rv) & ~plane.disc(anatomy.center, epicardium))] = RV
    labels[plane.disc(anatomy.center, epicardium)] = MYO
    labels[plane.disc(anatomy.center, cavity)] = LV
    return labels


def _largest_part(shape: BoolArray) -> BoolArray:
    """The shape without the pixels that its thin ends lose touch with."""
    parts, _ = ndimage.label(shape)
    return np.asarray(parts == np.bincount(parts[shape]).argmax())


def _tissue(plane: Plane, anatomy: Anatomy, level: float, labels: npt.NDArray[np.uint8]) -> Array:
    """Signal without noise, painted from the skin inwards."""
    tissue = _chest(plane, anatomy)
    cavity, epicardium = anatomy.radii_at(level)
    rv = anatomy.rv_disc_at(level)
    # Fat lies around the whole heart, and a thin wall around the RV.
    for margin, signal in ((RV_WALL + 4, FAT * 0.7), (RV_WALL, MUSCLE)):
        if rv is not None:
            tissue[plane.disc(rv[0], rv[1] + margin)] = signal
    tissue[plane.disc(anatomy.center, epicardium + 1.5) & (labels == 0) & (tissue == LUNG)] = FAT * 0.7
    for value, signal in ((RV, RV_BLOOD), (MYO, MYOCARDIUM), (LV, LV_BLOOD)):
        tissue[labels == value] = signal
    # Papillary muscles are dark, and count as cavity by the convention of the labels.
    if 0.2 < level < 0.8:
        for side in (-1.0, 1.0):
            muscle = (anatomy.center[0] + side * 0.5 * cavity, anatomy.center[1] + 0.45 * cavity)
            tissue[plane.disc(muscle, 0.16 * cavity)] = MYOCARDIUM
    return tissue


def _chest(plane: Plane, anatomy: Anatomy) -> Array:
    tissue = np.full(plane.row.shape, AIR)
    for inset, signal in ((0.0, MUSCLE), (2.0, FAT), (14.0, MUSCLE), (26.0, LUNG)):
        tissue[plane.ellipse((0, 0), (anatomy.chest[0] - inset, anatomy.chest[1] - inset))] = signal
    liver = plane.ellipse((anatomy.center[0] + 85, 10), (50, 75)) & (tissue == LUNG)
    tissue[liver] = LIVER
    return tissue


def _coil_shading(plane: Plane) -> Array:
    """Sensitivity of a coil on the breastbone: about 1.2 beside it, 0.7 at the back."""
    distance = np.hypot(plane.row + 20, plane.column + 120)
    return 0.6 + 0.6 / (1 + (distance / 120) ** 2)


def _add_rician_noise(signal: Array, random: np.random.Generator) -> Array:
    real, imaginary = random.normal(0, NOISE, (2, *signal.shape))
    return np.hypot(signal + real, imaginary)


def _as_image(array: npt.NDArray[np.generic], spacing: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    return image


def _in_acdc_order(mask: sitk.Image) -> sitk.Image:
    inverse = {own: value for value, own in ACDC_ORDER.items()}
    result = sitk.GetImageFromArray(remap(sitk.GetArrayFromImage(mask), inverse, "the phantom"))
    result.CopyInformation(mask)
    return result
