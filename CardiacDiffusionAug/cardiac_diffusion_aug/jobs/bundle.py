"""The job that makes a model from two trainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..errors import CardiacError
from .base import Context, Job, flag, option

CALLS = {"mask_steps": 20, "image_steps": 8}
"""Network calls of a model that was not taught to need fewer. Masks of fewer calls fail the anatomical criteria more
often; images gain less than a twentieth of the Frechet ratio from more calls (`Testing/benchmarks/calls.py`)."""


@dataclass(kw_only=True)
class BuildBundle(Job):
    """A model from the latest snapshots of `train-masks` and `train-images`."""

    NAME: ClassVar[str] = "build-model"
    HELP: ClassVar[str] = "make a model from two trainings"

    masks: Path = option(..., "folder of the snapshots of train-masks")
    images: Path = option(..., "folder of the snapshots of train-images")
    output: Path = option(..., "folder of the model; its name is the model's name")
    version: str = option("1.0.0", "of the model")
    license: str = option("CC BY-NC-SA 4.0", "of the weights")
    training_data: str = option("ACDC (Bernard et al. 2018, doi:10.1109/TMI.2018.2837502)", "what it was trained on")
    slice_thickness: float = option(
        10.0, "of the training data in mm, written into made cases", minimum=0.1, maximum=50
    )
    note: str = option("", "what else the model card must say of the training")
    report: Path | None = option(None, "report.json that evaluate wrote of these weights; the card tells its figures")
    mask_steps: int | None = option(
        None, "network calls for a mask; 20, or as many as a training with --teacher was for", minimum=1, maximum=1000
    )
    image_steps: int | None = option(
        None, "network calls for an image; 8, or as many as a training with --teacher was for", minimum=1, maximum=1000
    )
    guidance_scale: float = option(1.5, "strength of the attributes", minimum=0, maximum=20)

    def run(self, context: Context) -> dict[str, Any]:
        """Read the averaged weights and write the bundle."""
        from ..bundle import load_bundle, write_bundle
        from ..model_card import model_card
        from ..networks.image_denoiser import ImageDenoiser
        from ..networks.mask_denoiser import MaskDenoiser
        from ..training.objectives import flow_scheduler
        from ..training.snapshots import averaged_network, latest_snapshot
        from ..training.tasks import IMAGE_STEP_MEAN, MASK_STEP_MEAN

        networks, trainings = {}, {}
        for part, folder, kind in (
            ("mask_denoiser", self.masks, MaskDenoiser),
            ("image_denoiser", self.images, ImageDenoiser),
        ):
            snapshot = latest_snapshot(folder)
            if snapshot is None:
                raise CardiacError(f"{folder} holds no snapshot of a training; train first.")
            networks[part], trainings[part] = averaged_network(snapshot, kind)
        trainings["image_denoiser"]["facts"].pop("attributes", None)
        info = self._info(trainings)
        few = info["fixed_calls"]
        schedulers = {
            "mask_scheduler": flow_scheduler(MASK_STEP_MEAN, "mask_steps" in few),
            "image_scheduler": flow_scheduler(IMAGE_STEP_MEAN, "image_steps" in few),
        }
        figures = self._figures()
        write_bundle(self.output, networks, schedulers, info, model_card(info, networks, figures))
        return {"model": str(self.output), "sha256": load_bundle(self.output).sha256}

    def _figures(self) -> Mapping[str, Any]:
        from ..slices import read_json

        if self.report is None:
            return {}
        figures = read_json(self.report).get("figures")
        if not isinstance(figures, dict) or not all(isinstance(f, dict) and "name" in f for f in figures.values()):
            raise CardiacError(f"{self.report} is not a report of evaluate; give its report.json.")
        return figures

    def _calls(self, trainings: dict[str, dict[str, Any]]) -> tuple[dict[str, int], list[str]]:
        """Network calls for a mask and for an image, and which of the two the training has fixed.

        Raises:
            CardiacError: another number is asked for than was trained for.
        """
        calls, fixed = {}, []
        for option_name, part in (("mask_steps", "mask_denoiser"), ("image_steps", "image_denoiser")):
            asked, teacher = getattr(self, option_name), trainings[part]["facts"].get("teacher")
            calls[option_name] = asked or (CALLS[option_name] if teacher is None else teacher["calls"])
            if teacher is None:
                continue
            fixed.append(option_name)
            if calls[option_name] != teacher["calls"]:
                raise CardiacError(
                    f"{flag(option_name)} is {asked}, but this {part} was trained for {teacher['calls']} calls; leave "
                    "it out."
                )
        return calls, fixed

    def _info(self, trainings: dict[str, dict[str, Any]]) -> dict[str, Any]:
        from ..attributes import GROUPS, PHASES
        from ..labels import LABEL_VALUES
        from ..slices import GRID_SIZE, GRID_SPACING

        calls, fixed = self._calls(trainings)
        return {
            "name": self.output.resolve().name,
            "version": self.version,
            "license": self.license,
            "labels": LABEL_VALUES,
            "grid": {"size": GRID_SIZE, "spacing_mm": GRID_SPACING},
            "attributes": {
                "phase": list(PHASES),
                "group": list(GROUPS),
                "level": [0.0, 1.0],
                "table": trainings["mask_denoiser"]["facts"].pop("attributes", []),
            },
            "slice_thickness_mm": self.slice_thickness,
            "defaults": {**calls, "guidance_scale": self.guidance_scale},
            "fixed_calls": fixed,
            "training": {"data": self.training_data, "note": self.note, **trainings},
        }
