"""Cases from noise, and images for masks of the scene, added to a set of cases as soon as each is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import SimpleITK as sitk
import slicer

from .cases import CaseSet, caseSets
from .job import Callbacks, Job
from .masks import drawnMask
from .tasks import Tasks, removedOnError

SOURCE_ROLE = "CardiacDiffusionAug.Source"


def startGenerating(tasks: Tasks, cases: CaseSet, callbacks: Callbacks, settings: Mapping[str, Any]) -> Job:
    """Ask for cases; `callbacks.result` gets the number of each within its set."""

    def add(job: Job, made: dict[str, Any]) -> None:
        callbacks.result(job, cases.add(sitk.ReadImage(made["image"]), sitk.ReadImage(made["mask"]), made))

    folder = tasks.newFolder()
    return tasks.start("generate", {**settings, "output": folder / "made"}, add, callbacks, folder)


def startSynthesizing(
    tasks: Tasks,
    node: slicer.vtkMRMLNode,
    chosen: Mapping[str, int | None] | None,
    callbacks: Callbacks,
    settings: Mapping[str, Any],
) -> tuple[Job, CaseSet, str]:
    """Ask for images of the mask in a segmentation or label map.

    Returns:
        The job, the set that its images go to, and a remark on how the mask was read, often empty.

    Raises:
        CardiacError: there is no heart in the node.
    """
    drawn = drawnMask(node, chosen)
    folder = tasks.newFolder()
    with removedOnError(folder):
        path = folder / "mask.nrrd"
        sitk.WriteImage(drawn.stack, str(path))
        cases = casesOf(node, drawn.stack)

    def add(job: Job, made: dict[str, Any]) -> None:
        facts = {**made, "name": f"{node.GetName()} seed {made['seed']} image {int(made['variation']) + 1}"}
        callbacks.result(job, cases.add(sitk.ReadImage(made["image"]), drawn.stack, facts))

    wanted = {**settings, "masks": path, "output": folder / "made"}
    return tasks.start("synthesize", wanted, add, callbacks, folder), cases, drawn.remark


def casesOf(node: slicer.vtkMRMLNode, mask: sitk.Image) -> CaseSet:
    """The set with the images of a node, on the geometry of its mask; a new one where there is none."""
    for cases in caseSets():
        if cases.browser.GetNodeReference(SOURCE_ROLE) is node and _fits(cases, mask):
            return cases
    cases = CaseSet.create(f"Images of {node.GetName()}")
    cases.browser.SetNodeReferenceID(SOURCE_ROLE, node.GetID())
    return cases


def _fits(cases: CaseSet, mask: sitk.Image) -> bool:
    # A sequence of volumes is saved as one file, which has one geometry.
    if cases.count == 0:
        return True
    image, _ = cases.stacks(0)
    near = zip(
        (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()),
        (*mask.GetSpacing(), *mask.GetOrigin(), *mask.GetDirection()),
        strict=True,
    )
    return image.GetSize() == mask.GetSize() and all(abs(a - b) < 1e-4 for a, b in near)
