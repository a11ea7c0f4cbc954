"""All that the module does, for the panel and for Slicer's Python console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from cardiac_diffusion_aug.errors import CardiacError

from .cases import CaseSet
from .job import Callbacks, Job
from .making import startGenerating, startSynthesizing
from .nearest import Nearest, startNearest
from .parameters import Parameters
from .saving import Format, Which, chosenCases, needsPermission, saveSteps
from .scene import loadTerminology
from .segmenting import Found, startSegmenting
from .tasks import Tasks, outcome
from .tuning import Pair, Tuning, startTuning
from .worker import Worker


class CardiacDiffusionAugLogic(ScriptedLoadableModuleLogic):
    """Makes, reviews, saves and segments cases; all long work is done by one worker process.

    In Slicer's Python console:

        logic = slicer.util.getModuleLogic("CardiacDiffusionAug")
        cases = logic.generate(count=4, phase="ED")
        image, segmentation = cases.shownNodes()

    Each request waits for its end, with the window alive, and returns nodes. With `callbacks` it returns a `Job` at
    once, of which `wait()`, `state` and `message` tell the rest. Settings are named as the options of the command line
    (`cardiac-diffusion-aug generate --help`), with underscores: `guidance_scale=3`, `device="cpu"`.

    What goes wrong raises `CardiacError`, with a sentence that says what to do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.worker = Worker()
        self._tasks = Tasks(self.worker)
        loadTerminology()

    def getParameterNode(self) -> Parameters:
        """The settings of the panel, which are saved with the scene."""
        return Parameters(super().getParameterNode())

    def generate(
        self, count: int = 8, into: CaseSet | None = None, callbacks: Callbacks | None = None, **settings: Any
    ) -> CaseSet | Job:
        """Make labelled slices from noise.

        Args:
            count: number of masks; each gets `variations` images.
            into: set that the cases are added to; a new one by default.
            callbacks: `onResult` gets the number of each case within its set; see the class.
            settings: of the command `generate`, such as `phase`, `level`, `group`, `seed`, `variations`, `filter`.

        Returns:
            The set with the cases; with `callbacks` the job.
        """
        cases = into or CaseSet.create(_title(settings))
        job = startGenerating(self._tasks, cases, callbacks or Callbacks(), {"count": count, **settings})
        if callbacks is not None:
            return job
        _waitFor(job, cases)
        return cases

    def synthesize(
        self,
        node: slicer.vtkMRMLNode,
        structures: Mapping[str, int | None] | None = None,
        callbacks: Callbacks | None = None,
        **settings: Any,
    ) -> CaseSet | Job:
        """Make images for a mask that was drawn, on the mask's own geometry.

        Args:
            node: segmentation or label map, a slice or a stack.
            structures: 1 LV cavity, 2 myocardium, 3 RV cavity or None, by segment id or label, where terminology and
                name do not tell.
            callbacks: `onResult` gets the number of each image within its set; see the class.
            settings: of the command `synthesize`, such as `variations`, `phase`, `group`, `seed`.

        Returns:
            The set with the images of this node, old and new; with `callbacks` the job.
        """
        job, cases, _remark = self.startSynthesizing(node, structures, callbacks or Callbacks(), settings)
        if callbacks is not None:
            return job
        _waitFor(job, cases)
        return cases

    def startSynthesizing(
        self,
        node: slicer.vtkMRMLNode,
        structures: Mapping[str, int | None] | None,
        callbacks: Callbacks,
        settings: Mapping[str, Any],
    ) -> tuple[Job, CaseSet, str]:
        """As `synthesize`, at once: the job, the set, and a remark on how the mask was read, often empty."""
        return startSynthesizing(self._tasks, node, structures, callbacks, settings)

    def segment(self, node: slicer.vtkMRMLNode, callbacks: Callbacks | None = None, **settings: Any) -> Found | Job:
        """Label the heart in a volume, a stack or a cine (a sequence of volumes), and measure it.

        Args:
            node: volume or sequence.
            callbacks: `onResult` gets the `Found`; see the class.
            settings: of the command `segment`, such as `model`, `insist`.

        Returns:
            Nodes and figures; with `callbacks` the job.
        """
        job, found = startSegmenting(self._tasks, node, callbacks or Callbacks(), settings)
        if callbacks is not None:
            return job
        outcome(job)
        return found

    def fineTune(
        self,
        name: str,
        data: Path | str | Sequence[Pair],
        cases: CaseSet | None = None,
        callbacks: Callbacks | None = None,
        **settings: Any,
    ) -> Tuning | Job:
        """Fine-tune the U-Net.

        Args:
            name: of the model, by which `segment(model=...)` finds it afterwards.
            data: folder of a labelled data set, or pairs of a volume and its segmentation.
            cases: made ones, of which the kept are learned from too.
            callbacks: `onResult` gets the `Tuning` when it has changed; see the class.
            settings: of the command `train-unet`, such as `steps`, `start`, `split`, `synthetic_share`.

        Returns:
            Figures before and after on the patients held out; with `callbacks` the job.
        """
        told = Path(data) if isinstance(data, str) else data
        job, tuning = self.startTuning(name, told, cases, callbacks or Callbacks(), settings)
        if callbacks is not None:
            return job
        outcome(job)
        return tuning

    def startTuning(
        self,
        name: str,
        data: Path | Sequence[Pair],
        cases: CaseSet | None,
        callbacks: Callbacks,
        settings: Mapping[str, Any],
    ) -> tuple[Job, Tuning]:
        """As `fineTune`, at once: the job, and the figures, which grow."""
        return startTuning(self._tasks, name, data, cases, callbacks, settings)

    def nearest(
        self, cases: CaseSet, number: int, data: Path | str, callbacks: Callbacks | None = None
    ) -> Nearest | Job:
        """Find the real slice that is most like a made one.

        Args:
            cases: set of the made one.
            number: of the made one within its set.
            data: folder of a real data set.
            callbacks: `onResult` gets the `Nearest`; see the class.

        Returns:
            The nodes of the real slice; with `callbacks` the job.
        """
        found: list[Nearest] = []
        told = callbacks or Callbacks(onResult=lambda job, nearest: found.append(nearest))
        job = startNearest(self._tasks, cases, number, Path(data), told)
        if callbacks is not None:
            return job
        outcome(job)
        return found[0]

    def save(
        self,
        cases: CaseSet,
        target: Path | str,
        form: Format = Format.NNUNET,
        which: Which = Which.KEPT,
        overwrite: bool = False,
        callbacks: Callbacks | None = None,
    ) -> int | Job:
        """Save cases.

        Args:
            cases: the set.
            target: folder; for a contact sheet the file.
            form: a new data set, into one that is there, plain pairs, or a contact sheet.
            which: the kept ones, all but the rejected, or all.
            overwrite: whether what is there may be replaced.
            callbacks: see the class.

        Returns:
            Number of cases saved; with `callbacks` the job.

        Raises:
            CardiacError: there is nothing to save, or `target` is not empty and may not be replaced.
        """
        target, numbers = Path(target), chosenCases(cases, which)
        if needsPermission(target, form) and not overwrite:
            raise CardiacError(f"{target} is not empty; choose another, or allow it to be replaced.", "bad_output")
        job = self.worker.runHere("save", saveSteps(cases, numbers, target, form, overwrite), callbacks)
        if callbacks is not None:
            return job
        outcome(job)
        return len(numbers)

    def machine(self, callbacks: Callbacks | None = None) -> dict[str, Any] | Job:
        """What is known about this computer: devices with their free memory, versions; with `callbacks` the job."""
        job = self.worker.submit("info", {}, callbacks)
        return job if callbacks is not None else outcome(job).result

    def cancel(self) -> None:
        """Cancel all jobs; the worker stays."""
        for job in self.worker.jobs:
            self.worker.cancel(job)

    def stop(self) -> None:
        """End the worker with its jobs."""
        self._tasks.stop()


def _title(settings: Mapping[str, Any]) -> str:
    asked = [str(settings[name]) for name in ("group", "phase", "level") if settings.get(name) is not None]
    return " ".join(["Made hearts", *asked])


def _waitFor(job: Job, cases: CaseSet) -> None:
    try:
        outcome(job)
    finally:
        if cases.alive and cases.count == 0:
            cases.remove()
