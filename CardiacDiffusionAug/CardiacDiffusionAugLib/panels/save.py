"""Save: cases to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..job import Callbacks, Job, State
from ..saving import Format, needsPermission
from .section import Section


class SaveSection(Section):
    """Cases to disk."""

    def setup(self) -> None:
        """Connect the widgets."""
        self.ui.saveButton.clicked.connect(self.save)
        self.ui.savePathEdit.currentPathChanged.connect(lambda path: self.panel.updateSoon())

    @property
    def target(self) -> Path:
        """Where to save to."""
        path = Path(self.ui.savePathEdit.currentPath).expanduser()
        sheet = self.parameters.saveFormat is Format.SHEET
        return path / "cases.png" if sheet and path.is_dir() else path.with_suffix(".png") if sheet else path

    def save(self) -> None:
        """Save the cases, after a question where something would be replaced."""
        target, overwrite = self.target, False
        if needsPermission(target, self.parameters.saveFormat):
            question = (
                _("{target} holds cases already. All of them are removed before these are saved. Go on?")
                if self.parameters.saveFormat is Format.NNUNET
                else _("{target} holds files already. Replace those of the same names?")
            )
            overwrite = slicer.util.confirmOkCancelDisplay(question.format(target=target))
            if not overwrite:
                return

        def start(callbacks: Callbacks, overrides: dict[str, Any]) -> Job:
            p = self.parameters
            return self.logic.save(
                self.panel.review.cases, target, p.saveFormat, p.saveWhich, overwrite, callbacks=callbacks
            )

        self.panel.run(self.ui.saveButton, start, Callbacks(onEnd=lambda job: self._onEnd(job, target)))

    def _onEnd(self, job: Job, target: Path) -> None:
        if job.state is State.SUCCESS:
            self.panel.tell(
                self.ui.saveLabel, _("{count} cases are in {target}.").format(count=job.total, target=target)
            )

    def update(self, reason: str, busy: str) -> None:
        """Enable what can be done."""
        cases = self.panel.review.cases
        none = "" if cases is not None and cases.count else _("There are no cases to save.")
        where = "" if self.ui.savePathEdit.currentPath else _("Choose where to save to.")
        self.panel.allow(self.ui.saveButton, busy or none or where)
