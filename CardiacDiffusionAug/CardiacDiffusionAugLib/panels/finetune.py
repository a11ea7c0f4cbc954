"""Fine-tune: the U-Net on the user's own scans and the kept cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

import qt
from cardiac_diffusion_aug.labels import STRUCTURES

from ..cases import KEPT, CaseSet
from ..job import Callbacks, Job, State
from ..parameters import TuneSource
from ..tuning import FEWEST_PATIENTS, Pair, Tuning, scenePairs
from .section import Section, fillTable

ROWS = (*(s.key for s in STRUCTURES), "mean")


class FineTuneSection(Section):
    """A U-Net for the user's own scans."""

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self._pairs: list[Pair] = []
        self._tuning: Tuning | None = None
        ui.tuneTable.setColumnCount(3)
        ui.tuneTable.setHorizontalHeaderLabels([_("Dice"), _("Before"), _("After")])
        fillTable(ui.tuneTable, [])
        ui.tuneButton.clicked.connect(self.fineTune)
        ui.finishButton.clicked.connect(self.finish)
        ui.tuneFolderEdit.currentPathChanged.connect(self._onFolder)
        ui.tunePairsList.itemChanged.connect(lambda item: self.panel.updateSoon())

    def bind(self) -> None:
        """Show the folder of the settings."""
        self.ui.tuneFolderEdit.currentPath = self.parameters.tuneFolder

    def _onFolder(self, path: str) -> None:
        if self.panel.parameters is not None:
            self.parameters.tuneFolder = path

    def fineTune(self) -> None:
        """Train."""
        self._tuning = None
        fillTable(self.ui.tuneTable, [])
        callbacks = Callbacks(onResult=self._onFigures, onMessage=self._onMessage, onEnd=self._onEnd)
        self.panel.run(self.ui.tuneButton, self._start, callbacks)

    def _start(self, callbacks: Callbacks, overrides: dict[str, Any]) -> Job:
        p = self.parameters
        settings = self.settings(
            start=p.segmenter,
            steps=p.tuneSteps,
            split=f"fraction {p.tuneHeldOut:.2f}",
            training_data=_("own scans"),
        )
        cases = self._keptCases()
        if cases is not None:
            settings["synthetic_share"] = p.tuneShare
        data = Path(p.tuneFolder) if p.tuneSource is TuneSource.FOLDER else self._ticked()
        job, self._tuning = self.logic.startTuning(p.tuneName, data, cases, callbacks, {**settings, **overrides})
        return job

    def _keptCases(self) -> CaseSet | None:
        cases = self.panel.review.cases
        return cases if self.parameters.tuneKept and cases is not None and KEPT in cases.column("state") else None

    def finish(self) -> None:
        """End the training with the best that it has."""
        if self.panel.job is not None:
            self.panel.say(_("Ending with the best that was reached..."))
            self.logic.worker.finish(self.panel.job)

    def _onFigures(self, job: Job, tuning: Tuning) -> None:
        self._tuning = tuning
        self._tell()

    def _onMessage(self, job: Job, message: str) -> None:
        self.panel.tell(self.ui.tuneLabel, message)

    def _onEnd(self, job: Job) -> None:
        self._tell()
        if job.state is State.SUCCESS and self._tuning is not None:
            self.parameters.segmenter = self._tuning.name
            self.panel.segment.listModels()

    def _tell(self) -> None:
        if self._tuning is None:
            return
        before, after = self._tuning.before, self._tuning.after
        told = {name: [f"{of[name]:.3f}" if name in of else "" for of in (before, after)] for name in ROWS}
        fillTable(self.ui.tuneTable, [[name, *texts] for name, texts in told.items() if any(texts)])

    def _ticked(self) -> list[Pair]:
        items = (self.ui.tunePairsList.item(i) for i in range(len(self._pairs)))
        return [pair for pair, item in zip(self._pairs, items, strict=True) if item.checkState() == qt.Qt.Checked]

    def _listPairs(self) -> None:
        pairs = scenePairs()
        if [(a.GetID(), b.GetID()) for a, b in pairs] == [(a.GetID(), b.GetID()) for a, b in self._pairs]:
            return
        left_out = {(a.GetID(), b.GetID()) for a, b in set(self._pairs) - set(self._ticked())}
        self._pairs = pairs
        self.ui.tunePairsList.clear()
        for volume, segmentation in pairs:
            item = qt.QListWidgetItem(f"{volume.GetName()}: {segmentation.GetName()}")
            out = (volume.GetID(), segmentation.GetID()) in left_out
            item.setCheckState(qt.Qt.Unchecked if out else qt.Qt.Checked)
            self.ui.tunePairsList.addItem(item)

    def update(self, reason: str, busy: str) -> None:
        """Enable what can be done."""
        scene = self.parameters.tuneSource is TuneSource.SCENE
        self.ui.tuneFolderEdit.visible = self.ui.tuneFolderEditLabel_.visible = not scene
        self.ui.tunePairsList.visible = scene
        if scene:
            self._listPairs()
        self.panel.allow(self.ui.tuneButton, reason or self._fault(scene))
        training = self.panel.job is not None and self.panel.job.name == "train-unet"
        self.panel.allow(self.ui.finishButton, "" if training else _("No training runs."))

    def _fault(self, scene: bool) -> str:
        if not self.parameters.tuneName.strip():
            return _("Give the new model a name.")
        if scene and len(self._ticked()) < FEWEST_PATIENTS:
            return _("Tick at least {count} labelled scans.").format(count=FEWEST_PATIENTS)
        return "" if scene or self.parameters.tuneFolder else _("Choose the folder of your labelled scans.")
