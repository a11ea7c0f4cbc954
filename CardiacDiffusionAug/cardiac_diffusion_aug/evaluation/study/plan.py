"""What a study consists of: its fractions of the patients, its arms, and its units with what each of them needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ...errors import CardiacError, shown
from ...parts import parse_part
from .variants import Variant

PLAIN, TRADITIONAL, SYNTHETIC, BOTH = "plain", "traditional", "synthetic", "both"
ARMS = {
    PLAIN: "real, no augmentation",
    TRADITIONAL: "real, strong augmentation",
    SYNTHETIC: "made only, strong augmentation",
    BOTH: "real and made, strong augmentation",
}
WITH_MADE = (SYNTHETIC, BOTH)

MASKS, IMAGES, GENERATOR, MADE, COPYING, QUALITY = "masks", "images", "generator", "made", "copying", "quality"
UNET, SCORES, FURTHER = "unet", "scores", "further"
KINDS = {
    MASKS: "training of the mask network",
    IMAGES: "training of the image network",
    GENERATOR: "generator",
    MADE: "made slices",
    COPYING: "copying test",
    QUALITY: "quality of made slices",
    UNET: "U-Nets",
    SCORES: "scores",
    FURTHER: "scores on further data",
}
VARIANTS = "variants"
FILTER_SEED = 0
"""Of the U-Net of the traditional arm that looks for the masks in made images."""


@dataclass(frozen=True)
class Fraction:
    """Some of the training patients, to whom everything of this fraction is confined.

    Attributes:
        train: patients whom generators and U-Nets learn from, sorted.
        select: patients by whom the best snapshot is chosen, sorted; nobody where the last one counts.
        slices: of the training patients, those that show a heart.
        whole: whether these are all training patients there are.
    """

    train: tuple[str, ...]
    select: tuple[str, ...]
    slices: int
    whole: bool = False

    @property
    def count(self) -> int:
        """Number of patients."""
        return len(self.train) + len(self.select)

    @property
    def patients(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.train + self.select)

    @property
    def folder(self) -> str:
        """Of all that belongs to it, in the study's folder."""
        return f"patients-{self.count:03d}"

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.count} patient{'s' * (self.count != 1)}"


@dataclass(frozen=True)
class Unit:
    """A step of the study with a folder of its own, in which `result.json` appears once it is done.

    Attributes:
        key: folder within the study's.
        kind: one of `KINDS`.
        fraction: whom it is confined to.
        arm, seed: of the U-Net, where it belongs to one.
        needs: keys of the units that come before it.
        group: units of one group belong to the same part of a job array, since they wait for each other.
        amount: of work, to be compared within a kind.
        variant: of the arm with both, where it belongs to one.
    """

    key: str
    kind: str
    fraction: Fraction
    arm: str = ""
    seed: int = 0
    needs: tuple[str, ...] = ()
    group: str = ""
    amount: float = 1.0
    variant: Variant | None = None

    @property
    def name(self) -> str:
        """In words."""
        cell = f", {self.arm} arm, seed {self.seed}" if self.arm else ""
        change = "" if self.variant is None else f", {self.variant.text}"
        return f"{self.fraction.name}{change}{cell}, {KINDS[self.kind]}"


def study_units(
    fractions: Sequence[Fraction],
    seeds: Sequence[int],
    made_per_real: float,
    trains_generators: bool = True,
    filters: bool = True,
    further: bool = False,
    by_slices: Collection[str] = (),
) -> list[Unit]:
    """All units of a study; each comes after what it needs.

    Args:
        fractions: smallest first.
        seeds: of the U-Nets.
        made_per_real: made slices for each real one.
        trains_generators: whether the study trains them itself.
        filters: whether the U-Net of the traditional arm and seed 0 looks through what is made.
        further: whether the U-Nets are scored on further data too.
        by_slices: which of the networks of a generator are trained the longer the more slices there are.
    """
    units: list[Unit] = []
    for fraction in fractions:
        home = fraction.folder
        filtering = cell_key(fraction, TRADITIONAL, FILTER_SEED, UNET)
        needs: tuple[str, ...] = ()
        if trains_generators:
            needs = (f"{home}/{MASKS}", f"{home}/{IMAGES}")
            for kind, key in zip((MASKS, IMAGES), needs, strict=True):
                amount = float(fraction.slices) if kind in by_slices else 1.0
                units.append(Unit(key, kind, fraction, group=home, amount=amount))
        units.append(Unit(f"{home}/{GENERATOR}", GENERATOR, fraction, needs=needs, group=home))
        if filters and FILTER_SEED not in seeds:
            units.append(Unit(filtering, UNET, fraction, TRADITIONAL, FILTER_SEED, group=home))
        for seed in seeds:
            for arm in (PLAIN, TRADITIONAL):
                group = home if filters and (arm, seed) == (TRADITIONAL, FILTER_SEED) else ""
                units += cell_units(fraction, arm, seed, (), further, group)
        made = f"{home}/{MADE}"
        needs = (f"{home}/{GENERATOR}", *([filtering] if filters else []))
        amount = made_count(fraction, made_per_real)
        units.append(Unit(made, MADE, fraction, needs=needs, group=home, amount=amount))
        units.append(Unit(f"{home}/{COPYING}", COPYING, fraction, needs=(made,), group=home, amount=amount))
        for seed in seeds:
            for arm in WITH_MADE:
                units += cell_units(fraction, arm, seed, (made,), further)
    return units


def cell_units(
    fraction: Fraction,
    arm: str,
    seed: int,
    needs: tuple[str, ...],
    further: bool,
    group: str = "",
    variant: Variant | None = None,
) -> Iterator[Unit]:
    """Training of a U-Net and its scores; a group of their own unless one is named."""
    first = cell_key(fraction, arm, seed, UNET, variant)
    group = group or first
    yield Unit(first, UNET, fraction, arm, seed, needs, group, variant=variant)
    for kind in (SCORES, FURTHER) if further else (SCORES,):
        key = cell_key(fraction, arm, seed, kind, variant)
        yield Unit(key, kind, fraction, arm, seed, (first,), group, variant=variant)


def cell_key(fraction: Fraction, arm: str, seed: int, kind: str, variant: Variant | None = None) -> str:
    """Key of one of these units."""
    within = "" if variant is None else f"{VARIANTS}/{variant.folder}/"
    return f"{fraction.folder}/{within}{arm}-{seed}/{kind}"


def made_count(fraction: Fraction, made_per_real: float) -> int:
    """How many slices are made for a fraction."""
    return max(1, round(made_per_real * fraction.slices))


def of_part(units: Sequence[Unit], part: str) -> set[str]:
    """Keys of the units that belong to a part such as `2/4`: every fourth group from the second on.

    Raises:
        CardiacError: the part is not understood.
    """
    groups = list(dict.fromkeys(unit.group for unit in units))
    own = {groups[number] for number in parse_part(part).of(len(groups))}
    return {unit.key for unit in units if unit.group in own}


def numbers(text: str, option: str, example: str) -> list[int]:
    """Whole numbers that a text lists, each once and in order.

    Raises:
        CardiacError: it does not.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words):
        raise CardiacError(f"{option} is {shown(text)}, but must list whole numbers, such as {example}.")
    return sorted({int(word) for word in words})
