"""The job that makes images for given masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ..errors import CardiacError
from .base import Context, option
from .generate import SamplingJob


@dataclass(kw_only=True)
class Synthesize(SamplingJob):
    """Images for given masks."""

    NAME: ClassVar[str] = "synthesize"
    HELP: ClassVar[str] = "make images for masks of your own"

    masks: Path = option(..., "mask (NIfTI, NRRD or MHA; a slice or a stack), folder of masks, or nnU-Net data set")
    labels: str | None = option(None, "order of the labels in the masks; by default LV=1,MYO=2,RV=3")

    def run(self, context: Context) -> dict[str, Any]:
        """Check all masks, then make and write the images one by one."""
        from ..datasets.masks import find_masks
        from ..export import DatasetWriter
        from ..labels import describe_order, parse_order
        from ..synthesis import read_mask, synthesize_stack

        found, order = find_masks(self.masks, parse_order(self.labels) if self.labels else None)
        slices = 0
        for _, path in found:
            self._require_outside_output(path)
            slices += read_mask(path, order).GetDepth()
        total = slices * self.variations
        context.progress(0, total, "loading the model")
        generator = self.generator(context)
        settings = {**self.settings(generator), "masks": str(self.masks.resolve()), "labels": describe_order(order)}
        writer = DatasetWriter(self.output, settings, self.resume, self.overwrite)
        facts = self.facts(generator)
        done = 0
        try:
            for case, (stem, path) in enumerate(found):
                mask = read_mask(path, order)
                names = [f"{stem}_v{v:03d}" if self.variations > 1 else stem for v in range(self.variations)]
                missing = [variation for variation, name in enumerate(names) if name not in writer.done]
                done += (self.variations - len(missing)) * mask.GetDepth()
                context.progress(done, total)
                # As many images as are made at a time; each is written, and shown, as soon as these are there.
                size = max(1, generator.largest_batch // mask.GetDepth())
                for some in (missing[first : first + size] for first in range(0, len(missing), size)):
                    context.check()
                    asked = (self.seed, case, some, self.attributes, context.check)
                    images = synthesize_stack(generator, mask, *asked, partial(_tell, context, done, total))
                    for variation, image in zip(some, images, strict=True):
                        name = names[variation]
                        own = {"patient": stem, "case": case, "variation": variation, "source": str(path)}
                        writer.add(name, image, mask, {**facts, **own})
                        context.result({"name": name, **writer.files(name), **facts, **own})
                    done += len(some) * mask.GetDepth()
                    context.progress(done, total)
        finally:
            preview = writer.finish()
        return {"output": str(self.output), "preview": str(preview), "cases": writer.count}

    def _require_outside_output(self, mask: Path) -> None:
        # --overwrite would remove it before it is read.
        if mask.resolve().is_relative_to(self.output.resolve()):
            raise CardiacError(
                f"The mask {mask} lies in the folder {self.output}; choose another --output.", "bad_output"
            )


def _tell(context: Context, before: int, total: int, slices: int) -> None:
    context.progress(before + slices, total)
