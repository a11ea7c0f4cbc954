"""The job that trains the segmentation network, on real patients and on made slices beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CardiacError
from .base import Context, option, options
from .train import TrainingJob

if TYPE_CHECKING:
    from ..datasets.pack import SlicePack
    from ..networks.segmentation_unet import SegmentationUNet
    from ..training.segmentation_task import SegmentationTask

MIXED, FIRST = "mixed", "first"
LOCAL = ("data", "output", "synthetic", "start", "device", "precision", "resume", "snapshot_minutes", "note", "license")
"""Options that say where and how, not what is learned; a model card leaves them out."""


@dataclass(kw_only=True)
class TrainUnet(TrainingJob):
    """The segmentation network."""

    NAME: ClassVar[str] = "train-unet"
    HELP: ClassVar[str] = "train the segmentation network, or fine-tune one"
    WIDE: ClassVar[bool] = True

    output: Path = option(..., "folder of the model; the snapshots lie beside it, in a folder that ends in .training")
    steps: int = option(4000, "optimizer steps in all", minimum=1, maximum=10**7)
    learning_rate: float = option(
        1e-3, "of AdamW after warm-up; a third of it is kinder to --start", minimum=1e-7, maximum=1
    )
    ema_decay: float = option(0.998, "of the moving average of the weights", minimum=0, maximum=0.99999)
    synthetic: Path | None = option(None, "data set of made slices to learn from too")
    synthetic_share: float = option(0.5, "of the samples (or of the steps) that are made ones", minimum=0, maximum=1)
    mixing: str = option(
        MIXED, "made and real slices in every step, or made ones first and real ones after", choices=(MIXED, FIRST)
    )
    augmentation: str = option("strong", "traditional augmentation", choices=("strong", "none"))
    start: str | None = option(None, "model to start from, which is fine-tuned")
    version: str = option("1.0.0", "of the model")
    license: str = option("CC BY-NC-SA 4.0", "of the weights")
    training_data: str = option("ACDC (Bernard et al. 2018, doi:10.1109/TMI.2018.2837502)", "what it is trained on")
    note: str = option("", "what else the model card must say of the training")

    def run(self, context: Context) -> dict[str, Any]:
        """Train, and make a model of the best snapshot."""
        import torch

        from ..networks.segmentation_unet import SegmentationUNet
        from ..training.snapshots import averaged_network, best_snapshot

        folder = self.output.with_name(f"{self.output.name}.training")
        stage = folder / "synthetic"
        self.require_resumable(folder)
        training, validation, facts = self.packs(context)
        made = self._made(context)
        torch.manual_seed(self.seed)
        network = self._first_network()
        recipe = replace(self.recipe(), keep_best=True)
        early = round(self.steps * self.synthetic_share) if made is not None and self.mixing == FIRST else 0
        if made is not None and early:
            self.train(self._task(network, made, validation, None), replace(recipe, steps=early), stage, facts, context)
        if early < self.steps:
            task = self._task(network, training, validation, made if self.mixing == MIXED else None)
            self.train(task, replace(recipe, steps=self.steps - early), folder, facts, context)
        best = best_snapshot(folder if early < self.steps else stage)
        assert best is not None
        network, state = averaged_network(best, SegmentationUNet)
        return self._write(network, state, None if made is None else f"{len(made)} slices, {self.mixing}")

    def _made(self, context: Context) -> SlicePack | None:
        from ..datasets import read_cases
        from ..datasets.pack import pack_cases

        if self.synthetic is None:
            return None
        reader, cases = read_cases(self.synthetic)
        made = pack_cases(cases, progress=lambda d, n: context.progress(d, n, "reading made slices"))
        context.say(f"{self.synthetic} was read as {reader.DESCRIPTION}: {len(made)} made slices.")
        return made

    def _first_network(self) -> SegmentationUNet:
        from ..bundle import SEGMENTER, load_bundle
        from ..networks.segmentation_unet import SegmentationUNet

        network = SegmentationUNet()
        if self.start is not None:
            started = load_bundle(self.start, SEGMENTER).network("unet").state_dict()
            try:
                network.load_state_dict(started)
            except RuntimeError as error:
                raise CardiacError(
                    f"{self.start} has a network of another size; start from another model.", "bad_model"
                ) from error
        return network

    def _task(
        self, network: SegmentationUNet, training: SlicePack, validation: SlicePack, made: SlicePack | None
    ) -> SegmentationTask:
        from ..training.segmentation_task import PLAIN, STRONG, SegmentationTask

        amount = STRONG if self.augmentation == "strong" else PLAIN
        return SegmentationTask(network, training, validation, made, self.synthetic_share, amount)

    def _write(self, network: SegmentationUNet, state: dict[str, Any], synthetic: str | None) -> dict[str, Any]:
        from accelerate import PartialState

        from ..bundle import SEGMENTER, load_bundle, write_bundle
        from ..labels import STRUCTURES
        from ..model_card import segmenter_card
        from ..slices import GRID_SIZE, GRID_SPACING

        told = {f.name: getattr(self, f.name) for f in options(type(self)) if f.name not in LOCAL}
        for row in state["history"]:
            # What is not a number has no place in strict JSON.
            row.update({key: None for key, value in row.items() if isinstance(value, float) and math.isnan(value)})
        info = {
            "kind": SEGMENTER,
            "name": self.output.resolve().name,
            "version": self.version,
            "license": self.license,
            "labels": {"background": 0, **{s.key: s.value for s in STRUCTURES}},
            "grid": {"size": GRID_SIZE, "spacing_mm": GRID_SPACING},
            "training": {
                "data": self.training_data,
                "synthetic": synthetic,
                "note": self.note,
                "options": {name: value for name, value in told.items() if value not in (None, "")},
                **state,
            },
        }
        if PartialState().is_main_process:
            write_bundle(self.output, {"unet": network}, {}, info, segmenter_card(info, network))
        PartialState().wait_for_everyone()
        bundle = load_bundle(self.output)
        validation = state["history"][-1]["validation_loss"]
        dice = "not measured" if validation is None else f"{1 - validation:.4f}"
        return {"model": str(self.output), "sha256": bundle.sha256, "validation Dice": dice}
