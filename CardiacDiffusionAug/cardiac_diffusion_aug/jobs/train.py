"""The jobs that train the networks of a generator on real patients, and what they share with other trainings."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from ..errors import CardiacError
from .base import Context, Job, flag, option, options

if TYPE_CHECKING:
    from torch import nn

    from ..bundle import Bundle
    from ..datasets.pack import SlicePack
    from ..datasets.splits import Split
    from ..training.loop import Recipe, Task, TrainingProgress
    from ..training.objectives import Objective

N = TypeVar("N")

FROM_NOTHING = {"learning_rate": 5e-4, "warmup_steps": 200, "ema_decay": 0.999}
FROM_WEIGHTS = {"learning_rate": 2e-4, "ema_decay": 0.995}
LEAST_STEPS, MOST_STEPS, FOLLOWING_STEPS = 500, 10000, 2000
SHARE_FROM_WEIGHTS = 0.25
"""Of the steps of a training from nothing, for one that starts from weights."""
HALF_RESOLUTION_SHARE = 0.6
TOLD_STEPS, TOLD_SECONDS = 10, 0.5
"""Between two losses that are told."""


class Figures:
    """Tells of a running training: in the line of progress, and as results that can be drawn.

    Args:
        context: is told.
        earlier: steps of the stage before this one.
    """

    def __init__(self, context: Context, earlier: int = 0) -> None:
        self._context, self._earlier = context, earlier
        self._step, self._time = -math.inf, -math.inf
        self._validated = ""

    def step(self, state: TrainingProgress) -> None:
        """After each step."""
        self._context.progress(state.step, state.steps, state.message + self._validated)
        now = time.monotonic()
        is_due = state.step - self._step >= TOLD_STEPS and now - self._time >= TOLD_SECONDS
        if is_due or state.step == state.steps:
            self._step, self._time = state.step, now
            loss = state.loss if math.isfinite(state.loss) else None
            self._context.result({"step": self._earlier + state.step, "loss": loss})

    def validation(self, row: dict[str, Any]) -> None:
        """After each snapshot."""
        dice = row.get("validation_dice")
        if dice is None:
            return
        self._validated = "" if dice["mean"] is None else f", Dice {dice['mean']:.3f}"
        self._context.result({"step": self._earlier + row["step"], "validation_dice": dict(dice), "mean": dice["mean"]})


@dataclass(kw_only=True)
class TrainingJob(Job):
    """Parameters that all trainings share."""

    WIDE: ClassVar[bool] = False
    """Whether slices show the whole field of view."""

    data: Path = option(..., "data set of real patients; its layout is recognized")
    output: Path = option(..., "folder of the snapshots")
    steps: int = option(10000, "optimizer steps", minimum=1, maximum=10**7)
    split: str = option(
        "fraction 0.2",
        "which patients validate: 'fraction 0.2', 'mod 5 == 4' on the patient's number, 'list FILE', or 'none'",
    )
    patients: str | None = option(
        None, "of the others, those that train: how many ('8'), which share ('0.1'), or a file with a name a line; all"
    )
    seed: int = option(0, "of weights, order, noise and deformations", minimum=0, maximum=2**32 - 1)
    batch_size: int = option(16, "samples a step over all devices", minimum=1, maximum=4096)
    learning_rate: float = option(5e-4, "of AdamW after warm-up", minimum=1e-7, maximum=1)
    warmup_steps: int = option(200, "steps over which the learning rate rises", minimum=0, maximum=10**6)
    cooldown: float = option(0.25, "last share of the steps, over which the learning rate falls", minimum=0, maximum=1)
    ema_decay: float = option(0.999, "of the moving average of the weights", minimum=0, maximum=0.99999)
    snapshot_minutes: float = option(5.0, "time between snapshots", minimum=0.01, maximum=1440)
    device: str = option("auto", "auto, cuda, mps or cpu; use accelerate launch for several")
    precision: str = option("auto", "bfloat16 where it is fast", choices=("auto", "bf16", "fp32"))
    compile: bool = option(
        False, "compile the network first, in half a minute; a U-Net then trains in two thirds of the time"
    )
    resume: bool = option(False, "go on from the latest snapshot in the folder")

    def run(self, context: Context) -> dict[str, Any]:
        """Read the data, and train with what suits it in place of what was not given."""
        for place in self.places():
            self.require_resumable(place)
        packs = self.packs(context)
        suited = self.suited(len(packs[0]))
        job = replace(self, **{n: v for n, v in suited.items() if getattr(self, n) is None})
        return job.carry_out(*packs, context)

    def places(self) -> tuple[Path, ...]:
        """Where snapshots are left."""
        return (self.output,)

    def suited(self, slices: int) -> dict[str, Any]:
        """Values for options that are None, where so many slices train."""
        return {}

    def carry_out(
        self, training: SlicePack, validation: SlicePack, facts: dict[str, Any], context: Context
    ) -> dict[str, Any]:
        """Train on slices, and leave snapshots."""
        from ..training.snapshots import latest_snapshot

        self.train(self.task(training, validation), self.recipe(), self.output, facts, context)
        snapshot = latest_snapshot(self.output)
        assert snapshot is not None
        return {"snapshot": str(snapshot), "sheet": str(snapshot / "sheet.png")}

    def require_resumable(self, folder: Path) -> None:
        """Refuse a folder with snapshots, unless they are to be gone on from.

        Raises:
            CardiacError: it has, and they are not.
        """
        from ..training.snapshots import latest_snapshot

        if not self.resume and latest_snapshot(folder) is not None:
            raise CardiacError(
                f"{folder} holds the snapshots of an earlier training; add --resume, or choose another folder.",
                "bad_output",
            )

    def train(
        self, task: Task, recipe: Recipe, folder: Path, facts: dict[str, Any], context: Context, earlier: int = 0
    ) -> nn.Module:
        """Train a task in a folder of snapshots, and return its network with the averaged weights.

        Args:
            task, recipe, folder, facts: as for the training loop.
            context: is told how it goes.
            earlier: steps of the stage before this one.
        """
        from ..training.loop import train

        self._require_same_beginning(folder, facts)
        figures = Figures(context, earlier)
        network = train(
            task,
            recipe,
            folder,
            device=self.device,
            precision=self.precision,
            compiles=self.compile,
            resume=self.resume,
            facts=facts,
            report=figures.step,
            validated=figures.validation,
            check=context.check,
            finishing=context.finishing,
        )
        if context.finishing():
            context.say("The training ends early, as asked; the best of what it learned is kept.")
        return network

    def _require_same_beginning(self, folder: Path, facts: dict[str, Any]) -> None:
        """Whoever goes on builds on the models and patients that it began with, or some of these would be forgotten.

        Raises:
            CardiacError: it began with others, or with no model.
        """
        from ..training.snapshots import latest_snapshot, snapshot_facts

        found = latest_snapshot(folder) if self.resume else None
        begun = facts if found is None else snapshot_facts(found)
        if json.dumps(begun.get("split")) != json.dumps(facts.get("split")):
            raise CardiacError(
                f"The snapshots in {folder} were begun with other patients to train or validate; go on with the same "
                "--data, --split, --patients and --seed, or choose another folder."
            )
        for name in ("start", "teacher"):
            if begun.get(name) != facts.get(name):
                was = f"{flag(name)} {begun[name]['name']}" if begun.get(name) else f"no {flag(name)}"
                raise CardiacError(
                    f"The snapshots in {folder} were begun with {was}; go on with the same, or choose another folder."
                )

    def recipe(self) -> Recipe:
        """How to train."""
        from ..training.loop import Recipe

        names = {field.name for field in dataclasses.fields(Recipe)} & {field.name for field in options(type(self))}
        return Recipe(**{name: getattr(self, name) for name in names})

    def task(self, training: SlicePack, validation: SlicePack) -> Task:
        """What to train."""
        raise NotImplementedError

    def packs(self, context: Context) -> tuple[SlicePack, SlicePack, dict[str, Any]]:
        """Slices that train and that validate, and where they come from."""
        from ..datasets import read_cases
        from ..datasets.pack import PACK_SIZE, WIDE_PACK_SIZE, pack_cases
        from ..datasets.splits import split_patients

        reader, cases = read_cases(self.data)
        context.say(f"{self.data} was read as {reader.DESCRIPTION}.")
        self._require_patients([case.patient for case in cases if case.labelled])
        size = WIDE_PACK_SIZE if self.WIDE else PACK_SIZE
        pack = pack_cases(cases, progress=lambda d, n: context.progress(d, n, "reading"), size=size)
        split = self.chosen(split_patients(sorted(set(pack.patients.tolist())), self.split, self.seed))
        training, validation = pack.of_patients(split.train), pack.of_patients(split.validation)
        context.say(
            f"{len(split.train)} patients ({len(training)} slices) train, "
            f"{len(split.validation)} ({len(validation)} slices) validate."
        )
        facts = {
            "reader": reader.NAME,
            "slices": len(training),
            "split": asdict(split),
            "attributes": training.attribute_table(),
        }
        return training, validation, facts

    def _require_patients(self, patients: list[str]) -> None:
        if len(set(patients)) == 1 and self.split.strip() != "none":
            raise CardiacError(
                f"{self.data} has one labelled patient, {patients[0]}, who cannot be learned from and judged by at "
                "once; label another patient, or use --split none."
            )

    def chosen(self, split: Split) -> Split:
        """The split with those of its training patients alone that are asked for."""
        if self.patients is None:
            return split
        from ..datasets.splits import take_patients

        return replace(split, train=take_patients(split.train, self.patients, self.seed))


@dataclass(kw_only=True)
class GeneratorTraining(TrainingJob):
    """Parameters that the trainings of both networks of a generator share."""

    PART: ClassVar[str]
    """Of a generator that is trained."""
    PASSES: ClassVar[int]
    """Over the training slices, after which a network that saw those of 8 patients of ACDC got no better on 18 other
    training patients."""

    # These are never None once the training runs.
    steps: int = option(
        None,
        "optimizer steps; as many as the number of slices bears before the network learns them by heart, at most "
        "10000; a quarter of them with --start, and 2000 with --teacher",
        minimum=1,
        maximum=10**7,
    )
    learning_rate: float = option(
        None, "of AdamW after warm-up; 0.0005, or 0.0002 with --start or --teacher", minimum=1e-7, maximum=1
    )
    warmup_steps: int = option(
        None,
        "steps over which the learning rate rises; 200, or a tenth of them with --start or --teacher",
        minimum=0,
        maximum=10**6,
    )
    ema_decay: float = option(
        None,
        "of the moving average of the weights; 0.999, or 0.995 with --start or --teacher",
        minimum=0,
        maximum=0.99999,
    )
    drop_attributes: float = option(0.3, "chance that attributes are hidden", minimum=0, maximum=1)
    start: str | None = option(
        None, "model of other patients, whose weights the training starts from; their names go with the new one"
    )
    teacher: str | None = option(
        None, "model whose samples are learned to be made in few calls, best one of the same patients"
    )
    calls: int = option(4, "network calls for a sample, with --teacher", minimum=1, maximum=100)

    @property
    def is_from_nothing(self) -> bool:
        """Whether it builds on no other model."""
        return self.start is None and self.teacher is None

    def suited(self, slices: int) -> dict[str, Any]:
        """What suits a training from nothing or from weights on so many slices, or one that follows a teacher."""
        borne = min(max(round(self.PASSES * slices / self.batch_size), LEAST_STEPS), MOST_STEPS)
        if self.is_from_nothing:
            return {**FROM_NOTHING, "steps": borne}
        steps = FOLLOWING_STEPS if self.start is None else round(SHARE_FROM_WEIGHTS * borne)
        return {**FROM_WEIGHTS, "steps": steps, "warmup_steps": (self.steps or steps) // 10}

    def packs(self, context: Context) -> tuple[SlicePack, SlicePack, dict[str, Any]]:
        """Slices that train and that validate, and where they come from; the model that it builds on too."""
        if self.start is not None and self.teacher is not None:
            raise CardiacError(
                "--start and --teacher are both given, but whoever follows a teacher starts from its weights; leave "
                "one out."
            )
        models = {"start": self._start(), "teacher": self._teacher()}
        training, validation, facts = super().packs(context)
        for asked, bundle in models.items():
            if bundle is not None:
                seen = bundle.training_patients(self.PART)
                self._require_apart(bundle, asked, seen, facts["split"]["validation"])
                named = {"name": bundle.name, "version": bundle.version, "sha256": bundle.sha256}
                facts[asked] = {**named, "patients": seen}
        if self.teacher is not None:
            facts["teacher"]["calls"] = self.calls
        return training, validation, facts

    def learned(self, network: Callable[[], N], step_mean: float, flow: Objective) -> tuple[N, Objective]:
        """A network, and what it learns: the flow, new or from weights, or, as its teacher, to follow the teacher."""
        import torch

        from ..training.objectives import FewCalls

        start, teacher = self._start(), self._teacher()
        torch.manual_seed(self.seed)
        if teacher is not None:
            student = cast("N", teacher.network(self.PART).train())
            return student, FewCalls(teacher.network(self.PART), self.calls, step_mean)
        return network() if start is None else cast("N", start.network(self.PART).train()), flow

    def _start(self) -> Bundle | None:
        from ..bundle import GENERATOR, load_bundle

        return None if self.start is None else load_bundle(self.start, GENERATOR)

    def _teacher(self) -> Bundle | None:
        from ..bundle import GENERATOR, load_bundle

        if self.teacher is None:
            return None
        bundle = load_bundle(self.teacher, GENERATOR)
        if bundle.fixed_calls:
            raise CardiacError(
                f"The model {bundle.name} was itself taught by another to make its samples in few calls; give that "
                "other one as --teacher.",
                "bad_model",
            )
        return bundle

    def _require_apart(self, bundle: Bundle, asked: str, seen: Sequence[str] | None, validation: Sequence[str]) -> None:
        known = sorted(set(seen or ()) & set(validation))
        if known or (seen is None and validation):
            why = f"learned from {known[0]}, who validates here" if known else "does not say whom it learned from"
            raise CardiacError(
                f"The model {bundle.name}, given as {flag(asked)}, {why}; choose another --split, such as 'none', or "
                "another model.",
                "bad_model",
            )


@dataclass(kw_only=True)
class TrainMasks(GeneratorTraining):
    """Stage 1: outlines from noise."""

    NAME: ClassVar[str] = "train-masks"
    HELP: ClassVar[str] = "train the mask network on real masks"
    PART: ClassVar[str] = "mask_denoiser"
    PASSES: ClassVar[int] = 130

    def task(self, training: SlicePack, validation: SlicePack) -> Task:
        """The mask network and its data."""
        from ..networks.mask_denoiser import MaskDenoiser
        from ..training.tasks import MASK_DEFORMATION, MASK_FLOW, MASK_STEP_MEAN, MaskTask

        network, objective = self.learned(MaskDenoiser, MASK_STEP_MEAN, MASK_FLOW)
        return MaskTask(network, training, validation, self.drop_attributes, MASK_DEFORMATION, objective)


@dataclass(kw_only=True)
class TrainImages(GeneratorTraining):
    """Stage 2: slices from masks."""

    NAME: ClassVar[str] = "train-images"
    HELP: ClassVar[str] = "train the image network on real slices and their masks"
    PART: ClassVar[str] = "image_denoiser"
    PASSES: ClassVar[int] = 195

    half_resolution_steps: int = option(
        None,
        "first steps, at half the resolution for a quarter of the cost; 0.6 of them, or none with --start or --teacher",
        minimum=0,
        maximum=10**7,
    )

    def suited(self, slices: int) -> dict[str, Any]:
        """As for both, and how long to stay at half the resolution."""
        suited = super().suited(slices)
        share = HALF_RESOLUTION_SHARE if self.is_from_nothing else 0.0
        return {**suited, "half_resolution_steps": int(share * (self.steps or suited["steps"]))}

    def recipe(self) -> Recipe:
        """How to train.

        Raises:
            CardiacError: the network would never see a whole slice.
        """
        if self.half_resolution_steps and self.half_resolution_steps >= self.steps:
            raise CardiacError(
                f"--half-resolution-steps is {self.half_resolution_steps}, but must be fewer than the {self.steps} of "
                "--steps, or the network never sees a whole slice."
            )
        return super().recipe()

    def task(self, training: SlicePack, validation: SlicePack) -> Task:
        """The image network and its data."""
        from ..networks.image_denoiser import ImageDenoiser
        from ..training.tasks import IMAGE_DEFORMATION, IMAGE_FLOW, IMAGE_STEP_MEAN, ImageTask

        network, objective = self.learned(ImageDenoiser, IMAGE_STEP_MEAN, IMAGE_FLOW)
        return ImageTask(network, training, validation, self.drop_attributes, IMAGE_DEFORMATION, objective)
