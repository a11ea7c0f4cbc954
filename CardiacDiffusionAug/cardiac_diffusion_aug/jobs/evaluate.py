"""The job that measures a set of made cases against real patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CardiacError
from .base import Context, Job, option, warm_generator, warm_segmenter

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..datasets.splits import Split
    from ..evaluation.report import Report
    from ..evaluation.sets import SliceSet
    from ..segmentation import Segmenter


@dataclass(kw_only=True)
class Evaluate(Job):
    """Anatomy, adherence, fidelity, copying, shape and attributes, in one report."""

    NAME: ClassVar[str] = "evaluate"
    HELP: ClassVar[str] = "measure made cases against real patients, in a report"

    data: Path = option(..., "data set of real patients; its layout is recognized")
    synthetic: Path = option(..., "data set of made cases")
    output: Path = option(..., "folder for report.html and report.json")
    split: str | None = option(
        None, "which real patients the generator never saw, such as 'mod 5 == 4'; the model's own validation patients"
    )
    model: str | None = option(None, "generator that made the cases; the one that their data set names")
    segmenter: str = option("acdc-unet", "segmentation model that judges, trained on the training patients")
    seed: int = option(0, "of splits into halves, draws and noise", minimum=0, maximum=2**32 - 1)
    device: str = option("auto", "auto, cuda, cuda:1, mps or cpu")
    precision: str = option("auto", "bfloat16 where it is fast", choices=("auto", "bf16", "fp32"))

    def run(self, context: Context) -> dict[str, Any]:
        """Measure and write the report; one that was interrupted goes on where it was."""
        from ..evaluation.evaluate import evaluate
        from ..evaluation.parts import Parts
        from ..evaluation.report import Report, write_report
        from ..evaluation.sets import synthetic_set

        made_with = self._made_with()
        bundle, why_not = self._bundle(made_with)
        training, validation, split, marks = self._real(bundle, context)
        segmenter = warm_segmenter(context, self.segmenter, self.device, self.precision)
        self._warn_of_overlap(segmenter, split, context)
        synthetic, layout = synthetic_set(self.synthetic, lambda d, n: context.progress(d, n, "reading made cases"))
        context.say(f"{self.synthetic} was read as {layout}: {len(synthetic)} made slices.")
        key = [marks, self._fingerprint(), segmenter.bundle.sha256, bundle.sha256 if bundle else "", self.seed]
        parts = Parts(self.output, hashlib.sha256(json.dumps(key).encode()).hexdigest())
        generator = None if bundle is None else warm_generator(context, bundle, self.device, self.precision)
        sections = evaluate(
            synthetic,
            training,
            validation,
            segmenter,
            generator,
            why_not,
            parts,
            self.seed,
            context.progress,
            context.check,
        )
        facts = self._facts(synthetic, training, validation, split, segmenter, bundle, made_with)
        report = Report(f"Evaluation of {self.synthetic.resolve().name}", facts, sections, _summary(sections))
        page = write_report(report, self.output)
        parts.clear()
        return {"report": str(page), **_told(report)}

    def _made_with(self) -> Mapping[str, Any]:
        """The settings that the made data set states; empty where another program made it."""
        from ..export import DATASET, earlier_settings

        return earlier_settings(self.synthetic) or {} if (self.synthetic / DATASET).is_file() else {}

    def _bundle(self, made_with: Mapping[str, Any]) -> tuple[Bundle | None, str]:
        from ..bundle import GENERATOR, load_bundle

        name = self.model or made_with.get("model")
        if not name:
            return None, "Not measured: the data set does not say which model made it; name it with --model."
        try:
            bundle = load_bundle(str(name), GENERATOR)
        except CardiacError as error:
            if self.model:
                raise
            return None, f"Not measured: {error}"
        if self.model is None and bundle.sha256 != made_with.get("model_sha256"):
            return (
                None,
                f"Not measured: the model {name} at hand is another version than the one that made these cases.",
            )
        return bundle, ""

    def _real(self, bundle: Bundle | None, context: Context) -> tuple[SliceSet, SliceSet, Split, str]:
        from ..datasets import read_cases
        from ..datasets.pack import fingerprint, pack_cases
        from ..evaluation.sets import real_set

        reader, cases = read_cases(self.data)
        context.say(f"{self.data} was read as {reader.DESCRIPTION}.")
        pack = pack_cases(cases, progress=lambda d, n: context.progress(d, n, "reading real patients"))
        split = self._split(sorted(set(pack.patients.tolist())), bundle)
        training, validation = (real_set(pack.of_patients(part)) for part in (split.train, split.validation))
        known = sorted((_seen(bundle) or set()) & set(split.validation))
        if bundle is not None and known:
            context.say(
                f"The generator {bundle.name} learned from {len(known)} of the patients that stand for the unseen "
                f"({known[0]}), so that copies of them are not found; choose another --split."
            )
        context.say(f"{len(split.train)} patients were trained on, {len(split.validation)} stand for the unseen.")
        return training, validation, split, fingerprint(cases) + json.dumps(split.as_dict())

    def _split(self, patients: list[str], bundle: Bundle | None) -> Split:
        from ..datasets.splits import Split, split_patients

        if self.split is not None:
            chosen = split_patients(patients, self.split, self.seed)
            # Two halves of the unseen are compared at the very end, which is late to learn that there is one.
            if len(chosen.validation) < 2:
                raise CardiacError(
                    f"The split {self.split!r} leaves {len(chosen.validation)} of {len(patients)} patients of "
                    f"{self.data} unseen, too few for two halves; choose another --split."
                )
            return chosen
        seen = _seen(bundle)
        if bundle is None or seen is None:
            raise CardiacError("It is not known which patients the generator never saw; state them with --split.")
        stated = Split.from_dict(bundle.info["training"]["image_denoiser"]["facts"]["split"])
        train = tuple(p for p in patients if p in seen)
        validation = tuple(p for p in patients if p in set(stated.validation) - seen)
        if not train or len(validation) < 2:
            raise CardiacError(
                f"{self.data} has {len(train)} training and {len(validation)} validation patients of the model "
                f"{bundle.name if bundle else ''}, too few to compare; choose others with --split."
            )
        return Split(train, validation, stated.rule)

    def _warn_of_overlap(self, segmenter: Segmenter, split: Split, context: Context) -> None:
        common = sorted(set(segmenter.bundle.training_patients() or ()) & set(split.validation))
        if common:
            context.say(
                f"The segmenter {segmenter.bundle.name} was trained on {len(common)} of the patients that stand for "
                f"the unseen ({common[0]}), which flatters the real figures; choose another --split or --segmenter."
            )

    def _fingerprint(self) -> str:
        from ..datasets import read_cases
        from ..datasets.pack import fingerprint

        return fingerprint(read_cases(self.synthetic)[1])

    def _facts(
        self,
        synthetic: SliceSet,
        training: SliceSet,
        validation: SliceSet,
        split: Split,
        segmenter: Segmenter,
        bundle: Bundle | None,
        made_with: Mapping[str, Any],
    ) -> dict[str, str]:
        return {
            "Made slices": f"{len(synthetic)} in {self.synthetic.resolve().name}",
            "Made with": ", ".join(f"{k} {v}" for k, v in made_with.items() if v is not None and "sha256" not in k),
            "Generator": f"{bundle.name} {bundle.version} ({bundle.sha256[:16]})" if bundle else "not at hand",
            "Segmenter": f"{segmenter.bundle.name} {segmenter.bundle.version} ({segmenter.bundle.sha256[:16]})",
            "Training patients": f"{len(split.train)} ({len(training)} slices)",
            "Validation patients": f"{len(split.validation)} ({len(validation)} slices), rule {split.rule}",
            "Seed": str(self.seed),
        }


def _seen(bundle: Bundle | None) -> set[str] | None:
    """Patients whom either network of a generator learned from; None where that is not known."""
    from ..bundle import GENERATOR, NETWORKS

    if bundle is None:
        return None
    seen: set[str] = set()
    for part in NETWORKS[GENERATOR]:
        patients = bundle.training_patients(part)
        if patients is None:
            return None
        seen.update(patients)
    return seen


def _summary(sections: list[Any]) -> list[str]:
    judged = [figure for section in sections for figure in section.figures if figure.good is not None]
    missed = [figure.name for figure in judged if not figure.good]
    first = f"{len(judged) - len(missed)} of {len(judged)} figures reach their bar."
    return [first, f"Missed: {'; '.join(missed)}."] if missed else [first]


def _told(report: Report) -> dict[str, str]:
    """The figures with a bar as lines for the terminal."""
    lines = {}
    for section in report.sections:
        for figure in section.figures:
            if figure.bar is None:
                continue
            value = "not measured" if figure.value is None else f"{figure.value:.3f}"
            sign = ">=" if figure.bar.at_least else "<="
            word = {True: "good", False: "missed", None: "not measured"}[figure.good]
            lines[f"{section.key}.{figure.key}"] = f"{value} ({sign} {figure.bar.limit:.3f}: {word})"
    return lines
