"""The job that trains the segmentation network, on real patients and on made slices beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ..errors import CardiacError
from .base import Context, option, options
from .train import TrainingJob

if TYPE_CHECKING:
    from torch import nn

    from ..bundle import Bundle
    from ..datasets.pack import SlicePack
    from ..networks.segmentation_unet import SegmentationUNet
    from ..training.segmentation_task import SegmentationTask

Dice = dict[str, float | None]
"""Of each structure and their `mean`."""

FROM_NOTHING = {"steps": 4000, "learning_rate": 1e-3, "warmup_steps": 200}
FINE_TUNING = {"steps": 1000, "learning_rate": 3e-4, "warmup_steps": 50}
"""What suits a few patients: short, and small steps that do not undo what the network knows."""
MIXED, FIRST = "mixed", "first"
STANDARD, LIGHT = "standard", "light"
LOCAL = (
    "data",
    "output",
    "synthetic",
    "start",
    "device",
    "precision",
    "compile",
    "resume",
    "snapshot_minutes",
    "note",
    "license",
)
"""Options that say where and how, not what is learned; a model card leaves them out."""


@dataclass(kw_only=True)
class TrainUnet(TrainingJob):
    """The segmentation network."""

    NAME: ClassVar[str] = "train-unet"
    HELP: ClassVar[str] = "train the segmentation network, or fine-tune one"
    WIDE: ClassVar[bool] = True

    output: Path = option(..., "folder of the model; the snapshots lie beside it, in a folder that ends in .training")
    # These three are never None once the training runs.
    steps: int = option(None, "optimizer steps in all; 4000, or 1000 with --start", minimum=1, maximum=10**7)
    learning_rate: float = option(
        None, "of AdamW after warm-up; 0.001, or 0.0003 with --start", minimum=1e-7, maximum=1
    )
    warmup_steps: int = option(
        None, "steps over which the learning rate rises; 200, or 50 with --start", minimum=0, maximum=10**6
    )
    ema_decay: float = option(0.998, "of the moving average of the weights", minimum=0, maximum=0.99999)
    synthetic: Path | None = option(None, "data set of made slices to learn from too")
    synthetic_count: int | None = option(None, "of these the first so many; all", minimum=1, maximum=10**8)
    synthetic_share: float = option(0.5, "of the samples (or of the steps) that are made ones", minimum=0, maximum=1)
    mixing: str = option(
        MIXED, "made and real slices in every step, or made ones first and real ones after", choices=(MIXED, FIRST)
    )
    augmentation: str = option(
        "strong",
        "traditional augmentation; centered is as strong, for a network that is always told where the heart is",
        choices=("strong", "centered", "none"),
    )
    network: str = option(
        STANDARD,
        "the standard one, or a light one on 2x2 pixels for a third of the time; with --start, its own",
        choices=(STANDARD, LIGHT),
    )
    start: str | None = option(None, "model to start from, which is fine-tuned")
    version: str = option("1.0.0", "of the model")
    license: str = option("CC BY-NC-SA 4.0", "of the weights")
    training_data: str = option("ACDC (Bernard et al. 2018, doi:10.1109/TMI.2018.2837502)", "what it is trained on")
    note: str = option("", "what else the model card must say of the training")

    def places(self) -> tuple[Path, ...]:
        """Where snapshots are left: of the last steps, and of those on made slices alone."""
        folder = self.output.with_name(f"{self.output.name}.training")
        return folder, folder / "synthetic"

    def suited(self, slices: int) -> dict[str, Any]:
        """What suits a training from nothing, or fine-tuning."""
        return FROM_NOTHING if self.start is None else FINE_TUNING

    def carry_out(
        self, training: SlicePack, validation: SlicePack, facts: dict[str, Any], context: Context
    ) -> dict[str, Any]:
        """Train, and make a model of the best snapshot, or of the network of the start where that is no worse."""
        import torch

        folder, stage = self.places()
        start = self._start()
        if start is not None:
            facts = {**facts, "start": self._of_start(start, validation, context)}
        made = self._made(context)
        torch.manual_seed(self.seed)
        network = self._network(start).train()
        task = self._task(network, training, validation, made if self.mixing == MIXED else None)
        before = self._before(start, task, context)
        recipe = replace(self.recipe(), keep_best=True)
        early = round(self.steps * self.synthetic_share) if made is not None and self.mixing == FIRST else 0
        if made is not None and early:
            self.train(self._task(network, made, validation, None), replace(recipe, steps=early), stage, facts, context)
        if early < self.steps and not (early and context.finishing()):
            self.train(task, replace(recipe, steps=self.steps - early), folder, facts, context, early)
        network, state = self._chosen(start, before, (folder, stage), context)
        return self._write(network, state, None if made is None else f"{len(made)} slices, {self.mixing}", start)

    def _start(self) -> Bundle | None:
        from ..bundle import SEGMENTER, load_bundle

        return None if self.start is None else load_bundle(self.start, SEGMENTER)

    def _of_start(self, start: Bundle, validation: SlicePack, context: Context) -> dict[str, Any]:
        """What is told of the start; who learned from it and validates here is told to the user."""
        seen = start.training_patients()
        known = sorted(set(seen or ()) & set(validation.patients.tolist()))
        if known:
            context.say(
                f"{start.name} learned from {len(known)} of those who validate here ({known[0]}), which flatters "
                "the figures; choose another --split for honest ones."
            )
        return {"name": start.name, "version": start.version, "sha256": start.sha256, "patients": seen}

    def _network(self, start: Bundle | None) -> SegmentationUNet:
        """That of the start, or a new one."""
        from ..networks import segmentation_unet

        if start is not None:
            return cast("SegmentationUNet", start.network("unet"))
        arguments: dict[str, Any] = segmentation_unet.LIGHT if self.network == LIGHT else {}
        return segmentation_unet.SegmentationUNet(**arguments)

    def _before(self, start: Bundle | None, task: SegmentationTask, context: Context) -> Dice | None:
        """What the start reaches on the validation patients; None where there is no start, or no such patient."""
        from ..devices import choose_device

        if len(task.validation) == 0:
            fate = "" if start is None else f", whether or not that is better than {start.name}"
            context.say(f"No patient validates, so that there are no figures; the last step makes the model{fate}.")
            return None
        if start is None:
            return None
        context.progress(0, self.steps, f"measuring {start.name}")
        network: nn.Module = task.network
        before = task.validation_dice(network.to(choose_device(self.device)).eval())
        network.train()
        context.result({"before": before})
        return before

    def _chosen(
        self, start: Bundle | None, before: Dice | None, folders: tuple[Path, ...], context: Context
    ) -> tuple[SegmentationUNet, dict[str, Any]]:
        """The network that becomes the model, and what is told of its training.

        Args:
            start: what was fine-tuned.
            before: its figures.
            folders: of snapshots; the first that holds any counts.
            context: is told when fine-tuning was in vain.
        """
        from ..training.snapshots import averaged_network, best_snapshot

        best = next(found for folder in folders if (found := best_snapshot(folder)) is not None)
        network, state = averaged_network(best, lambda: self._network(start))
        told = "" if start is None else f"Fine-tuned from {start.name} {start.version}."
        if start is not None and before is not None and before["mean"] is not None:
            loss, least = (1 - before["mean"]), state["history"][-1]["validation_loss"]
            state |= {"before": before, "improved": least < loss}
            if not state["improved"]:
                told = _in_vain(start, before["mean"], 1 - least, len(state["facts"]["split"]["validation"]))
                context.say(told)
                network = self._network(start)
                state |= {"step": 0, "history": [{"step": 0, "validation_loss": loss, "validation_dice": before}]}
        state["note"] = f"{self.note} {told}".strip()
        return network, state

    def _made(self, context: Context) -> SlicePack | None:
        from ..datasets import read_cases
        from ..datasets.pack import pack_cases

        if self.synthetic is None:
            return None
        reader, cases = read_cases(self.synthetic)
        if self.synthetic_count is not None:
            if self.synthetic_count > len(cases):
                raise CardiacError(
                    f"--synthetic-count is {self.synthetic_count}, but {self.synthetic} holds {len(cases)} cases; ask "
                    "for fewer, or make more."
                )
            cases = sorted(cases, key=lambda case: case.name)[: self.synthetic_count]
        made = pack_cases(cases, progress=lambda d, n: context.progress(d, n, "reading made slices"))
        context.say(f"{self.synthetic} was read as {reader.DESCRIPTION}: {len(made)} made slices.")
        return made

    def _task(
        self, network: SegmentationUNet, training: SlicePack, validation: SlicePack, made: SlicePack | None
    ) -> SegmentationTask:
        from ..training.segmentation_task import CENTERED, PLAIN, STRONG, SegmentationTask

        amount = {"strong": STRONG, "centered": CENTERED, "none": PLAIN}[self.augmentation]
        return SegmentationTask(network, training, validation, made, self.synthetic_share, amount)

    def _write(
        self, network: SegmentationUNet, state: dict[str, Any], synthetic: str | None, start: Bundle | None
    ) -> dict[str, Any]:
        from accelerate import PartialState

        from ..bundle import SEGMENTER, load_bundle, write_bundle
        from ..labels import LABEL_VALUES
        from ..model_card import segmenter_card
        from ..slices import GRID_SIZE, GRID_SPACING

        told = {f.name: getattr(self, f.name) for f in options(type(self)) if f.name not in LOCAL}
        for row in state["history"]:
            # What is not a number has no place in strict JSON.
            row.update({key: None for key, value in row.items() if isinstance(value, float) and math.isnan(value)})
        info: dict[str, Any] = {
            "kind": SEGMENTER,
            "name": self.output.resolve().name,
            "version": self.version,
            "license": self.license,
            "labels": LABEL_VALUES,
            "grid": {"size": GRID_SIZE, "spacing_mm": GRID_SPACING},
            "training": {
                "data": self.training_data,
                "synthetic": synthetic,
                "options": {name: value for name, value in told.items() if value not in (None, "")},
                **state,
            },
        }
        if start is not None:
            info["training"]["start"] = {"name": start.name, "version": start.version, "sha256": start.sha256}
            if "defaults" in start.info:
                info["defaults"] = start.info["defaults"]
        if PartialState().is_main_process:
            write_bundle(self.output, {"unet": network}, {}, info, segmenter_card(info, network))
        PartialState().wait_for_everyone()
        return {"model": str(self.output), "sha256": load_bundle(self.output).sha256, **_figures(state)}


def _in_vain(start: Bundle, before: float, after: float, patients: int) -> str:
    return (
        f"Fine-tuning did not improve on {start.name} on the {patients} validation patient{'s' * (patients > 1)} (mean "
        f"Dice {before:.3f} before, {after:.3f} after); the model is unchanged, with the weights of {start.name} "
        f"{start.version}."
    )


def _figures(state: dict[str, Any]) -> dict[str, Any]:
    """What a training tells at its end."""
    row = state["history"][-1]
    loss = row["validation_loss"]
    figures: dict[str, Any] = {"validation Dice": "not measured" if loss is None else f"{1 - loss:.4f}"}
    if "before" in state:
        figures |= {"before": state["before"], "improved": state["improved"]}
    if "validation_dice" in row:
        figures["after"] = row["validation_dice"]
    return figures
