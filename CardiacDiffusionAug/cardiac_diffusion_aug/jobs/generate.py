"""The job that makes masks and images from noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..attributes import GROUPS, PHASES, Attributes, parse_level
from ..errors import CardiacError
from .base import Context, Job, option, warm_generator, warm_segmenter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..export import DatasetWriter
    from ..filtering import Judge
    from ..generation import GeneratedCase, Generator


@dataclass(kw_only=True)
class SamplingJob(Job):
    """Parameters that both making jobs share."""

    output: Path = option(..., "folder for the data set (nnU-Net v2 raw, with manifest.csv and preview.png)")
    seed: int = option(0, "of the noise; case k of a seed is always the same", minimum=0, maximum=2**32 - 1)
    variations: int = option(1, "images for each mask", minimum=1, maximum=1000)
    phase: str | None = option(None, "phase of the cycle; any when not given", choices=PHASES)
    level: float | None = option(
        None, "slice level: apical, mid, basal, or 0 (apex) to 1 (base)", minimum=0, maximum=1, convert=parse_level
    )
    group: str | None = option(None, "diagnostic group; any when not given", choices=GROUPS)
    model: str = option("acdc-128", "name or folder of the model")
    steps: int | None = option(None, "network calls for an image; the model's own default", minimum=1, maximum=1000)
    guidance_scale: float | None = option(
        None, "strength of phase, level and group; 1 is none; the model's own default", minimum=0, maximum=20
    )
    batch_size: int | None = option(None, "images at a time; what fits into memory", minimum=1, maximum=4096)
    device: str = option("auto", "auto, cuda, cuda:1, mps or cpu")
    precision: str = option("auto", "of the image network: bfloat16 where it is fast", choices=("auto", "bf16", "fp32"))
    resume: bool = option(False, "go on with a data set that was interrupted")
    overwrite: bool = option(False, "replace an earlier data set in the folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume and self.overwrite:
            raise CardiacError("--resume and --overwrite exclude each other: one keeps what is there, one removes it.")

    @property
    def attributes(self) -> Attributes:
        """What is asked of every case."""
        return Attributes(self.phase, self.group, self.level)

    def generator(self, context: Context) -> Generator:
        """The model, kept warm in the context."""
        from ..bundle import GENERATOR, load_bundle

        generator = warm_generator(context, load_bundle(self.model, GENERATOR), self.device, self.precision)
        generator.configure(self.steps, self.guidance_scale, self.batch_size)
        return generator

    def settings(self, generator: Generator) -> dict[str, Any]:
        """What the cases depend on; a resumed data set must have the same."""
        return {
            "job": self.NAME,
            "seed": self.seed,
            "variations": self.variations,
            **self.attributes.as_dict(),
            "model": generator.bundle.name,
            "model_version": generator.bundle.version,
            "model_sha256": generator.bundle.sha256,
            "steps": generator.steps,
            "guidance_scale": generator.guidance_scale,
            "bfloat16": generator.bfloat16,
        }

    def facts(self, generator: Generator) -> dict[str, Any]:
        """The part of the manifest's line that all cases share."""
        wanted = (
            "seed",
            "phase",
            "group",
            "level",
            "model",
            "model_version",
            "model_sha256",
            "steps",
            "guidance_scale",
        )
        settings = self.settings(generator)
        return {name: settings[name] for name in wanted}


@dataclass(kw_only=True)
class Generate(SamplingJob):
    """Masks and images from noise."""

    NAME: ClassVar[str] = "generate"
    HELP: ClassVar[str] = "make labelled slices from noise"

    count: int = option(8, "number of masks; each gets --variations images", minimum=1, maximum=10**8)
    draw_attributes: bool = option(
        True, "give what is not asked for (phase, level, group) the shares of the training data, or leave it open"
    )
    filter: bool = option(
        True, "keep only masks that are anatomically sound and images that fit them; others are redrawn"
    )
    filter_model: str = option("acdc-unet", "segmentation model that looks for the mask in the image")

    def run(self, context: Context) -> dict[str, Any]:
        """Make the cases and write each as soon as it is ready."""
        from ..export import DatasetWriter

        total = self.count * self.variations
        context.progress(0, total, "loading the model")
        generator = self.generator(context)
        judge = self._judge(context) if self.filter else None
        generator.draw_attributes = self.draw_attributes
        drawn = {"draw_attributes": self.draw_attributes}
        settings = {**self.settings(generator), **drawn, "filter": judge.segmenter.bundle.sha256 if judge else None}
        writer = DatasetWriter(self.output, settings, self.resume, self.overwrite)
        facts = {**self.facts(generator), "checks": judge.CHECKS if judge else ""}
        # An earlier run may have made more than are asked for now.
        done = min(writer.count, total)
        redrawn = 0
        context.progress(done, total)
        try:
            for made in self._cases(generator, judge, writer, context):
                context.check()
                self._write(made, writer, facts, context)
                done, redrawn = done + 1, redrawn + (made.draws > 1)
                context.progress(done, total)
        finally:
            preview = writer.finish()
        if redrawn:
            context.say(f"{redrawn} of {done} cases were drawn again because the first draw failed a check.")
        return {"output": str(self.output), "preview": str(preview), "cases": writer.count}

    def _judge(self, context: Context) -> Judge:
        from ..filtering import Judge

        return Judge(warm_segmenter(context, self.filter_model, self.device, self.precision))

    def _cases(
        self, generator: Generator, judge: Judge | None, writer: DatasetWriter, context: Context
    ) -> Iterator[GeneratedCase]:
        def skip(case: int, variation: int) -> bool:
            return self._name(case, variation) in writer.done

        asked = (self.count, self.seed, self.attributes, self.variations, skip, context.check)
        if judge is None:
            return generator.generate(*asked)
        from ..filtering import generate_filtered

        return generate_filtered(generator, judge, *asked)

    def _write(self, made: GeneratedCase, writer: DatasetWriter, facts: dict[str, Any], context: Context) -> None:
        name = self._name(made.case, made.variation)
        own = {"patient": f"synthetic{self.seed}-{made.case:06d}", "case": made.case, "variation": made.variation}
        dice = {f"dice_{key}": round(value, 4) for key, value in made.dice.items()}
        asked = {"asked": str(self.attributes), **made.attributes.as_dict()}
        told = {**asked, "draws": made.draws, "rejected": "; ".join(made.rejected), **dice}
        writer.add(name, *made.stacks(), {**facts, **own, **told})
        context.result({"name": name, **writer.files(name), **facts, **own, **told})

    def _name(self, case: int, variation: int) -> str:
        return f"synthetic{self.seed}_{case:06d}" + (f"_v{variation:03d}" if self.variations > 1 else "")
