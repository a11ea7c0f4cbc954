"""The jobs that train the two networks on real patients."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CardiacError
from .base import Context, Job, option

if TYPE_CHECKING:
    from ..datasets.pack import SlicePack
    from ..training.loop import Recipe, Task


@dataclass(kw_only=True)
class TrainingJob(Job):
    """Parameters that both trainings share."""

    data: Path = option(..., "data set of real patients; its layout is recognized")
    output: Path = option(..., "folder of the snapshots")
    steps: int = option(10000, "optimizer steps", minimum=1, maximum=10**7)
    split: str = option(
        "fraction 0.2",
        "which patients validate: 'fraction 0.2', 'mod 5 == 4' on the patient's number, 'list FILE', or 'none'",
    )
    seed: int = option(0, "of weights, order, noise and deformations", minimum=0, maximum=2**32 - 1)
    batch_size: int = option(16, "samples a step over all devices", minimum=1, maximum=4096)
    learning_rate: float = option(5e-4, "of AdamW after warm-up", minimum=1e-7, maximum=1)
    warmup_steps: int = option(200, "steps over which the learning rate rises", minimum=0, maximum=10**6)
    cooldown: float = option(0.25, "last share of the steps, over which the learning rate falls", minimum=0, maximum=1)
    ema_decay: float = option(0.999, "of the moving average of the weights", minimum=0, maximum=0.99999)
    drop_attributes: float = option(0.3, "chance that attributes are hidden", minimum=0, maximum=1)
    snapshot_minutes: float = option(5.0, "time between snapshots", minimum=0.01, maximum=1440)
    device: str = option("auto", "auto, cuda, mps or cpu; use accelerate launch for several")
    precision: str = option("auto", "bfloat16 where it is fast", choices=("auto", "bf16", "fp32"))
    resume: bool = option(False, "go on from the latest snapshot in the folder")

    def run(self, context: Context) -> dict[str, Any]:
        """Read the data, train, and leave snapshots."""
        from ..training.loop import train
        from ..training.snapshots import latest_snapshot

        if not self.resume and latest_snapshot(self.output) is not None:
            raise CardiacError(
                f"{self.output} holds the snapshots of an earlier training; add --resume, or choose another folder.",
                "bad_output",
            )
        training, validation, facts = self._packs(context)
        task = self.task(training, validation)
        train(
            task,
            self.recipe(),
            self.output,
            device=self.device,
            precision=self.precision,
            resume=self.resume,
            facts=facts,
            report=lambda state: context.progress(state.step, state.steps, state.message),
            check=context.check,
        )
        snapshot = latest_snapshot(self.output)
        assert snapshot is not None
        return {"snapshot": str(snapshot), "sheet": str(snapshot / "sheet.png")}

    def recipe(self) -> Recipe:
        """How to train."""
        from ..training.loop import Recipe

        shared = ("steps", "seed", "batch_size", "learning_rate", "warmup_steps", "cooldown", "ema_decay")
        more = ("drop_attributes", "snapshot_minutes")
        return Recipe(**{name: getattr(self, name) for name in (*shared, *more)})

    def task(self, training: SlicePack, validation: SlicePack) -> Task:
        """What to train."""
        raise NotImplementedError

    def _packs(self, context: Context) -> tuple[SlicePack, SlicePack, dict[str, Any]]:
        from ..datasets import read_cases
        from ..datasets.pack import pack_cases
        from ..datasets.splits import split_patients

        reader, cases = read_cases(self.data)
        context.say(f"{self.data} was read as {reader.DESCRIPTION}.")
        pack = pack_cases(cases, progress=lambda done, total: context.progress(done, total, "reading"))
        split = split_patients(sorted(set(pack.patients.tolist())), self.split, self.seed)
        training, validation = pack.of_patients(split.train), pack.of_patients(split.validation)
        context.say(
            f"{len(split.train)} patients ({len(training)} slices) train, "
            f"{len(split.validation)} ({len(validation)} slices) validate."
        )
        facts = {"reader": reader.NAME, "slices": len(training), "split": asdict(split)}
        return training, validation, facts


@dataclass(kw_only=True)
class TrainMasks(TrainingJob):
    """Stage 1: outlines from noise."""

    NAME: ClassVar[str] = "train-masks"
    HELP: ClassVar[str] = "train the mask network on real masks"

    def task(self, training: SlicePack, validation: SlicePack) -> Task:
        """The mask network and its data."""
        import torch

        from ..networks.mask_denoiser import MaskDenoiser
        from ..training.tasks import MaskTask

        torch.manual_seed(self.seed)
        return MaskTask(MaskDenoiser(), training, validation, self.drop_attributes)


@dataclass(kw_only=True)
class TrainImages(TrainingJob):
    """Stage 2: slices from masks."""

    NAME: ClassVar[str] = "train-images"
    HELP: ClassVar[str] = "train the image network on real slices and their masks"

    half_resolution_steps: int = option(
        4000, "first steps, at half the resolution for a quarter of the cost", minimum=0, maximum=10**7
    )

    def recipe(self) -> Recipe:
        """How to train, beginning at half the resolution."""
        from dataclasses import replace

        return replace(super().recipe(), half_resolution_steps=self.half_resolution_steps)

    def task(self, training: SlicePack, validation: SlicePack) -> Task:
        """The image network and its data."""
        import torch

        from ..networks.image_denoiser import ImageDenoiser
        from ..training.tasks import ImageTask

        torch.manual_seed(self.seed)
        return ImageTask(ImageDenoiser(), training, validation, self.drop_attributes)
