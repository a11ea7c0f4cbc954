"""The figures of variants: what each adds to the study's own arm, and whether better slices helped more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .benefit import LESS_IS_BETTER, MEASURES, quality_against_benefit
from .ledger import Ledger
from .plan import BOTH, FURTHER, QUALITY, SCORES, TRADITIONAL, Fraction, Unit, made_count
from .results import DICE, MEAN, POINTS, Cell, by_patient, compared, over_seeds, read_cells
from .variants import Variant

BASE = "as the study has it"
SURE = 0.05
"""Chance below which ranks of sets are taken to go together, divided by how many measures are tried (Bonferroni)."""
Cells = Mapping[int, Cell]
"""By seed."""


def variant_figures(
    ledger: Ledger, units: Sequence[Unit], tried: Sequence[Unit], fractions: Sequence[Fraction], made_per_real: float
) -> dict[str, Any]:
    """By number of patients, the variants' rows and the correlation of quality with benefit; of what is finished.

    Args:
        ledger: of the study.
        units: of the study's own arms.
        tried: of the variants.
        fractions: of the study.
        made_per_real: of the study.
    """
    result = {}
    for fraction in fractions:
        own = [unit for unit in tried if unit.fraction == fraction]
        if own:
            arms = [unit for unit in units if unit.fraction == fraction]
            result[str(fraction.count)] = _of_fraction(ledger, arms, own, fraction, made_per_real)
    return result


def _of_fraction(
    ledger: Ledger, units: Sequence[Unit], own: Sequence[Unit], fraction: Fraction, made_per_real: float
) -> dict[str, Any]:
    qualities = {u.variant: ledger.facts(u)["figures"] for u in own if u.kind == QUALITY and ledger.is_done(u)}
    seeds = {unit.seed for unit in own if unit.kind == SCORES}
    traditional, both = (_cells(ledger, units, arm, SCORES) for arm in (TRADITIONAL, BOTH))
    base = {seed: cell for seed, cell in both.items() if seed in seeds}
    rows, sets, gains = [], {}, {}
    if None in qualities:
        sets[BASE], gains[BASE] = qualities[None], _gains(base, traditional)
    for variant in dict.fromkeys(unit.variant for unit in own if unit.kind == SCORES):
        assert variant is not None
        cells = _cells(ledger, own, BOTH, SCORES, variant)
        rows.append(
            {
                "name": variant.text,
                "words": variant.words,
                "made": made_count(fraction, variant.ratio or made_per_real),
                "over_traditional": _short(compared(cells, traditional)),
                "over_both": _short(compared(cells, base)),
                "quality": qualities.get(variant.making) if variant.makes else None,
                "further": _further(ledger, units, own, variant),
            }
        )
        # Sets that differ in their number alone, or in how they are mixed, are of one quality.
        if variant in qualities:
            sets[variant.text], gains[variant.text] = qualities[variant], _gains(cells, traditional)
    return {"rows": rows, "quality_against_benefit": quality_against_benefit(sets, gains)}


def _further(ledger: Ledger, units: Sequence[Unit], own: Sequence[Unit], variant: Variant) -> dict[str, Any] | None:
    """The comparisons on the further data; None where the variant was not scored on any."""
    cells = _cells(ledger, own, BOTH, FURTHER, variant)
    traditional, both = (_cells(ledger, units, arm, FURTHER) for arm in (TRADITIONAL, BOTH))
    if not cells:
        return None
    return {
        "over_traditional": _short(compared(cells, traditional)),
        "over_both": _short(compared(cells, both)),
    }


def _cells(ledger: Ledger, units: Sequence[Unit], arm: str, kind: str, variant: Variant | None = None) -> Cells:
    chosen = [unit for unit in units if unit.arm == arm and unit.variant == variant]
    return {seed: cell for (_, _, seed), cell in read_cells(ledger, chosen, kind).items()}


def _short(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if facts is None else {**facts[DICE][MEAN], "of_seeds": facts["seeds"]}


def _gains(cells: Cells, traditional: Cells) -> dict[str, float]:
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
        known = {key: c for key, c in found["quality_against_benefit"]["correlation"].items() if c is not None}
        if known:
            number = len(found["quality_against_benefit"]["points"])
            sentences.append(f"Over {number} sets of made slices, with {count} patients, {_links(known)}.")
    return sentences


def _links(correlations: Mapping[str, Mapping[str, Any]]) -> str:
    """Which measures follow the gain, where neither the patients nor the few sets leave it to chance."""
    higher: list[str] = []
    lower: list[str] = []
    unsure: list[str] = []
    for key, facts in correlations.items():
        ends = [-end if key in LESS_IS_BETTER else end for end in facts["interval"]]
        sure = facts["p"] < SURE / len(correlations)
        (higher if sure and min(ends) > 0 else lower if sure and max(ends) < 0 else unsure).append(
            f"{MEASURES[key]} ({correlation_text(facts)})"
        )
    parts = [
        f"{text} {', '.join(names)}"
        for text, names in (
            ("the gain is higher where these are better:", higher),
            ("the gain is lower where these are better:", lower),
            ("no link is shown of the gain with", unsure),
        )
        if names
    ]
    return f"{'; '.join(parts)} (rank correlations with 95 % intervals)"


def correlation_text(facts: Mapping[str, Any]) -> str:
    """Spearman's rho with its interval."""
    low, high = facts["interval"]
    return f"{facts['rho']:.2f}, {low:.2f} to {high:.2f}"


def _change(facts: Mapping[str, Any]) -> str:
    count = len(facts["of_seeds"])
    told = f"{count} seed{'s' * (count != 1)}"
    if facts["interval"] is not None:
        low, high = facts["interval"]
        holds = "" if low > 0 or high < 0 else ", which holds 0"
        told = f"95 % interval {low:+.1f} to {high:+.1f}{holds}; {told}"
    return f"{facts['mean']:+.1f} points of Dice beside the same arm without the change ({told})"
