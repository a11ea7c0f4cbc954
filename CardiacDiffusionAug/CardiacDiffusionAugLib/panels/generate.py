"""Generate: hearts from noise."""

from __future__ import annotations

import time
from typing import Any

from slicer.i18n import tr as _

import qt

from ..cases import CaseSet
from ..job import Callbacks, Job, State
from ..words import duration
from .section import Section

SPEED_SETTING = "CardiacDiffusionAug/SecondsPerCase"
DEFAULT_SECONDS, START_SECONDS = 1.3, 8.0
"""On two cores without a GPU, by `Testing/benchmarks/first_minute.py`; replaced by what this computer needs."""


class GenerateSection(Section):
    """Hearts from noise."""

    def setup(self) -> None:
        """Connect the widgets."""
        self.ui.generateButton.clicked.connect(self.generate)
        self._cases: CaseSet | None = None
        self._first = 0.0

    def wanted(self) -> dict[str, Any]:
        """The settings of the job `generate`."""
        p = self.parameters
        return self.settings(
            model=p.model,
            count=p.count,
            phase=p.phase.setting,
            level=p.level.setting,
            group=p.group.setting,
            variations=p.variations,
            filter=p.filter,
            seed=p.seed,
            steps=self.panel.model.steps,
            guidance_scale=p.guidance or None,
            precision=p.precision.name,
            draw_attributes=p.drawAttributes,
        )

    def generate(self) -> None:
        """Make the hearts."""
        self._cases, self._first = None, 0.0
        self.panel.run(self.ui.generateButton, self._start, Callbacks(onResult=self._onCase, onEnd=self._onEnd))

    def _start(self, callbacks: Callbacks, overrides: dict[str, Any]) -> Job:
        settings = {**self.wanted(), **overrides}
        title = [str(settings[key]) for key in ("group", "phase", "level") if settings[key] is not None]
        self._cases = CaseSet.create(" ".join(["Hearts", *title]))
        return self.logic.generate(into=self._cases, callbacks=callbacks, **settings)

    def _onCase(self, job: Job, number: int) -> None:
        if number == 0:
            self._first = time.monotonic()
            self.ui.reviewCollapsible.collapsed = False
        self.panel.review.caseAdded(self._cases, number)

    def _onEnd(self, job: Job) -> None:
        cases, self._cases = self._cases, None
        if cases is not None and cases.alive and cases.count == 0:
            cases.remove()
        if job.state is State.SUCCESS:
            self._learnSpeed(job)
            if self.parameters.newHearts:
                self.parameters.seed = (self.parameters.seed + 1) % 2**31

    def _learnSpeed(self, job: Job) -> None:
        if job.total > 1:
            qt.QSettings().setValue(SPEED_SETTING, (time.monotonic() - self._first) / (job.total - 1))

    def _estimate(self) -> str:
        each = qt.QSettings().value(SPEED_SETTING, None)
        total = self.parameters.count * self.parameters.variations
        start = 0.0 if self.logic.worker.running else START_SECONDS
        seconds = start + total * float(each if each is not None else DEFAULT_SECONDS)
        known = _("as last time on this computer") if each is not None else _("on a laptop without a GPU")
        return _("About {time} for {total} cases, {known}.").format(time=duration(seconds), total=total, known=known)

    def update(self, reason: str, busy: str) -> None:
        """Enable what can be done."""
        self.ui.estimateLabel.setText(self._estimate())
        model = self.panel.model.model
        gone = "" if model is not None else _("Choose a model first.")
        self.panel.allow(self.ui.generateButton, reason or gone)
        calls = None if model is None else model.imageCalls
        taught = _("This model was taught to make an image in {calls} steps; no other number is good.")
        self.panel.allow(self.ui.stepsSpinBox, "" if calls is None else taught.format(calls=calls))
