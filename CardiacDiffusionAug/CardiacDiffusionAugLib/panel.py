"""The panel: its sections, the one job that they share, and the settings that they are bound to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

import qt
from cardiac_diffusion_aug.errors import CardiacError

from . import dependencies
from .job import Callbacks, Job, State
from .logic import CardiacDiffusionAugLogic
from .panels.finetune import FineTuneSection
from .panels.generate import GenerateSection
from .panels.mask import MaskSection
from .panels.model import ModelSection
from .panels.review import ReviewSection
from .panels.save import SaveSection
from .panels.segment import SegmentSection
from .parameters import Parameters
from .words import duration, progressText

Starter = Callable[[Callbacks, dict[str, Any]], Job]
"""Starts a job with callbacks and with settings that replace those of the panel."""

RESUMABLE = {"out_of_memory", "crashed"}
log = logging.getLogger(__name__)


class Panel:
    """Drives the widgets of the `.ui` file.

    Args:
        ui: widgets by name.
        logic: does the work.
    """

    def __init__(self, ui: Any, logic: CardiacDiffusionAugLogic) -> None:
        self.ui, self.logic = ui, logic
        self.parameters: Parameters | None = None
        self.job: Job | None = None
        self._guiTag: Any = None
        self._again: tuple[Any, Starter, Callbacks] | None = None
        self._begun = 0.0
        self._tips: dict[Any, str] = {}
        self._missing: list[str] = []
        self._observedScene = slicer.mrmlScene
        self._sceneTags: list[int] = []
        self._update = qt.QTimer()
        self._update.setSingleShot(True)
        self._update.timeout.connect(self.update)

    def setup(self) -> None:
        """Connect all widgets."""
        ui = self.ui
        self.model, self.generate, self.mask = ModelSection(self), GenerateSection(self), MaskSection(self)
        self.review, self.save = ReviewSection(self), SaveSection(self)
        self.fineTune, self.segment = FineTuneSection(self), SegmentSection(self)
        self.sections = (
            self.model,
            self.generate,
            self.mask,
            self.review,
            self.save,
            self.fineTune,
            self.segment,
        )
        ui.jobFrame.visible = False
        for label in (ui.testLabel, ui.maskLabel, ui.nearestLabel, ui.saveLabel, ui.tuneLabel, ui.segmentLabel):
            self.tell(label, "")
        ui.setupButton.clicked.connect(self._install)
        ui.cancelButton.clicked.connect(self.cancel)
        ui.cpuButton.clicked.connect(lambda: self._runAgain({"device": "cpu"}))
        ui.fewerButton.clicked.connect(lambda: self._runAgain({"batch_size": 1}))
        ui.copyLogButton.clicked.connect(self.copyLog)
        self.logic.worker.onLog = self._log
        scene = slicer.vtkMRMLScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent, scene.EndBatchProcessEvent):
            self._sceneTags.append(self._observedScene.AddObserver(event, self._onSceneChanged))
        for section in self.sections:
            section.setup()
        self.lookForPackages()

    def cleanup(self) -> None:
        """Let go of everything; the worker ends."""
        self._update.stop()
        for tag in self._sceneTags:
            self._observedScene.RemoveObserver(tag)
        self._sceneTags.clear()
        for section in getattr(self, "sections", ()):
            section.cleanup()
        self.setParameters(None)
        self.job, self._again = None, None
        self.logic.worker.onLog = lambda line: None
        self.logic.stop()

    def setParameters(self, parameters: Parameters | None) -> None:
        """Bind the widgets to the settings of a scene; to none before it closes."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.parameters.RemoveObserver(self._parameterTag)
        self.parameters = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self._parameterTag = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *event: self.updateSoon())
            for section in self.sections:
                section.bind()
            self.update()

    # One job at a time

    def run(
        self, button: Any, start: Starter, callbacks: Callbacks, overrides: Mapping[str, Any] | None = None
    ) -> None:
        """Run a job, with its progress under the button that was clicked.

        Args:
            button: that was clicked.
            start: starts the job; what it raises is shown in place of progress.
            callbacks: of the section.
            overrides: settings in place of those of the panel.
        """
        self._again = (button, start, callbacks)
        self._placeFrame(button)
        self._begun = time.monotonic()
        self.ui.progressBar.setRange(0, 0)
        self.ui.progressBar.visible = True
        self.ui.cancelButton.visible = True
        self.ui.cpuButton.visible = self.ui.fewerButton.visible = False
        self.say(_("Starting..."))
        told = Callbacks(
            lambda job, message: self._onProgress(job, message, callbacks),
            callbacks.result,
            lambda job, message: self._onMessage(job, message, callbacks),
            lambda job: self._onEnd(job, callbacks),
        )
        try:
            self.job = start(told, dict(overrides or {}))
        except CardiacError as error:
            self._finishFrame(str(error))
        if self.job is not None and self.job.ended:
            self.job = None
        self.update()

    def _placeFrame(self, button: Any) -> None:
        """Move the frame with the progress right under a button."""
        layout = button.parentWidget().layout()
        self.ui.jobFrame.setParent(button.parentWidget())
        layout.addWidget(self.ui.jobFrame)
        self.ui.jobFrame.visible = True

    def _runAgain(self, overrides: dict[str, Any]) -> None:
        if self._again is not None and self.job is None:
            self.run(*self._again, overrides)

    def cancel(self) -> None:
        """Cancel the job; what it has made stays."""
        if self.job is not None:
            self.say(_("Cancelling..."))
            self.ui.cancelButton.enabled = False
            self.logic.worker.cancel(self.job)

    def _onProgress(self, job: Job, message: str, callbacks: Callbacks) -> None:
        if job.total > 0:
            self.ui.progressBar.setRange(0, job.total)
            self.ui.progressBar.setValue(job.done)
        self.say(progressText(job, time.monotonic() - self._begun, message))
        callbacks.progress(job, message)

    def _onMessage(self, job: Job, message: str, callbacks: Callbacks) -> None:
        self._log(message)
        callbacks.message(job, message)

    def _onEnd(self, job: Job, callbacks: Callbacks) -> None:
        self.job = None
        seconds = time.monotonic() - self._begun
        if job.state is State.SUCCESS:
            self._finishFrame(_("Done in {seconds}.").format(seconds=duration(seconds)))
        elif job.state is State.CANCELLED:
            self._finishFrame(_("Cancelled; what was made so far is kept."))
        else:
            self._finishFrame(job.message)
            gpu = self.parameters is not None and self.model.device != "cpu"
            self.ui.cpuButton.visible = job.code in RESUMABLE and gpu
            self.ui.fewerButton.visible = job.code in RESUMABLE and job.name in ("generate", "synthesize")
        callbacks.end(job)
        self.update()

    def _finishFrame(self, text: str) -> None:
        self.ui.progressBar.visible = False
        self.ui.cancelButton.visible = False
        self.ui.cancelButton.enabled = True
        self.say(text)

    def say(self, text: str) -> None:
        """Show a sentence beside the progress."""
        self.ui.jobLabel.setText(text)

    @staticmethod
    def tell(label: Any, text: str) -> None:
        """Show a sentence in a label, which takes no room while there is none."""
        label.setText(text)
        label.visible = bool(text)

    # What can be done now

    def _onSceneChanged(self, caller: Any, event: str) -> None:
        if not slicer.mrmlScene.IsBatchProcessing():
            self.updateSoon()

    def updateSoon(self) -> None:
        """Bring the panel up to date when the event loop comes to it; many changes cost one update."""
        if not self._update.isActive():
            self._update.start(0)

    def update(self) -> None:
        """Enable what can be done, and say of the rest why it cannot."""
        if self.parameters is None:
            return
        busy = _("A job is running; wait for it, or cancel it.") if self.job is not None else ""
        reason = busy or (_("Install what is missing first, at the top.") if self._missing else "")
        for section in self.sections:
            section.update(reason, busy)

    def allow(self, widget: Any, reason: str) -> None:
        """Enable a widget, or disable it with the reason as its tooltip."""
        own = self._tips.setdefault(widget, widget.toolTip)
        widget.enabled = not reason
        widget.toolTip = f"{own}\n{reason}" if reason else own

    def lookForPackages(self) -> None:
        """See whether all is installed; not at each update, for it takes a while."""
        self._missing = dependencies.missingPackages()
        self.ui.setupFrame.visible = bool(self._missing)
        self.ui.setupLabel.setText(_("Not installed yet: {names}.").format(names=", ".join(self._missing)))
        self.updateSoon()

    def _install(self) -> None:
        try:
            dependencies.install()
        except CardiacError as error:
            self._log(str(error))
            slicer.util.errorDisplay(str(error))
        self.lookForPackages()

    # Log

    def _log(self, line: str) -> None:
        self.ui.logText.appendPlainText(line)

    def copyLog(self) -> None:
        """Copy all lines of the log."""
        slicer.app.clipboard().setText("\n".join(self.logic.worker.log))
