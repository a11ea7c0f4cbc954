"""From my mask: images for what the user has drawn."""

from __future__ import annotations

from typing import Any

import vtk
from slicer.i18n import tr as _

import qt
from cardiac_diffusion_aug.labels import STRUCTURES

from ..cases import CaseSet
from ..job import Callbacks, Job, State
from ..masks import Part, partsOf
from .section import Section, fitTable

NOTHING = -1


class MaskSection(Section):
    """Images for a drawn mask."""

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self._parts: list[Part] = []
        self._seen: tuple[Any, ...] | None = None
        self._boxes: dict[str, Any] = {}
        self._chosen: dict[str, int | None] = {}
        self._node: Any = None
        self._tag: int | None = None
        self._cases: CaseSet | None = None
        ui.maskTable.setColumnCount(2)
        ui.maskTable.setHorizontalHeaderLabels([_("Segment"), _("Is")])
        fitTable(ui.maskTable)
        ui.synthesizeButton.clicked.connect(self.synthesize)

    def bind(self) -> None:
        """Look at the mask of the settings."""
        self._observe(self.parameters.mask)

    def _observe(self, node: Any) -> None:
        if self._node is not None and self._tag is not None:
            self._node.RemoveObserver(self._tag)
        if node is not self._node:
            # Another node's segments may have the same names.
            self._chosen, self._parts, self._seen = {}, [], ()
        self._node, self._tag = node, None
        if node is not None:
            self._tag = node.AddObserver(vtk.vtkCommand.AnyEvent, lambda *event: self.panel.updateSoon())

    def _listParts(self) -> None:
        node = self.parameters.mask
        if node is not self._node:
            self._observe(node)
        # Looking through a large label map takes a while.
        seen = _state(node)
        if seen == self._seen:
            return
        self._seen = seen
        parts = partsOf(node) if node is not None else []
        if parts == self._parts:
            return
        self._parts, self._boxes = parts, {}
        table = self.ui.maskTable
        table.setRowCount(len(parts))
        for row, part in enumerate(parts):
            table.setItem(row, 0, qt.QTableWidgetItem(part.name))
            self._boxes[part.key] = box = self._box(part)
            table.setCellWidget(row, 1, box)
        fitTable(table)

    def _box(self, part: Part) -> Any:
        box = qt.QComboBox()
        box.toolTip = _("The structure that {name} is.").format(name=part.name)
        box.addItem(_("nothing"), NOTHING)
        for structure in STRUCTURES:
            box.addItem(structure.name, structure.value)
        value = self._chosen.get(part.key, part.value)
        box.setCurrentIndex(0 if value is None else value)
        box.connect("activated(int)", lambda index: self._choose(part.key, index or None))
        return box

    def _choose(self, key: str, value: int | None) -> None:
        self._chosen[key] = value
        self.panel.updateSoon()

    def synthesize(self) -> None:
        """Make images for the mask as it is now."""
        callbacks = Callbacks(onResult=self._onImage, onMessage=self._onMessage, onEnd=self._onEnd)
        self.panel.run(self.ui.synthesizeButton, self._start, callbacks)

    def _start(self, callbacks: Callbacks, overrides: dict[str, Any]) -> Job:
        p = self.parameters
        settings = self.settings(
            model=p.model,
            variations=p.maskVariations,
            seed=p.maskSeed,
            phase=p.phase.setting,
            group=p.group.setting,
            steps=self.panel.model.steps,
            guidance_scale=p.guidance or None,
            precision=p.precision.name,
        )
        job, self._cases, remark = self.logic.startSynthesizing(
            p.mask, self._chosen, callbacks, {**settings, **overrides}
        )
        self.panel.tell(self.ui.maskLabel, remark)
        return job

    def _onImage(self, job: Job, number: int) -> None:
        self.ui.reviewCollapsible.collapsed = False
        self.panel.review.caseAdded(self._cases, number, show=True)

    def _onMessage(self, job: Job, message: str) -> None:
        self.panel.tell(self.ui.maskLabel, message)

    def _onEnd(self, job: Job) -> None:
        if job.state is State.SUCCESS:
            self.parameters.maskSeed = (self.parameters.maskSeed + 1) % 2**31
        cases, self._cases = self._cases, None
        if cases is not None and cases.alive and cases.count == 0:
            cases.remove()

    def update(self, reason: str, busy: str) -> None:
        """Enable what can be done."""
        self._listParts()
        self.panel.allow(self.ui.synthesizeButton, reason or self._fault())

    def _fault(self) -> str:
        if self.parameters.mask is None:
            return _("Choose a segmentation or a label map.")
        values = [self._chosen.get(part.key, part.value) for part in self._parts]
        if not any(values):
            return _("Say in the table which segment is LV, myocardium or RV.") if values else _("The mask is empty.")
        return ""

    def cleanup(self) -> None:
        """Stop observing."""
        self._observe(None)


def _state(node: Any) -> tuple[Any, ...]:
    """What differs once a mask has changed."""
    if node is None:
        return ()
    data = node.GetSegmentation() if node.IsA("vtkMRMLSegmentationNode") else node.GetImageData()
    display = node.GetDisplayNode()
    return (
        node.GetID(),
        node.GetMTime(),
        data.GetMTime() if data is not None else 0,
        display.GetMTime() if display is not None else 0,
    )
