"""What all sections have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import qt

if TYPE_CHECKING:
    from ..panel import Panel
    from ..parameters import Parameters


class Section:
    """Widgets that belong together, and what they do.

    Args:
        panel: that the section is part of.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel, self.ui, self.logic = panel, panel.ui, panel.logic

    @property
    def parameters(self) -> Parameters:
        """The settings of the scene."""
        assert self.panel.parameters is not None
        return self.panel.parameters

    def setup(self) -> None:
        """Connect the widgets."""

    def bind(self) -> None:
        """Show settings that the parameter node does not bind by itself."""

    def update(self, reason: str, busy: str) -> None:
        """Enable what can be done.

        Args:
            reason: why no job can be started; empty where one can.
            busy: why the scene should not be changed; empty where it can.
        """

    def cleanup(self) -> None:
        """Let go of what Qt and MRML do not end by themselves."""

    def settings(self, **own: Any) -> dict[str, Any]:
        """Settings that several jobs share, and those of this one; what is None is the job's default."""
        return {"device": self.panel.model.device, **own}


def fillTable(table: Any, rows: Sequence[Sequence[str]]) -> None:
    """Show texts in a table, which is as high as its rows and takes no room without any."""
    table.setRowCount(len(rows))
    for line, texts in enumerate(rows):
        for column, text in enumerate(texts):
            table.setItem(line, column, qt.QTableWidgetItem(text))
    fitTable(table)


def fitTable(table: Any) -> None:
    """Make a table as high as its rows."""
    table.wordWrap = False
    table.resizeRowsToContents()
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.Stretch)
    header.setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
    # One row more for the heading, whose height is not known before it is shown.
    rows = sum(table.rowHeight(line) for line in (0, *range(table.rowCount)))
    table.setFixedHeight(rows + 2 * table.frameWidth)
    table.visible = table.rowCount > 0
