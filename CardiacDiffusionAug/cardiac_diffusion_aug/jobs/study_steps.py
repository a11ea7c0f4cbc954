"""What each unit of a study does: it hands the work to the jobs that do it for users too."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..disk import writing_to
from ..evaluation.study.plan import (
    BOTH,
    COPYING,
    FILTER_SEED,
    FURTHER,
    GENERATOR,
    IMAGES,
    MADE,
    MASKS,
    PLAIN,
    QUALITY,
    SCORES,
    SYNTHETIC,
    TRADITIONAL,
    UNET,
    WITH_MADE,
    Fraction,
    Unit,
    made_count,
)
from ..evaluation.study.variants import BALANCED, OPEN, REAL, Variant
from .base import Context, Job, warm_generator, warm_segmenter

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..datasets import Case
    from ..evaluation.sets import SliceSet
    from ..evaluation.study.cohort import Cohort
    from ..evaluation.study.ledger import Clock, Ledger
    from .study import Study

MODEL, SET, SNAPSHOTS, LABELS = "model", "set", "snapshots", "masks"


class UnitContext(Context):
    """Passes a unit's progress on under the unit's name, and keeps what it says for its result.

    Args:
        outer: of the study.
        unit: that runs.
        clock: counts its time.
    """

    def __init__(self, outer: Context, unit: Unit, clock: Clock) -> None:
        super().__init__()
        self._outer, self._unit, self._clock = outer, unit, clock
        self.models, self.cancelled = outer.models, outer.cancelled
        self.said: list[str] = []

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Tell whose progress it is."""
        self._clock.tick(done / max(total, 1))
        self._outer.progress(done, total, f"{self._unit.name} {message}".strip())

    def say(self, message: str) -> None:
        """Keep it; a study has hundreds of such sentences."""
        self.said.append(message)


