"""Segment: the heart in a scan, and its function."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from cardiac_diffusion_aug.bundle import SEGMENTER

from ..job import Callbacks, Job
from ..models import Model, models
from ..segmenting import Found
from ..views import showVolume
from .section import Section, fillTable


class SegmentSection(Section):
    """The heart in a scan."""

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self._models: list[Model] = []
        self._scan: Any = None
        ui.segmentTable.setColumnCount(3)
        ui.segmentTable.setHorizontalHeaderLabels([_("Quantity"), _("Value"), _("Unit")])
        fillTable(ui.segmentTable, [])
        ui.segmentButton.clicked.connect(self.segment)
        ui.segmenterComboBox.connect("activated(int)", self._onModel)

    def bind(self) -> None:
        """Show the model of the settings."""
        self.listModels()

    def listModels(self) -> None:
        """Look for models anew."""
        wanted, box = self.parameters.segmenter, self.ui.segmenterComboBox
        self._models = models(SEGMENTER, wanted)
        names = [model.name for model in self._models]
        box.clear()
        for model in self._models:
            box.addItem(model.name)
        box.setCurrentIndex(names.index(wanted) if wanted in names else -1)

    def _onModel(self, index: int) -> None:
        if 0 <= index < len(self._models):
            self.parameters.segmenter = self._models[index].name

    def segment(self) -> None:
        """Find the heart."""
        self._clear()
        self._scan = self.parameters.scan
        callbacks = Callbacks(onResult=self._onFound, onMessage=self._onMessage)
        self.panel.run(self.ui.segmentButton, self._start, callbacks)

    def _clear(self) -> None:
        self.panel.tell(self.ui.segmentLabel, "")
        fillTable(self.ui.segmentTable, [])

    def _start(self, callbacks: Callbacks, overrides: dict[str, Any]) -> Job:
        p = self.parameters
        overrides.pop("batch_size", None)
        settings = self.settings(model=p.segmenter, insist=p.insist)
        return self.logic.segment(p.scan, callbacks, **{**settings, **overrides})

    def _onMessage(self, job: Job, message: str) -> None:
        self.panel.tell(self.ui.segmentLabel, message)

    def _onFound(self, job: Job, found: Found) -> None:
        scan = self.parameters.scan
        # What was found in another scan than the one that is chosen now is in the scene, but not told here.
        if found.table is None or scan is not self._scan:
            return
        if scan is not None and scan.IsA("vtkMRMLScalarVolumeNode"):
            showVolume(scan)
        lines = range(found.table.GetNumberOfRows())
        fillTable(self.ui.segmentTable, [[found.table.GetCellText(i, column) for column in range(3)] for i in lines])

    def update(self, reason: str, busy: str) -> None:
        """Enable what can be done; figures go with the scan that they are of."""
        if self._scan is not None and self.parameters.scan is not self._scan:
            self._clear()
            self._scan = None
        none = "" if self.parameters.scan is not None else _("Choose a scan.")
        gone = "" if self.ui.segmenterComboBox.currentIndex >= 0 else _("Choose a U-Net.")
        self.panel.allow(self.ui.segmentButton, reason or none or gone)
