"""The U-Net, fine-tuned on the user's own labelled scans and on the cases that she kept."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import slicer

from cardiac_diffusion_aug.bundle import own_model_folder
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import STRUCTURES

from .cases import CaseSet
from .files import writeMetaImage
from .job import Callbacks, Job
from .masks import drawnMask
from .plots import Curves, showCurves
from .saving import Format, Which, chosenCases, fileName, saveSteps
from .tasks import Tasks, removedOnError

Pair = tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]
FEWEST_PATIENTS = 2
LOSS_COLOR, MEAN_COLOR = (120, 120, 120), (0, 0, 0)
SNAPSHOT_MINUTES = 0.5
"""Between two points of the Dice curve."""


@dataclass
class Tuning:
    """A fine-tuning, as far as it is.

    Attributes:
        name: of the model that comes of it.
        before, after: mean Dice of each structure on the patients that are held out, and `mean`; empty where unknown.
        history: figures by step.
        chart: of loss and Dice, in the plot view.
    """

    name: str
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    chart: slicer.vtkMRMLPlotChartNode | None = None


def scenePairs() -> list[Pair]:
    """Volumes of the scene with the segmentation that was drawn on each; made cases are none."""
    from .scene import nodesOfClass

    pairs = []
    for node in nodesOfClass("vtkMRMLSegmentationNode"):
        volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        made = slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(node)
        if volume is not None and volume.GetImageData() is not None and CaseSet.of(made) is None:
            pairs.append((volume, node))
    return pairs


def startTuning(
    tasks: Tasks,
    name: str,
    data: Path | Sequence[Pair],
    cases: CaseSet | None,
    callbacks: Callbacks,
    settings: Mapping[str, Any],
) -> tuple[Job, Tuning]:
    """Ask for a fine-tuned U-Net.

    Args:
        tasks: runs it.
        name: of the model.
        data: folder of a labelled data set, or volumes of the scene with their segmentations.
        cases: made ones, of which the kept are learned from too.
        callbacks: `result` gets the `Tuning` whenever it has changed.
        settings: of the job `train-unet`.

    Raises:
        CardiacError: there is too little to learn from, or the name is taken.
    """
    target = own_model_folder() / fileName(name)
    if target.exists():
        raise CardiacError(f"There is a model {target.name} already; give the new one another name.", "bad_output")
    if not isinstance(data, Path) and len(data) < FEWEST_PATIENTS:
        raise CardiacError(
            f"{len(data)} labelled volume is too little; {FEWEST_PATIENTS} are needed, one to learn from and one to "
            "judge by."
        )
    # Of a training that was cancelled or failed.
    shutil.rmtree(target.with_name(f"{target.name}.training"), ignore_errors=True)
    tuning = Tuning(target.name)
    folder = tasks.newFolder()
    with removedOnError(folder):
        wanted = {"start": "acdc-unet", "snapshot_minutes": SNAPSHOT_MINUTES, **settings, "output": target}
        prepare: list[Iterator[object]] = []
        if isinstance(data, Path):
            wanted["data"] = data
        else:
            wanted["data"] = folder / "real"
            prepare.append(_writePairs(data, folder / "real"))
        if cases is not None:
            wanted["synthetic"] = folder / "made"
            prepare.append(saveSteps(cases, chosenCases(cases, Which.KEPT), folder / "made", Format.NNUNET))

        def take(job: Job, told: dict[str, Any]) -> None:
            _note(tuning, told)
            callbacks.result(job, tuning)

        def succeeded(job: Job) -> None:
            tuning.before = _figures(job.result.get("before")) or tuning.before
            tuning.after = _figures(job.result.get("after"))
            shutil.rmtree(target.with_name(f"{target.name}.training"), ignore_errors=True)

        steps = (step for part in prepare for step in part)
        return tasks.start("train-unet", wanted, take, callbacks, folder, steps, succeeded), tuning


def _writePairs(pairs: Sequence[Pair], folder: Path) -> Iterator[object]:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps({s.key: s.value for s in STRUCTURES}))
    taken: set[str] = set()
    for i, (volume, segmentation) in enumerate(pairs):
        # A number in front where two have one name. Else the name stays as it is: ED and ES of a patient share it, and
        # must train or validate together.
        name = fileName(volume.GetName())
        name = f"{i:03d}-{name}" if name.casefold() in taken else name
        taken.add(name.casefold())
        mask = drawnMask(segmentation, reference=volume).stack
        yield sitk.WriteImage(mask, str(folder / "masks" / f"{name}.mha"))
        yield from writeMetaImage([volume], folder / "images" / f"{name}.mha")


def _note(tuning: Tuning, told: Mapping[str, Any]) -> None:
    if "before" in told:
        tuning.before = _figures(told["before"])
        return
    row = tuning.history.setdefault(int(told["step"]), {})
    if told.get("loss") is not None:
        row["loss"] = float(told["loss"])
    row.update(_figures(told.get("validation_dice")))
    _draw(tuning)


def _figures(told: Mapping[str, Any] | None) -> dict[str, float]:
    return {key: float(value) for key, value in (told or {}).items() if value is not None}


def _draw(tuning: Tuning) -> None:
    rows = sorted(tuning.history.items())
    losses = {step: row["loss"] for step, row in rows if "loss" in row}
    scores = {step: row for step, row in rows if "mean" in row}
    groups = []
    if losses:
        values = {"loss": list(losses.values())}
        groups.append(Curves(f"{tuning.name} loss", list(losses), values, {"loss": LOSS_COLOR}))
    if scores:
        colors = {**{s.key: s.color for s in STRUCTURES}, "mean": MEAN_COLOR}
        dice = {name: [row.get(name, math.nan) for row in scores.values()] for name in colors}
        values, colors = ({f"Dice {name}": value for name, value in told.items()} for told in (dice, colors))
        groups.append(Curves(f"{tuning.name} Dice", list(scores), values, colors, marked=True))
    tuning.chart = showCurves(f"{tuning.name} training", ("step", "loss, Dice"), groups, tuning.chart)