class Steps:
    """The work of each kind of unit.

    Args:
        study: its options.
        cohort: its patients.
        cases: of its data set, those with a mask.
        ledger: where its units lie.
        generators: by number of patients, where the user handed them in.
    """

    def __init__(
        self, study: Study, cohort: Cohort, cases: list[Case], ledger: Ledger, generators: Mapping[int, Bundle]
    ) -> None:
        self.study, self.cohort, self.cases, self.ledger, self.generators = study, cohort, cases, ledger, generators
        self._work: dict[str, Callable[[Unit, Path, Context], dict[str, Any]]] = {
            MASKS: self._masks,
            IMAGES: self._images,
            GENERATOR: self._generator,
            MADE: self._made,
            COPYING: self._copying,
            QUALITY: self._quality,
            UNET: self._unet,
            SCORES: self._scores,
            FURTHER: self._further,
        }

    def run(self, unit: Unit, context: Context) -> dict[str, Any]:
        """Do a unit's work, or what is left of it, and return what its result tells."""
        folder = self.ledger.place(unit)
        folder.mkdir(parents=True, exist_ok=True)
        return self._work[unit.kind](unit, folder, context)

    def tidy(self, unit: Unit) -> None:
        """Remove what a finished unit needs no more: the snapshots of U-Nets, most of a study's bytes."""
        if unit.kind == UNET:
            shutil.rmtree(self.ledger.place(unit) / f"{MODEL}.training", ignore_errors=True)

    @property
    def _device(self) -> dict[str, Any]:
        return {"device": self.study.device, "precision": self.study.precision}

    @property
    def _source(self) -> str:
        return self.study.data.resolve().name

    def _training(self, fraction: Fraction) -> dict[str, Any]:
        from ..evaluation.study.cohort import write_lists

        train, _ = write_lists(fraction, self.ledger.folder)
        return {"data": self.study.data, "patients": str(train), "batch_size": self.study.batch_size, "resume": True}

    def _masks(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        from .train import TrainMasks

        return _done(
            TrainMasks(
                **self._training(unit.fraction),
                **self._device,
                split="none",
                output=folder / SNAPSHOTS,
                **_stated(steps=self.study.mask_steps),
            ),
            context,
        )

    def _images(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        from .train import TrainImages

        return _done(
            TrainImages(
                **self._training(unit.fraction),
                **self._device,
                split="none",
                output=folder / SNAPSHOTS,
                **_stated(steps=self.study.image_steps, half_resolution_steps=self.study.half_resolution_steps),
            ),
            context,
        )

    def _generator(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        from .bundle import BuildBundle

        own = self.generators.get(unit.fraction.count)
        if own is not None:
            return {"model": str(own.path), "sha256": own.sha256, "given": True}
        masks, images = (self.ledger.place(key) / SNAPSHOTS for key in unit.needs)
        return _done(
            BuildBundle(
                masks=masks,
                images=images,
                output=folder / f"generator-{unit.fraction.count}",
                mask_steps=self.study.sampling_steps,
                image_steps=self.study.sampling_steps,
                training_data=f"{unit.fraction.name} of {self._source}",
                note="Made for a study of what synthetic pairs are worth; not for use.",
            ),
            context,
        )

    def _made(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        from ..bundle import load_bundle
        from .generate import Generate

        variant = unit.variant or Variant()
        if variant.ratio is not None:
            self._copy(self.ledger.place(unit.needs[0]) / SET, folder)
        if variant.masks == REAL:
            return self._made_of_real_masks(unit, folder, context)
        place = self.ledger.folder / unit.fraction.folder
        told = _done(
            Generate(
                **self._device,
                output=folder / SET,
                count=self._count(unit),
                model=self._model(unit),
                steps=variant.steps,
                draw_attributes=variant.attributes != OPEN,
                balance_groups=variant.groups == BALANCED,
                vary_shape=variant.shape or 0.0,
                filter=self.study.filter if variant.filter is None else variant.filter,
                filter_model=str(place / f"{TRADITIONAL}-{FILTER_SEED}" / UNET / MODEL),
                resume=True,
            ),
            context,
        )
        return {**told, "model_sha256": load_bundle(self._model(unit)).sha256}

    def _count(self, unit: Unit) -> int:
        ratio = None if unit.variant is None else unit.variant.ratio
        return made_count(unit.fraction, ratio or self.study.made_per_real)

    def _model(self, unit: Unit) -> str:
        if unit.variant is not None and unit.variant.model is not None:
            return str(unit.variant.model)
        own, count = self.generators.get(unit.fraction.count), unit.fraction.count
        if own is not None:
            return str(own.path)
        return str(self.ledger.folder / unit.fraction.folder / GENERATOR / f"generator-{count}")

    def _copy(self, smaller: Path, folder: Path) -> None:
        """Begin with a smaller set, to which more is added: a case is the same however many there are."""
        if (folder / SET).exists():
            return
        begun = folder / f"{SET}.part"
        with writing_to(folder):
            shutil.rmtree(begun, ignore_errors=True)
            shutil.copytree(smaller, begun)
            begun.rename(folder / SET)

    def _made_of_real_masks(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        """Images for the masks of the fraction's training patients in turn, each time from other noise."""
        from ..bundle import GENERATOR as KIND
        from ..bundle import load_bundle
        from ..datasets.pack import pack_cases
        from ..evaluation.sets import real_set
        from ..evaluation.study.real_masks import images_of_masks
        from ..export import DatasetWriter

        real = real_set(pack_cases(self.cases).of_patients(unit.fraction.train))
        generator = warm_generator(context, load_bundle(self._model(unit), KIND), **self._device)
        if unit.variant is not None:
            generator.configure(unit.variant.steps)
        settings = {"job": self.study.NAME, "model_sha256": generator.bundle.sha256, "steps": generator.steps}
        writer = DatasetWriter(folder / SET, settings, resume=True)
        try:
            for case in images_of_masks(generator, real, range(writer.count, self._count(unit)), context.check):
                name = f"synthetic{case.seed}_{case.case:06d}"
                # Never one of the real patients, whom splits might take it for.
                facts = {"patient": f"synthetic{case.seed}-{case.case:06d}", "seed": case.seed, "case": case.case}
                writer.add(name, *case.stacks(), facts)
                context.progress(writer.count, self._count(unit))
        finally:
            writer.finish()
        return {"output": str(folder / SET), "cases": writer.count, "model_sha256": generator.bundle.sha256}

    def _copying(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        from ..evaluation.copying import Slices, copying
        from ..evaluation.report import figure_json
        from ..evaluation.sections import copying_section

        made, training, test = self._sets(unit)
        found = copying(*(Slices(one.images, one.masks) for one in (training, test, made)))
        section = copying_section(found, made, training, test)
        return {"slices": len(made), "figures": [{"key": f.key, **figure_json(f)} for f in section.figures]}

    def _quality(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        from ..evaluation.study.benefit import quality

        made, training, test = self._sets(unit)
        judge = warm_segmenter(context, self.study.quality_model, **self._device)
        figures = quality(made, training, test, judge, context.check)
        return {"slices": len(made), "judge_sha256": judge.bundle.sha256, "figures": figures}

    def _sets(self, unit: Unit) -> tuple[SliceSet, SliceSet, SliceSet]:
        """What was made, the slices that its generator learned from, and those of the test patients."""
        from ..datasets.pack import pack_cases
        from ..evaluation.sets import real_set, synthetic_set

        pack = pack_cases(self.cases)
        training, test = (real_set(pack.of_patients(part)) for part in (unit.fraction.train, self.cohort.test))
        return synthetic_set(self.ledger.place(unit.needs[0]) / SET)[0], training, test

    def _unet(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        from ..evaluation.study.cohort import write_lists
        from .train_unet import TrainUnet

        _, select = write_lists(unit.fraction, self.ledger.folder)
        variant, made = unit.variant or Variant(), {}
        if unit.arm in WITH_MADE:
            made = {"synthetic": self.ledger.place(unit.needs[0]) / SET, "synthetic_count": self._count(unit)}
        share = self.study.synthetic_share if variant.share is None else variant.share
        arm: dict[str, dict[str, Any]] = {
            PLAIN: {"augmentation": "none"},
            TRADITIONAL: {},
            SYNTHETIC: {**made, "synthetic_share": 1.0},
            BOTH: {**made, "synthetic_share": share, "mixing": variant.mixing or self.study.mixing},
        }
        augmentation = {"augmentation": self.study.augmentation, **arm[unit.arm]}
        return _done(
            TrainUnet(
                **self._training(unit.fraction),
                **self._device,
                **augmentation,
                split=f"list {select}" if unit.fraction.select else "none",
                output=folder / MODEL,
                steps=self.study.unet_steps,
                network=self.study.network,
                compile=self.study.compile,
                learning_rate=self.study.learning_rate,
                seed=unit.seed,
                training_data=f"{unit.fraction.name} of {self._source}",
                note=f"Made for a study of what synthetic pairs are worth ({unit.arm} arm); not for use.",
            ),
            context,
        )

    def _scores(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        return self._scored(unit, folder, context, self.study.data, [c for c in self.cases if c.patient in self._test])

    def _further(self, unit: Unit, folder: Path, context: Context) -> dict[str, Any]:
        from ..datasets import read_cases

        assert self.study.test_data is not None
        return self._scored(unit, folder, context, self.study.test_data, read_cases(self.study.test_data)[1])

    @property
    def _test(self) -> frozenset[str]:
        return frozenset(self.cohort.test)

    def _scored(self, unit: Unit, folder: Path, context: Context, data: Path, cases: list[Case]) -> dict[str, Any]:
        from ..disk import write_whole
        from ..evaluation.scores import scores_table
        from ..evaluation.study.results import SMALL_TABLE
        from ..evaluation.study.scoring import label_cases, small_scores, with_heart
        from .score import ScoreJob

        chosen = with_heart(cases)
        segmenter = warm_segmenter(context, str(self.ledger.place(unit.needs[0]) / MODEL), **self._device)
        with writing_to(folder):
            label_cases(chosen, segmenter, folder / LABELS, context.check, context.progress)
            write_whole(folder / SMALL_TABLE, scores_table(small_scores(chosen, folder / LABELS)))
        told = ScoreJob(predictions=folder / LABELS, references=data, output=folder).run(context)
        return {"volumes": told["volumes"], "data": str(data)}


def _stated(**options: Any) -> dict[str, Any]:
    """Those of the options that are not left to the job."""
    return {name: value for name, value in options.items() if value is not None}


def _done(job: Job, context: Context) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in job.run(context).items()}
