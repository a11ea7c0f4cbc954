"""The job that makes masks and images from noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..attributes import GROUPS, PHASES, Attributes, parse_level
from ..errors import CardiacError
from ..parts import parse_part
from .base import Context, Job, option, warm_generator, warm_segmenter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..export import DatasetWriter
    from ..filtering import Judge
    from ..generation import GeneratedCase, Generator

FEWEST_WAITING = 8
"""Made cases that may wait for being written, beside a batch of them."""


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
    batch_size: int | None = option(
        None, "images at a time; what fits into memory, and on a processor what is fastest", minimum=1, maximum=4096
    )
    device: str = option("auto", "auto, cuda, cuda:1, mps or cpu")
    precision: str = option("auto", "bfloat16 where it is fast", choices=("auto", "bf16", "fp32"))
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
    balance_groups: bool = option(
        False, "draw diagnostic groups that are not asked for equally often, not in the shares of the training data"
    )
    vary_shape: float = option(
        0.0,
        "mm by which cavity, wall and RV of each mask are made larger or smaller at most, for proportions that the "
        "training patients lack",
        minimum=0,
        maximum=10,
    )
    filter: bool = option(
        True, "keep only masks that are anatomically sound and images that fit them; others are redrawn"
    )
    filter_model: str = option("acdc-unet", "segmentation model that looks for the mask in the image")
    part: str | None = option(
        None, "make a part only, such as 2/4 for every fourth case from the second on; parts share one --output"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._part = None if self.part is None else parse_part(self.part)
        if self.balance_groups and not self.draw_attributes:
            raise CardiacError(
                "--balance-groups and --no-draw-attributes exclude each other: one draws what one leaves."
            )
        if self._part is not None and self.overwrite:
            raise CardiacError("--part and --overwrite exclude each other: a part never removes what others made.")

    def run(self, context: Context) -> dict[str, Any]:
        """Make the cases and write each as soon as it is ready."""
        from ..beside import Beside
        from ..export import DatasetWriter

        own = len(self._own_cases) * self.variations
        context.progress(0, own, "loading the model")
        generator = self.generator(context)
        judge = self._judge(context) if self.filter else None
        asked = (self.steps, self.guidance_scale, self.batch_size, self.draw_attributes, self.balance_groups)
        generator.configure(*asked, self.vary_shape)
        # Sets of earlier versions do not name what they could not ask for, and have masks in float32.
        later = {
            "balance_groups": self.balance_groups,
            "vary_shape": self.vary_shape,
            "masks_bfloat16": generator.bfloat16,
        }
        drawn = {"draw_attributes": self.draw_attributes, **{name: value for name, value in later.items() if value}}
        settings = {**self.settings(generator), **drawn, "filter": judge.segmenter.bundle.sha256 if judge else None}
        writer = DatasetWriter(self.output, settings, self.resume, self.overwrite, self._part)
        facts = {**self.facts(generator), "checks": judge.CHECKS if judge else ""}
        # An earlier run may have made more than are asked for now.
        done = sum(name in writer.done for name in self._names(self._own_cases)) if writer.done else 0
        redrawn = made_now = 0

        def tell(result: dict[str, Any]) -> None:
            nonlocal done
            done += 1
            context.result(result)
            context.progress(done, own)

        def check() -> None:
            files.look()
            context.check()

        context.progress(done, own)
        try:
            # Room for a batch, so that the next one begins while it is written.
            with Beside(partial(self._write, writer, facts), tell, FEWEST_WAITING + generator.largest_batch) as files:
                for made in self._cases(generator, judge, writer, check):
                    files.put(made)
                    redrawn, made_now = redrawn + (made.draws > 1), made_now + 1
                    context.check()
        finally:
            preview = writer.finish(wanted=self._names(range(self.count)))
        if redrawn:
            context.say(f"{redrawn} of {made_now} cases were drawn again because the first draw failed a check.")
        outcome = {"output": str(self.output), "cases": writer.count}
        if writer.finished:
            return {**outcome, "preview": str(preview)}
        context.say(f"Part {self.part} is done; {self.output} is complete once the other parts are.")
        return outcome

    def _judge(self, context: Context) -> Judge:
        from ..filtering import Judge

        return Judge(warm_segmenter(context, self.filter_model, self.device, self.precision))

    def _cases(
        self, generator: Generator, judge: Judge | None, writer: DatasetWriter, check: Callable[[], None]
    ) -> Iterator[GeneratedCase]:
        def skip(case: int, variation: int) -> bool:
            return case not in self._own_cases or self._name(case, variation) in writer.done

        asked = (self.count, self.seed, self.attributes, self.variations, skip, check)
        if judge is None:
            return generator.generate(*asked)
        from ..filtering import generate_filtered

        return generate_filtered(generator, judge, *asked)

    def _write(self, writer: DatasetWriter, facts: dict[str, Any], made: GeneratedCase) -> dict[str, Any]:
        """Write a case, and return what is told of it."""
        name = self._name(made.case, made.variation)
        own = {"patient": f"synthetic{self.seed}-{made.case:06d}", "case": made.case, "variation": made.variation}
        dice = {f"dice_{key}": round(value, 4) for key, value in made.dice.items()}
        asked = {"asked": str(self.attributes), **made.attributes.as_dict()}
        told = {**asked, "draws": made.draws, "rejected": "; ".join(made.rejected), **dice}
        writer.add(name, *made.stacks(), {**facts, **own, **told})
        return {"name": name, **writer.files(name), **facts, **own, **told}

    @property
    def _own_cases(self) -> range:
        """Numbers of the cases of this part; every so many, so that parts are alike in work whatever the count."""
        return range(self.count) if self._part is None else self._part.of(self.count)

    def _names(self, cases: Iterable[int]) -> Iterator[str]:
        return (self._name(case, variation) for case in cases for variation in range(self.variations))

    def _name(self, case: int, variation: int) -> str:
        return f"synthetic{self.seed}_{case:06d}" + (f"_v{variation:03d}" if self.variations > 1 else "")
