"""The figures of variants: what each adds to the study's own arm, and whether better slices helped more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .benefit import MEASURES, quality_against_benefit
from .ledger import Ledger
from .plan import BOTH, MADE, QUALITY, TRADITIONAL, Fraction, Unit
from .results import DICE, MEAN, POINTS, Cell, by_patient, compared, over_seeds, read_cells

BASE = "as the study has it"


def variant_figures(
    ledger: Ledger, units: Sequence[Unit], tried: Sequence[Unit], fractions: Sequence[Fraction]
) -> dict[str, Any]:
    """By number of patients, the variants' rows and the correlation of quality with benefit; of what is finished.

    Args:
        ledger: of the study.
        units: of the study's own arms.
        tried: of the variants.
        fractions: of the study.
    """
    cells = read_cells(ledger, units)
    result = {}
    for fraction in fractions:
        own = [unit for unit in tried if unit.fraction == fraction]
        if own:
            traditional, both = (
                {seed: cell for (n, a, seed), cell in cells.items() if (n, a) == (fraction.count, arm)}
                for arm in (TRADITIONAL, BOTH)
            )
            result[str(fraction.count)] = _of_fraction(ledger, own, traditional, both)
    return result


def _of_fraction(
    ledger: Ledger, own: Sequence[Unit], traditional: Mapping[int, Cell], both: Mapping[int, Cell]
) -> dict[str, Any]:
    rows, sets, gains = [], {}, {}
    qualities = {u.variant: ledger.facts(u) for u in own if u.kind == QUALITY and ledger.is_done(u)}
    seeds = {unit.seed for unit in own if unit.arm}
    base = {seed: cell for seed, cell in both.items() if seed in seeds}
    if None in qualities:
        sets[BASE], gains[BASE] = qualities[None]["figures"], _gains(base, traditional)
    for variant in dict.fromkeys(unit.variant for unit in own if unit.variant is not None):
        units = [unit for unit in own if unit.variant == variant]
        cells = {seed: cell for (_, _, seed), cell in read_cells(ledger, units).items()}
        made = next((ledger.facts(u).get("cases") for u in units if u.kind == MADE and ledger.is_done(u)), None)
        row = {
            "name": variant.text,
            "words": variant.words,
            "made": made,
            "over_traditional": _short(compared(cells, traditional)),
            "over_both": _short(compared(cells, base)),
            "quality": qualities.get(variant, {}).get("figures"),
        }
        rows.append(row)
        # Sets that differ in their number alone, or in how they are mixed, are of one quality.
        if row["quality"] is not None and not variant.remixes:
            sets[variant.text], gains[variant.text] = row["quality"], _gains(cells, traditional)
    return {"rows": rows, "quality_against_benefit": quality_against_benefit(sets, gains)}


def _short(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if facts is None else {**facts[DICE][MEAN], "of_seeds": facts["seeds"]}


def _gains(cells: Mapping[int, Cell], traditional: Mapping[int, Cell]) -> dict[str, float]:
    """Points of Dice over the traditional arm by patient, averaged over the seeds that both have."""
    seeds = sorted(set(cells) & set(traditional))
    a, b = (over_seeds([by_patient(arm[seed].scores, DICE) for seed in seeds])[MEAN] for arm in (cells, traditional))
    return {patient: POINTS * (a[patient] - b[patient]) for patient in sorted(set(a) & set(b))}


def variant_sentences(variants: Mapping[str, Any]) -> list[str]:
    """What the variants teach, in plain words."""
    sentences = []
    for count, found in variants.items():
        for row in found["rows"]:
            facts = row["over_both"]
            if facts is not None and facts["mean"] is not None:
                sentences.append(f"With {count} patients, {row['words']}: {_change(facts)}.")
        told = [
            f"{MEASURES[key].partition(' (')[0].lower()} {correlation_text(c)}"
            for key, c in found["quality_against_benefit"]["correlation"].items()
            if c is not None
        ]
        if told:
            number = len(found["quality_against_benefit"]["points"])
            sentences.append(
                f"Rank correlation of quality with gain over {number} sets of made slices, with {count} patients: "
                f"{', '.join(told)}."
            )
    return sentences


def correlation_text(facts: Mapping[str, Any]) -> str:
    """Spearman's rho with its interval."""
    low, high = facts["interval"]
    return f"{facts['rho']:.2f} ({low:.2f} to {high:.2f})"


def _change(facts: Mapping[str, Any]) -> str:
    low, high = facts["interval"] or (None, None)
    span = "" if low is None else f" (95 % interval {low:+.1f} to {high:+.1f})"
    return f"{facts['mean']:+.1f} points of Dice beside the same arm without the change{span}"
