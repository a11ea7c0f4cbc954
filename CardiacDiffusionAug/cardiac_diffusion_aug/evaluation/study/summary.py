"""The contents of `study.json`: who was learned from, every figure, plain sentences, and what was not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .cohort import Cohort, cohort_json
from .ledger import Ledger
from .plan import BOTH, COPYING, FURTHER, TRADITIONAL, Fraction, Unit
from .results import gain_sentence, not_run, study_figures
from .variant_results import variant_figures, variant_sentences

FORMAT = 1


def summary(
    ledger: Ledger,
    units: Sequence[Unit],
    tried: Sequence[Unit],
    fractions: Sequence[Fraction],
    cohort: Cohort,
    settings: Mapping[str, Any],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """All that is known of a study by now, as values that JSON holds.

    Args:
        ledger, units, fractions, cohort: of the study.
        tried: units of its variants.
        settings: with which it was made.
        failed: units that could not be done, and why.
    """
    found = study_figures(ledger, units, fractions)
    further = _further(ledger, units, fractions)
    variants = variant_figures(ledger, units, tried, fractions, settings["made_per_real"])
    left = not_run(ledger, [*units, *tried])
    return {
        "format": FORMAT,
        "sentences": [*_sentences(found, further, fractions), *variant_sentences(variants), *_missing(left)],
        "method": _method(settings),
        "settings": dict(settings),
        "patients": {"training": len(cohort.pool), **cohort_json(cohort, fractions)},
        **found,
        "copying": {
            str(unit.fraction.count): ledger.facts(unit)
            for unit in units
            if unit.kind == COPYING and ledger.is_done(unit)
        },
        "variants": variants,
        "further": further,
        "not_run": left,
        "failed": dict(failed),
        "seconds": round(sum(ledger.seconds(unit) for unit in (*units, *tried)), 2),
    }


def _further(ledger: Ledger, units: Sequence[Unit], fractions: Sequence[Fraction]) -> dict[str, Any] | None:
    done = [unit for unit in units if unit.kind == FURTHER and ledger.is_done(unit)]
    if not done:
        return None
    return {**ledger.facts(done[0]), **study_figures(ledger, units, fractions, FURTHER)}


def _sentences(found: Mapping[str, Any], further: Mapping[str, Any] | None, fractions: Sequence[Fraction]) -> list[str]:
    name = f"{BOTH}-{TRADITIONAL}"
    sentences = []
    for figures, where in ((found, ""), (further or {"comparisons": {}}, " (further data)")):
        for fraction in fractions:
            facts = figures["comparisons"].get(str(fraction.count), {}).get(name)
            if facts is not None:
                sentences.append(gain_sentence(fraction.name, facts, where))
    if not sentences:
        return ["Nothing can be said yet: no arm with synthetic pairs has its counterpart."]
    sentences.append(
        "This is so for one choice of patients, one generator and one set of made slices at each number, and for "
        "networks that are told where the heart is."
    )
    return sentences


def _missing(left: Sequence[str]) -> list[str]:
    return [f"Not run: {'; '.join(left)}."] if left else []


def _method(settings: Mapping[str, Any]) -> str:
    selected = (
        "The last averaged weights of every training count, so that no patient is spent on a choice and no arm gains "
        "by one."
        if settings["selection"] == "last"
        else f"The best snapshot on {settings['selection_share']:.0%} of a fraction's patients, who train nothing, "
        "counts."
    )
    return (
        "For each number of patients, both generators and all U-Nets learned from these patients alone, but for "
        "variants that are called pretrained. The patients were chosen once for all seeds, since generators are "
        "costly, and smaller choices lie within larger ones, so that seeds vary weights and order, not patients. All "
        "U-Nets of a number of patients took the same steps, batch, "
        f"learning rate and selection. {selected} The test patients were never learned from, filtered by or selected "
        "by. The heart's place is given to all networks alike, from the reference; what they label around it, on the "
        "scan's own grid, is scored by volume."
    )
