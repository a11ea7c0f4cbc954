"""The job that tells what synthetic pairs are worth, with how many patients."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import Cancelled, CardiacError
from .base import Context, Job, flag, option

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..datasets import Case
    from ..evaluation.study.cohort import Cohort
    from ..evaluation.study.ledger import Ledger
    from ..evaluation.study.plan import Fraction, Unit

LAST, BEST = "last", "best"
PLAN = "plan.json"
FORMAT = 1
SHAPING = (
    "split",
    "patient_seed",
    "selection",
    "selection_share",
    "mask_steps",
    "image_steps",
    "half_resolution_steps",
    "unet_steps",
    "network",
    "augmentation",
    "batch_size",
    "learning_rate",
    "made_per_real",
    "synthetic_share",
    "mixing",
    "sampling_steps",
    "filter",
)
"""Options on which results hang; a study has one value of each. Fractions and seeds may be added."""
PASSING = ("disk_full", "bad_output", "no_device", "missing_dependency")
"""Errors that the next unit would meet too."""


@dataclass(kw_only=True)
class Study(Job):
    """Four arms at every number of patients, each generator from these patients alone, on patients never seen."""

    NAME: ClassVar[str] = "study"
    HELP: ClassVar[str] = "measure what synthetic pairs are worth, by number of patients"

    data: Path = option(..., "data set of real patients; its layout is recognized")
    output: Path = option(..., "folder for study.html, study.json and all that leads to them")
    fractions: str = option("4,8,16,all", "numbers of training patients; those that are too large are left out")
    seeds: str = option("0,1,2", "of the weights and the order of the U-Nets")
    split: str = option("mod 5 == 4", "which patients are for the test only: a rule as train-unet takes it")
    patient_seed: int = option(
        0,
        "of the choice of the patients, one for all seeds; smaller fractions lie within larger ones",
        minimum=0,
        maximum=2**32 - 1,
    )
    selection: str = option(
        LAST,
        "of the weights: the last averaged ones, which need no patients, or the best on some of the fraction's",
        choices=(LAST, BEST),
    )
    selection_share: float = option(0.25, "of a fraction's patients, for --selection best", minimum=0.01, maximum=0.9)
    mask_steps: int | None = option(
        None, "of the training of each mask network; as many as suit the fraction", minimum=1, maximum=10**7
    )
    image_steps: int | None = option(
        None, "of the training of each image network; as many as suit the fraction", minimum=1, maximum=10**7
    )
    half_resolution_steps: int | None = option(
        None, "of these the first, at half the resolution for a quarter of the cost; 0.6", minimum=0, maximum=10**7
    )
    unet_steps: int = option(4000, "of the training of each U-Net, the same in all arms", minimum=1, maximum=10**7)
    network: str = option(
        "standard", "of the U-Nets: standard, or light for a third of the time", choices=("standard", "light")
    )
    augmentation: str = option(
        "strong",
        "traditional augmentation of all arms but the plain one: strong, as train-unet has it, or centered, without "
        "windows beside the heart, which the scores do not ask for",
        choices=("strong", "centered"),
    )
    batch_size: int = option(16, "samples a step, in all trainings", minimum=1, maximum=4096)
    learning_rate: float = option(1e-3, "of the U-Nets", minimum=1e-7, maximum=1)
    made_per_real: float = option(2.0, "made slices for each real one of a fraction", minimum=0.01, maximum=1000)
    synthetic_share: float = option(0.5, "of the samples of the arm with both that are made", minimum=0, maximum=1)
    mixing: str = option("mixed", "in that arm, in every step, or made ones first", choices=("mixed", "first"))
    sampling_steps: int = option(
        20, "network calls for a mask, and for an image, of generators trained here", minimum=1, maximum=1000
    )
    filter: bool = option(
        True, "keep only made slices that are sound, as the fraction's own U-Net of the traditional arm sees them"
    )
    generators: Path | None = option(
        None, "a model, or a folder of models named 4, 8 and so on, in place of trainings; of the fraction's patients"
    )
    variants: str = option(
        "", "changes to the arm with both, each tried beside it, such as 'ratio=5, mixing=first, filter=off'"
    )
    variant_fractions: str = option("8", "numbers of patients that variants are tried with")
    variant_seeds: str = option("0", "of --seeds, those that variants are tried with")
    quality_model: str = option("acdc-unet", "segmentation model that judges how good the slices of variants are")
    test_data: Path | None = option(None, "further data set to score the same U-Nets on, reported apart")
    part: str = option("1/1", "of the work, for a job array: 2/4 takes every fourth group of units from the second on")
    plan: bool = option(False, "only tell what is done, what is left and how long it takes")
    device: str = option("auto", "auto, cuda, cuda:1, mps or cpu")
    precision: str = option("auto", "bfloat16 where it is fast", choices=("auto", "bf16", "fp32"))
    compile: bool = option(
        False, "compile each U-Net first, in half a minute; it then trains in two thirds of the time"
    )
    resume: bool = option(False, "go on with a study that was begun, or that other parts are at")

    def run(self, context: Context) -> dict[str, Any]:
        """Do all units that are left and can be done, and write the results of what is there."""
        from ..evaluation.study.cohort import find_fractions, find_generators, require_same_patients
        from ..evaluation.study.ledger import Ledger, table
        from ..evaluation.study.models import require_same_generators
        from ..evaluation.study.plan import IMAGES, MASKS, numbers, of_part, study_units

        self._require_sense()
        ledger = Ledger(self.output)
        cases = self._cases(context)
        cohort = self._begun() or self._cohort(cases, context)
        require_same_patients(cohort, cases, self.output)
        share = self.selection_share if self.selection == BEST else 0.0
        fractions, too_large = find_fractions(cohort, self.fractions, self.patient_seed, share)
        for count in too_large:
            context.say(f"{count} patients are more than the {len(cohort.pool)} who train; that fraction is left out.")
        generators = {} if self.generators is None else find_generators(self.generators, fractions)
        seeds = numbers(self.seeds, "--seeds", "0,1,2")
        units = study_units(
            fractions,
            seeds,
            self.made_per_real,
            self.generators is None,
            self.filter,
            self.test_data is not None,
            by_slices=[k for k, steps in ((MASKS, self.mask_steps), (IMAGES, self.image_steps)) if steps is None],
        )
        known = {unit.key for unit in units}
        tried = self._variant_units(ledger, cohort, fractions, seeds, known, generators)
        every = [*units, *tried]
        own = of_part(every, self.part)
        if self.plan:
            return table(ledger, every)
        asked = self._begin(cohort, generators)
        require_same_generators(ledger, units, generators)
        failed = self._work(ledger, every, own, cohort, cases, generators, context)
        earlier = [u for one in asked for u in self._units_asked(one, fractions, seeds, known)]
        shown = [*tried, *{u.key: u for u in earlier if u.key not in {unit.key for unit in tried}}.values()]
        outcome = self._results(ledger, units, shown, fractions, cohort, cases, failed, too_large)
        return {**outcome, **table(ledger, every), **failed}

    def _variant_units(
        self,
        ledger: Ledger,
        cohort: Cohort,
        fractions: Sequence[Fraction],
        seeds: Sequence[int],
        known: set[str],
        generators: dict[int, Bundle],
    ) -> list[Unit]:
        """Units of the variants, whose models are checked.

        Raises:
            CardiacError: a variant cannot be tried.
        """
        from ..evaluation.study.models import require_variant_models
        from ..evaluation.study.plan import numbers
        from ..evaluation.study.variants import parse_variants

        asked = self._asked(generators)
        variants = parse_variants(self.variants, asked["usual"])
        if not variants:
            return []
        counts = numbers(self.variant_fractions, "--variant-fractions", "4,8")
        tried = [fraction for fraction in fractions if fraction.count in counts]
        own_seeds = numbers(self.variant_seeds, "--variant-seeds", "0,1")
        if len(tried) < len(counts) or not set(own_seeds) <= set(seeds):
            raise CardiacError(
                f"--variant-fractions and --variant-seeds must be among those of the study, {self.fractions} and "
                f"{self.seeds}, which variants are compared with."
            )
        units = self._units_asked(asked, fractions, seeds, known)
        require_variant_models(ledger, cohort, tried, variants, generators, units, self.quality_model)
        return units

    def _asked(self, generators: dict[int, Bundle]) -> dict[str, Any]:
        """The variants that are asked for, as the study's folder keeps them, and what they change."""
        steps = {bundle.default("image_steps") for bundle in generators.values()} or {self.sampling_steps}
        usual = {
            "ratio": self.made_per_real,
            "mixing": self.mixing,
            "share": self.synthetic_share,
            "filter": self.filter,
            "steps": steps.pop() if len(steps) == 1 else None,
        }
        asked = {name: getattr(self, name) for name in ("variants", "variant_fractions", "variant_seeds")}
        return {**asked, "usual": usual}

    def _units_asked(
        self,
        asked: dict[str, Any],
        fractions: Sequence[Fraction],
        seeds: Sequence[int],
        known: set[str],
    ) -> list[Unit]:
        """Units of variants that are or were asked for, of the fractions and seeds of this call."""
        from ..evaluation.study.plan import numbers
        from ..evaluation.study.variant_plan import variant_units
        from ..evaluation.study.variants import parse_variants

        counts = numbers(asked["variant_fractions"], "--variant-fractions", "4,8")
        own_seeds = [n for n in numbers(asked["variant_seeds"], "--variant-seeds", "0,1") if n in seeds]
        variants = parse_variants(asked["variants"], asked["usual"])
        tried = [fraction for fraction in fractions if fraction.count in counts]
        if not (variants and tried and own_seeds):
            return []
        return variant_units(tried, variants, own_seeds, self.made_per_real, self.test_data is not None, known)

    def _require_sense(self) -> None:
        """Check what no option alone can tell.

        Raises:
            CardiacError: something does not fit together.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise CardiacError("A study runs in one process a part; start it several times with --part, not launched.")
        half = self.half_resolution_steps
        if self.generators is None and half and self.image_steps is None:
            raise CardiacError(f"--half-resolution-steps is {half}; state --image-steps too, of which they are a part.")
        if self.generators is None and half and half >= (self.image_steps or 0):
            raise CardiacError(
                f"--half-resolution-steps is {half}, but must be fewer than the {self.image_steps} of --image-steps, "
                "or image networks never see a whole slice."
            )
        if self.test_data is not None and self.test_data.resolve() == self.data.resolve():
            raise CardiacError("--test-data is the data set that is learned from; give another, or leave it out.")

    def _cases(self, context: Context) -> list[Case]:
        from ..datasets import read_cases

        reader, cases = read_cases(self.data)
        context.say(f"{self.data} was read as {reader.DESCRIPTION}.")
        return [case for case in cases if case.labelled]

    def _cohort(self, cases: Sequence[Case], context: Context) -> Cohort:
        from ..datasets.pack import pack_cases
        from ..evaluation.study.cohort import find_cohort

        pack = pack_cases(cases, progress=lambda d, n: context.progress(d, n, "reading real patients"))
        cohort = find_cohort(pack, self.split)
        if cohort.left_out:
            context.say(
                f"{', '.join(cohort.left_out)} of the test patients is a training patient once more, and is left out."
            )
        return cohort

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SHAPING}

    def _begun(self) -> Cohort | None:
        """The patients of the study that the folder holds, whose settings are these; None where it holds none.

        Raises:
            CardiacError: it holds something else, or may not be gone on with.
        """
        from ..evaluation.study.cohort import Cohort

        if self.output.exists() and not self.output.is_dir():
            raise CardiacError(f"{self.output} is a file; choose a folder for --output.", "bad_output")
        path = self.output / PLAN
        if not path.is_file():
            if self.output.is_dir() and any(not p.name.startswith(".") for p in self.output.iterdir()):
                raise CardiacError(
                    f"{self.output} holds files that no study made; choose an empty folder.", "bad_output"
                )
            return None
        try:
            content = json.loads(path.read_bytes())
            settings, cohort = dict(content["settings"]), Cohort.from_dict(content["patients"])
            further = content["test_data"]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CardiacError(f"{path} is not of a study; choose another folder.", "bad_output") from error
        if not (self.resume or self.plan):
            raise CardiacError(
                f"{self.output} holds a study; add --resume to go on with it, or choose another folder.", "bad_output"
            )
        differing = [flag(name) for name, value in self._settings().items() if settings.get(name) != value]
        if self.test_data is not None and further not in (None, self.test_data.resolve().name):
            differing.append("--test-data")
        if differing:
            raise CardiacError(
                f"{self.output} was begun with another {', '.join(differing)}; go on with the same, or choose another "
                "folder.",
                "bad_output",
            )
        return cohort

    def _begin(self, cohort: Cohort, generators: dict[int, Bundle]) -> list[dict[str, Any]]:
        """Note what the study is, and return all variants that were ever asked of it."""
        from ..disk import writing_to
        from ..evaluation.study.ledger import json_bytes, write_shared

        path = self.output / PLAN
        further = None if self.test_data is None else self.test_data.resolve().name
        asked: list[dict[str, Any]] = []
        own = self._asked(generators)
        if path.is_file():
            begun = json.loads(path.read_bytes())
            further, asked = further or begun["test_data"], begun.get("variants", [])
        if self.variants and own not in asked:
            asked = [*asked, own]
        content = {
            "format": FORMAT,
            "settings": self._settings(),
            "test_data": further,
            "variants": asked,
            "patients": cohort.as_dict(),
        }
        with writing_to(self.output):
            write_shared(path, json_bytes(content))
        return asked

    def _work(
        self,
        ledger: Ledger,
        units: Sequence[Unit],
        own: set[str],
        cohort: Cohort,
        cases: list[Case],
        generators: dict[int, Bundle],
        context: Context,
    ) -> dict[str, str]:
        """Do what can be done, and return what failed and why."""
        from .study_steps import Steps

        steps = Steps(self, cohort, cases, ledger, generators)
        failed: dict[str, str] = {}
        went_on = True
        while went_on:
            went_on = False
            for unit in units:
                # Another part may have finished what this one waits for in the meantime.
                if unit.key in own and unit.key not in failed and not ledger.is_done(unit):
                    if all(map(ledger.is_done, unit.needs)):
                        went_on |= self._one(steps, unit, ledger, failed, context)
                elif unit.key in own and ledger.is_done(unit):
                    steps.tidy(unit)
        self._tell_missing(ledger, units, own, failed, context)
        return failed

    def _one(self, steps: Any, unit: Unit, ledger: Ledger, failed: dict[str, str], context: Context) -> bool:
        from ..evaluation.study.ledger import Clock
        from .study_steps import UnitContext

        context.check()
        clock = Clock(ledger, unit)
        told = UnitContext(context, unit, clock)
        try:
            facts = steps.run(unit, told)
        except CardiacError as error:
            if error.code in PASSING:
                raise
            # A generator whose slices never pass costs its own arms, not the study.
            failed[unit.key] = str(error)
            context.say(f"{unit.name} failed: {error}")
            return False
        except (Cancelled, KeyboardInterrupt):
            clock.write()
            raise
        ledger.finish(unit, clock.seconds, facts, told.said)
        steps.tidy(unit)
        context.result({"unit": unit.key, "name": unit.name, "seconds": round(clock.seconds, 2)})
        return True

    def _tell_missing(
        self, ledger: Ledger, units: Sequence[Unit], own: set[str], failed: dict[str, str], context: Context
    ) -> None:
        left = [unit for unit in units if unit.key in own and not ledger.is_done(unit) and unit.key not in failed]
        waiting = {unit.key for unit in left}
        needed = sorted({n for unit in left for n in unit.needs if not ledger.is_done(n) and n not in waiting})
        if left:
            others = [need for need in needed if need not in own]
            whose = "other parts" if others else "what failed"
            named = f"{', '.join(needed[:3])}{' and more' if len(needed) > 3 else ''}"
            context.say(
                f"{len(left)} units of part {self.part} wait for {whose} ({named}); run it again with --resume."
            )

    def _results(
        self,
        ledger: Ledger,
        units: Sequence[Unit],
        tried: Sequence[Unit],
        fractions: Sequence[Fraction],
        cohort: Cohort,
        cases: Sequence[Case],
        failed: dict[str, str],
        too_large: Sequence[int],
    ) -> dict[str, Any]:
        from ..disk import writing_to
        from ..evaluation.study.ledger import json_bytes, write_shared
        from ..evaluation.study.page import FIGURES, failure_pictures, write_page
        from ..evaluation.study.summary import summary

        found = summary(ledger, units, tried, fractions, cohort, self._settings(), failed)
        facts = {
            "Data": f"{self.data.resolve().name}: {len(cohort.pool)} patients train, {len(cohort.test)} test",
            "Fractions": ", ".join(str(f.count) for f in fractions)
            + "".join(f"; {count} are more than there are" for count in too_large),
            "Seeds": self.seeds,
            "U-Nets": (
                f"{self.network}, {self.augmentation} augmentation, {self.unet_steps} steps of {self.batch_size}, "
                f"learning rate {self.learning_rate:g}"
            ),
            "Made slices": f"{self.made_per_real:g} for each real one, {'filtered' if self.filter else 'not filtered'}",
            "Left out": ", ".join(cohort.left_out) or "nobody",
        }
        pictures = failure_pictures(ledger, units, fractions, cases)
        with writing_to(self.output):
            write_shared(self.output / FIGURES, json_bytes(found))
            page = write_page(self.output, f"Study: {self.data.resolve().name}", facts, found, pictures)
        told = {f"finding {index + 1}": sentence for index, sentence in enumerate(found["sentences"])}
        return {"page": str(page), **told}
