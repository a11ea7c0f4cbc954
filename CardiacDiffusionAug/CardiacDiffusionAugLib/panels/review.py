"""Review: look through the cases, keep or reject each."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

import qt

from ..cases import KEPT, KIND, OPEN, REJECTED, CaseSet
from ..job import Callbacks, Job
from ..nearest import Nearest
from ..pictures import png, thumbnail
from ..scene import BINARY
from ..views import showCase, showSideBySide
from .section import Section

SHOWN_COLUMNS = ("name", "state", "phase", "group", "level", "adherence", "why", "checks", "redrawn")
ROW_HEIGHT = 22
FILTERS = ("All cases", "To look at", "Kept", "Rejected")
FILTER_STATES = {1: OPEN, 2: KEPT, 3: REJECTED}
REASONS = ("not a heart", "mask and image differ", "image is poor", "too much like another", "not needed")
COLORS = {OPEN: None, KEPT: (190, 230, 195), REJECTED: (240, 195, 195)}
TURN_SECONDS = 0.02
"""For thumbnails, in one turn of the event loop."""


class ReviewSection(Section):
    """The cases of a set."""

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self.cases: CaseSet | None = None
        self._items: list[Any] = []
        self._shown = -1
        self._filling = False
        self._states: list[str] = []
        self._table: Any = None
        self._tag: int | None = None
        ui.casesSelector.addAttribute("vtkMRMLSequenceBrowserNode", KIND)
        for text in FILTERS:
            ui.stateFilterComboBox.addItem(_(text))
        for text in REASONS:
            ui.whyComboBox.addItem(_(text))
        ui.caseTable.setColumnCount(len(SHOWN_COLUMNS))
        ui.caseTable.setHorizontalHeaderLabels([_(name) for name in SHOWN_COLUMNS])
        ui.caseTable.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        ui.stateFilterComboBox.currentIndexChanged.connect(lambda index: self._filter())
        ui.searchEdit.textChanged.connect(lambda text: self._filter())
        ui.thumbnailList.currentRowChanged.connect(self._onThumbnail)
        ui.caseTable.itemSelectionChanged.connect(self._onTable)
        ui.keepButton.clicked.connect(lambda: self.judge(KEPT))
        ui.rejectButton.clicked.connect(lambda: self.judge(REJECTED))
        ui.previousButton.clicked.connect(lambda: self.step(-1))
        ui.nextButton.clicked.connect(lambda: self.step(1))
        ui.nearestButton.clicked.connect(self.findNearest)
        ui.removeCasesButton.clicked.connect(self.removeCases)
        ui.realDataEdit.currentPathChanged.connect(self._onRealData)
        self.shortcuts = {
            "K": self._shortcut("K", lambda: self.judge(KEPT)),
            "R": self._shortcut("R", lambda: self.judge(REJECTED)),
            "Left": self._shortcut("Left", lambda: self.step(-1)),
            "Right": self._shortcut("Right", lambda: self.step(1)),
        }
        self._pictures = qt.QTimer()
        self._pictures.setSingleShot(True)
        self._pictures.timeout.connect(self._paint)
        self._queue: deque[int] = deque()

    def _shortcut(self, keys: str, act: Any) -> Any:
        shortcut = qt.QShortcut(qt.QKeySequence(keys), self.ui.viewTabs)
        shortcut.setContext(qt.Qt.WidgetWithChildrenShortcut)
        shortcut.activated.connect(act)
        return shortcut

    def bind(self) -> None:
        """Show the set of the settings."""
        if self.ui.realDataEdit.currentPath != self.parameters.realData:
            self.ui.realDataEdit.currentPath = self.parameters.realData
        cases = CaseSet.of(self.parameters.cases)
        # Where nothing has changed the thumbnails stay.
        if not self._isShown(cases):
            self._show(cases if cases is not None and cases.alive else None)

    def _isShown(self, cases: CaseSet | None) -> bool:
        if cases is None or not cases.alive or self.cases is None:
            return cases is self.cases
        return self.cases.alive and cases.browser is self.cases.browser and cases.count == len(self._items)

    def _onRealData(self, path: str) -> None:
        if self.panel.parameters is not None:
            self.parameters.realData = path

    # The list

    def caseAdded(self, cases: CaseSet | None, number: int, show: bool = False) -> None:
        """Take a new case into the list; the first of a set is shown at once.

        Whoever looks through another set meanwhile stays there.
        """
        if cases is None:
            return
        if self.cases is None or self.cases.browser is not cases.browser:
            if self.cases is not None and self.cases.alive and number > 0 and not show:
                return
            self.parameters.cases = cases.browser
            self._show(cases)
        elif number == len(self._items):
            self._addRow(number)
            self._hide(self._lineOf(number))
        if show or number == 0:
            self.goTo(number)
        self._summarize()

    def _observe(self, table: Any) -> None:
        """Notice what is kept or rejected elsewhere, such as in the Python console."""
        if self._tag is not None:
            self._table.RemoveObserver(self._tag)
        self._table, self._tag = table, None
        if table is not None:
            self._tag = table.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *event: self.panel.updateSoon())

    def _show(self, cases: CaseSet | None) -> None:
        self._observe(cases.table if cases is not None else None)
        self.cases, self._shown = cases, -1
        self._filling = True
        self.ui.thumbnailList.clear()
        self.ui.caseTable.setSortingEnabled(False)
        self.ui.caseTable.setRowCount(0)
        self._items, self._queue, self._states = [], deque(), []
        for number in range(cases.count if cases is not None else 0):
            self._addRow(number)
        self._filling = False
        self.ui.caseTable.setSortingEnabled(True)
        self.ui.caseTable.resizeColumnsToContents()
        self._filter()
        self._summarize()
        if cases is not None and cases.count:
            self.goTo(max(0, cases.current))

    def _addRow(self, number: int) -> None:
        filling, self._filling = self._filling, True
        row = self.cases.row(number)
        item = qt.QListWidgetItem(row["name"])
        item.setData(qt.Qt.UserRole, number)
        self.ui.thumbnailList.addItem(item)
        self._items.append(item)
        table = self.ui.caseTable
        sorting = table.sortingEnabled
        table.setSortingEnabled(False)
        line = table.rowCount
        table.setRowCount(line + 1)
        for column in range(len(SHOWN_COLUMNS)):
            cell = qt.QTableWidgetItem("")
            cell.setData(qt.Qt.UserRole, number)
            table.setItem(line, column, cell)
        self._states.append(row["state"])
        self._tell(number, line)
        table.setSortingEnabled(sorting)
        self._queue.append(number)
        if not self._pictures.isActive():
            self._pictures.start(0)
        self._filling = filling

    def _tell(self, number: int, line: int) -> None:
        """Bring texts and colours of a case up to date."""
        row = self.cases.row(number)
        color = COLORS[row["state"]]
        brush = qt.QBrush(qt.QColor(*color)) if color else qt.QBrush()
        text = qt.QBrush(qt.QColor(0, 0, 0)) if color else qt.QBrush()
        # All at first: a table that is sorted by one of them moves the line while it is filled.
        cells = [self.ui.caseTable.item(line, column) for column in range(len(SHOWN_COLUMNS))]
        for cell, name in zip(cells, SHOWN_COLUMNS, strict=True):
            cell.setText(row[name])
            cell.setBackground(brush)
            cell.setForeground(text)
        item = self._items[number]
        item.setBackground(brush)
        item.setForeground(text)
        item.setText({KEPT: _("kept"), REJECTED: _("rejected")}.get(row["state"], ""))
        about = (row["phase"], row["group"], row["level"] and _("level {v}").format(v=row["level"]), row["why"])
        item.setToolTip(f"{row['name']}\n{', '.join(part for part in about if part)}")

    def _lineOf(self, number: int) -> int:
        table = self.ui.caseTable
        return next(line for line in range(table.rowCount) if table.item(line, 0).data(qt.Qt.UserRole) == number)

    def _paint(self) -> None:
        """Make some of the thumbnails that are missing."""
        end = time.monotonic() + TURN_SECONDS
        while self._queue and time.monotonic() < end:
            number = self._queue.popleft()
            if self.cases is not None and self.cases.alive and number < self.cases.count:
                pixmap = qt.QPixmap()
                pixmap.loadFromData(qt.QByteArray(png(thumbnail(*self.cases.stacks(number)))))
                self._items[number].setIcon(qt.QIcon(pixmap))
        if self._queue:
            self._pictures.start(0)

    def _filter(self) -> None:
        """List the cases that are asked for."""
        if self.cases is None or not self.cases.alive:
            return
        for line in range(self.ui.caseTable.rowCount):
            self._hide(line)

    def _hide(self, line: int) -> None:
        """Hide a line and its thumbnail unless it is asked for."""
        state = FILTER_STATES.get(self.ui.stateFilterComboBox.currentIndex)
        number = self.ui.caseTable.item(line, 0).data(qt.Qt.UserRole)
        row = self.cases.row(number)
        text = " ".join(row.values()).lower()
        words = self.ui.searchEdit.text.lower().split()
        wanted = (state is None or row["state"] == state) and all(word in text for word in words)
        self.ui.caseTable.setRowHidden(line, not wanted)
        self._items[number].setHidden(not wanted)

    def _summarize(self) -> None:
        if self.cases is None or not self.cases.count:
            self.panel.tell(self.ui.reviewLabel, _("No cases yet: make some under Generate or From my mask."))
            return
        states = self.cases.column("state")
        self.panel.tell(
            self.ui.reviewLabel,
            _("{total} in all: {kept} kept, {rejected} rejected, {open} to look at.").format(
                total=len(states), kept=states.count(KEPT), rejected=states.count(REJECTED), open=states.count(OPEN)
            ),
        )

    # One case

    def goTo(self, number: int) -> None:
        """Show a case in the slice views."""
        if self.cases is None or not self.cases.alive or not 0 <= number < self.cases.count:
            return
        first = self._shown < 0
        if number != self._shown:
            self.panel.tell(self.ui.nearestLabel, "")
        self._shown = number
        self.cases.show(number)
        if first:
            showCase(self.cases)
            self._look()
        self._filling = True
        self.ui.thumbnailList.setCurrentRow(number)
        self.ui.caseTable.selectRow(self._lineOf(number))
        self._filling = False
        self.panel.updateSoon()

    def _onThumbnail(self, row: int) -> None:
        if not self._filling and row >= 0:
            self.goTo(row)

    def _onTable(self) -> None:
        cells = self.ui.caseTable.selectedItems()
        if not self._filling and cells:
            self.goTo(cells[0].data(qt.Qt.UserRole))

    def _follow(self) -> None:
        """Take the case that Slicer's own toolbar or a playback has gone to."""
        if self.cases is not None and self.cases.alive and self._shown not in (-1, self.cases.current):
            self.goTo(self.cases.current)

    def step(self, by: int) -> bool:
        """Go to the next or previous case that is listed; tells whether there is one."""
        self._follow()
        number = self._shown + by
        while 0 <= number < len(self._items):
            if not self._items[number].isHidden():
                self.goTo(number)
                return True
            number += by
        return False

    def judge(self, state: str) -> None:
        """Keep or reject the case that is shown, and go on to the next."""
        if self.cases is None or not self.cases.alive or self._shown < 0:
            return
        self._follow()
        self.cases.judge(self._shown, state, self.ui.whyComboBox.currentText if state == REJECTED else "")
        self._followStates()
        self.step(1)
        self._filter()

    def _followStates(self) -> None:
        """Show what was kept and rejected since, here or elsewhere."""
        states = self.cases.column("state")
        for number, (old, new) in enumerate(zip(self._states, states, strict=False)):
            if old != new:
                self._states[number] = new
                self._tell(number, self._lineOf(number))
        self._summarize()

    def _look(self) -> None:
        """Show the mask as the settings say."""
        if self.cases is None or not self.cases.alive or not self.cases.count:
            return
        mask = self.cases.shownNodes()[1]
        display = mask.GetDisplayNode() if mask is not None else None
        if display is not None:
            p = self.parameters
            display.SetPreferredDisplayRepresentationName2D(BINARY)
            display.SetVisibility2DOutline(p.outline)
            display.SetVisibility2DFill(p.fill)
            display.SetOpacity(p.opacity)

    # Beside a real one

    def findNearest(self) -> None:
        """Show the most similar real slice beside the case."""
        self.panel.run(self.ui.nearestButton, self._startNearest, Callbacks(onResult=self._onNearest))

    def _startNearest(self, callbacks: Callbacks, overrides: dict[str, Any]) -> Job:
        self._follow()
        return self.logic.nearest(self.cases, self._shown, self.parameters.realData, callbacks)

    def _onNearest(self, job: Job, nearest: Nearest) -> None:
        self.panel.tell(self.ui.nearestLabel, _("Right: {words}.").format(words=nearest.words))
        showSideBySide(self.cases, nearest)

    def removeCases(self) -> None:
        """Remove the set from the scene, after a question."""
        cases = self.cases
        question = _("Remove {name} with its {count} cases from the scene? Files that were saved stay.")
        if cases is not None and slicer.util.confirmOkCancelDisplay(
            question.format(name=cases.name, count=cases.count)
        ):
            self.parameters.cases = None
            self._show(None)
            cases.remove()

    def update(self, reason: str, busy: str) -> None:
        """Enable what can be done."""
        self.bind()
        if self.cases is not None and self.cases.alive:
            self._followStates()
        self._follow()
        self._look()
        none = "" if self.cases is not None and self._shown >= 0 else _("There is no case to look at.")
        for button in (self.ui.keepButton, self.ui.rejectButton, self.ui.previousButton, self.ui.nextButton):
            self.panel.allow(button, none)
        noData = "" if self.parameters.realData else _("Choose a real data set first.")
        self.panel.allow(self.ui.nearestButton, reason or none or noData)
        self.panel.allow(self.ui.removeCasesButton, busy or none)

    def cleanup(self) -> None:
        """Stop painting and observing."""
        self._observe(None)
        self._pictures.stop()
        self._queue.clear()
