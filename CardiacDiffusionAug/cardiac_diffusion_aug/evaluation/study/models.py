"""Checks of the models that are handed to a study: whom they saw, and that those of what is done were the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...bundle import GENERATOR as GENERATOR_KIND
from ...bundle import SEGMENTER, Bundle, load_bundle
from ...errors import CardiacError
from .cohort import Cohort, require_within, require_without
from .ledger import Ledger
from .plan import GENERATOR, MADE, QUALITY, Fraction, Unit
from .variants import Variant


def require_same_generators(ledger: Ledger, units: Sequence[Unit], generators: Mapping[int, Bundle]) -> None:
    """Check that what was made came from the generators that are handed in now.

    Raises:
        CardiacError: it did not.
    """
    for unit in units:
        if unit.kind == GENERATOR and ledger.is_done(unit):
            facts, given = ledger.facts(unit), generators.get(unit.fraction.count)
            if facts.get("given", False) != (given is not None) or (given and given.sha256 != facts["sha256"]):
                raise CardiacError(
                    f"{ledger.folder} was begun with another --generators for {unit.fraction.name}; go on with the "
                    "same, or choose another folder.",
                    "bad_output",
                )


def require_variant_models(
    ledger: Ledger,
    cohort: Cohort,
    fractions: Sequence[Fraction],
    variants: Sequence[Variant],
    generators: Mapping[int, Bundle],
    tried: Sequence[Unit],
    judge: str,
) -> None:
    """Check the models of variants, and that what is done of them was done with the same.

    Args:
        ledger: of the study.
        cohort: its patients.
        fractions: that variants are tried with.
        variants: to try.
        generators: of the study, by number of patients, where the user handed them in.
        tried: units of the variants.
        judge: name or folder of the model that measures quality.

    Raises:
        CardiacError: one cannot be used, saw other patients, is the study's own, or another one was used before.
    """
    for variant in variants:
        if variant.model is None:
            continue
        bundle = load_bundle(variant.model, GENERATOR_KIND)
        if variant.pretrained is not None:
            require_without(bundle, cohort)
        for fraction in fractions:
            if variant.generator is not None:
                require_within(bundle, fraction)
            facts = ledger.facts(f"{fraction.folder}/{GENERATOR}")
            own = generators[fraction.count].sha256 if fraction.count in generators else facts.get("sha256")
            if own == bundle.sha256 and variant in (
                Variant(generator=variant.model),
                Variant(pretrained=variant.model),
            ):
                raise CardiacError(
                    f"--variants names the model {variant.model}, which is the study's own for {fraction.name}; "
                    "leave it out.",
                    "bad_model",
                )
        made = [u for u in tried if u.kind == MADE and u.variant and u.variant.model == variant.model]
        _require_same(ledger, made, bundle, "model")
    _require_same(ledger, [unit for unit in tried if unit.kind == QUALITY], load_bundle(judge, SEGMENTER), "judge")


def _require_same(ledger: Ledger, units: Sequence[Unit], bundle: Bundle, name: str) -> None:
    for unit in units:
        if ledger.facts(unit).get(f"{name}_sha256", bundle.sha256) != bundle.sha256:
            raise CardiacError(
                f"{ledger.place(unit)} was made with another {name} than {bundle.name}; go on with the same, or remove "
                "that folder and those that came after it.",
                "bad_output",
            )
