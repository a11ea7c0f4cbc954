"""The units of variants: which sets of slices they need, and which of these grow out of others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from .plan import (
    BOTH,
    FILTER_SEED,
    MADE,
    QUALITY,
    TRADITIONAL,
    UNET,
    VARIANTS,
    Fraction,
    Unit,
    cell_key,
    cell_units,
    made_count,
)
from .variants import Variant


def variant_units(
    fractions: Sequence[Fraction],
    variants: Sequence[Variant],
    seeds: Sequence[int],
    made_per_real: float,
    further: bool = False,
    known: Collection[str] = (),
) -> list[Unit]:
    """Units of variants of the arm with both, which come after those of the study itself.

    Slices that are made in another way are a set of their own, as large as the study's, whose quality is measured.
    Where more of a set are asked for, a copy of the next smaller one grows; where fewer are, the first of it count. So
    variants that differ in number and mixture alone share what is made.

    Args:
        fractions: of patients that they are tried with.
        variants: to try.
        seeds: of their U-Nets.
        made_per_real: of the study.
        further: whether the U-Nets are scored on further data too.
        known: keys of the study's own units.
    """
    units: list[Unit] = []
    for fraction in fractions if variants else ():
        usual = made_count(fraction, made_per_real)
        base = f"{fraction.folder}/{MADE}"
        units.append(_quality(fraction, base, fraction.folder, usual))
        for making in dict.fromkeys(variant.making for variant in variants):
            filtering = cell_key(fraction, TRADITIONAL, FILTER_SEED, UNET)
            needs = (base, filtering) if making.filter else (base,)
            if making.filter and filtering not in known and all(unit.key != filtering for unit in units):
                units.append(Unit(filtering, UNET, fraction, TRADITIONAL, FILTER_SEED, group=fraction.folder))
            alike = [variant for variant in variants if variant.making == making]
            units += _alike(fraction, making, alike, seeds, made_per_real, further, needs)
    return units


def _alike(
    fraction: Fraction,
    making: Variant,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    made_per_real: float,
    further: bool,
    needs: tuple[str, ...],
) -> Iterator[Unit]:
    """Units of variants whose slices are made in the same way.

    Args:
        fraction, seeds, made_per_real, further: as for all.
        making: the way.
        variants: of that way.
        needs: keys of the study's own set and of the U-Net that filters, where one does.
    """
    usual = made_count(fraction, made_per_real)
    last, group, counted = needs[0], "", usual
    if making != Variant():
        last = group = _set_key(fraction, making)
        yield Unit(last, MADE, fraction, needs=needs, group=group, amount=usual, variant=making)
        yield _quality(fraction, last, group, usual, making)
    sets = {usual: last}
    for ratio in sorted({variant.ratio for variant in variants if variant.ratio is not None}):
        count = made_count(fraction, ratio)
        if count > counted:
            larger = replace(making, ratio=ratio)
            key = _set_key(fraction, larger)
            amount = count - counted
            yield Unit(key, MADE, fraction, needs=(last,), group=group or key, amount=amount, variant=larger)
            last, counted, group = key, count, group or key
            sets[count] = key
    for variant in variants:
        count = max(usual, made_count(fraction, variant.ratio or made_per_real))
        # Cells that learn from the study's own set wait for nobody else, so that any part may take them.
        own = group if sets[count] != needs[0] else ""
        for seed in seeds:
            yield from cell_units(fraction, BOTH, seed, (sets[count],), further, own, variant)


def _set_key(fraction: Fraction, variant: Variant) -> str:
    return f"{fraction.folder}/{VARIANTS}/{variant.folder}/{MADE}"


def _quality(fraction: Fraction, made: str, group: str, amount: float, variant: Variant | None = None) -> Unit:
    key = f"{made.removesuffix(MADE)}{QUALITY}"
    return Unit(key, QUALITY, fraction, needs=(made,), group=group, amount=amount, variant=variant)
